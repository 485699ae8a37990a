"""The encoder against the paper's algorithms, item by item in float64."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightgcn_jax.errors import InputError
from pinsage_jax.encoder.all_items import embed_all
from pinsage_jax.encoder.pinsage import (
    STRUCTURE,
    applied,
    init_params,
    make_model,
    model_inputs,
    unit,
)
from pinsage_jax.encoder.pooling import pool
from pinsage_jax.features.schema import fit_schema
from pinsage_jax.features.table import FeatureTable
from tests.pinsage import oracles
from tests.pinsage.worlds import (
    INPUTS,
    ITEMS,
    PLAIN,
    STRUCTURED,
    random_table,
    structured_features,
)

CONFIG = dataclasses.replace(PLAIN, dim=6, word_dim=4)
FEATURES, TABLE = structured_features(), random_table()


def inputs_of(config):
    return STRUCTURED if config.structure else INPUTS


@functools.cache
def trained_like(**changes):
    """A model with parameters whose biases are not zero."""
    config = dataclasses.replace(CONFIG, **changes)
    model = make_model(inputs_of(config), config)
    params = init_params(jax.random.key(1), model)
    leaves, form = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    moved = [
        leaf + 0.1 * jax.random.normal(key, leaf.shape)
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    return config, model, jax.tree.unflatten(form, moved)


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": 1, "pooling": "importance"},
        {"layers": 2, "pooling": "importance"},
        {"layers": 2, "pooling": "importance", "unit_length": True},
        {"layers": 1, "pooling": "mean"},
        {"layers": 2, "pooling": "mean"},
        {"layers": 1, "pooling": "max"},
        {"layers": 2, "pooling": "max"},
        {"layers": 2, "structure": 3},
        {"layers": 1, "structure": 3, "unit_length": True},
    ],
)
def test_vectors_follow_the_algorithm(changes):
    config, model, params = trained_like(**changes)
    ours = embed_all(model, params, FEATURES, TABLE, chunk=16).vectors
    ids, weights = np.asarray(TABLE.ids), np.asarray(TABLE.weights, np.float64)
    inputs = inputs_of(config)
    wanted = [
        oracles.vector(params, inputs, FEATURES, ids, weights, item, config=config)
        for item in range(ITEMS)
    ]
    np.testing.assert_allclose(ours, wanted, atol=1e-5)


@pytest.mark.parametrize("structure", [0, 3])
def test_features_alone(structure):
    config, model, params = trained_like(layers=0, pooling="none", structure=structure)
    ours = embed_all(model, params, FEATURES, TABLE, chunk=16).vectors
    inputs = inputs_of(config)
    wanted = [
        oracles.vector(params, inputs, FEATURES, None, None, item, config=config)
        for item in range(ITEMS)
    ]
    np.testing.assert_allclose(ours, wanted, atol=2e-6)


def test_the_first_messages_are_the_same_in_one_product():
    """And so are their gradients, those of the maps and of Q among them."""
    _, model, params = trained_like()

    def total(params, folded):
        values = applied(model, params, "read", FEATURES)
        if folded:
            messages = applied(model, params, "first_messages", values)
        else:
            messages = applied(
                model, params, "messages", 0, applied(model, params, "mapped", values)
            )
        return jnp.square(messages).sum(), messages

    of = jax.value_and_grad(total, has_aux=True)
    (_, plain), wanted = of(params, False)
    (_, messages), found = of(params, True)
    np.testing.assert_allclose(messages, plain, atol=1e-5)
    jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two, atol=2e-3), found, wanted)


def test_scores_add_what_is_learnt_and_what_the_structure_says():
    """⟨z_q, z_p⟩ = ⟨learnt⟩ + γ² ⟨s_q, s_p⟩."""
    _, model, params = trained_like(structure=3)
    assert model.width == 9
    z = embed_all(model, params, FEATURES, TABLE, chunk=16).vectors.astype(np.float64)
    own = np.asarray(FEATURES[STRUCTURE], np.float64)
    scores = z[:, :6] @ z[:, :6].T + float(params["structure_gain"]) ** 2 * own @ own.T
    np.testing.assert_allclose(z @ z.T, scores, atol=1e-5)
    # What is learnt reads the structure too: it is one of the inputs of h⁰.
    other = FEATURES | {STRUCTURE: FEATURES[STRUCTURE][::-1].copy()}
    moved = embed_all(model, params, other, TABLE, chunk=16).vectors
    assert np.abs(moved[:, :6] - z[:, :6]).max() > 1e-3


def test_the_structure_begins_at_lengths_of_the_degree_and_is_an_input():
    """γ = 2/√r turns a length of log(1 + d)·√r/2 into log(1 + d)."""
    model = make_model(STRUCTURED, dataclasses.replace(CONFIG, structure=3))
    params = init_params(jax.random.key(0), model)
    assert float(params["structure_gain"]) == pytest.approx(2 / np.sqrt(3))
    table = FeatureTable.from_mapping({"price": [1.0, 2.0]})
    schema = fit_schema(table, np.arange(2), np.ones(2, np.int64))
    inputs = model_inputs(schema, dataclasses.replace(CONFIG, structure=3), 2)
    assert inputs == (*model_inputs(schema, CONFIG, 2), STRUCTURED[-1])


def test_importance_pooling_is_the_weighted_mean_of_messages():
    messages = jnp.array([[1.0, 0.0], [0.0, 4.0], [2.0, 2.0]])
    places = jnp.array([[0, 1], [2, 0]])
    weights = jnp.array([[0.25, 0.75], [1.0, 0.0]])
    np.testing.assert_allclose(
        pool(messages, places, weights, "importance"), [[0.25, 3.0], [2.0, 2.0]]
    )
    np.testing.assert_allclose(pool(messages, places, weights, "mean"), [[0.5, 2.0], [2.0, 2.0]])
    np.testing.assert_allclose(pool(messages, places, weights, "max"), [[1.0, 4.0], [2.0, 2.0]])


@pytest.mark.parametrize("pooling", ["importance", "mean", "max"])
def test_without_neighbours_the_pool_is_zero_and_its_gradient_finite(pooling):
    messages = jnp.full((2, 3), -1.0)
    places, weights = jnp.zeros((4, 2), jnp.int32), jnp.zeros((4, 2))

    def total(messages):
        return pool(messages, places, weights, pooling).sum()

    assert total(messages) == 0
    np.testing.assert_array_equal(jax.grad(total)(messages), np.zeros((2, 3)))


@pytest.mark.parametrize("neighbors", [3, 20])
def test_the_largest_message_alone_takes_the_gradient(neighbors):
    """As autodiff has it where the array of all messages is made."""
    rng = np.random.default_rng(1)
    messages = jnp.asarray(rng.normal(size=(9, 4)), jnp.float32)
    places = jnp.asarray(rng.permuted(np.tile(np.arange(9), (5, 3)), axis=1)[:, :neighbors])
    # Repeated places are ties; all but the last neighbour count.
    weights = jnp.asarray(np.tile(np.arange(neighbors) < neighbors - 1, (5, 1)), jnp.float32)
    factors = jnp.asarray(rng.normal(size=(5, 4)), jnp.float32)

    def plainly(messages):
        every = jnp.where(weights[:, :, None] > 0, messages[places], -jnp.inf)
        return (factors * every.max(axis=1)).sum()

    def ours(messages):
        return (factors * pool(messages, places, weights, "max")).sum()

    wanted, gradient = jax.value_and_grad(plainly)(messages)
    found, moved = jax.value_and_grad(ours)(messages)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    np.testing.assert_allclose(moved, gradient, atol=1e-6)


def test_many_neighbours_and_few_give_the_same_pool():
    rng = np.random.default_rng(0)
    messages = jnp.asarray(rng.normal(size=(9, 4)), jnp.float32)
    places = jnp.asarray(rng.integers(0, 9, (5, 40)), jnp.int32)
    weights = jnp.asarray(rng.random((5, 40)), jnp.float32)
    wanted = (np.asarray(weights)[:, :, None] * np.asarray(messages)[np.asarray(places)]).sum(
        axis=1
    )
    np.testing.assert_allclose(pool(messages, places, weights, "importance"), wanted, atol=1e-5)


def test_unit_length_and_a_zero_vector():
    vectors = unit(jnp.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(vectors, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)
    gradient = jax.grad(lambda x: unit(x).sum())(jnp.zeros((1, 2)))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("unit_length", [False, True])
def test_a_query_is_composed_of_its_items(unit_length):
    _, model, params = trained_like(unit_length=unit_length)
    z = unit(jax.random.normal(jax.random.key(0), (2, 3, 6)))
    valid = jnp.array([[True, False, True], [False, False, False]])
    composed = model.apply({"params": params}, z, valid, method="compose")
    mean = np.asarray((z[0, 0] + z[0, 2]) / 2)
    wanted = mean / np.linalg.norm(mean) if unit_length else mean
    np.testing.assert_allclose(composed[0], wanted, atol=1e-6)
    np.testing.assert_array_equal(composed[1], np.zeros(6))


def test_a_tower_reads_and_writes_the_structure_too():
    _, model, params = trained_like(structure=3, query="tower")
    z = jax.random.normal(jax.random.key(0), (2, 2, 9))
    valid = jnp.array([[True, True], [True, False]])
    composed = model.apply({"params": params}, z, valid, method="compose")
    for row, mean in zip(composed, (np.mean(z[0], axis=0), z[1, 0]), strict=True):
        hidden = oracles.relu(oracles.affine(params, "tower_0", np.asarray(mean, np.float64)))
        wanted = mean + oracles.affine(params, "tower_1", hidden)
        np.testing.assert_allclose(row, wanted, atol=1e-5)


def test_a_query_of_one_item_is_that_item():
    _, model, params = trained_like()
    z = unit(jax.random.normal(jax.random.key(0), (4, 1, 6)))
    composed = model.apply({"params": params}, z, jnp.ones((4, 1), bool), method="compose")
    np.testing.assert_allclose(composed, z[:, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 0}, "layers: expected 0 with pooling none"),
        ({"pooling": "none"}, "layers: expected 0 with pooling none"),
        ({"pooling": "median"}, "pooling: expected one of .*importance"),
        ({"temperature": 0.0}, "temperature: expected more than 0, got 0.0"),
        (
            {"drop_contexts": 1.0},
            "drop_contexts: expected a share of at least 0 and below 1, got 1.0",
        ),
        ({"restart": 1.0}, "restart: expected a share of at least 0 and below 1, got 1.0"),
        ({"learning_rate": "fast"}, "learning_rate: expected more than 0, got 'fast'"),
        ({"margin": None}, "margin: expected a number of at least 0, got None"),
        ({"batch_size": True}, "batch_size: expected a whole number of at least 1, got True"),
        ({"batch_size": 1.5}, "batch_size: expected a whole number of at least 1, got 1.5"),
        ({"negatives": 0}, "negatives: expected a whole number of at least 1, got 0"),
        ({"columns": ("a", "a")}, "columns: expected each once"),
        ({"fan": 0}, "fan: expected an integer ≥ 1, got 0"),
        ({"structure": -1}, "structure: expected a whole number of at least 0, got -1"),
        ({"folds": 1}, "folds: expected 0, or 2 and more, got 1: no edge would be walked"),
        ({"hard_weight": 1.0}, "hard_weight: expected a share of at least 0 and below 1, got 1.0"),
        (
            {"in_batch": True, "negative_choice": "separate"},
            "in_batch: expected negative_choice shared, got separate",
        ),
        (
            {"negative_choice": "distance-weighted"},
            "negative_choice: distance-weighted negatives .* expected unit_length as well",
        ),
        (
            {
                "negative_choice": "distance-weighted",
                "unit_length": True,
                "distance_weighted": 501,
            },
            "distance_weighted: expected at most the 500",
        ),
    ],
)
def test_settings_that_do_not_fit(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(CONFIG, **changes)


@pytest.mark.parametrize("pooling", ["importance", "mean"])
@pytest.mark.parametrize("neighbors", [3, 20])
def test_slopes_of_the_pool_are_those_of_its_sum(pooling, neighbors):
    # Places repeat within a row and between rows.
    places = jax.random.randint(jax.random.key(0), (5, neighbors), 0, 4)
    weights = jax.random.uniform(jax.random.key(1), (5, neighbors)).at[0, 1].set(0)
    weights = weights.at[3].set(0)
    messages = jax.random.normal(jax.random.key(2), (6, 2))
    slope = jax.random.normal(jax.random.key(3), (5, 2))

    def plain(messages, weights):
        if pooling == "mean":
            weights = (weights > 0) / jnp.maximum((weights > 0).sum(axis=1, keepdims=True), 1)
        return jnp.vdot(jnp.einsum("rt,rtd->rd", weights, messages[places]), slope)

    def ours(messages, weights):
        return jnp.vdot(pool(messages, places, weights, pooling), slope)

    for mine, wanted in zip(
        jax.grad(ours, argnums=(0, 1))(messages, weights),
        jax.grad(plain, argnums=(0, 1))(messages, weights),
        strict=True,
    ):
        np.testing.assert_allclose(mine, wanted, atol=1e-5)
