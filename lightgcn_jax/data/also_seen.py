"""What users know beyond a split, low ratings for instance: never trained on, never recommended."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

from lightgcn_jax.data.interactions import Interactions
from lightgcn_jax.data.pairs import PARTS, Pairs, merge_pairs
from lightgcn_jax.data.splits import Split


class SeenIds(NamedTuple):
    """Pairs by the ids of the outside world.

    Attributes:
        users: ids ``[n]``.
        items: ids ``[n]``.
    """

    users: pl.Series
    items: pl.Series

    @classmethod
    def of(cls, interactions: Interactions) -> SeenIds:
        """The pairs of all rows that were read.

        Args:
            interactions: before low ratings were left out.
        """
        users, items = interactions.users.ids, interactions.items.ids
        return cls(users.gather(interactions.user_rows), items.gather(interactions.item_rows))

    @classmethod
    def of_rows(cls, split: Split, pairs: Pairs | None) -> SeenIds | None:
        """Pairs of a split's rows by their ids; None where there are none.

        Args:
            split: whose rows these are.
            pairs: the pairs.
        """
        if pairs is None:
            return None
        return cls(split.users.ids.gather(pairs.users), split.items.ids.gather(pairs.items))

    def beside(self, split: Split) -> Pairs | None:
        """The pairs that no part of a split holds; None where there are none.

        Args:
            split: the split; pairs of users or items that it does not know are left out.
        """
        users, items = split.users.rows(self.users), split.items.rows(self.items)
        inside = (users >= 0) & (items >= 0)
        found = Pairs.from_rows(users[inside], items[inside])
        held = merge_pairs(*(getattr(split, part) for part in PARTS))
        fresh = ~np.isin(found.keys, held.keys, assume_unique=True)
        return Pairs(found.users[fresh], found.items[fresh]) if fresh.any() else None


def joined(one: SeenIds | None, other: SeenIds | None) -> SeenIds | None:
    """The pairs of both.

    Args:
        one: some pairs.
        other: others.
    """
    if one is None or other is None:
        return one or other
    columns = []
    for before, after in zip(one, other, strict=True):
        if before.dtype != after.dtype:  # As an id map that grows makes strings of integers.
            before, after = before.cast(pl.String), after.cast(pl.String)
        columns.append(pl.concat([before, after.rename(before.name)]))
    return SeenIds(*columns)
