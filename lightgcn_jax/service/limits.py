"""How much one request, and all that wait, may ask for."""

from __future__ import annotations

from typing import NamedTuple


class Limits(NamedTuple):
    """Bounds of requests; what is beyond them is refused in a sentence.

    Attributes:
        k: items of one list.
        ids: ids of one request.
        id_length: characters of an id or a search.
        body: bytes of a request's body.
        batch: queries of one call of the model, a power of two.
        waiting: queries that wait for the model; more are answered with 503.
        seconds: that a request may take; then it is answered with 504.
    """

    k: int = 100
    ids: int = 100
    id_length: int = 200
    body: int = 1 << 20
    batch: int = 32
    waiting: int = 1024
    seconds: float = 10.0
