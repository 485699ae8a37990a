"""Degrees to edge weights: A scaled by degrees from the left, the right or both sides, on the host.

A holds the weights of the interactions, or ones; D is the diagonal matrix of its row sums, the
degrees. Rows of A are scaled by D^p, columns by D^q:

============ ============== =========================================================
symmetric    D^-½ A D^-½    LightGCN, NGCF, GCN (He et al. 2020, equation 3)
left         D^-½ A         LightGCN's ablation: scaled by the receiver's degree only
right        A D^-½         LightGCN's ablation: scaled by the sender's degree only
row          D^-1 A         the (weighted) mean over neighbours: rows sum to 1
column       A D^-1         a random walk's transition matrix: columns sum to 1
none         A              the sum over neighbours
============ ============== =========================================================
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import scipy.sparse

from lightgcn_jax.errors import InputError
from lightgcn_jax.graph.bipartite import BipartiteGraph, CsrRows
from lightgcn_jax.graph.csr import CsrMatrix

Normalization = Literal["symmetric", "left", "right", "row", "column", "none"]

Powers = tuple[float, float]
"""Powers of the degrees that scale the rows and the columns."""

POWERS: dict[Normalization, Powers] = {
    "symmetric": (-0.5, -0.5),
    "left": (-0.5, 0.0),
    "right": (0.0, -0.5),
    "row": (-1.0, 0.0),
    "column": (0.0, -1.0),
    "none": (0.0, 0.0),
}
"""The powers of the degrees by the normalisation's name."""
_BY_POWERS: dict[Powers, Normalization] = {powers: name for name, powers in POWERS.items()}

TRANSPOSED: dict[Normalization, Normalization] = {
    name: _BY_POWERS[column, row] for name, (row, column) in POWERS.items()
}
"""A is symmetric, so the transpose of a normalised A is A under another normalisation."""


def normalized_adjacency(
    graph: BipartiteGraph, normalization: Normalization = "symmetric"
) -> CsrMatrix:
    """The N×N matrix of the whole graph: A = [[0, R], [Rᵀ, 0]] without self-loops, normalised.

    R is the U×I matrix of interactions, of their weights w or of ones. Under ``symmetric``

        Ã_ui = Ã_iu = w_ui / √(d_u d_i),  d_u = Σ_j w_uj,  d_i = Σ_v w_vi,

    which stays as it is where all weights are multiplied by one number. A node without edges has an
    empty row, so diffusion gives it zeros, never a division by zero.

    Args:
        graph: the interactions.
        normalization: one of the six above.

    Returns:
        N×N, with the users' rows first.

    Raises:
        InputError: no normalisation has that name.
    """
    top = normalized_interactions(graph, normalization)
    bottom = _normalized(graph.users_of_item, graph.num_users, normalization)
    return CsrMatrix(
        offsets=np.concatenate([top.offsets, graph.num_edges + bottom.offsets[1:]]),
        columns=np.concatenate([top.columns + np.int32(graph.num_users), bottom.columns]),
        weights=np.concatenate([top.weights, bottom.weights]),
        num_columns=graph.num_nodes,
    )


def normalized_interactions(
    graph: BipartiteGraph, normalization: Normalization | Powers = "symmetric"
) -> CsrMatrix:
    """The U×I block R̃ of the normalised adjacency matrix.

    Args:
        graph: the interactions.
        normalization: one of the six above, or any powers of the degrees that scale users' rows
            and items' columns.

    Returns:
        U×I.

    Raises:
        InputError: no normalisation has that name.
    """
    return _normalized(graph.items_of_user, graph.num_items, normalization)


def edge_reversal(graph: BipartiteGraph) -> np.ndarray:
    """Where the reverse of each directed edge stands; the permutation is its own inverse.

    Directed edges are counted as the entries of :func:`normalized_adjacency`: first the users'
    rows, then the items'.

    Args:
        graph: the interactions.

    Returns:
        ``int32[2E]``.
    """
    places, rows = np.arange(graph.num_edges, dtype=np.int32), graph.items_of_user
    by_user = scipy.sparse.csr_array(
        (places, np.asarray(rows.columns), np.asarray(rows.offsets)),
        shape=(graph.num_users, graph.num_items),
    )
    # O(E): a conversion from row-wise to column-wise storage is a counting sort.
    of_item_edges = np.asarray(by_user.tocsc().data, np.int32)
    of_user_edges = np.empty_like(places)
    of_user_edges[of_item_edges] = places
    return np.concatenate([of_user_edges + np.int32(graph.num_edges), of_item_edges])


def _normalized(
    rows: CsrRows, num_columns: int, normalization: Normalization | Powers
) -> CsrMatrix:
    if not (isinstance(normalization, tuple) or normalization in POWERS):
        raise InputError(
            f"normalization: expected one of {get_args(Normalization)}, got {normalization!r}"
        )
    offsets, columns = np.asarray(rows.offsets), np.asarray(rows.columns)
    given = None if rows.weights is None else np.asarray(rows.weights, np.float64)
    named = isinstance(normalization, str)
    row_power, column_power = POWERS[normalization] if named else normalization
    weights = np.repeat(_powers(rows.degrees(), row_power), np.diff(offsets))
    if column_power:
        column_degrees = np.bincount(columns, given, minlength=num_columns)
        weights *= _powers(column_degrees, column_power)[columns]
    if given is not None:
        # Last, so that both directions of an edge are rounded alike.
        weights *= given
    return CsrMatrix(offsets, columns, weights, num_columns)


def _powers(degrees: np.ndarray, power: float) -> np.ndarray:
    """Powers of degrees; 0 stays 0 for isolated nodes, whose weights are never read."""
    return np.power(degrees, power, out=np.zeros(len(degrees)), where=degrees > 0)
