"""Distinct user-item pairs as rows: what a split is made of."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from lightgcn_jax.data.weights import check_weights, summed
from lightgcn_jax.errors import InputError

PARTS = ("train", "valid", "test")
"""The parts of a split, by name."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Distinct user-item pairs as rows, in ascending order of (user, item).

    Attributes:
        users: int32[E].
        items: int32[E].
        weights: float32[E], how much each pair counts; None where all count alike.
    """

    users: np.ndarray
    items: np.ndarray
    weights: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name, rows in (("users", self.users), ("items", self.items)):
            if rows.dtype != np.int32 or rows.shape != (len(self.users),):
                raise InputError(
                    f"pairs: {name}: expected int32[{len(self.users)}], "
                    f"got {rows.dtype}{list(rows.shape)}"
                )
            if len(rows) and rows.min() < 0:
                raise InputError(f"pairs: {name}: expected rows of 0 or more, got {rows.min()}")
        if self.weights is not None:
            check_weights("pairs: weights", self.weights, len(self.users))
        keys = self.keys
        if not (keys[1:] > keys[:-1]).all():
            raise InputError(
                "pairs: expected distinct pairs in ascending order of (user, item); "
                "Pairs.from_rows puts them in order"
            )

    @classmethod
    def from_rows(
        cls, users: np.ndarray, items: np.ndarray, weights: np.ndarray | None = None
    ) -> "Pairs":
        """The distinct pairs among some, put in order; weights of one pair add up.

        Args:
            users: int[E], user rows.
            items: int[E], item rows.
            weights: float32[E], or None.

        Raises:
            InputError: The lengths differ.
        """
        users, items = np.asarray(users), np.asarray(items)
        if users.ndim != 1 or users.shape != items.shape:
            raise InputError(
                f"pairs: expected two columns of one length, got shapes "
                f"{list(users.shape)} and {list(items.shape)}"
            )
        if weights is not None:
            check_weights("pairs: weights", weights, len(users))
            keys, weights = summed(pair_keys(users, items), weights)
        else:
            keys = np.unique(pair_keys(users, items))
        return cls((keys >> 32).astype(np.int32), (keys & 0xFFFFFFFF).astype(np.int32), weights)

    def at(self, mask: np.ndarray) -> "Pairs":
        """The pairs where a mask holds.

        Args:
            mask: bool[E].
        """
        weights = None if self.weights is None else self.weights[mask]
        return Pairs(self.users[mask], self.items[mask], weights)

    def moved(self, user_rows: np.ndarray, item_rows: np.ndarray) -> "Pairs":
        """The same pairs in other rows.

        Args:
            user_rows: int[U], the new row of each user.
            item_rows: int[I], the new row of each item.
        """
        return Pairs.from_rows(user_rows[self.users], item_rows[self.items], self.weights)

    def count_shared(self, other: "Pairs") -> int:
        """How many pairs stand in both.

        Args:
            other: Pairs of the same rows.
        """
        shorter, longer = sorted((self, other), key=len)
        if not len(shorter):
            return 0
        keys, wanted = longer.keys, shorter.keys
        places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return int((keys[places] == wanted).sum())

    def named(self, kind: Literal["users", "items"]) -> np.ndarray:
        """The rows that some pair names, ascending.

        Args:
            kind: rows of what.
        """
        return np.unique(getattr(self, kind))

    def __len__(self) -> int:
        return len(self.users)

    @property
    def keys(self) -> np.ndarray:
        """int64[E], one number a pair, ascending."""
        return pair_keys(self.users, self.items)


class SortedRows(NamedTuple):
    """Pairs by one of their ends: row r holds ``columns[offsets[r]:offsets[r + 1]]``.

    Attributes:
        offsets: int32[R + 1], from 0 to E.
        columns: int32[E], ascending within a row.
    """

    offsets: np.ndarray
    columns: np.ndarray


class MappedPairs(Pairs):
    """Pairs that were checked and sorted before, and lie on disk both ways.

    Nothing is checked again, and of the pairs only those are read that are asked for.

    Args:
        by_user: the items of each user.
        by_item: the users of each item.
        ordering: how rows stand on top of the canonical order of the split that these train:
            ``none``, ``degree`` or ``dealt``.
        digest: a sum of all pairs; None where there is none.
    """

    by_user: SortedRows
    by_item: SortedRows
    ordering: str
    digest: str | None

    def __init__(
        self, by_user: SortedRows, by_item: SortedRows, ordering: str, digest: str | None = None
    ):
        held = {"by_user": by_user, "by_item": by_item, "ordering": ordering, "digest": digest}
        # The class that this one is of freezes its attributes.
        self.__dict__.update(held, items=by_user.columns, weights=None)

    @cached_property
    def users(self) -> np.ndarray:  # pyright: ignore[reportIncompatibleVariableOverride]
        """int32[E], made when somebody asks."""
        lengths = np.diff(self.by_user.offsets)
        return np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)

    def named(self, kind: Literal["users", "items"]) -> np.ndarray:
        """The rows that some pair names, ascending; without a look at the pairs.

        Args:
            kind: rows of what.
        """
        rows = self.by_user if kind == "users" else self.by_item
        return np.flatnonzero(np.diff(rows.offsets)).astype(np.int32)

    def __len__(self) -> int:
        return len(self.items)


def check_rows(field: str, rows: np.ndarray, bound: int, hint: str = "") -> None:
    """Refuse what are no rows.

    Args:
        field: what an error calls them.
        rows: what should be one-dimensional integers in [0, bound).
        bound: how many rows there are.
        hint: what an error ends with.

    Raises:
        InputError: the array has another shape or type, or a row is out of range.
    """
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise InputError(
            f"{field}: expected a one-dimensional integer array, "
            f"got shape {rows.shape} of {rows.dtype}"
        )
    if rows.size and not (rows.min() >= 0 and rows.max() < bound):
        raise InputError(
            f"{field}: expected rows in [0, {bound}), "
            f"got values from {rows.min()} to {rows.max()}{hint}"
        )


def new_rows(name: str, order: np.ndarray, size: int) -> np.ndarray:
    """Where each old row goes when new row p holds what old row ``order[p]`` held.

    Args:
        name: What an error calls the order.
        order: int[size], the old row of each new row, each once.
        size: How many rows there are.

    Returns:
        int32[size], the new row of each old row.

    Raises:
        InputError: The order is not a permutation of the rows.
    """
    order = np.asarray(order)
    if order.dtype.kind not in "iu" or not np.array_equal(np.sort(order), np.arange(size)):
        raise InputError(
            f"{name}: expected each of the rows 0 … {size - 1} once, "
            f"got {order.dtype}{list(order.shape)}"
        )
    rows = np.empty(size, np.int32)
    rows[order] = np.arange(size, dtype=np.int32)
    return rows


def pair_keys(users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """One number for each pair of rows, in the order of (user, item).

    Args:
        users: int[E], user rows.
        items: int[E], item rows.

    Returns:
        int64[E].
    """
    keys = users.astype(np.int64)
    keys <<= 32
    # In place, and rows as they are: there may be many.
    keys |= items if items.dtype == np.int32 else items.astype(np.int64)
    return keys


def merge_pairs(*parts: Pairs) -> Pairs:
    """All pairs of several parts, each once; weights of one pair add up.

    Args:
        parts: Pairs of the same rows.

    Returns:
        Pairs with weights where every part that holds a pair has them.
    """
    return Pairs.from_rows(
        np.concatenate([pairs.users for pairs in parts]),
        np.concatenate([pairs.items for pairs in parts]),
        joined_weights(*parts),
    )


def joined_weights(*parts: Pairs) -> np.ndarray | None:
    """The weights of several parts one after another.

    Args:
        parts: Pairs, some perhaps empty.

    Returns:
        float32[E] where every part that holds a pair has weights, else None.
    """
    weights = [pairs.weights for pairs in parts if len(pairs)]
    known = [one for one in weights if one is not None]
    return np.concatenate(known) if known and len(known) == len(weights) else None
