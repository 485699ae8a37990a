"""Matrix factorisation with and without biases."""

import jax
import numpy as np
import pytest

from lightgcn_jax.errors import InputError
from lightgcn_jax.models import MF, TableParams
from lightgcn_jax.models.model import Nodes
from tests.lightgcn.trained import NODES, initial, normal_deviate, random_params, vectors
from tests.lightgcn.worlds import NUM_USERS

PLAIN, BIASED, USERS = MF(dim=3), MF(dim=3, biases=True), Nodes(NUM_USERS)


@pytest.mark.usefixtures("x64")
def test_inner_products_are_those_of_embeddings_and_the_biases():
    params = random_params(BIASED)
    found = np.asarray(vectors(BIASED, params, USERS))
    assert found.shape == (NODES, 5)
    embeddings, biases = np.asarray(params.table)[:, :3], np.asarray(params.table)[:, 3]
    for user in range(NUM_USERS):
        for item in range(NUM_USERS, NODES):
            score = embeddings[user] @ embeddings[item] + biases[user] + biases[item]
            assert found[user] @ found[item] == pytest.approx(score, rel=1e-12)


@pytest.mark.usefixtures("x64")
def test_gradient_of_a_score():
    params = random_params(BIASED)
    user, item = 2, NUM_USERS + 4

    def score(params):
        found = BIASED.apply(params, USERS)
        return found[user] @ found[item]

    expected = np.zeros((NODES, 4))
    table = np.asarray(params.table)
    expected[user] = [*table[item, :3], 1]
    expected[item] = [*table[user, :3], 1]
    np.testing.assert_allclose(jax.jit(jax.grad(score))(params).table, expected, rtol=1e-12)


@pytest.mark.parametrize("model", [PLAIN, BIASED])
def test_rows_are_the_rows_of_the_whole(model):
    params = TableParams(np.asarray(initial(model, jax.random.key(0), NODES).table) + 0.5)
    rows = np.int32([NUM_USERS, 0, NODES - 1, 0, NUM_USERS - 1])
    whole = np.asarray(vectors(model, params, USERS))
    np.testing.assert_array_equal(vectors(model, params, USERS, rows), whole[rows])


def test_without_biases_the_vectors_are_the_table():
    params = initial(PLAIN, jax.random.key(0), NODES)
    np.testing.assert_array_equal(vectors(PLAIN, params, USERS), params.table)


def test_initial_embeddings_are_normal_and_biases_zero():
    model = MF(dim=50, biases=True, init_std=0.3)
    table = np.asarray(initial(model, jax.random.key(1), 2000).table)
    assert table.shape == (2000, 51)
    assert table.dtype == np.float32
    assert not table[:, -1].any()
    assert max(normal_deviate(table[:, :-1].astype(float), 0.3)) < 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim": 0}, "dim: expected a whole number of at least 1, got 0"),
        ({"init_std": 0.0}, "init_std: expected more than 0, got 0.0"),
        ({"init_std": float("inf")}, "init_std: expected more than 0, got inf"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        MF(**settings)
