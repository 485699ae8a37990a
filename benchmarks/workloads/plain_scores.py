"""What a graph of items and contexts says of pairs of items, without training."""

from __future__ import annotations

import numpy as np
import scipy.sparse

from pinsage_jax.graph.item_graph import ItemGraph
from pinsage_jax.graph.neighborhoods import NeighborTable


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
        likely one traversal from it leads there, and what share of the walks that made the table
        did, where the item is among its neighbours.
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
        "its neighbours": visits,
    }


def _contexts_of(graph: ItemGraph, items: np.ndarray) -> scipy.sparse.csr_array:
    """A row for each item with a 1 at each of its contexts."""
    adjacency = graph.contexts_of_item
    lengths = np.asarray(adjacency.lengths[items])
    offsets = np.append(0, np.cumsum(lengths))
    places = np.repeat(adjacency.starts[items] - offsets[:-1], lengths) + np.arange(offsets[-1])
    columns = np.asarray(adjacency.columns)[places]
    ones = np.ones(len(columns), np.float32)
    return scipy.sparse.csr_array((ones, columns, offsets), (len(items), graph.num_contexts))
