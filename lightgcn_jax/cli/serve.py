"""The command serve, of both programs: a run behind HTTP, and a page to look at it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from lightgcn_jax.cli.console import say
from lightgcn_jax.cli.runs import RunPath
from lightgcn_jax.errors import InputError
from lightgcn_jax.service import Limits

_TOKEN = "GRAPHREC_RELOAD_TOKEN"
_MOST_BATCH, _MOST_PORT, _LEAST_TOKEN = 32, 65_535, 16
Whole = Annotated[int, tyro.conf.arg(metavar="INT")]


@dataclass(frozen=True)
class Listening:
    """Where the service listens, and what it takes.

    Attributes:
        host: the address that is listened at; by default this machine alone can ask.
        port: the port, 0 for any that is free.
        k: the most items of one list.
        ids: the most ids of one request.
        body: the most bytes of a request's body.
        batch: the most queries of one call of the model, a power of two up to 32.
        seconds: the longest that a request may take.
    """

    host: Annotated[str, tyro.conf.arg(metavar="ADDRESS")] = "127.0.0.1"
    port: Whole = 8000
    k: Annotated[int, tyro.conf.arg(metavar="K")] = Limits().k
    ids: Whole = Limits().ids
    body: Whole = Limits().body
    batch: Whole = Limits().batch
    seconds: Annotated[float, tyro.conf.arg(metavar="FLOAT")] = Limits().seconds

    def limits(self) -> Limits:
        """The bounds of requests.

        Raises:
            InputError: one is out of range.
        """
        if not 0 <= self.port <= _MOST_PORT:
            raise InputError(f"--port: expected 0 to {_MOST_PORT}, got {self.port}")
        for name in ("k", "ids", "body", "batch"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name}: expected at least 1, got {getattr(self, name)}")
        if self.batch > _MOST_BATCH or self.batch & (self.batch - 1):
            raise InputError(
                f"--batch: expected a power of two up to {_MOST_BATCH}, got {self.batch}"
            )
        if not 0 < self.seconds < float("inf"):
            raise InputError(f"--seconds: expected a number above 0, got {self.seconds:g}")
        return Limits(
            k=self.k, ids=self.ids, body=self.body, batch=self.batch, seconds=self.seconds
        )

    def serve(
        self, program: str, load: Callable[[Limits], Any], pictures: Any | None = None
    ) -> int:
        """Serve until a signal asks for an end.

        Args:
            program: what serves.
            load: opens the run.
            pictures: as :class:`~lightgcn_jax.service.app.Service` takes them.

        Returns:
            The exit status.

        Raises:
            InputError: the run does not load, the port is taken, or a package is missing.
        """
        limits = self.limits()
        token = os.environ.get(_TOKEN) or None
        if token is not None and len(token) < _LEAST_TOKEN:
            raise InputError(f"{_TOKEN}: expected at least {_LEAST_TOKEN} characters")
        try:
            from lightgcn_jax.service.app import Service
            from lightgcn_jax.service.served import Served
            from lightgcn_jax.service.server import serve
        except ModuleNotFoundError as error:
            raise InputError(
                f"serve: needs {error.name}, which the extra serve brings: "
                'pip install "lightgcn-pinsage-jax[serve]"'
            ) from None

        def opened() -> Served:
            return Served(load(limits), limits)

        serve(Service(opened, limits, program, token, pictures), self.host, self.port, say)
        return 0


@dataclass(frozen=True)
class Serve:
    """Serve a run over HTTP, with a page at /: recommendations to users and by lists of items,
    similar items, reasons, items that are added; figures for Prometheus, a description in OpenAPI.
    Requests that arrive together are one call of the model. SIGHUP loads the run anew while
    requests go on, as does POST /reload with the token of the variable GRAPHREC_RELOAD_TOKEN;
    SIGTERM and Ctrl-C end the service once requests are answered. Needs the extra `serve`.

    Attributes:
        run_path: the run directory, or a symbolic link that may later lead to another.
        listening: where, and within what limits.
    """

    run_path: RunPath
    listening: Annotated[Listening, tyro.conf.arg(name="")] = Listening()

    def run(self) -> int:
        from lightgcn_jax.service.collaborative import CollaborativeRanker

        def load(limits: Limits) -> CollaborativeRanker:
            return CollaborativeRanker.open(self.run_path, limits)

        return self.listening.serve("lightgcn-jax", load)
