"""Personalised PageRank between items: walks item → context → item with restart, in expectation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from lightgcn_jax.arrays import Array, Float, Ids
from lightgcn_jax.diffusion.operator import Operator, diffuse, operator_of
from lightgcn_jax.graph.csr import CsrMatrix
from lightgcn_jax.sharding import Blocks
from pinsage_jax.graph.item_graph import Adjacency, ItemGraph


def pagerank(
    graph: ItemGraph, rows: np.ndarray, *, restart: float = 0.15, iterations: int = 10
) -> Float[Array, "queries items"]:
    """Compute personalised PageRank scores of all items for each query, by repeated diffusion.

    x ← α e_q + (1−α) Pᵀ x from x = e_q, where P = D_i⁻¹ A D_c⁻¹ Aᵀ is applied in two steps and
    never built. After n iterations the weight (1−α)^n of all longer walks stands where n steps
    lead, so the error falls faster than (1−α)^n, as fast as walks forget their start. Weight that
    arrives at an item or a context without edges is lost; giving it back to the query, as a
    restart, would scale all scores alike.

    Args:
        graph: the graph that is walked.
        rows: ``int[n]`` items, the queries.
        restart: α.
        iterations: n.

    Returns:
        ``float32[n, R]``; exactly 0 where no walk leads.
    """
    return pagerank_columns(Chain.of(graph), jnp.asarray(rows, jnp.int32), restart, iterations)


class Chain(NamedTuple):
    """The transposes of P's two halves, ready to be applied to columns of scores.

    Attributes:
        to_contexts: from items to contexts, [C, R].
        to_items: from contexts to items, [R, C].
    """

    to_contexts: Operator
    to_items: Operator

    @classmethod
    def of(cls, graph: ItemGraph, blocks: Blocks | None = None) -> Chain:
        """Steps that take each edge of a row with the same probability.

        Args:
            graph: what is walked.
            blocks: shares the rows of both steps out over a mesh, and those of scores with them,
                filled up with rows of nobody; None for one device.
        """
        return cls._made(graph, _step_shares, blocks)

    @classmethod
    def counting(cls, graph: ItemGraph) -> Chain:
        """Steps along all edges at once: both together count the contexts that two items share.

        Args:
            graph: whose edges are followed.
        """
        return cls._made(graph, edge_counts)

    @classmethod
    def _made(
        cls,
        graph: ItemGraph,
        matrix_of: Callable[..., scipy.sparse.csr_array],
        blocks: Blocks | None = None,
    ) -> Chain:
        onward = matrix_of(graph.contexts_of_item, graph.num_contexts)
        back = matrix_of(graph.items_of_context, graph.num_items)
        return cls(*(_transposed_operator(shares, blocks) for shares in (onward, back)))


@jax.jit
def pagerank_columns(
    chain: Chain, queries: Ids, restart: float, iterations: int
) -> Float[Array, "queries items"]:
    """:func:`pagerank` from a chain that is ready, for queries on the device.

    Args:
        chain: the two steps.
        queries: ``int32[n]`` items.
        restart: α.
        iterations: how often the steps are applied.

    Returns:
        ``float32[n, R]``, with the chain's rows of nobody at the end.
    """
    place = queries, jnp.arange(len(queries))
    start = jnp.zeros((chain.to_items.shape[0], len(queries)), jnp.float32).at[place].set(1)

    def step(_, x: Array) -> Array:
        moved = diffuse(chain.to_items, diffuse(chain.to_contexts, x))
        return ((1 - restart) * moved).at[place].add(restart)

    return jax.lax.fori_loop(0, iterations, step, start).T


def _step_shares(adjacency: Adjacency, num_columns: int) -> scipy.sparse.csr_array:
    """The probabilities of a step from each row; repeated columns are added up."""
    counts = edge_counts(adjacency, num_columns)
    lengths = np.maximum(np.asarray(adjacency.lengths, np.float64), 1)
    counts.data /= np.repeat(lengths, np.diff(counts.indptr))
    return counts


def edge_counts(adjacency: Adjacency, num_columns: int) -> scipy.sparse.csr_array:
    """Count how often each column stands in each row.

    Args:
        adjacency: the rows.
        num_columns: C, one more than the largest column.
    """
    starts, lengths = np.asarray(adjacency.starts), np.asarray(adjacency.lengths, np.int64)
    ends = np.cumsum(lengths)
    entries = np.repeat(starts - (ends - lengths), lengths) + np.arange(lengths.sum())
    columns = np.asarray(adjacency.columns)[entries]
    offsets = np.concatenate([[0], ends])
    ones = np.ones(len(columns))
    matrix = scipy.sparse.csr_array((ones, columns, offsets), shape=(len(lengths), num_columns))
    matrix.sum_duplicates()
    return matrix


def _transposed_operator(shares: scipy.sparse.csr_array, blocks: Blocks | None) -> Operator:
    matrix = csr_matrix(shares.T.tocsr())
    # Half the time of csr on two cores too: 200,000 edges in short rows, 128 columns.
    backend: Any = blocks or "bucketed"
    return operator_of(matrix, backend=backend)


def csr_matrix(matrix: scipy.sparse.csr_array) -> CsrMatrix:
    """A matrix of SciPy's as operators take it.

    Args:
        matrix: its columns are sorted in place.
    """
    matrix.sort_indices()
    offsets, columns = matrix.indptr.astype(np.int32), matrix.indices.astype(np.int32)
    _, num_columns = _shape(matrix)
    return CsrMatrix(offsets, columns, matrix.data, num_columns)


def _shape(matrix: Any) -> tuple[int, int]:
    """SciPy's types do not know that it is never None."""
    return matrix.shape
