"""Distinct user-item pairs as rows: what a split is made of."""

from dataclasses import dataclass

import numpy as np

from lightgcn_jax.errors import InputError

PARTS = ("train", "valid", "test")
"""The parts of a split, by name."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Distinct user-item pairs as rows, in ascending order of (user, item)."""

    users: np.ndarray  # int32[E]
    items: np.ndarray  # int32[E]

    def __post_init__(self) -> None:
        for name, rows in (("users", self.users), ("items", self.items)):
            if rows.dtype != np.int32 or rows.shape != (len(self.users),):
                raise InputError(
                    f"pairs: {name}: expected int32[{len(self.users)}], "
                    f"got {rows.dtype}{list(rows.shape)}"
                )
            if len(rows) and rows.min() < 0:
                raise InputError(f"pairs: {name}: expected rows of 0 or more, got {rows.min()}")
        keys = self.keys
        if not (keys[1:] > keys[:-1]).all():
            raise InputError(
                "pairs: expected distinct pairs in ascending order of (user, item); "
                "Pairs.from_rows puts them in order"
            )

    @classmethod
    def from_rows(cls, users: np.ndarray, items: np.ndarray) -> "Pairs":
        """The distinct pairs of ``users`` (int[E]) and ``items`` (int[E]), put in order."""
        users, items = np.asarray(users), np.asarray(items)
        if users.ndim != 1 or users.shape != items.shape:
            raise InputError(
                f"pairs: expected two columns of one length, got shapes "
                f"{list(users.shape)} and {list(items.shape)}"
            )
        keys = np.unique(pair_keys(users, items))
        return cls((keys >> 32).astype(np.int32), (keys & 0xFFFFFFFF).astype(np.int32))

    def __len__(self) -> int:
        return len(self.users)

    @property
    def keys(self) -> np.ndarray:
        """int64[E], one number a pair, ascending."""
        return pair_keys(self.users, self.items)


def pair_keys(users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """int64[E], one number for each pair of rows, in the order of (user, item)."""
    return users.astype(np.int64) << 32 | items.astype(np.int64)


def merge_pairs(*parts: Pairs) -> Pairs:
    """All pairs of several parts, each once."""
    return Pairs.from_rows(
        np.concatenate([pairs.users for pairs in parts]),
        np.concatenate([pairs.items for pairs in parts]),
    )
