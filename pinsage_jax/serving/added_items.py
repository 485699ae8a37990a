"""What is known of items that were added to a run, enough to embed them again, and what is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lightgcn_jax.errors import InputError
from pinsage_jax.features.table import FeatureTable

_SHOWN = 5  # ids that a prompt shows


class Added(NamedTuple):
    """The vectors of new items, and counts of what was left out.

    Attributes:
        ids: external ids, as they were given.
        vectors: ``float32[n, D]``.
        without_contexts: how many items none of the run's contexts holds.
        borrowing: how many of these are embedded in the contexts of the items most like them; the
            others are from their features alone.
        unknown_contexts: how many memberships were left out because the run does not know the
            context.
        ignored_columns: how many feature columns the run does not read.
    """

    ids: list[int | str]
    vectors: np.ndarray
    without_contexts: int
    borrowing: int
    unknown_contexts: int
    ignored_columns: int

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self.ids[:_SHOWN])) + ", …" * (len(self.ids) > _SHOWN)
        return (
            f"Added {len(self.ids):,} items: {shown}\n"
            f"  contexts: none of {self.without_contexts:,}, {self.borrowing:,} of them placed by "
            f"items like them; {self.unknown_contexts:,} memberships in unknown ones left out\n"
            f"  features: {self.ignored_columns:,} columns that the run does not read"
        )


@dataclass(frozen=True, eq=False)
class AddedItems:
    """n items that came after training, in the order of their rows.

    Attributes:
        table: their raw features, the columns that the run reads.
        contexts: for each the rows of the run's contexts that hold it, ``int32[contexts]`` in
            ascending order.
        growth: ``float64[n]``, how many times as many contexts as it is in each counts as in.
    """

    table: FeatureTable
    contexts: Sequence[np.ndarray]
    growth: np.ndarray

    def __len__(self) -> int:
        return len(self.growth)

    def take(self, places: np.ndarray) -> AddedItems:
        """Take some of the items.

        Args:
            places: ``int[m]`` in [0, n), in the order that they get.
        """
        contexts = [self.contexts[place] for place in places.tolist()]
        return AddedItems(self.table.take(places), contexts, self.growth[places])

    def followed_by(self, others: AddedItems) -> AddedItems:
        """Put others behind these.

        Args:
            others: items with the same columns.
        """
        return AddedItems(
            self.table.followed_by(others.table),
            [*self.contexts, *others.contexts],
            np.concatenate([self.growth, others.growth]),
        )

    def replaced(self, places: np.ndarray, others: AddedItems) -> AddedItems:
        """Put others in the places of some.

        Args:
            places: ``int[m]``, distinct.
            others: m items with the same columns.
        """
        order = np.arange(len(self))
        order[places] = len(self) + np.arange(len(others))
        return self.followed_by(others).take(order)

    def degrees(self) -> np.ndarray:
        """How many contexts hold each item, ``int64[n]``."""
        return np.array([len(one) for one in self.contexts], np.int64)


def check_growth(growth: float) -> None:
    """Refuse a growth that makes items count as in fewer contexts than they are in.

    Args:
        growth: how many times as many.

    Raises:
        InputError: it is no number from 1 on.
    """
    if not 1 <= growth < np.inf:
        raise InputError(f"growth: expected a number from 1 on, got {growth}")


def check_lengths(
    ids: Sequence[int | str], features: FeatureTable | None, contexts: Sequence[Any] | None
) -> None:
    """Refuse features and contexts of other items than are named.

    Args:
        ids: the items.
        features: a row for each; None for none.
        contexts: those of each; None for none.

    Raises:
        InputError: they are of more or fewer.
    """
    lengths = {"ids": len(ids)}
    if features is not None:
        lengths["features"] = features.num_rows
    if contexts is not None:
        lengths["contexts"] = len(contexts)
    if len(set(lengths.values())) > 1:
        raise InputError(f"expected one row for each new item, got {lengths}")
