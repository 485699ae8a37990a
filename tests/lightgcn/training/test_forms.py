"""What every trained model must do, whatever it is."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightgcn_jax.diffusion import diffusion_operator
from lightgcn_jax.models import (
    GCNConfig,
    GNNConfig,
    LightGCNConfig,
    MFConfig,
    NGCFConfig,
    SGCConfig,
    edges_of,
    gcn,
    gnn,
    lightgcn,
    mf,
    ngcf,
    normalization_of,
    sgc,
)
from tests.lightgcn.trained import DIM, NODES, PAIRS, random_params
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of

MODELS = {
    "mf": (mf, MFConfig(DIM, biases=True)),
    "gcn": (gcn, GCNConfig(DIM, 2)),
    "sgc": (sgc, SGCConfig(DIM, 2)),
    "ngcf": (ngcf, NGCFConfig(DIM, 2)),
    "gnn-mean": (gnn, GNNConfig(DIM, 2, "mean", "concat")),
    "gnn-sum": (gnn, GNNConfig(DIM, 2, "sum", "add")),
    "gnn-max": (gnn, GNNConfig(DIM, 2, "max", "concat")),
    "lightgcn": (lightgcn, LightGCNConfig(DIM, 2, learn_alphas=True)),
}
ROWS = jnp.array([3, NODES - 1, 0, 3, NUM_USERS], jnp.int32)

every_model = pytest.mark.parametrize("name", MODELS)


class Reads(NamedTuple):
    """What a model reads of a graph."""

    operator: object = None
    edges: object = None


def reads(name, graph):
    module, config = MODELS[name]
    if module is mf:
        return Reads()
    normalization = normalization_of(config.aggregate) if module is gnn else "symmetric"
    if normalization is None:
        return Reads(edges=edges_of(graph))
    return Reads(diffusion_operator(graph, dtype=float, normalization=normalization))


@partial(jax.jit, static_argnames="name")
def vectors(name, params, read, rows=None):
    """Final vectors of all nodes, or of some."""
    module, config = MODELS[name]
    apply = module.apply if rows is None else module.apply_rows
    chosen = () if rows is None else (rows,)
    if module is mf:
        return apply(params, NUM_USERS, config, *chosen)
    further = {"edges": read.edges} if module is gnn else {}
    return apply(params, read.operator, config, *chosen, **further)


def loss(name, params, read, rows=None, taken=slice(None)):
    return jnp.sin(vectors(name, params, read, rows)[taken]).sum()


value_and_gradient = jax.jit(jax.value_and_grad(loss, argnums=1), static_argnums=0)


def check_close(found, expected):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)


@every_model
@pytest.mark.usefixtures("x64")
def test_rows_are_the_rows_of_the_whole_and_so_are_their_gradients(name):
    params, read = random_params(*MODELS[name]), reads(name, graph_of(*PAIRS))
    found = vectors(name, params, read, ROWS)
    np.testing.assert_allclose(found, vectors(name, params, read)[ROWS], rtol=1e-11, atol=1e-13)
    found = value_and_gradient(name, params, read, ROWS)
    check_close(found, value_and_gradient(name, params, read, None, ROWS))


@every_model
@pytest.mark.usefixtures("x64")
def test_other_numbers_for_users_and_items_only_move_the_rows(name):
    """New row p holds old node order[p], in the table and in what comes out."""
    rng = np.random.default_rng(0)
    orders = rng.permutation(NUM_USERS), rng.permutation(NUM_ITEMS)
    order = np.concatenate([orders[0], NUM_USERS + orders[1]])
    graph, params = graph_of(*PAIRS), random_params(*MODELS[name])
    moved = params._replace(table=params.table[order])
    expected = vectors(name, params, reads(name, graph))
    found = vectors(name, moved, reads(name, graph.reordered(*orders)))
    np.testing.assert_allclose(found, expected[order], rtol=1e-10, atol=1e-12)
    assert not np.allclose(found, expected)


GRAPHS = {
    "no edge": ([], []),
    "one edge": ([2], [4]),
}


@every_model
@pytest.mark.parametrize("pairs", GRAPHS.values(), ids=GRAPHS)
def test_isolated_nodes_have_finite_vectors_and_gradients(name, pairs):
    pairs = [np.array(side, int) for side in pairs]
    params, read = random_params(*MODELS[name]), reads(name, graph_of(*pairs))
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
    # In a table of zeros ReLU has no derivative, and all maxima are ties.
    for table in (params.table, jnp.zeros_like(params.table)):
        found = value_and_gradient(name, params._replace(table=table), read)
        for leaf in jax.tree.leaves(found):
            assert leaf.dtype == jnp.float32
            assert np.isfinite(leaf).all()


@every_model
@pytest.mark.usefixtures("x64")
def test_one_edge_carries_from_one_end_to_the_other_alone(name):
    user, item = 2, NUM_USERS + 4
    params, read = random_params(*MODELS[name]), reads(name, graph_of([2], [4]))
    changed = params._replace(table=params.table.at[user].add(1.0))
    before, after = (np.asarray(vectors(name, which, read)) for which in (params, changed))
    moved = np.flatnonzero((before != after).any(axis=1)).tolist()
    # Without self-loops, two applications come back to where they started.
    assert moved == ([user] if name in ("mf", "gcn", "sgc") else [user, item])


@every_model
@pytest.mark.usefixtures("x64")
def test_several_runs_at_once_are_a_loop(name):
    read = reads(name, graph_of(*PAIRS))
    runs = [random_params(*MODELS[name], seed=seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *runs)
    found = jax.jit(jax.vmap(lambda params: value_and_gradient(name, params, read, ROWS)))(stacked)
    for index, params in enumerate(runs):
        single = jax.tree.map(lambda leaf, index=index: leaf[index], found)
        check_close(single, value_and_gradient(name, params, read, ROWS))


@every_model
def test_the_graph_is_an_argument_not_a_constant(name):
    module, config = MODELS[name]
    read = reads(name, graph_of(*PAIRS))
    params = module.init(jax.random.key(0), NODES, config)
    closed = jax.make_jaxpr(vectors, static_argnums=0)(name, params, read)
    assert all(np.size(constant) <= 1 for constant in closed.consts)
