"""Which items may be recommended: to everybody, and to each user."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from lightgcn_jax.data import IdMap, Interactions
from lightgcn_jax.data.columns import ids_of
from lightgcn_jax.errors import InputError, warn
from lightgcn_jax.serving.answers import known_rows

Filter = Any
"""None, which filters nothing; external ids of items, or an ``ItemSet`` of them, for everybody; or
each user's own items: a mapping from users to items, interactions, or a table whose first two
columns are users and items (or that calls two of its columns so)."""


def user_pairs(given: Filter, name: str) -> tuple[pl.Series, pl.Series] | None:
    """The users and items of a filter that differs by user; None of one for everybody.

    Args:
        given: the filter.
        name: what an error calls it.

    Returns:
        External ids of users and of items, one of each for every pair.

    Raises:
        InputError: it is a table of fewer than two columns, or an id does not fit.
    """
    if isinstance(given, Interactions):
        users, items = given.users.ids, given.items.ids
        return users.gather(given.user_rows), items.gather(given.item_rows)
    if isinstance(given, Mapping):
        held = {user: _listed(items) for user, items in given.items()}
        users = [user for user, items in held.items() for _ in items]
        items = [item for items in held.values() for item in items]
        return _ids(users, f"{name}, users"), _ids(items, f"{name}, items")
    if not hasattr(given, "columns"):
        return None
    names = list(given.columns)
    if len(names) < 2:
        raise InputError(f"{name}: expected a table of users and items, got one column: {names}")
    user, item = ("user", "item") if {"user", "item"} <= {*names} else names[:2]
    return _ids(given[user], f"{name}, users"), _ids(given[item], f"{name}, items")


def _listed(items: Any) -> list[Any]:
    return [items] if isinstance(items, (str, int)) else list(items)


def _ids(values: Any, name: str) -> pl.Series:
    return ids_of(values, name) if len(values) else pl.Series([], dtype=pl.Int64)


def _places(items: IdMap, wanted: Iterable[int | str], name: str) -> np.ndarray:
    # NumPy assigns by indices of its own width three times as fast.
    return known_rows(items, wanted, name).astype(np.intp, copy=False)


class Allowed:
    """Which items may be recommended.

    Args:
        users: U external user ids.
        items: I external item ids.
        only: only these may be.
        without: these may not be.

    Raises:
        InputError: an item of a filter for everybody is unknown, or no pair of the others is known.
    """

    def __init__(
        self,
        users: IdMap,
        items: IdMap,
        only: Filter,
        without: Filter,
    ):
        self._items = items
        self._only, self._without = (
            _OwnItems.of(users, items, given, name)
            for given, name in ((only, "among"), (without, "exclude"))
        )
        self._for_all = np.ones(len(items), bool)
        if only is not None and self._only is None:
            self._for_all[:] = False
            self._for_all[_places(items, only, "among")] = True
        if without is not None and self._without is None:
            self._for_all[_places(items, without, "exclude")] = False

    @property
    def differs(self) -> bool:
        """Whether users have filters of their own."""
        return self._only is not None or self._without is not None

    @cached_property
    def for_all(self) -> np.ndarray | None:
        """``bool[I]``, what the filters for everybody leave; None where that is everything."""
        return None if self._for_all.all() else self._for_all

    @property
    def all_items(self) -> np.ndarray:
        """``bool[I]``, what the filters for everybody leave."""
        return self._for_all

    @property
    def available(self) -> int:
        """How many items somebody may be recommended at most."""
        return int(np.count_nonzero(self._for_all))

    def of_rows(self, rows: np.ndarray) -> np.ndarray:
        """What each of some users may be recommended, ``bool[n, I]``.

        Args:
            rows: ``int[n]``, users.
        """
        allowed = np.tile(self._for_all, (len(rows), 1))
        for at, row in enumerate(rows.tolist()):
            if self._only is not None:
                own = np.zeros(len(self._items), bool)
                own[self._only.items_of(row)] = True
                allowed[at] &= own
            if self._without is not None:
                allowed[at, self._without.items_of(row)] = False
        return allowed


class _OwnItems:
    """Item rows by user row."""

    def __init__(self, users: np.ndarray, items: np.ndarray):
        order = np.argsort(users, kind="stable")
        self._users, self._items = users[order], items[order]

    @classmethod
    def of(cls, users: IdMap, items: IdMap, given: Filter, name: str) -> _OwnItems | None:
        pairs = None if given is None else user_pairs(given, name)
        if pairs is None:
            return None
        rows = users.rows(pairs[0]), items.rows(pairs[1])
        known = (rows[0] >= 0) & (rows[1] >= 0)
        if len(known) and not known.any():
            example, like = (pairs[0][0], users) if rows[0][0] < 0 else (pairs[1][0], items)
            raise InputError(
                f"{name}: expected pairs of a user and an item that are known, got none among "
                f"{len(known):,}, such as {example!r}; known ids look like {like.ids[0]!r}"
            )
        if not known.all():
            message = (
                f"{name}: {(~known).sum():,} of {len(known):,} pairs name an unknown user or item "
                "and are left out"
            )
            warn(message)
        return cls(rows[0][known], rows[1][known])

    def items_of(self, user: int) -> np.ndarray:
        start, end = (np.searchsorted(self._users, user, side=side) for side in ("left", "right"))
        return self._items[start:end]


def of_user(given: Filter, user: Any, name: str) -> Iterable[Any] | None:
    """What a filter says of one user, known or not.

    Args:
        given: the filter.
        user: an external id.
        name: what an error calls the filter.

    Returns:
        External ids of items; None where the filter is None.
    """
    pairs = None if given is None else user_pairs(given, name)
    if pairs is None:
        return given
    own = pl.Series(pairs[0].cast(pl.String) == str(user))
    return pairs[1].filter(own).to_list()
