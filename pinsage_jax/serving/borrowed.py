"""Contexts for items that no context holds: those of the items that are most like them.

An encoder places an item by its contexts: by where they stand in the graph, by neighbours, by their
number. An item without any would stand where no query looks: of the held-out items of the generated
default world, added without their contexts, none came among the first hundred of a query. So such
an item is embedded as if it were in the contexts of the ``NEAREST`` items of training by the cosine
of their features (:mod:`pinsage_jax.evaluation.feature_cosine`), and in as many of them as these
items are in on average.

Of sentences only the words are compared: the function that makes their vectors is the user's, and
may take minutes for all items. Of very many items those at ``MOST`` evenly spaced rows are
compared, so that neither memory nor time grow further.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lightgcn_jax.evaluation import rank
from pinsage_jax.evaluation.feature_cosine import feature_cosine
from pinsage_jax.features.bags import TextSchema
from pinsage_jax.features.schema import FeatureSchema
from pinsage_jax.features.table import FeatureTable
from pinsage_jax.graph.item_graph import ItemGraph
from pinsage_jax.serving.added_items import AddedItems
from pinsage_jax.serving.programs import BATCH, filled

NEAREST = 10
"""Items whose contexts are borrowed; of 3, 10 and 30 the best on a world that no table has."""

MOST = 2**18
"""Items that are compared."""


class Borrowed(NamedTuple):
    """Where n items are placed.

    Attributes:
        contexts: for each the rows of contexts, ``int32[contexts]`` in ascending order; none for an
            item that is like no other, where it has none itself.
        degrees: ``int64[n]``, as in how many contexts each counts.
    """

    contexts: list[np.ndarray]
    degrees: np.ndarray


class Lenders:
    """The items of training, whose contexts others may borrow."""

    def __init__(self, features: Callable[[], FeatureTable], schema: FeatureSchema):
        """Nothing is read before the first item borrows.

        Args:
            features: reads the features of the I items.
            schema: how they are encoded.
        """
        self._features = features
        self._columns = [
            dataclasses.replace(one, sentence=None) if isinstance(one, TextSchema) else one
            for one in schema.columns
        ]
        self._inputs = [each for one in self._columns for each in one.inputs()]

    def lend(self, table: FeatureTable, graph: ItemGraph) -> Borrowed:
        """Find the contexts of the items most like some; among equals the lower row comes first.

        Args:
            table: the features of n items.
            graph: holds the I items, and no context of any later one.
        """
        lists: list[np.ndarray] = [np.zeros(0, np.int32)] * table.num_rows
        degrees = np.zeros(table.num_rows, np.int64)
        if not self._inputs:
            return Borrowed(lists, degrees)
        own, held = self._encode(table), graph.contexts_of_item
        starts, lengths, columns = map(np.asarray, (held.starts, held.lengths, held.columns))
        rows, _ = self._known
        for first in range(0, table.num_rows, BATCH):
            part = {name: values[first : first + BATCH] for name, values in own.items()}
            for at, place in enumerate(self._nearest(part, lengths[rows] > 0), first):
                near = rows[place]
                if not len(near):
                    continue
                borrowed = [columns[starts[row] : starts[row] + lengths[row]] for row in near]
                lists[at] = np.unique(np.concatenate(borrowed)).astype(np.int32)
                degrees[at] = max(1, round(float(lengths[near].mean())))
        return Borrowed(lists, degrees)

    def _nearest(self, new: dict[str, np.ndarray], in_contexts: np.ndarray) -> list[np.ndarray]:
        """For each new item the places of those in contexts that are most like it, best first."""
        (rows, known), count = self._known, len(next(iter(new.values())))
        arrays: dict[str, Any] = {
            name: np.concatenate([known[name], filled(new[name])]) for name in known
        }
        num_items = len(rows)
        queries = num_items + np.arange(BATCH, dtype=np.int32)[:, None]
        scorer = feature_cosine(self._inputs, arrays, queries)
        may_lend = np.pad(in_contexts, (0, BATCH))
        found = rank(scorer, np.arange(BATCH), min(NEAREST, num_items), allowed=may_lend)
        return [
            items[(items >= 0) & (scores > 0)]
            for items, scores in zip(found.items[:count], found.scores[:count], strict=True)
        ]

    @functools.cached_property
    def _known(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The rows that are compared, and their encoded features."""
        table = self._features()
        rows = np.linspace(0, table.num_rows - 1, min(table.num_rows, MOST)).astype(np.int64)
        return rows, self._encode(table.take(rows) if len(rows) < table.num_rows else table)

    def _encode(self, table: FeatureTable) -> dict[str, np.ndarray]:
        arrays: dict[str, np.ndarray] = {}
        for one in self._columns:
            arrays |= one.encode(table.columns[one.name], {})
        return arrays


def with_borrowed(new: AddedItems, lenders: Lenders | None, graph: ItemGraph) -> Borrowed:
    """The contexts that items are embedded in: their own, or where they have none borrowed ones.

    Args:
        new: the items.
        lenders: who lends; None for nobody.
        graph: as :meth:`Lenders.lend` takes it.
    """
    contexts, degrees = [*new.contexts], np.rint(new.degrees() * new.growth).astype(np.int64)
    alone = np.flatnonzero(new.degrees() == 0)
    if lenders is not None and len(alone):
        found = lenders.lend(new.table.take(alone), graph)
        for place, one in zip(alone.tolist(), found.contexts, strict=True):
            contexts[place] = one
        degrees[alone] = found.degrees
    return Borrowed(contexts, degrees)
