"""Items, the contexts that hold them, their features and labels: what every source gives."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lightgcn_jax.data import Interactions
from lightgcn_jax.data.pairs import new_rows
from lightgcn_jax.errors import InputError
from pinsage_jax.features.table import FeatureTable


@dataclass(frozen=True, eq=False)
class ItemData:
    """I items and C contexts (boards, baskets, sessions, users), checked once, here.

    An item in no context, a context of one item and a graph in pieces are all allowed.

    Attributes:
        name: what the data set is called.
        interactions: E memberships; its users are the contexts, its items the items. A repeated
            pair is a multi-edge and counts each time.
        features: a row for each item, in the order of ``interactions.items``; there may be no
            columns.
        labels: what the linear probe predicts, by name: ``int32[I]`` classes, −1 for none, or
            ``bool[I, classes]``.
        pairs: ``int32[P]`` query and ``int32[P]`` positive item rows, where the data hold explicit
            pairs.
        notes: lines worth telling a user.

    Raises:
        InputError: features, labels or pairs do not fit the items, or memberships have weights.
    """

    name: str
    interactions: Interactions
    features: FeatureTable
    labels: Mapping[str, np.ndarray]
    pairs: tuple[np.ndarray, np.ndarray] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        items = self.interactions.num_items
        if not items:
            raise InputError("interactions: expected at least one item, got none")
        if self.interactions.weights is not None:
            raise InputError(
                "weights: PinSAGE's walks take each membership as often as it stands and know no "
                "weights; leave them out (--weight-column), or repeat rows"
            )
        if self.features.num_rows != items:
            raise InputError(
                f"features: expected {items} rows, one for each item, got {self.features.num_rows}"
            )
        for name, label in self.labels.items():
            _check_label(name, label, items)
        if self.pairs is not None:
            object.__setattr__(self, "pairs", checked_pairs(*self.pairs, num_items=items))

    def in_canonical_order(self) -> ItemData:
        """The same items in rows and an order that no name and no order of a file has a say in.

        Where equal scores and visits are ordered, walks drawn and pairs held out by row, two logs
        that differ in names or in the order of their rows then give the same figures.
        """
        interactions, order = self.interactions.in_canonical_order()
        pairs = self.pairs
        if pairs is not None:
            rows = new_rows("items", order, interactions.num_items)
            queries, positives = (rows[one] for one in pairs)
            sequence = np.lexsort((positives, queries))
            pairs = queries[sequence], positives[sequence]
        return dataclasses.replace(
            self,
            interactions=interactions,
            features=self.features.take(order),
            labels={name: label[order] for name, label in self.labels.items()},
            pairs=pairs,
        )

    def describe(self) -> str:
        """One line of counts."""
        data = self.interactions
        alone = data.num_items - len(np.unique(data.item_rows))
        parts = [
            f"{data.num_items:,} items" + (f" ({alone:,} in no context)" if alone else ""),
            f"{data.num_users:,} contexts, {len(data):,} memberships",
            f"features: {', '.join(self.features.columns) or 'none'}",
        ]
        if self.labels:
            parts.append(f"labels: {', '.join(self.labels)}")
        if self.pairs is not None:
            parts.append(f"{len(self.pairs[0]):,} explicit pairs")
        return "; ".join(parts)


def checked_pairs(
    queries: np.ndarray, positives: np.ndarray, *, num_items: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Check explicit pairs, and return them as ``int32[P]`` each.

    Args:
        queries: ``int[P]`` item rows.
        positives: ``int[P]`` item rows.
        num_items: I; None where it is not known.

    Raises:
        InputError: lengths differ, a row is out of range, or an item is paired with itself.
    """
    queries, positives = np.asarray(queries), np.asarray(positives)
    for name, rows in (("queries", queries), ("positives", positives)):
        if rows.shape != (len(queries),) or rows.dtype.kind not in "iu":
            raise InputError(
                f"pairs: {name}: expected item rows int[{len(queries)}], "
                f"got {rows.dtype}{list(rows.shape)}"
            )
        bound = 2**31 if num_items is None else num_items
        if rows.size and (rows.min() < 0 or rows.max() >= bound):
            raise InputError(
                f"pairs: {name}: expected rows of 0 … {bound - 1}, "
                f"got values from {rows.min()} to {rows.max()}"
            )
    if (same := queries == positives).any():
        at = int(same.argmax())
        raise InputError(
            f"pairs[{at}]: expected two different items, got row {queries[at]} twice; "
            f"{int(same.sum()):,} pairs are like that"
        )
    return queries.astype(np.int32), positives.astype(np.int32)


def kept_edges(interactions: Interactions, keep: np.ndarray) -> Interactions:
    """Keep some interactions, under the same ids; parts that the files gave are dropped.

    Args:
        interactions: E of them.
        keep: ``bool[E]``.
    """

    def taken(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else values[keep]

    return dataclasses.replace(
        interactions,
        user_rows=interactions.user_rows[keep],
        item_rows=interactions.item_rows[keep],
        ratings=taken(interactions.ratings),
        timestamps=taken(interactions.timestamps),
        parts=None,
    )


def _check_label(name: str, label: np.ndarray, items: int) -> None:
    classes = label.ndim == 1 and label.dtype == np.int32
    truths = label.ndim == 2 and label.dtype == bool
    if not (classes or truths) or len(label) != items:
        raise InputError(
            f"labels[{name!r}]: expected int32[{items}] or bool[{items}, classes], "
            f"got {label.dtype}{list(label.shape)}"
        )
    if classes and label.min() < -1:
        raise InputError(
            f"labels[{name!r}]: expected classes from 0, −1 for none, got {label.min()}"
        )
