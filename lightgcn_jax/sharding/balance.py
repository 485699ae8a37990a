"""Rows dealt out so that every shard has about as many edges."""

from __future__ import annotations

import numpy as np

from lightgcn_jax.data.splits import Split
from lightgcn_jax.graph.bipartite import BipartiteGraph, training_graph

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
    return split.reordered(*(_dealt(degrees, shards) for degrees in sides))


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
    return tuple(np.asarray(side.lengths()) for side in (graph.items_of_user, graph.users_of_item))


def _dealt(degrees: np.ndarray, shards: int) -> np.ndarray:
    """An order whose consecutive parts are about even: the largest are dealt out to and fro."""
    count = len(degrees)
    each = -(-count // shards)
    largest = np.argsort(-degrees, kind="stable")
    turn, place = np.divmod(np.arange(count), shards)
    shard = np.where(turn % 2 == 0, place, shards - 1 - place)
    # Only the last shards may have a row less, as consecutive parts have it.
    sizes = np.clip(count - each * np.arange(shards), 0, each)
    order = largest[np.lexsort((turn, shard))]
    dealt = np.bincount(shard, minlength=shards)
    if (dealt == sizes).all():
        return order.astype(np.int32)
    parts = np.split(order, np.cumsum(dealt)[:-1])
    spare = [part[size:] for part, size in zip(parts, sizes, strict=True)]
    rest = iter(np.concatenate(spare).tolist())
    filled = [
        [*part[:size].tolist(), *(next(rest) for _ in range(max(0, size - len(part))))]
        for part, size in zip(parts, sizes, strict=True)
    ]
    return np.concatenate([np.array(part, np.int32) for part in filled])
