"""Ã of weighted interactions in every storage, against w / √(d_u d_i) in dense float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightgcn_jax.diffusion import diffuse, diffusion_operator, drop_edges, interaction_operator
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph import normalized_adjacency
from tests.lightgcn.oracles import dense_normalized_adjacency, materialised
from tests.lightgcn.worlds import (
    NUM_ITEMS,
    NUM_USERS,
    graph_of,
    pair_sets,
    random_pairs,
    random_weights,
)

PAIRS = random_pairs(0)
WEIGHTS = random_weights(len(PAIRS[0]))
GRAPH = graph_of(*PAIRS, weights=WEIGHTS)
KINDS = ("symmetric", "left", "right", "row", "column", "none")


@jax.jit
def _pulled_back(operator, x, cotangent):
    return jax.vjp(lambda x: diffuse(operator, x), x)[1](cotangent)


def dense(normalization="symmetric", pairs=PAIRS, weights=WEIGHTS):
    return dense_normalized_adjacency(*pairs, NUM_USERS, NUM_ITEMS, normalization, weights)


@given(pairs=pair_sets(), seed=st.integers(0, 99), kind=st.sampled_from(KINDS))
@settings(max_examples=60, deadline=None)
def test_the_matrix_is_that_of_the_definition(pairs, seed, kind):
    weights = random_weights(len(pairs[0]), seed)
    matrix = normalized_adjacency(graph_of(*pairs, weights=weights), kind).as_scipy().toarray()
    np.testing.assert_allclose(matrix, dense(kind, pairs, weights), rtol=1e-12)
    if kind == "symmetric":
        np.testing.assert_array_equal(matrix, matrix.T)


@pytest.mark.parametrize("kind", ["symmetric", "row"])
def test_every_storage_holds_it_and_its_transpose(backend, kind):
    operator = diffusion_operator(GRAPH, backend=backend, normalization=kind)
    np.testing.assert_allclose(materialised(operator), dense(kind), rtol=1e-6)
    np.testing.assert_allclose(materialised(operator.transpose()), dense(kind).T, rtol=1e-6)
    block = interaction_operator(GRAPH, backend=backend, normalization=kind)
    np.testing.assert_allclose(materialised(block), dense(kind)[:NUM_USERS, NUM_USERS:], rtol=1e-6)


def test_the_gradient_is_that_of_the_transpose(backend):
    operator = diffusion_operator(GRAPH, backend=backend, normalization="row")
    x, cotangent = np.random.default_rng(1).normal(size=(2, NUM_USERS + NUM_ITEMS, 3))
    arguments = operator, *(jnp.asarray(one, jnp.float32) for one in (x, cotangent))
    [found] = _pulled_back(*arguments)
    np.testing.assert_allclose(found, dense("row").T @ cotangent, atol=1e-5)


def test_permuted_nodes_permute_it():
    users, items = np.random.default_rng(2).permutation(NUM_USERS), np.arange(NUM_ITEMS)[::-1]
    moved = normalized_adjacency(GRAPH.reordered(users, items)).as_scipy().toarray()
    order = np.concatenate([users, NUM_USERS + items])
    np.testing.assert_allclose(moved, dense()[np.ix_(order, order)], rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_one_are_no_weights_bit_for_bit(backend, kind):
    ones = graph_of(*PAIRS, weights=np.ones(len(PAIRS[0]), np.float32))
    plain, same = (
        diffusion_operator(graph, backend=backend, normalization=kind)
        for graph in (graph_of(*PAIRS), ones)
    )
    assert jax.tree.structure(plain) == jax.tree.structure(same)
    jax.tree.map(np.testing.assert_array_equal, plain, same)


def test_a_graph_without_weights_holds_no_array_for_them():
    assert len(jax.tree.leaves(graph_of(*PAIRS))) == 4
    assert len(jax.tree.leaves(GRAPH)) == 6


def test_a_common_factor_changes_nothing():
    tripled = normalized_adjacency(graph_of(*PAIRS, weights=3 * WEIGHTS))
    np.testing.assert_allclose(tripled.weights, normalized_adjacency(GRAPH).weights, rtol=1e-6)


def test_dropped_edges_leave_the_others_their_weights(backend):
    operator = diffusion_operator(GRAPH, backend=backend, edge_dropout=True)
    found = np.asarray(materialised(drop_edges(jax.random.key(0), operator, 0.5)))
    np.testing.assert_array_equal(found, found.T)
    kept = found != 0
    assert 0 < kept.sum() < (dense() != 0).sum()
    np.testing.assert_allclose(found[kept], 2 * dense()[kept], rtol=1e-6)


@pytest.mark.parametrize("odd", [0, -1, np.nan, np.inf])
def test_a_graph_refuses_what_is_no_weight(odd):
    weights = WEIGHTS.copy()
    weights[2] = odd
    with pytest.raises(InputError, match=r"weights\[2\]: expected a finite number above 0"):
        graph_of(*PAIRS, weights=weights)
    with pytest.raises(InputError, match=r"weights: expected float32\["):
        graph_of(*PAIRS, weights=WEIGHTS[1:])
