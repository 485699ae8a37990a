"""Matrix factorisation with and without biases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightgcn_jax.errors import InputError
from lightgcn_jax.models import MFConfig, MFParams, mf
from tests.lightgcn.trained import NODES, normal_deviate, random_params
from tests.lightgcn.worlds import NUM_USERS

PLAIN, BIASED = MFConfig(dim=3), MFConfig(dim=3, biases=True)


@pytest.mark.usefixtures("x64")
def test_inner_products_are_those_of_embeddings_and_the_biases():
    params = random_params(mf, BIASED)
    vectors = np.asarray(mf.apply(params, NUM_USERS, BIASED))
    assert vectors.shape == (NODES, 5)
    embeddings, biases = np.asarray(params.table)[:, :3], np.asarray(params.table)[:, 3]
    for user in range(NUM_USERS):
        for item in range(NUM_USERS, NODES):
            score = embeddings[user] @ embeddings[item] + biases[user] + biases[item]
            assert vectors[user] @ vectors[item] == pytest.approx(score, rel=1e-12)


@pytest.mark.usefixtures("x64")
def test_gradient_of_a_score():
    params = random_params(mf, BIASED)
    user, item = 2, NUM_USERS + 4

    def score(params):
        vectors = mf.apply(params, NUM_USERS, BIASED)
        return vectors[user] @ vectors[item]

    expected = np.zeros((NODES, 4))
    table = np.asarray(params.table)
    expected[user] = [*table[item, :3], 1]
    expected[item] = [*table[user, :3], 1]
    np.testing.assert_allclose(jax.grad(score)(params).table, expected, rtol=1e-12)


@pytest.mark.parametrize("config", [PLAIN, BIASED])
def test_rows_are_the_rows_of_the_whole(config):
    params = mf.init(jax.random.key(0), NODES, config)
    params = MFParams(params.table + 0.5)
    rows = jnp.array([NUM_USERS, 0, NODES - 1, 0, NUM_USERS - 1], jnp.int32)
    whole = mf.apply(params, NUM_USERS, config)
    np.testing.assert_array_equal(mf.apply_rows(params, NUM_USERS, config, rows), whole[rows])


def test_without_biases_the_vectors_are_the_table():
    params = mf.init(jax.random.key(0), NODES, PLAIN)
    np.testing.assert_array_equal(mf.apply(params, NUM_USERS, PLAIN), params.table)


def test_initial_embeddings_are_normal_and_biases_zero():
    config = MFConfig(dim=50, biases=True, init_std=0.3)
    table = np.asarray(mf.init(jax.random.key(1), 2000, config).table)
    assert table.shape == (2000, 51)
    assert table.dtype == np.float32
    assert not table[:, -1].any()
    assert max(normal_deviate(table[:, :-1].astype(float), 0.3)) < 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim": 0}, "dim: expected at least 1, got 0"),
        ({"init_std": 0.0}, "init_std: expected a positive number, got 0.0"),
        ({"init_std": float("inf")}, "init_std: expected a positive number, got inf"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        MFConfig(**settings)
