"""The graph that is walked: items and the contexts (boards, sessions, lists) that hold them.

Two adjacency lists on the device, one for each direction, each with room for entries that come
later: new items get their contexts without a new shape, so nothing that is compiled is compiled
again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from lightgcn_jax.arrays import Array, Int
from lightgcn_jax.data.pairs import check_rows
from lightgcn_jax.errors import InputError

_INT32_MAX = np.iinfo(np.int32).max


@flax.struct.dataclass
class Adjacency:
    """Rows of column ids: row r holds ``columns[starts[r] : starts[r] + lengths[r]]``.

    A column that stands several times in a row counts each time (a multi-edge). Rows stand one
    after another without gaps; the rest of the columns is slack.

    Attributes:
        starts: ``int32[rows]``, where each row begins; any number for an empty row.
        lengths: ``int32[rows]``, how long each row is.
        columns: ``int32[capacity]``, the rows one after another.
    """

    starts: Int[Array, " rows"]
    lengths: Int[Array, " rows"]
    columns: Int[Array, " capacity"]


@flax.struct.dataclass
class ItemGraph:
    """Items and contexts, in adjacency lists both ways; a pytree that enters jitted functions.

    Attributes:
        contexts_of_item: a row of contexts for each of R items.
        items_of_context: a row of items for each of C contexts.
        num_items: R, slack included; static.
        num_contexts: C; static.
    """

    contexts_of_item: Adjacency
    items_of_context: Adjacency
    num_items: int = flax.struct.field(pytree_node=False)
    num_contexts: int = flax.struct.field(pytree_node=False)

    @classmethod
    def from_pairs(
        cls,
        items: ArrayLike,
        contexts: ArrayLike,
        *,
        num_items: int,
        num_contexts: int,
        item_slack: int = 0,
        edge_slack: int = 0,
    ) -> ItemGraph:
        """Build the graph from one pair of rows for each edge, in any order; pairs may repeat.

        Args:
            items: ``int[E]`` item rows in [0, num_items).
            contexts: ``int[E]`` context rows in [0, num_contexts).
            num_items: I; items without a pair are isolated.
            num_contexts: C; contexts without a pair are empty.
            item_slack: rows for items that come later, R = I + item_slack.
            edge_slack: entries for the contexts of these items.

        Returns:
            The graph. O(E) memory, O(E log E) time, on the host.

        Raises:
            InputError: lengths differ, a row is out of range, a slack is negative, or there is more
                than 32 bits count.
        """
        items, contexts = np.asarray(items), np.asarray(contexts)
        check_rows("items", items, num_items)
        check_rows("contexts", contexts, num_contexts)
        if items.size != contexts.size:
            raise InputError(
                f"items and contexts: expected equal lengths, got {items.size} and {contexts.size}"
            )
        for field, slack in (("item_slack", item_slack), ("edge_slack", edge_slack)):
            if slack < 0:
                raise InputError(f"{field}: expected at least 0, got {slack}")
        if max(items.size + edge_slack, num_items + item_slack, num_contexts) >= _INT32_MAX:
            raise InputError(
                f"graph: items, contexts and edges are counted in 32 bits, at most {_INT32_MAX:,}, "
                f"got {num_items + item_slack:,}, {num_contexts:,} and {items.size + edge_slack:,}"
            )
        rows = num_items + item_slack
        return cls(
            contexts_of_item=_adjacency(items, contexts, rows, num_contexts, edge_slack),
            items_of_context=_adjacency(contexts, items, num_contexts, rows, 0),
            num_items=rows,
            num_contexts=num_contexts,
        )

    def with_room(self, entries: int) -> ItemGraph:
        """Make room for contexts of new items; where there is enough, nothing changes.

        Args:
            entries: how many entries there has to be room for.

        Returns:
            The graph, with other shapes where there was too little room.
        """
        own = self.contexts_of_item
        lacking = entries - (len(own.columns) - int(self.item_degrees().sum()))
        if lacking <= 0:
            return self
        own = dataclasses.replace(own, columns=jnp.pad(own.columns, (0, lacking)))
        return dataclasses.replace(self, contexts_of_item=own)

    def with_items(self, rows: ArrayLike, contexts: Sequence[ArrayLike]) -> ItemGraph:
        """Give contexts to items that had none; all shapes stay.

        The contexts do not list the new items: a walk from a new item visits old ones, and no walk
        comes to a new one.

        Args:
            rows: ``int[n]``, distinct item rows without contexts (slack, or isolated so far).
            contexts: for each of them the rows of its contexts, which may repeat.

        Returns:
            The graph with these items.

        Raises:
            InputError: a row has contexts, stands twice or is out of range (the slack of items is
                used up), a context is out of range, or there are more entries than slack.
        """
        rows = np.asarray(rows)
        lists = [np.asarray(one) if np.size(one) else np.zeros(0, np.int32) for one in contexts]
        self._check_new(rows, lists)
        own = self.contexts_of_item
        starts, lengths = np.array(own.starts), np.array(own.lengths)
        used, added = int(lengths.sum(dtype=np.int64)), sum(map(len, lists))
        if added > len(own.columns) - used:
            raise InputError(
                f"contexts: expected at most the {len(own.columns) - used} entries of slack that "
                f"are left, got {added}; build the graph again with more edge_slack"
            )
        sizes = np.array([len(one) for one in lists], np.int64)
        lengths[rows] = sizes
        starts[rows] = used + np.cumsum(sizes) - sizes
        columns = np.array(own.columns)
        columns[used : used + added] = np.concatenate([*lists, np.zeros(0, np.int32)])
        grown = dataclasses.replace(
            own,
            starts=jax.device_put(starts),
            lengths=jax.device_put(lengths),
            columns=jax.device_put(columns),
        )
        return dataclasses.replace(self, contexts_of_item=grown)

    def item_degrees(self) -> np.ndarray:
        """The number of edges of each item, ``int64[R]``; each copy of a multi-edge counts."""
        return np.asarray(self.contexts_of_item.lengths, np.int64)

    def _check_new(self, rows: np.ndarray, lists: list[np.ndarray]) -> None:
        check_rows("rows", rows, self.num_items, "; build the graph again with more item_slack")
        if len(rows) != len(lists):
            raise InputError(
                f"contexts: expected one list for each of {len(rows)} rows, got {len(lists)}"
            )
        if len(np.unique(rows)) != len(rows):
            raise InputError(f"rows: expected distinct rows, got {len(rows)} with repetitions")
        for one in lists:
            check_rows("contexts", one, self.num_contexts)
        taken = rows[self.item_degrees()[rows] > 0]
        if taken.size:
            raise InputError(
                f"rows: expected items without contexts, got {taken.size} that have some, "
                f"the first {taken[0]}"
            )


def _adjacency(
    rows: np.ndarray, columns: np.ndarray, num_rows: int, num_columns: int, slack: int
) -> Adjacency:
    """Pairs as rows with their columns in ascending order, whatever the order of the pairs."""
    width = max(1, num_columns)
    keys = np.sort(rows.astype(np.int64) * width + columns)
    lengths = np.bincount(keys // width, minlength=num_rows)
    starts = np.cumsum(lengths) - lengths
    return Adjacency(
        starts=jax.device_put(starts.astype(np.int32)),
        lengths=jax.device_put(lengths.astype(np.int32)),
        columns=jax.device_put(np.pad((keys % width).astype(np.int32), (0, slack))),
    )
