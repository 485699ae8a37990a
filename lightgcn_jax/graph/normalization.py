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

from typing import Literal, NamedTuple, get_args

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
    return NormalizedAdjacency(graph, normalization).rows(0, graph.num_nodes)


class NormalizedAdjacency(NamedTuple):
    """The matrix of :func:`normalized_adjacency`, whose rows are made when they are asked for: of
    the interactions only those of these rows are read then.

    Attributes:
        graph: the interactions.
        normalization: one of the six above.
    """

    graph: BipartiteGraph
    normalization: Normalization

    @property
    def shape(self) -> tuple[int, int]:
        """N and N."""
        return self.graph.num_nodes, self.graph.num_nodes

    @property
    def num_entries(self) -> int:
        """2E."""
        return 2 * self.graph.num_edges

    def rows(self, start: int, stop: int) -> CsrMatrix:
        """Some rows, with all columns.

        Args:
            start: the first node.
            stop: the first node that is left out.
        """
        graph, users = self.graph, self.graph.num_users
        of_users, of_items = graph.items_of_user, graph.users_of_item
        ends = min(start, users), min(stop, users)
        top = _normalized(of_users, of_items, self.normalization, *ends)
        ends = max(start - users, 0), max(stop - users, 0)
        bottom = _normalized(of_items, of_users, self.normalization, *ends)
        return CsrMatrix(
            offsets=np.concatenate([top.offsets, top.num_entries + bottom.offsets[1:]]),
            columns=np.concatenate([top.columns + np.int32(users), bottom.columns]),
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
    users = graph.num_users
    return _normalized(graph.items_of_user, graph.users_of_item, normalization, 0, users)


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
    rows: CsrRows,
    of_columns: CsrRows,
    normalization: Normalization | Powers,
    start: int,
    stop: int,
) -> CsrMatrix:
    """Rows from ``start`` to ``stop``; ``of_columns`` holds the same entries by their columns."""
    if not (isinstance(normalization, tuple) or normalization in POWERS):
        raise InputError(
            f"normalization: expected one of {get_args(Normalization)}, got {normalization!r}"
        )
    offsets = np.asarray(rows.offsets)[start : stop + 1]
    here = slice(offsets[0], offsets[-1])
    offsets, columns = offsets - offsets[0], np.asarray(rows.columns)[here]
    given = None if rows.weights is None else np.asarray(rows.weights, np.float64)[here]
    named = isinstance(normalization, str)
    row_power, column_power = POWERS[normalization] if named else normalization
    weights = np.repeat(_powers(rows.degrees()[start:stop], row_power), np.diff(offsets))
    if column_power and len(columns):
        weights *= _powers(of_columns.degrees(), column_power)[columns]
    if given is not None:
        # Last, so that both directions of an edge are rounded alike.
        weights *= given
    return CsrMatrix(offsets, columns, weights, of_columns.num_rows)


def _powers(degrees: np.ndarray, power: float) -> np.ndarray:
    """Powers of degrees; 0 stays 0 for isolated nodes, whose weights are never read."""
    return np.power(degrees, power, out=np.zeros(len(degrees)), where=degrees > 0)
