import numpy as np
import pytest
from hypothesis import given, settings

from lightgcn_jax.errors import InputError
from lightgcn_jax.graph import (
    TRANSPOSED,
    BipartiteGraph,
    edge_reversal,
    normalized_adjacency,
    normalized_interactions,
)
from tests.lightgcn.oracles import dense_normalized_adjacency
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of, pair_sets, random_pairs

every_normalization = pytest.mark.parametrize("normalization", TRANSPOSED)


@every_normalization
@given(pairs=pair_sets())
@settings(max_examples=20, deadline=None)
def test_matrices_are_their_definitions(normalization, pairs):
    graph = graph_of(*pairs)
    expected = dense_normalized_adjacency(*pairs, NUM_USERS, NUM_ITEMS, normalization)
    whole = normalized_adjacency(graph, normalization)
    assert whole.num_entries == 2 * graph.num_edges
    np.testing.assert_allclose(whole.as_scipy().toarray(), expected, rtol=1e-14)
    block = normalized_interactions(graph, normalization)
    np.testing.assert_allclose(
        block.as_scipy().toarray(), expected[:NUM_USERS, NUM_USERS:], rtol=1e-14
    )


def test_symmetric_is_what_is_meant_without_a_name():
    graph = graph_of(*random_pairs(0))
    for matrix in (normalized_adjacency, normalized_interactions):
        np.testing.assert_array_equal(matrix(graph).weights, matrix(graph, "symmetric").weights)


@every_normalization
def test_the_transpose_is_another_normalisation(normalization):
    # Bit for bit: the operator relies on it, storing one matrix as the other's transpose.
    graph = graph_of(*random_pairs(1))
    flipped = normalized_adjacency(graph, normalization).transposed()
    other = normalized_adjacency(graph, TRANSPOSED[normalization])
    for field in ("offsets", "columns", "weights"):
        np.testing.assert_array_equal(getattr(flipped, field), getattr(other, field))


def test_means_and_walks():
    graph = graph_of(*random_pairs(2))
    row = normalized_adjacency(graph, "row").as_scipy().toarray()
    column = normalized_adjacency(graph, "column").as_scipy().toarray()
    linked = (row != 0).any(axis=1)
    assert 0 < linked.sum() < graph.num_nodes
    np.testing.assert_allclose(row.sum(axis=1), linked, rtol=1e-14)
    np.testing.assert_allclose(column.sum(axis=0), linked, rtol=1e-14)


def test_none_is_the_adjacency_matrix():
    matrix = normalized_adjacency(graph_of([0, 0, 1], [1, 2, 0], 3, 3), "none")
    expected = np.zeros((6, 6))
    expected[[0, 0, 1], [4, 5, 3]] = 1
    np.testing.assert_array_equal(matrix.as_scipy().toarray(), expected + expected.T)


def test_any_powers_of_the_degrees():
    graph = graph_of(*random_pairs(0))
    r = normalized_interactions(graph, "none").as_scipy().toarray()
    users, items = np.maximum(r.sum(axis=1), 1), np.maximum(r.sum(axis=0), 1)
    found = normalized_interactions(graph, (-0.7, 0.2)).as_scipy().toarray()
    np.testing.assert_allclose(found, users[:, None] ** -0.7 * r * items**0.2, rtol=1e-14)


def test_symmetric_has_spectral_radius_one():
    # D^½ 1 is an eigenvector of eigenvalue 1; a bipartite graph has -1 beside it.
    graph = graph_of(*random_pairs(3))
    values = np.linalg.eigvalsh(normalized_adjacency(graph).as_scipy().toarray())
    np.testing.assert_allclose(values[[0, -1]], [-1, 1], rtol=1e-12)


@given(pair_sets())
@settings(max_examples=30, deadline=None)
def test_reversal_is_an_involution_that_swaps_rows_and_columns(pairs):
    graph = graph_of(*pairs)
    reversal = edge_reversal(graph)
    assert reversal.dtype == np.int32
    matrix = normalized_adjacency(graph)
    rows = np.repeat(np.arange(graph.num_nodes), matrix.lengths)
    assert sorted(reversal) == list(range(matrix.num_entries))
    np.testing.assert_array_equal(reversal[reversal], np.arange(matrix.num_entries))
    np.testing.assert_array_equal(rows[reversal], matrix.columns)
    np.testing.assert_array_equal(matrix.columns[reversal], rows)
    # The users' edges come first.
    assert (reversal[: graph.num_edges] >= graph.num_edges).all()


def test_a_graph_without_nodes():
    empty = BipartiteGraph.from_pairs(
        np.array([], int), np.array([], int), num_users=0, num_items=0
    )
    assert normalized_adjacency(empty, "row").shape == (0, 0)
    assert edge_reversal(empty).shape == (0,)


def test_unknown_names_are_refused():
    graph = graph_of(*random_pairs(0))
    for matrix in (normalized_adjacency, normalized_interactions):
        with pytest.raises(InputError, match=r"normalization: expected one of .*got 'mean'"):
            matrix(graph, "mean")
