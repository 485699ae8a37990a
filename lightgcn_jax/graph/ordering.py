"""Orders of the nodes that bring what is read together close together in memory.

An application of Ã reads one row of the table an edge, from anywhere in it. Where rows that are
read one after another lie close, more of them are found in a cache: docs/diffusion.md has figures.
"""

from __future__ import annotations

import warnings
from typing import Literal, NamedTuple, get_args

import numpy as np
import scipy.cluster.vq
import scipy.sparse.csgraph

from lightgcn_jax.errors import InputError
from lightgcn_jax.graph.bipartite import BipartiteGraph
from lightgcn_jax.graph.normalization import normalized_adjacency, normalized_interactions

Ordering = Literal["none", "degree", "rcm", "co-clustering"]

_VECTORS = 8
_CLUSTERS = 128
_POWER_ITERATIONS = 6
_SEED = 0


class NodeOrder(NamedTuple):
    """Orders of the users and of the items, for ``reordered`` of a split or of a graph.

    Attributes:
        users: ``int32[U]``, which user should stand at each row.
        items: ``int32[I]``, which item should stand at each row.
    """

    users: np.ndarray
    items: np.ndarray


def dealt(degrees: np.ndarray, parts: int) -> np.ndarray:
    """An order whose consecutive parts have about as many edges each: the largest rows are dealt
    out to and fro.

    Args:
        degrees: ``int[n]``, edges of each row.
        parts: how many; each gets ⌈n/parts⌉ rows but for the last ones, which may get fewer.

    Returns:
        ``int32[n]``, the old row of each new row; within a part by falling degree, but for the few
        rows that even out the last parts.
    """
    count = len(degrees)
    each = -(-count // parts)
    largest = np.argsort(-degrees, kind="stable").astype(np.int32)
    turn, place = np.divmod(np.arange(count), parts)
    part = np.where(turn % 2 == 0, place, parts - 1 - place)
    # Only the last parts may have a row less, as consecutive parts have it.
    sizes = np.clip(count - each * np.arange(parts), 0, each)
    order = largest[np.lexsort((turn, part))]
    held = np.bincount(part, minlength=parts)
    starts, rank = np.cumsum(held) - held, np.arange(count)
    spare = rank - np.repeat(starts, held) >= np.repeat(sizes, held)
    # Those that a part has too many go to the parts that have too few, in turn.
    missing = np.repeat(np.arange(parts), np.maximum(sizes - held, 0))
    where = np.repeat(np.arange(parts), held)
    where[spare] = missing
    return order[np.argsort(where, kind="stable")]


def node_order(graph: BipartiteGraph, ordering: str) -> NodeOrder | None:
    """Which users and which items should stand next to each other.

    Users and items are ordered together but numbered apart, for both keep a table of their own.
    Reorder a split once, before anything is made from its rows: ``split.reordered(*order)``.

    >>> graph = BipartiteGraph.from_pairs([0, 1, 1, 2], [0, 0, 1, 1], num_users=3, num_items=2)
    >>> order = node_order(graph, "degree")  # user 1 has two items, the others one each
    >>> order.users.tolist(), order.items.tolist()
    ([1, 0, 2], [0, 1])
    >>> graph.reordered(*order).items_of_user.lengths().tolist()
    [2, 1, 1]

    Args:
        graph: the interactions.
        ordering: ``none``; ``degree``, descending; ``rcm``, reverse Cuthill–McKee of the whole
            graph (deterministic, a tenth of a second for a million edges); ``co-clustering``,
            users and items that interact with each other in the same cluster, clusters that are
            alike side by side, by degree within a cluster.

    Returns:
        Both permutations; None for ``none``.

    Raises:
        InputError: no ordering has that name.
    """
    if ordering not in get_args(Ordering):
        raise InputError(f"ordering: expected one of {get_args(Ordering)}, got {ordering!r}")
    if ordering == "none":
        return None
    if ordering == "rcm":
        order = scipy.sparse.csgraph.reverse_cuthill_mckee(
            normalized_adjacency(graph).as_scipy(), symmetric_mode=True
        )
        return _parted(order, graph.num_users)
    degrees = np.concatenate(
        [np.asarray(rows.lengths()) for rows in (graph.items_of_user, graph.users_of_item)]
    )
    clusters = np.zeros(graph.num_nodes, np.int64)
    if ordering == "co-clustering":
        clusters = _co_clusters(graph)
    return _parted(np.lexsort((-degrees, clusters)), graph.num_users)


def _parted(order: np.ndarray, num_users: int) -> NodeOrder:
    """An order of the nodes as one of the users and one of the items."""
    users, items = order[order < num_users], order[order >= num_users] - num_users
    return NodeOrder(users.astype(np.int32), items.astype(np.int32))


def _co_clusters(graph: BipartiteGraph) -> np.ndarray:
    """A cluster for each node, numbered so that similar clusters have close numbers.

    Spectral co-clustering (Dhillon 2001): the singular vectors of R̃ after the first, by block power
    iterations, put users and items into one space, where k-means finds the clusters.
    """
    matrix = normalized_interactions(graph).as_scipy().astype(np.float32)
    shorter = min(graph.num_users, graph.num_items)
    vectors = min(_VECTORS, shorter - 1)
    if vectors < 1:
        return np.zeros(graph.num_nodes, np.int64)
    transposed = matrix.T.tocsr()
    rng = np.random.default_rng(_SEED)
    basis = rng.normal(size=(graph.num_items, min(vectors + 4, shorter))).astype(np.float32)
    for _ in range(_POWER_ITERATIONS):
        basis, _ = np.linalg.qr(transposed @ (matrix @ basis))
    left, _, rotation = np.linalg.svd(matrix @ basis, full_matrices=False)
    points = np.concatenate([left, basis @ rotation.T])[:, 1 : vectors + 1]
    points /= np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-9)
    # Centres of a sample are good enough: a cluster only has to be a neighbourhood.
    clusters = min(_CLUSTERS, graph.num_nodes)
    sample = rng.permutation(len(points))[: 64 * clusters]
    with warnings.catch_warnings():
        # An empty cluster keeps its centre and does no harm.
        warnings.simplefilter("ignore", UserWarning)
        centres, _ = scipy.cluster.vq.kmeans2(points[sample], clusters, minit="points", rng=rng)
    nearest, _ = scipy.cluster.vq.vq(points, centres)
    return _chain(centres)[nearest]


def _chain(centres: np.ndarray) -> np.ndarray:
    """Each centre's place in a chain that goes from one centre to the nearest one left."""
    distances = ((centres[:, None] - centres) ** 2).sum(axis=2)
    places = np.zeros(len(centres), np.int64)
    last = 0
    for place in range(1, len(centres)):
        distances[:, last] = np.inf
        last = int(distances[last].argmin())
        places[last] = place
    return places
