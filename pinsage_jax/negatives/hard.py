"""Hard negatives: items that are somewhat related to a query by personalised PageRank.

"We sort the items according to their Personalized PageRank scores with respect to query item q;
items ranked at 2000–5000 are randomly sampled as hard negative items" (PinSAGE, section 3.3). They
are ranked once, before training: each item keeps a pool to draw from.

Items are ranked by the visits of a walk with restart: an item's share is how often a traversal ends
there, Σ_{k≥0} α (1−α)^k e_q P^{k+1}, with P the step item → context → item and α the restart. The
PageRank score differs from it only by the query's own start, so both rank all other items alike.

Deviations from the paper:

- Its band belongs to a catalogue of billions; a small catalogue gets a scaled one
  (:func:`pinsage_jax.negatives.rank_band.scaled_band`).
- An item that shares a context with the query is never pooled, and neither is a positive that is
  given: in a small catalogue such items reach far down the ranking. They keep their ranks, so the
  band does not move.
- Equal scores are ranked by a hash of query and item, the same whenever the key is the same.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax.sharding import Mesh

from lightgcn_jax.arrays import Array, Float, Ids, Int, PRNGKey
from lightgcn_jax.data.pairs import check_rows
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph.bipartite import CsrRows
from lightgcn_jax.processes.placing import on_host
from lightgcn_jax.sharding import Blocks
from pinsage_jax.graph.item_graph import ItemGraph
from pinsage_jax.graph.pagerank import Chain, edge_counts, pagerank_columns
from pinsage_jax.graph.walks import WalkConfig, walk
from pinsage_jax.negatives.rank_band import BAND, Band, chosen_band, pick_from_band, sample_rows

Ranking = Literal["pagerank", "walks"]

_MEMORY = 2**28
MOST_QUERIES = 128
"""Queries whose scores stand side by side. Measured on two cores, 20,000 items: wider tables are no
faster to diffuse, for each query."""


class HardPool(NamedTuple):
    """Hard negatives to draw from.

    Attributes:
        ids: ``int32[R, P]``, a row for each item with −1 as padding at its end; a row of −1 for
            items that were not asked for.
        band: the ranks they come from, [first, end), counted from 0 without the query itself.
        filled: how much of the pools of the items asked for holds an item, from 0 to 1.
        tied: the share of pooled items whose score equals that of the last item before the band or
            of the first after it. Only the hash decides that they are in the band.
        scaled: whether the band is the paper's, scaled to the catalogue.
    """

    ids: Int[Array, "items pool"]
    band: Band
    filled: float
    tied: float
    scaled: bool = False

    def describe(self) -> str:
        """Say in one line where the pool comes from and how full it is."""
        origin = f" (the paper's {BAND[0]:,} to {BAND[1]:,}, scaled)" if self.scaled else ""
        return (
            f"hard negatives: ranks {self.band[0]:,} to {self.band[1]:,}{origin}, "
            f"{self.filled:.1%} of {self.ids.shape[1]} slots an item filled, {self.tied:.1%} tied "
            "at the band's edge"
        )


def make_pool(
    key: PRNGKey,
    graph: ItemGraph,
    *,
    rows: np.ndarray | None = None,
    band: Band | None = None,
    pool: int = 64,
    ranking: Ranking = "pagerank",
    restart: float = 0.15,
    iterations: int = 10,
    visits: int = 2**16,
    length: int = 10,
    positives: CsrRows | None = None,
    memory_bytes: int = _MEMORY,
    mesh: Mesh | None = None,
) -> HardPool:
    """Rank all items for each query, and keep some of a band of ranks.

    PageRank (:func:`pinsage_jax.graph.pagerank.pagerank`) is exact. Walks, of which the visits are
    counted, need far more time for far less: on a graph of 20,000 items in clusters, 262,144 visits
    a query take five times as long as PageRank, and 39 % of the pool then lies in PageRank's band;
    with 65,536 visits 19 % do. Visits are counted in a row of all items, not sorted: for 100,000
    visits of 20,000 items on two busy cores counting took 0.8 ms a query, sorting 6.7.

    Args:
        key: consumed; it decides the choice within the band and the order of equal scores.
        graph: the graph that is walked.
        rows: ``int[n]`` distinct items that get a pool; None for all that have contexts.
        band: ranks [first, end); None for the paper's, scaled to the number of items that contexts
            list.
        pool: P, how many items of the band are kept, sampled without repetition.
        ranking: ``pagerank``, or ``walks`` for the number of their visits.
        restart: the probability of going back to the start.
        iterations: how many traversals PageRank follows. In a graph of 20,000 items in clusters, 10
            of them put 99.7 % of the right items into a band.
        visits: how many visits of a query walks make, rounded up to whole walks. There should be
            many times as many as the band's end, or most of its ranks are ties and some are empty.
        length: how many traversals a walk makes.
        positives: a row of items for each of the first items of the graph, which are never pooled
            for it.
        memory_bytes: what a chunk of queries may take, roughly; it changes no result.
        mesh: devices to share the rows of PageRank's steps and scores out over; None for one.

    Raises:
        InputError: no ranking has that name, an item is out of range or named twice, or the band
            reaches past the catalogue.
    """
    if ranking not in get_args(Ranking):
        raise InputError(f"ranking: expected one of {get_args(Ranking)}, got {ranking!r}")
    bytes_of_query = 24 * graph.num_items
    if ranking == "pagerank":
        chain = Chain.of(graph, None if mesh is None else Blocks(mesh))

        def scores_of(queries: Ids) -> Array:
            if mesh is None:
                return pagerank_columns(chain, queries, restart, iterations)
            scores = pagerank_columns(chain, on_host(queries), restart, iterations)
            return jax.device_put(on_host(scores)[:, : graph.num_items])
    else:
        config = WalkConfig(math.ceil(visits / length), length, restart)
        bytes_of_query += 16 * config.visits
        # What a walk draws for an item does not depend on the chunk, so one key serves all.
        walk_key, key = jax.random.split(key)

        def scores_of(queries: Ids) -> Array:
            return _visit_counts(walk_key, graph, queries, config)

    rows = _checked_rows(rows, graph)
    excluded = _Excluded(graph, positives)
    chosen = chosen_band(band, excluded.num_listed)
    ids = np.full((graph.num_items, pool), -1, np.int32)
    tied = 0
    size = max(1, min(MOST_QUERIES, memory_bytes // bytes_of_query))
    for place, members in enumerate(_chunks(rows, size)):
        queries = jax.device_put(members)
        forbidden = jax.device_put(excluded.of(members))
        picked, equal = pick_from_band(key, scores_of(queries), forbidden, queries, chosen, pool)
        # The last chunk is filled up with item 0.
        real = min(len(members), len(rows) - place * len(members))
        ids[members[:real], : picked.shape[1]] = np.asarray(picked)[:real]
        tied += int(np.asarray(equal)[:real].sum())
    pooled = int((ids >= 0).sum())
    filled, share = pooled / max(1, len(rows) * pool), tied / max(1, pooled)
    return HardPool(jax.device_put(ids), chosen, filled, share, band is None and chosen != BAND)


def draw_hard(
    key: PRNGKey, pool_ids: Int[Array, "items pool"], queries: Int[Array, "batch n"], count: int
) -> Int[Array, "batch count"]:
    """Draw H items without replacement, in random order, from the pool of one item of each query.

    Args:
        key: consumed; it also chooses the item of a query.
        pool_ids: ``int32[R, P]``, −1 pads.
        queries: ``int32[B, n]``, −1 pads; a query without any item has no pool.
        count: H ≤ P, static.

    Returns:
        ``int32[B, H]``; −1 past what the pool holds.

    Raises:
        InputError: H is larger than the pool.
    """
    if count > pool_ids.shape[1]:
        raise InputError(
            f"count: expected at most the {pool_ids.shape[1]} items of a pool, got {count}"
        )
    which, key = jax.random.split(key)
    one = sample_rows(jax.random.uniform(which, queries.shape), queries, 1)
    ids = jnp.where(one >= 0, pool_ids[jnp.maximum(one[:, 0], 0)], -1)
    return sample_rows(jax.random.uniform(key, ids.shape), ids, count)


@functools.partial(jax.jit, static_argnames="config")
def _visit_counts(
    key: PRNGKey, graph: ItemGraph, queries: Ids, config: WalkConfig
) -> Float[Array, "queries items"]:
    visits = walk(key, graph, queries, config=config)
    # An index of −1 would count for the last item; one past the end is dropped.
    visits = jnp.where(visits >= 0, visits, graph.num_items)
    row = jnp.arange(len(queries))[:, None]
    counts = jnp.zeros((len(queries), graph.num_items), jnp.int32)
    return counts.at[row, visits].add(1, mode="drop").astype(jnp.float32)


class _Excluded:
    """The items that must not be pooled for a query: they share a context with it, or are its
    positives."""

    def __init__(self, graph: ItemGraph, positives: CsrRows | None):
        self._contexts = edge_counts(graph.contexts_of_item, graph.num_contexts)
        self._items = edge_counts(graph.items_of_context, graph.num_items)
        self._positives = None if positives is None else _positive_matrix(positives, graph)
        self.num_listed = len(np.unique(self._items.indices))

    def of(self, rows: np.ndarray) -> np.ndarray:
        """``bool[n, R]``."""
        excluded = (self._contexts[rows] @ self._items).toarray() > 0
        if self._positives is not None:
            excluded |= self._positives[rows].toarray() > 0
        return excluded


def _checked_rows(rows: np.ndarray | None, graph: ItemGraph) -> np.ndarray:
    if rows is None:
        return np.flatnonzero(graph.item_degrees()).astype(np.int32)
    rows = np.asarray(rows)
    check_rows("rows", rows, graph.num_items)
    found, counts = np.unique(rows, return_counts=True)
    if len(found) < len(rows):
        raise InputError(f"rows: expected distinct items, got {found[counts.argmax()]} twice")
    return rows.astype(np.int32)


def _chunks(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Equally long pieces, at most ``size``; the last is filled up with item 0."""
    pieces = max(1, math.ceil(len(rows) / size))
    size = max(1, math.ceil(len(rows) / pieces))
    padded = np.zeros(pieces * size, np.int32)
    padded[: len(rows)] = rows
    yield from padded.reshape(pieces, size)


def _positive_matrix(positives: CsrRows, graph: ItemGraph) -> scipy.sparse.csr_array:
    offsets, columns = np.asarray(positives.offsets), np.asarray(positives.columns)
    rows, items = len(offsets) - 1, graph.num_items
    if rows > items:
        raise InputError(f"positives: expected at most {items} rows, got {rows}")
    check_rows("positives", columns, items)
    offsets = np.concatenate([offsets, np.full(items - rows, offsets[-1])])
    ones = np.ones(len(columns), np.int32)
    return scipy.sparse.csr_array((ones, columns, offsets), shape=(items, items))
