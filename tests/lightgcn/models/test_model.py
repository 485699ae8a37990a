"""What every trained model must do, whatever it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightgcn_jax.diffusion import Operator, diffusion_operator
from lightgcn_jax.models import GCN, GNN, MF, NGCF, SGC, LightGCN
from tests.lightgcn.trained import (
    DIM,
    NODES,
    PAIRS,
    ROWS,
    random_params,
    vectors,
    vectors_and_gradient,
)
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of

MODELS = {
    "mf": MF(DIM, biases=True),
    "gcn": GCN(DIM, 2),
    "sgc": SGC(DIM, 2),
    "ngcf": NGCF(DIM, 2),
    "gnn-mean": GNN(DIM, 2, "mean", "concat"),
    "gnn-sum": GNN(DIM, 2, "sum", "add"),
    "gnn-max": GNN(DIM, 2, "max", "concat"),
    "lightgcn": LightGCN(DIM, 2, learn_alphas=True),
}

every_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def reads(model, graph):
    """What a model reads of a graph, in the precision of the moment."""
    operator = model.operator_of(graph)
    if not isinstance(operator, Operator):
        return operator
    return diffusion_operator(graph, dtype=float, normalization=model.normalization)


def check_close(found, expected):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)


@every_model
@pytest.mark.usefixtures("x64")
def test_rows_are_the_rows_of_the_whole_and_so_are_their_gradients(model):
    params, read = random_params(model), reads(model, graph_of(*PAIRS))
    whole, gradient = vectors_and_gradient(model, params, read, None, ROWS)
    found, gradient_of_rows = vectors_and_gradient(model, params, read, ROWS)
    np.testing.assert_allclose(found, whole[ROWS], rtol=1e-11, atol=1e-13)
    check_close(gradient_of_rows, gradient)


@every_model
@pytest.mark.usefixtures("x64")
def test_other_numbers_for_users_and_items_only_move_the_rows(model):
    """New row p holds old node order[p], in the table and in what comes out."""
    rng = np.random.default_rng(0)
    orders = rng.permutation(NUM_USERS), rng.permutation(NUM_ITEMS)
    order = np.concatenate([orders[0], NUM_USERS + orders[1]])
    graph, params = graph_of(*PAIRS), random_params(model)
    moved, other = params._replace(table=params.table[order]), graph.reordered(*orders)
    expected, _ = vectors_and_gradient(model, params, reads(model, graph), None, ROWS)
    found, _ = vectors_and_gradient(model, moved, reads(model, other), None, ROWS)
    np.testing.assert_allclose(found, expected[order], rtol=1e-10, atol=1e-12)
    assert not np.allclose(found, expected)


def single_precision(model):
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), random_params(model))


@every_model
@pytest.mark.parametrize("pairs", [([], []), ([2], [4])], ids=["no edge", "one edge"])
def test_isolated_nodes_have_finite_vectors_and_gradients(model, pairs):
    read = reads(model, graph_of(*(np.array(side, int) for side in pairs)))
    params = single_precision(model)
    # In a table of zeros ReLU has no derivative, and all maxima are ties.
    for table in (params.table, jnp.zeros_like(params.table)):
        found = vectors_and_gradient(model, params._replace(table=table), read)
        for leaf in jax.tree.leaves(found):
            assert leaf.dtype == jnp.float32
            assert np.isfinite(leaf).all()


@every_model
def test_one_edge_carries_from_one_end_to_the_other_alone(model):
    user, item = 2, NUM_USERS + 4
    params, read = single_precision(model), reads(model, graph_of([2], [4]))
    changed = params._replace(table=params.table.at[user].add(1.0))
    before, after = (
        np.asarray(vectors_and_gradient(model, which, read)[0]) for which in (params, changed)
    )
    moved = np.flatnonzero((before != after).any(axis=1)).tolist()
    # Without self-loops, two applications come back to where they started.
    assert moved == ([user] if isinstance(model, MF | GCN | SGC) else [user, item])


@every_model
@pytest.mark.usefixtures("x64")
def test_several_runs_at_once_are_a_loop(model):
    read = reads(model, graph_of(*PAIRS))
    runs = [random_params(model, seed=seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *runs)
    together = jax.vmap(lambda params: vectors_and_gradient(model, params, read, ROWS))
    found = jax.jit(together)(stacked)
    for index, params in enumerate(runs):
        single = jax.tree.map(lambda leaf, index=index: leaf[index], found)
        check_close(single, vectors_and_gradient(model, params, read, ROWS))


@every_model
def test_the_graph_is_an_argument_not_a_constant(model):
    read, params = reads(model, graph_of(*PAIRS)), random_params(model)
    closed = jax.make_jaxpr(vectors, static_argnums=0)(model, params, read)
    assert all(np.size(constant) <= 1 for constant in closed.consts)


@every_model
def test_a_model_says_how_many_columns_its_vectors_have(model):
    read, params = reads(model, graph_of(*PAIRS)), random_params(model)
    shape = jax.eval_shape(lambda: model.apply(params, read)).shape
    assert shape == (NODES, model.width)
    assert shape[1] == jax.eval_shape(lambda: model.apply_rows(params, read, ROWS)).shape[1]
