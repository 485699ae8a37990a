"""LightGCN: combinations of layers, fixed and learnt."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from lightgcn_jax.diffusion import Restriction
from lightgcn_jax.errors import InputError
from lightgcn_jax.models import LightGCN, split_nodes
from lightgcn_jax.models.lightgcn import LightGCNParams
from tests.lightgcn.oracles import dense_multiscale
from tests.lightgcn.trained import (
    DIM,
    NODES,
    ROWS,
    initial,
    operator_and_matrix,
    random_params,
    vectors,
)
from tests.lightgcn.worlds import NUM_USERS

KEY = jax.random.key(0)
LEARNT = LightGCN(DIM, 2, learn_alphas=True)


@pytest.mark.parametrize("normalization", ["symmetric", "left", "right"])
@pytest.mark.parametrize(
    ("model", "alphas"),
    [
        (LightGCN(DIM, 2), [1 / 3, 1 / 3, 1 / 3]),
        (LightGCN(DIM, 2, alphas=(0.5, -1.0, 2.0)), [0.5, -1.0, 2.0]),
        (LightGCN(DIM, 2, layer_combination="last"), [0, 0, 1]),
        (LightGCN(DIM, 0), [1]),
        (LightGCN(DIM, 0, layer_combination="last"), [1]),
    ],
)
@pytest.mark.usefixtures("x64")
def test_vectors_are_the_dense_polynomial(normalization, model, alphas):
    operator, matrix = operator_and_matrix(normalization)
    params = random_params(model)
    assert params.alphas is None
    expected = dense_multiscale(matrix, np.asarray(params.table), alphas)
    np.testing.assert_allclose(vectors(model, params, operator), expected, rtol=1e-11, atol=1e-13)
    rows = vectors(model, params, operator, ROWS)
    np.testing.assert_allclose(rows, expected[ROWS], rtol=1e-11, atol=1e-13)


@jax.jit
def squares(params, operator, rows):
    return (vectors(LEARNT, params, operator, rows) ** 2).sum()


gradient_of_squares = jax.jit(jax.grad(squares))


@pytest.mark.parametrize("normalization", ["symmetric", "left", "right"])
@pytest.mark.usefixtures("x64")
def test_learnt_layer_weights_replace_the_settings_and_have_their_gradient(normalization):
    operator, matrix = operator_and_matrix(normalization)
    params = random_params(LEARNT)
    table, alphas = np.asarray(params.table), np.asarray(params.alphas)
    assert alphas.shape == (3,)
    expected = dense_multiscale(matrix, table, alphas)
    np.testing.assert_allclose(vectors(LEARNT, params, operator), expected, rtol=1e-11, atol=1e-13)

    powers = [np.linalg.matrix_power(matrix, k) @ table for k in range(3)]
    for rows, taken in ((None, slice(None)), (ROWS, ROWS)):
        gradient = [2 * (expected[taken] * power[taken]).sum() for power in powers]
        found = gradient_of_squares(params, operator, rows).alphas
        np.testing.assert_allclose(found, gradient, rtol=1e-10)
        # Of the table too, and both by central differences.
        loss = partial(squares, operator=operator, rows=rows)
        jax.test_util.check_grads(loss, (params,), order=1, modes=("rev",))


@pytest.mark.usefixtures("x64")
def test_rows_that_pick_their_edges_have_the_same_gradient_of_the_layer_weights():
    operator, _ = operator_and_matrix("left")
    params = random_params(LEARNT)

    ends = [
        gradient_of_squares(params, dataclasses.replace(operator, restriction=restriction), ROWS)
        for restriction in (Restriction(200, True), None)
    ]
    for found, expected in zip(*ends, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(
    ("alphas", "start"), [(None, [1 / 3, 1 / 3, 1 / 3]), ((1.0, 0.0, 2.0), [1, 0, 2])]
)
def test_learning_starts_where_fixed_weights_are(alphas, start):
    free = initial(LightGCN(DIM, 2, alphas=alphas, learn_alphas=True), KEY, NODES)
    fixed = initial(LightGCN(DIM, 2, alphas=alphas), KEY, NODES)
    np.testing.assert_array_equal(free.table, fixed.table)
    assert fixed == LightGCNParams(fixed.table)
    assert free.alphas.dtype == jnp.float32
    np.testing.assert_allclose(free.alphas, start, rtol=1e-6)


def test_nodes_are_users_then_items():
    users, items = split_nodes(np.arange(NODES)[:, None], NUM_USERS)
    assert users.ravel().tolist() == list(range(NUM_USERS))
    assert items.ravel().tolist() == list(range(NUM_USERS, NODES))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim": 0}, "dim: expected a whole number of at least 1, got 0"),
        ({"layers": -1}, "layers: expected a whole number of at least 0, got -1"),
        ({"layers": 2, "alphas": (1.0,)}, r"alphas: expected layers \+ 1 = 3 weights, got 1"),
        ({"layers": 0, "alphas": (float("nan"),)}, "alphas: expected None or finite weights"),
        ({"init_std": float("nan")}, "init_std: expected more than 0, got nan"),
        ({"layer_combination": "mean"}, "layer_combination: expected one of .*got 'mean'"),
        (
            {"layers": 0, "layer_combination": "last", "alphas": (1.0,)},
            "layer_combination: last has no layer weights",
        ),
        (
            {"layer_combination": "last", "learn_alphas": True},
            "layer_combination: last has no layer weights",
        ),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        LightGCN(**settings)
