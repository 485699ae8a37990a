"""Degrees to edge weights: Ã = D^-1/2 A D^-1/2 without self-loops."""

from __future__ import annotations

import numpy as np

from lightgcn_jax.graph.bipartite import BipartiteGraph


def normalized_adjacency(graph: BipartiteGraph) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The N×N matrix Ã = D^-1/2 A D^-1/2 of the graph in CSR, on the host.

    A = [[0, R], [Rᵀ, 0]] with R the U×I interaction matrix, D its diagonal matrix of degrees; the
    weight of an edge is 1/√(|N_u||N_i|) (He et al. 2020, equation 3). A node without edges has an
    empty row, so diffusion gives it zeros, never a division by zero.

    Returns:
        ``offsets int32[N + 1]``, ``columns int32[2E]`` (increasing within a row) and
        ``weights float64[2E]``.
    """
    user_rows, item_rows = graph.items_of_user, graph.users_of_item
    offsets = np.concatenate(
        [np.asarray(user_rows.offsets), graph.num_edges + np.asarray(item_rows.offsets)[1:]]
    ).astype(np.int32)
    columns = np.concatenate(
        [np.asarray(user_rows.columns) + graph.num_users, np.asarray(item_rows.columns)]
    ).astype(np.int32)
    degree = np.diff(offsets)
    inverse_root = 1.0 / np.sqrt(np.maximum(degree, 1))
    weights = np.repeat(inverse_root, degree) * inverse_root[columns]
    return offsets, columns, weights
