"""The general graph neural network: each AGGR with each COMBINE, written out."""

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from lightgcn_jax.errors import InputError
from lightgcn_jax.models import GNNConfig, edges_of, gnn, normalization_of
from tests.lightgcn.oracles import dense_adjacency
from tests.lightgcn.trained import (
    DIM,
    NODES,
    PAIRS,
    kernels,
    operator_and_matrix,
    random_params,
)
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of

EDGES = edges_of(graph_of(*PAIRS))
apply = jax.jit(gnn.apply, static_argnames="config")

every_form = pytest.mark.parametrize(
    "config",
    [
        GNNConfig(DIM, 2, aggregate, combine)
        for aggregate in ("mean", "sum", "max")
        for combine in ("concat", "add")
    ],
    ids=lambda config: f"{config.aggregate}-{config.combine}",
)


def arguments(config):
    """What the model reads of the graph: its operator, or its edges."""
    normalization = normalization_of(config.aggregate)
    if normalization is None:
        return None, EDGES
    return operator_and_matrix(normalization)[0], None


def aggregated(aggregate, adjacency, nodes):
    """One node after another; zeros for a node without neighbours."""
    result = np.zeros_like(nodes)
    for node, row in enumerate(adjacency):
        neighbours = np.flatnonzero(row)
        if len(neighbours) and aggregate == "max":
            result[node] = nodes[neighbours].max(axis=0)
        elif len(neighbours):
            total = row[neighbours] @ nodes[neighbours]
            result[node] = total / row.sum() if aggregate == "mean" else total
    return result


def dense_gnn(params, config, adjacency):
    nodes = np.asarray(params.table, float)
    for _, weights in sorted(kernels(params.weights).items()):
        messages = aggregated(config.aggregate, adjacency, nodes)
        if config.combine == "concat":
            joined = np.concatenate([nodes, messages], axis=1)
        else:
            joined = nodes + messages
        nodes = np.maximum(joined @ weights, 0)
    return nodes


@every_form
@pytest.mark.usefixtures("x64")
def test_vectors_are_the_layers_written_out(config):
    adjacency = dense_adjacency(*PAIRS, NUM_USERS, NUM_ITEMS)
    params = random_params(gnn, config)
    operator, edges = arguments(config)
    found = apply(params, operator, config, edges)
    expected = dense_gnn(params, config, adjacency)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    assert 0 < (expected == 0).sum() < expected.size, "ReLU should be active and not everywhere"


@every_form
@pytest.mark.usefixtures("x64")
def test_numerical_gradients(config):
    # The random table has no ties, at which a maximum has no derivative.
    operator, edges = arguments(config)
    jax.test_util.check_grads(
        jax.jit(lambda params: jnp.tanh(gnn.apply(params, operator, config, edges))),
        (random_params(gnn, config, seed=1),),
        order=1,
        modes=("rev",),
    )


def test_maxima_of_ties_share_the_gradient():
    config = GNNConfig(1, 1, "max", "add")
    edges = edges_of(graph_of([0, 0], [0, 1], 1, 3))
    params = gnn.GNNParams(jnp.ones((4, 1)), {"params": {"layer_0": {"kernel": jnp.ones((1, 1))}}})
    gradient = jax.grad(lambda params: gnn.apply(params, None, config, edges)[0, 0])(params).table
    np.testing.assert_allclose(gradient.ravel(), [1, 0.5, 0.5, 0], rtol=1e-6)


def test_maxima_may_be_negative():
    config = GNNConfig(1, 1, "max", "concat")
    edges = edges_of(graph_of([0], [0], 1, 2))
    # The kernel shows the negated aggregate: 3 and 2 for the linked pair, 0 for the node alone.
    kernel = jnp.array([[0.0], [-1.0]])
    table = jnp.array([[-2.0], [-3.0], [-4.0]])
    params = gnn.GNNParams(table, {"params": {"layer_0": {"kernel": kernel}}})
    np.testing.assert_array_equal(gnn.apply(params, None, config, edges).ravel(), [3, 2, 0])


def test_edges_go_both_ways_and_are_sorted_by_receiver():
    senders, receivers = np.asarray(EDGES.senders), np.asarray(EDGES.receivers)
    assert senders.dtype == receivers.dtype == np.int32
    assert (np.diff(receivers) >= 0).all()
    adjacency = dense_adjacency(*PAIRS, NUM_USERS, NUM_ITEMS)
    np.testing.assert_array_equal(np.stack([receivers, senders]), np.nonzero(adjacency))


def test_each_aggregate_names_its_operator():
    assert normalization_of("mean") == "row"
    assert normalization_of("sum") == "none"
    assert normalization_of("max") is None


def test_what_the_aggregate_needs_must_be_there():
    operator, _ = operator_and_matrix("row")
    for aggregate, given, missing in (
        ("max", (operator, None), "edges: expected those of the graph for aggregate max"),
        ("mean", (None, EDGES), "operator: expected that of the graph for aggregate mean"),
        ("sum", (None, EDGES), "operator: expected that of the graph for aggregate sum"),
    ):
        config = GNNConfig(DIM, 1, aggregate)
        params = gnn.init(jax.random.key(0), NODES, config)
        with pytest.raises(InputError, match=missing):
            gnn.apply(params, given[0], config, given[1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim": 0}, "dim: expected at least 1, got 0"),
        ({"layers": 0}, "layers: expected at least 1, got 0"),
        ({"init_std": 0.0}, "init_std: expected a positive number"),
        ({"aggregate": "median"}, "aggregate: expected one of .*got 'median'"),
        ({"combine": "gate"}, "combine: expected one of .*got 'gate'"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        GNNConfig(**settings)
