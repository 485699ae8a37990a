"""The general graph neural network: each AGGR with each COMBINE, written out."""

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from lightgcn_jax.diffusion import Operator, diffusion_operator
from lightgcn_jax.errors import InputError
from lightgcn_jax.models import GNN, TableParams
from lightgcn_jax.models.gnn import edges_of
from tests.lightgcn.oracles import dense_adjacency
from tests.lightgcn.trained import (
    DIM,
    NODES,
    PAIRS,
    kernels,
    operator_and_matrix,
    random_params,
    vectors,
)
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of

EDGES = edges_of(graph_of(*PAIRS))

every_form = pytest.mark.parametrize(
    "model",
    [
        GNN(DIM, 2, aggregate, combine)
        for aggregate in ("mean", "sum", "max")
        for combine in ("concat", "add")
    ],
    ids=lambda model: f"{model.aggregate}-{model.combine}",
)


def reads(model):
    """What the model reads of the graph: its operator, or its edges."""
    if model.aggregate == "max":
        return model.operator_of(graph_of(*PAIRS))
    return operator_and_matrix("row" if model.aggregate == "mean" else "none")[0]


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


def dense_gnn(params, model, adjacency):
    nodes = np.asarray(params.table, float)
    for _, weights in sorted(kernels(params.weights).items()):
        messages = aggregated(model.aggregate, adjacency, nodes)
        if model.combine == "concat":
            joined = np.concatenate([nodes, messages], axis=1)
        else:
            joined = nodes + messages
        nodes = np.maximum(joined @ weights, 0)
    return nodes


@every_form
@pytest.mark.usefixtures("x64")
def test_vectors_are_the_layers_written_out(model):
    adjacency = dense_adjacency(*PAIRS, NUM_USERS, NUM_ITEMS)
    params = random_params(model)
    found = vectors(model, params, reads(model))
    expected = dense_gnn(params, model, adjacency)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    assert 0 < (expected == 0).sum() < expected.size, "ReLU should be active and not everywhere"


@every_form
@pytest.mark.usefixtures("x64")
def test_numerical_gradients(model):
    # The random table has no ties, at which a maximum has no derivative.
    read = reads(model)
    jax.test_util.check_grads(
        jax.jit(lambda params: jnp.tanh(model.apply(params, read))),
        (random_params(model, seed=1),),
        order=1,
        modes=("rev",),
    )


def test_maxima_of_ties_share_the_gradient():
    model = GNN(1, 1, "max", "add")
    edges = edges_of(graph_of([0, 0], [0, 1], 1, 3))
    ones = np.ones((4, 1), np.float32)
    params = TableParams(ones, {"params": {"layer_0": {"kernel": ones[:1]}}})
    first = jax.jit(jax.grad(lambda params: model.apply(params, edges)[0, 0]))
    gradient = np.asarray(first(params).table)
    np.testing.assert_allclose(gradient.ravel(), [1, 0.5, 0.5, 0], rtol=1e-6)


def test_maxima_may_be_negative():
    model = GNN(1, 1, "max", "concat")
    edges = edges_of(graph_of([0], [0], 1, 2))
    # The kernel shows the negated aggregate: 3 and 2 for the linked pair, 0 for the node alone.
    kernel = np.float32([[0], [-1]])
    table = np.float32([[-2], [-3], [-4]])
    params = TableParams(table, {"params": {"layer_0": {"kernel": kernel}}})
    found = np.asarray(vectors(model, params, edges))
    np.testing.assert_array_equal(found.ravel(), [3, 2, 0])


def test_edges_go_both_ways_and_are_sorted_by_receiver():
    senders, receivers = np.asarray(EDGES.senders), np.asarray(EDGES.receivers)
    assert senders.dtype == receivers.dtype == np.int32
    assert (np.diff(receivers) >= 0).all()
    adjacency = dense_adjacency(*PAIRS, NUM_USERS, NUM_ITEMS)
    np.testing.assert_array_equal(np.stack([receivers, senders]), np.nonzero(adjacency))


@pytest.mark.parametrize(("aggregate", "normalization"), [("mean", "row"), ("sum", "none")])
def test_means_and_sums_are_operators(aggregate, normalization):
    graph, table = graph_of(*PAIRS), np.arange(2.0 * NODES, dtype=np.float32).reshape(NODES, 2)
    found = GNN(aggregate=aggregate).operator_of(graph)
    assert isinstance(found, Operator)
    assert GNN(aggregate=aggregate).normalization == normalization
    expected = diffusion_operator(graph, normalization=normalization) @ table
    np.testing.assert_array_equal(found @ table, expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim": 0}, "dim: expected a whole number of at least 1, got 0"),
        ({"layers": 0}, "layers: expected a whole number of at least 1, got 0"),
        ({"init_std": 0.0}, "init_std: expected more than 0"),
        ({"aggregate": "median"}, "aggregate: expected one of .*got 'median'"),
        ({"combine": "gate"}, "combine: expected one of .*got 'gate'"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        GNN(**settings)
