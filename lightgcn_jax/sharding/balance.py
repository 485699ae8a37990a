"""Rows dealt out so that every shard has about as many edges."""

from __future__ import annotations

import numpy as np

from lightgcn_jax.data.splits import Split
from lightgcn_jax.graph.bipartite import BipartiteGraph, training_graph
from lightgcn_jax.graph.ordering import dealt

# A shard that has this much more than its share of the edges makes all others wait.
_UNEVEN = 1.1


def balanced(split: Split, shards: int) -> Split:
    """The split with its rows dealt out by their degree, where consecutive rows would be uneven.

    Args:
        split: its rows in training order, in which rows that are read together lie together.
        shards: S.

    Returns:
        The split itself where no shard has much more than its share of the edges.
    """
    graph = training_graph(split)
    sides = _degrees(graph)
    if all(unevenness(degrees, shards) <= _UNEVEN for degrees in sides):
        return split
    return split.reordered(*(dealt(degrees, shards) for degrees in sides))


def unevenness(degrees: np.ndarray, shards: int) -> float:
    """The edges of the shard that has most, over the mean, when consecutive rows are shared out.

    Args:
        degrees: ``int[n]``, edges of each row.
        shards: S.
    """
    each = -(-len(degrees) // shards)
    sums = np.pad(degrees, (0, each * shards - len(degrees))).reshape(shards, each).sum(axis=1)
    return float(sums.max() / max(sums.mean(), 1e-12))


def _degrees(graph: BipartiteGraph) -> tuple[np.ndarray, np.ndarray]:
    users, items = graph.items_of_user.lengths(), graph.users_of_item.lengths()
    return np.asarray(users), np.asarray(items)
