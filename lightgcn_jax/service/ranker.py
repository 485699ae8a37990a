"""What the service asks of a model, whichever program trained it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.data.titles import Titles
from lightgcn_jax.serving.answers import Ranked

ExternalId = int | str


class Because(NamedTuple):
    """How much each of somebody's items speaks for each of some items.

    Attributes:
        given: n external ids, of somebody's items.
        values: ``float32[n, m]``, for m items.
        adds_up: whether the values of an item add up to its score.
        number: what a value is, a sentence.
    """

    given: list[ExternalId]
    values: np.ndarray
    adds_up: bool
    number: str


class Ranker(Protocol):
    """A model with its ids. All of it is called in one thread, by queries that are known."""

    @property
    def model(self) -> str:
        """The model's name."""
        ...

    @property
    def users(self) -> IdMap:
        """External ids of whoever may ask."""
        ...

    @property
    def items(self) -> IdMap:
        """External ids of what is ranked, added items last."""
        ...

    @property
    def at_once(self) -> int:
        """How many queries are ranked in one block; more would be several calls."""
        ...

    @property
    def titles(self) -> Titles | None:
        """What people call the items, where that is known."""
        ...

    @property
    def popularity(self) -> np.ndarray:
        """``int[I]``, how many have each item."""
        ...

    @property
    def groups(self) -> list[str | None] | None:
        """What kind each item is of, where the data say it."""
        ...

    def knows_user(self, users: Sequence[Any], /) -> np.ndarray:
        """Whether there is something to recommend by, ``bool[n]``.

        Args:
            users: external ids.
        """
        ...

    def knows_item(self, items: Sequence[Any], /) -> np.ndarray:
        """Whether an item says something of who has it, ``bool[n]``.

        Args:
            items: external ids.
        """
        ...

    def compares(self, items: Sequence[Any], /) -> np.ndarray:
        """Whether an item has neighbours, ``bool[n]``.

        Args:
            items: external ids.
        """
        ...

    def recommend(self, users: Sequence[Any], k: int) -> list[Ranked]:
        """The items of highest score for each user, who are all known.

        Args:
            users: external ids.
            k: at most so many for each.
        """
        ...

    def recommend_from(self, lists: Sequence[Sequence[Any]], k: int, longest: int) -> list[Ranked]:
        """The items of highest score for each list of items, which are all known.

        Args:
            lists: external ids.
            k: at most so many for each.
            longest: no list is longer; lists of other lengths compile nothing.

        Raises:
            InputError: the model scores no such list.
        """
        ...

    def similar(self, items: Sequence[Any], k: int) -> list[Ranked]:
        """The nearest items of each item, which are all known.

        Args:
            items: external ids.
            k: at most so many for each.

        Raises:
            InputError: the model compares no items.
        """
        ...

    def history(self, user: Any) -> list[ExternalId]:
        """The items that a user has.

        Args:
            user: an external id that is known.
        """
        ...

    def because(self, given: Sequence[Any], items: Sequence[Any], user: Any | None) -> Because:
        """What of somebody's items speaks for some items.

        Args:
            given: external ids of their items, n of at least one.
            items: m external ids, all known.
            user: whose items they are; None of somebody new.

        Raises:
            InputError: the model gives no reasons.
        """
        ...

    def coordinates(self) -> np.ndarray | None:
        """A vector for each item, ``float[I, D]``, for a map; None where there is none."""
        ...

    @property
    def addition(self) -> Mapping[str, Any] | None:
        """JSON schema of an item that can be added; None where none can."""
        ...

    def add(self, item: Mapping[str, Any]) -> str:
        """Add an item, which is ranked from now on.

        Args:
            item: of the schema :attr:`addition`.

        Returns:
            A sentence on what was made of it.

        Raises:
            InputError: it is known already, or nothing can be made of it.
        """
        ...

    def warm_up(self) -> None:
        """Compile what adding an item needs."""
        ...
