"""GCN and its linearisation SGC, and the steps from one to the other and on to LightGCN."""

import functools

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from lightgcn_jax.errors import InputError
from lightgcn_jax.models import GCN, SGC, LightGCN, TableParams
from lightgcn_jax.models.lightgcn import LightGCNParams
from tests.lightgcn.trained import (
    DIM,
    NODES,
    initial,
    kernels,
    operator_and_matrix,
    random_params,
    vectors,
)

some_normalizations = pytest.mark.parametrize("normalization", ["symmetric", "left"])


def dense_gcn(params, matrix):
    nodes = np.asarray(params.table, float)
    for _, weights in sorted(kernels(params.weights).items()):
        nodes = np.maximum(matrix @ nodes @ weights, 0)
    return nodes


@some_normalizations
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.usefixtures("x64")
def test_gcn_is_its_layers_written_out(normalization, layers):
    operator, matrix = operator_and_matrix(normalization)
    model = GCN(DIM, layers)
    params = random_params(model)
    assert len(kernels(params.weights)) == layers
    found = vectors(model, params, operator)
    np.testing.assert_allclose(found, dense_gcn(params, matrix), rtol=1e-11, atol=1e-13)
    assert (np.asarray(found) == 0).any(), "ReLU should be active here"


@some_normalizations
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.usefixtures("x64")
def test_sgc_is_a_power_and_one_map(normalization, layers):
    operator, matrix = operator_and_matrix(normalization)
    model = SGC(DIM, layers)
    params = random_params(model)
    table, weights = np.asarray(params.table), np.asarray(params.weights["params"]["kernel"])
    expected = np.linalg.matrix_power(matrix, layers) @ table @ weights
    np.testing.assert_allclose(vectors(model, params, operator), expected, rtol=1e-11)


@pytest.mark.parametrize("model", [GCN(2, 2), SGC(2, 2)])
@pytest.mark.usefixtures("x64")
def test_numerical_gradients(model):
    operator, _ = operator_and_matrix("left")
    params = random_params(model)
    jax.test_util.check_grads(
        jax.jit(lambda params: jnp.tanh(model.apply(params, operator))),
        (params,),
        order=1,
        modes=("rev",),
    )


@pytest.mark.usefixtures("x64")
def test_a_gcn_whose_relu_is_idle_is_an_sgc_with_the_product_of_its_weights():
    operator, _ = operator_and_matrix()
    model = GCN(DIM, 3)
    signed = random_params(model)

    def merged(params):
        weights = functools.reduce(
            np.matmul, [w for _, w in sorted(kernels(params.weights).items())]
        )
        return TableParams(params.table, {"params": {"kernel": jnp.asarray(weights)}})

    # Nothing negative goes in, so nothing negative comes out before ReLU.
    positive = jax.tree.map(jnp.abs, signed)
    linear = vectors(SGC(DIM, 3), merged(positive), operator)
    np.testing.assert_allclose(vectors(model, positive, operator), linear, rtol=1e-12)
    linear = vectors(SGC(DIM, 3), merged(signed), operator)
    assert not np.allclose(vectors(model, signed, operator), linear)


@pytest.mark.usefixtures("x64")
def test_an_sgc_without_weights_is_a_lightgcn_of_its_last_layer():
    operator, _ = operator_and_matrix()
    table = random_params(SGC(DIM, 3)).table
    params = TableParams(table, {"params": {"kernel": jnp.eye(DIM)}})
    found = vectors(SGC(DIM, 3), params, operator)
    for model in (
        LightGCN(DIM, 3, alphas=(0.0, 0.0, 0.0, 1.0)),
        LightGCN(DIM, 3, layer_combination="last"),
    ):
        expected = vectors(model, LightGCNParams(table), operator)
        np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize("model", [GCN(64, 2), SGC(64, 2)])
def test_initial_weights_are_uniform_within_glorots_bound(model):
    """U(−b, b) with b = √(6 / (D + D)): its extremes and its variance b²/3."""
    weights = initial(model, jax.random.key(0), NODES).weights
    bound = np.sqrt(6 / 128)
    for kernel in map(np.asarray, jax.tree.leaves(weights)):
        assert kernel.shape == (64, 64)
        assert 0.99 * bound < np.abs(kernel).max() <= bound
        assert kernel.var() == pytest.approx(bound**2 / 3, rel=0.1)
    tables = [np.asarray(initial(model, jax.random.key(seed), NODES).table) for seed in (0, 1)]
    assert (tables[0] != tables[1]).all()


@pytest.mark.parametrize("model", [GCN, SGC])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim": 0}, "dim: expected a whole number of at least 1, got 0"),
        ({"layers": 0}, "layers: expected a whole number of at least 1, got 0"),
        ({"init_std": -0.1}, "init_std: expected more than 0, got -0.1"),
    ],
)
def test_impossible_settings_are_refused(model, settings, message):
    with pytest.raises(InputError, match=message):
        model(**settings)
