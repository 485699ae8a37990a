"""What a graph of items and contexts says of pairs of items, without training."""

from __future__ import annotations

import jax
import numpy as np
import scipy.sparse

from pinsage_jax.graph.item_graph import ItemGraph
from pinsage_jax.graph.neighborhoods import NeighborTable
from pinsage_jax.graph.walks import WalkConfig, walk

WALKS = WalkConfig(walks=5_000)
"""50,000 visits of a query, a hundred times those that make the neighbours at scale."""

_VISITS_AT_ONCE = 2**21


def plain_scores(
    graph: ItemGraph, table: NeighborTable, queries: np.ndarray, pool: np.ndarray
) -> dict[str, np.ndarray]:
    """Score the items of a pool for each query.

    Args:
        graph: what is walked.
        table: the neighbours of all items.
        queries: ``int[Q]``, items.
        pool: ``int[P]``, items, ascending.

    Returns:
        ``float32[P, Q]`` of each baseline: how many contexts a query shares with an item, how
        likely one traversal from it leads there, how often walks of several traversals with restart
        do (:data:`WALKS`), and what share of the walks that made the table did, where the item is
        among its neighbours.
    """
    of_queries, of_pool = (_contexts_of(graph, items) for items in (queries, pool))
    chances = 1 / np.maximum(graph.items_of_context.lengths, 1).astype(np.float32)
    ids, weights = table.ids[queries], table.weights[queries]
    columns = np.broadcast_to(np.arange(len(queries))[:, None], ids.shape)
    there = np.isin(ids, pool)
    visits = np.zeros((len(pool), len(queries)), np.float32)
    visits[np.searchsorted(pool, ids[there]), columns[there]] = weights[there]
    return {
        "shared contexts": (of_pool @ of_queries.T).toarray(),
        "one traversal": (of_pool @ (of_queries * chances[None]).T).toarray(),
        "walks with restart": _visits(graph, queries, pool),
        "its neighbours": visits,
    }


def _visits(graph: ItemGraph, queries: np.ndarray, pool: np.ndarray) -> np.ndarray:
    """How often walks from each query visit each item of the pool, ``float32[P, Q]``."""
    graph, key = jax.device_put(graph), jax.random.key(0)
    each = max(1, min(len(queries), _VISITS_AT_ONCE // WALKS.visits))
    counts = np.zeros((len(pool), len(queries)), np.float32)
    for start in range(0, len(queries), each):
        seeds = np.full(each, -1, np.int32)
        some = queries[start : start + each]
        seeds[: len(some)] = some
        visits = np.asarray(walk(key, graph, jax.device_put(seeds), config=WALKS))[: len(some)]
        there = np.isin(visits, pool)
        columns = np.broadcast_to(start + np.arange(len(some))[:, None], visits.shape)
        np.add.at(counts, (np.searchsorted(pool, visits[there]), columns[there]), 1)
    return counts


def _contexts_of(graph: ItemGraph, items: np.ndarray) -> scipy.sparse.csr_array:
    """A row for each item with a 1 at each of its contexts."""
    adjacency = graph.contexts_of_item
    lengths = np.asarray(adjacency.lengths[items])
    offsets = np.append(0, np.cumsum(lengths))
    places = np.repeat(adjacency.starts[items] - offsets[:-1], lengths) + np.arange(offsets[-1])
    columns = np.asarray(adjacency.columns)[places]
    ones = np.ones(len(columns), np.float32)
    return scipy.sparse.csr_array((ones, columns, offsets), (len(items), graph.num_contexts))
