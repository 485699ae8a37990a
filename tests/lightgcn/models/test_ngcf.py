"""NGCF against its layers written out and against its messages passed one by one."""

import jax
import jax.numpy as jnp
import jax.test_util
import jraph
import numpy as np
import pytest
import scipy.stats

from lightgcn_jax.diffusion import diffusion_operator
from lightgcn_jax.errors import InputError
from lightgcn_jax.models import NGCF, TableParams
from lightgcn_jax.models.gnn import edges_of
from tests.lightgcn.trained import (
    DIM,
    NODES,
    PAIRS,
    ROWS,
    initial,
    operator_and_matrix,
    random_params,
    vectors,
)
from tests.lightgcn.worlds import NUM_USERS, graph_of, random_pairs

MODEL = NGCF(DIM, 2)


def matrices(params, layer):
    """W1 and W2 of a layer."""
    weights = params.weights["params"]
    return weights[f"sum_{layer}"]["kernel"], weights[f"product_{layer}"]["kernel"]


def dense_ngcf(params, matrix, layers):
    nodes = np.asarray(params.table)
    outputs = [nodes]
    for layer in range(layers):
        first, second = map(np.asarray, matrices(params, layer))
        messages = matrix @ nodes
        mapped = (messages + nodes) @ first + (nodes * messages) @ second
        nodes = np.where(mapped > 0, mapped, 0.2 * mapped)
        outputs.append(nodes)
    return np.concatenate(outputs, axis=1)


def passed_messages(params, graph, layers):
    """Equations 3 to 6: a message an edge, W1 e_i + W2 (e_i ∘ e_u), by jraph."""
    edges = edges_of(graph)
    degrees = jnp.bincount(edges.receivers, length=graph.num_nodes)
    scale = 1 / jnp.sqrt(1.0 * degrees[edges.senders] * degrees[edges.receivers])
    nodes, outputs = params.table, [params.table]
    for layer in range(layers):
        first, second = matrices(params, layer)

        def message(scale, sent, received, _, first=first, second=second):
            return scale * (sent @ first + (sent * received) @ second)

        def update(own, _, received, __, first=first):
            return jnp.where(own @ first + received > 0, 1, 0.2) * (own @ first + received)

        network = jraph.GraphNetwork(message, update)
        nodes = network(
            jraph.GraphsTuple(
                nodes=nodes,
                edges=scale[:, None],
                senders=edges.senders,
                receivers=edges.receivers,
                globals=None,
                n_node=jnp.array([graph.num_nodes]),
                n_edge=jnp.array([len(edges.senders)]),
            )
        ).nodes
        outputs.append(nodes)
    return jnp.concatenate(outputs, axis=1)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.usefixtures("x64")
def test_vectors_are_the_layers_side_by_side(layers):
    operator, matrix = operator_and_matrix()
    model = NGCF(DIM, layers)
    params = random_params(model)
    found = vectors(model, params, operator)
    assert found.shape == (NODES, DIM * (layers + 1))
    expected = dense_ngcf(params, matrix, layers)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_value_and_gradient_are_those_of_messages_passed_along_edges():
    graph = graph_of(*PAIRS)
    operator, _ = operator_and_matrix()
    params = random_params(MODEL)
    np.testing.assert_allclose(
        vectors(MODEL, params, operator), passed_messages(params, graph, 2), rtol=1e-10, atol=1e-12
    )

    def gradient(function):
        return jax.jit(jax.grad(lambda params: jnp.sin(function(params)).sum()))(params)

    found = gradient(lambda params: MODEL.apply(params, operator))
    expected = gradient(lambda params: passed_messages(params, graph, 2))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("rate", [0.0, 0.3], ids=["whole", "dropped"])
def test_vectors_and_gradients_of_rows_are_the_same_whatever_multiplies(rate):
    """The kernels of our own serve one storage, XLA's operations the others."""
    model, key = NGCF(DIM, 2, message_dropout=rate, node_dropout=rate), jax.random.key(0)
    params, graph = random_params(model), graph_of(*PAIRS)

    def loss(params, operator):
        found = model.apply_rows(params, operator, ROWS, key)
        return jnp.sin(found).sum(), found

    (one, own), (other, theirs) = (
        jax.jit(jax.grad(loss, has_aux=True))(params, diffusion_operator(graph, backend=name))
        for name in ("auto", "segment")
    )
    np.testing.assert_allclose(own, theirs, rtol=1e-5, atol=1e-6)
    for leaf, expected in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(leaf, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("x64")
def test_numerical_gradients():
    operator, _ = operator_and_matrix()
    model = NGCF(2, 2, message_dropout=0.3, node_dropout=0.2)
    # With a key the function drops always the same.
    jax.test_util.check_grads(
        jax.jit(lambda params: jnp.tanh(model.apply(params, operator, jax.random.key(0)))),
        (random_params(model),),
        order=1,
        modes=("rev",),
    )


def test_without_a_key_or_a_rate_nothing_is_dropped():
    operator, _ = operator_and_matrix()
    params = initial(MODEL, jax.random.key(0), NODES)
    whole = vectors(MODEL, params, operator)
    dropping = NGCF(DIM, 2, message_dropout=0.4, node_dropout=0.3)
    key = jax.random.key(1)
    np.testing.assert_array_equal(vectors(dropping, params, operator), whole)
    np.testing.assert_array_equal(vectors(MODEL, params, operator, key=key), whole)
    dropped = vectors(dropping, params, operator, key=key)
    np.testing.assert_array_equal(dropped, vectors(dropping, params, operator, key=key))
    assert (dropped != vectors(dropping, params, operator, key=jax.random.key(2))).any()
    # Layer 0 is the table, whatever is dropped.
    np.testing.assert_array_equal(dropped[:, :DIM], params.table)


def share_of(kept, rate):
    """A chi-square of the number kept in each draw against the binomial law."""
    draws, size = kept.shape
    expected = draws * scipy.stats.binom.pmf(np.arange(size + 1), size, 1 - rate)
    common = expected >= 20
    observed = np.bincount(kept.sum(axis=1), minlength=size + 1)
    return scipy.stats.chisquare(
        [*observed[common], observed[~common].sum()], [*expected[common], expected[~common].sum()]
    ).pvalue


def independence_of(one, other):
    """A chi-square of the four cells of two indicators."""
    return scipy.stats.chi2_contingency(
        np.histogram2d(one.ravel(), other.ravel(), bins=2)[0], correction=False
    ).pvalue


@pytest.mark.parametrize("few", [False, True], ids=["all", "rows"])
def test_message_dropout_is_elementwise_scaled_and_independent_between_layers(few):
    rate, model = 0.3, NGCF(DIM, 2, message_dropout=0.3)
    operator, _ = operator_and_matrix()
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), random_params(model))
    rows = jnp.array([3, NODES - 1, 0, NUM_USERS], jnp.int32) if few else None

    @jax.jit
    @jax.vmap
    def draw(key):
        if rows is None:
            return model.apply(params, operator, key)
        return model.apply_rows(params, operator, rows, key)

    drawn = np.asarray(draw(jax.random.split(jax.random.key(5), 4000)))
    first, second = drawn[..., DIM : 2 * DIM], drawn[..., 2 * DIM :]
    whole = np.asarray(model.apply(params, operator))[:, DIM : 2 * DIM]
    whole = whole if rows is None else whole[np.asarray(rows)]
    # The first layer reads the table, of which nothing is dropped.
    kept = np.where(first != 0, whole / (1 - rate), 0)
    np.testing.assert_allclose(first, kept, rtol=2e-4, atol=1e-5)
    for layer in (first, second):
        assert share_of((layer != 0).reshape(len(layer), -1), rate) > 1e-4
        # Elements of a row and rows of an element.
        assert independence_of(layer[..., 0] != 0, layer[..., 1] != 0) > 1e-4
        assert independence_of(layer[:, 0] != 0, layer[:, 1] != 0) > 1e-4
    assert independence_of(first != 0, second != 0) > 1e-4


def test_a_node_that_is_read_twice_is_dropped_alike():
    model = NGCF(DIM, 2, message_dropout=0.5, node_dropout=0.3)
    operator, _ = operator_and_matrix()
    params = initial(model, jax.random.key(0), NODES)
    twice = vectors(model, params, operator, jnp.tile(ROWS, 2), key=jax.random.key(1))
    np.testing.assert_array_equal(twice[: len(ROWS)], twice[len(ROWS) :])
    assert (twice == 0).any()


@pytest.mark.parametrize("few", [False, True], ids=["all", "rows"])
def test_node_dropout_silences_whole_nodes_towards_others(few):
    """On pairs of nodes with W1 = I and W2 = 0 a layer adds what the only neighbour sends."""
    rate, pairs = 0.3, 8
    model = NGCF(3, 2, node_dropout=rate)
    operator = diffusion_operator(graph_of(np.arange(pairs), np.arange(pairs), pairs, pairs))
    # Positive, so that LeakyReLU is idle.
    table = jnp.asarray(np.random.default_rng(0).uniform(1, 4, (2 * pairs, 3)), jnp.float32)
    layer = {"sum": jnp.eye(3), "product": jnp.zeros((3, 3))}
    weights = {
        f"{name}_{k}": {"kernel": kernel} for k in range(2) for name, kernel in layer.items()
    }
    params = TableParams(table, {"params": weights})

    @jax.jit
    @jax.vmap
    def draw(key):
        if few:
            rows = jnp.arange(2 * pairs, dtype=jnp.int32)
            return model.apply_rows(params, operator, rows, key)
        return model.apply(params, operator, key)

    drawn = np.asarray(draw(jax.random.split(jax.random.key(7), 4000)))
    nodes, silent = drawn[..., :3], []
    for k in range(2):
        after = drawn[..., 3 * (k + 1) : 3 * (k + 2)]
        partner = np.roll(nodes, pairs, axis=1)
        sent = (after - nodes) / partner
        kept = sent.mean(axis=-1) > 0.5
        # All entries of a row, or none of them.
        expected = np.where(kept, 1 / (1 - rate), 0)[..., None].repeat(3, axis=-1)
        np.testing.assert_allclose(sent, expected, atol=1e-4)
        assert share_of(kept, rate) > 1e-4
        assert independence_of(kept[:, :-1], kept[:, 1:]) > 1e-4
        silent.append(kept)
        nodes = after
    assert independence_of(*silent) > 1e-4


def test_the_gradient_holds_no_messages_of_edges():
    """Its memory does not grow with the edges, of which the denser graph has 30 times as many."""
    users = items = 60
    model = NGCF(16, 3)
    params = initial(model, jax.random.key(0), users + items)
    gradient = jax.jit(
        jax.grad(lambda params, operator: jnp.tanh(model.apply(params, operator)).sum())
    )

    def temporary(density):
        graph = graph_of(*random_pairs(0, users, items, density), users, items)
        compiled = gradient.lower(params, diffusion_operator(graph)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    few, many = temporary(0.03), temporary(0.9)
    assert abs(many - few) < params.table.nbytes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim": 0}, "dim: expected a whole number of at least 1, got 0"),
        ({"layers": 0}, "layers: expected a whole number of at least 1, got 0"),
        ({"init_std": 0.0}, "init_std: expected more than 0"),
        ({"message_dropout": 1.0}, "message_dropout: expected a share of at least 0 and below 1"),
        ({"node_dropout": -0.1}, "node_dropout: expected a share .*got -0.1"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        NGCF(**settings)
