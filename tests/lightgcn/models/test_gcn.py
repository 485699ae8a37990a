"""GCN and its linearisation SGC, and the steps from one to the other and on to LightGCN."""

import functools

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from lightgcn_jax.errors import InputError
from lightgcn_jax.models import (
    GCNConfig,
    LightGCNConfig,
    LightGCNParams,
    SGCConfig,
    SGCParams,
    gcn,
    lightgcn,
    sgc,
)
from tests.lightgcn.trained import DIM, NODES, kernels, operator_and_matrix, random_params

apply_gcn = jax.jit(gcn.apply, static_argnames="config")
apply_sgc = jax.jit(sgc.apply, static_argnames="config")

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
    config = GCNConfig(DIM, layers)
    params = random_params(gcn, config)
    assert len(kernels(params.weights)) == layers
    found = apply_gcn(params, operator, config)
    np.testing.assert_allclose(found, dense_gcn(params, matrix), rtol=1e-11, atol=1e-13)
    assert (np.asarray(found) == 0).any(), "ReLU should be active here"


@some_normalizations
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.usefixtures("x64")
def test_sgc_is_a_power_and_one_map(normalization, layers):
    operator, matrix = operator_and_matrix(normalization)
    config = SGCConfig(DIM, layers)
    params = random_params(sgc, config)
    table, weights = np.asarray(params.table), np.asarray(params.weights["params"]["kernel"])
    expected = np.linalg.matrix_power(matrix, layers) @ table @ weights
    np.testing.assert_allclose(apply_sgc(params, operator, config), expected, rtol=1e-11)


@pytest.mark.parametrize(("module", "config"), [(gcn, GCNConfig(2, 2)), (sgc, SGCConfig(2, 2))])
@pytest.mark.usefixtures("x64")
def test_numerical_gradients(module, config):
    operator, _ = operator_and_matrix("left")
    params = random_params(module, config)
    jax.test_util.check_grads(
        jax.jit(lambda params: jnp.tanh(module.apply(params, operator, config))),
        (params,),
        order=1,
        modes=("rev",),
    )


@pytest.mark.usefixtures("x64")
def test_a_gcn_whose_relu_is_idle_is_an_sgc_with_the_product_of_its_weights():
    operator, _ = operator_and_matrix()
    config = GCNConfig(DIM, 3)
    signed = random_params(gcn, config)

    def merged(params):
        weights = functools.reduce(
            np.matmul, [w for _, w in sorted(kernels(params.weights).items())]
        )
        return SGCParams(params.table, {"params": {"kernel": jnp.asarray(weights)}})

    # Nothing negative goes in, so nothing negative comes out before ReLU.
    positive = jax.tree.map(jnp.abs, signed)
    linear = apply_sgc(merged(positive), operator, SGCConfig(DIM, 3))
    np.testing.assert_allclose(apply_gcn(positive, operator, config), linear, rtol=1e-12)
    linear = apply_sgc(merged(signed), operator, SGCConfig(DIM, 3))
    assert not np.allclose(apply_gcn(signed, operator, config), linear)


@pytest.mark.usefixtures("x64")
def test_an_sgc_without_weights_is_a_lightgcn_of_its_last_layer():
    operator, _ = operator_and_matrix()
    table = random_params(sgc, SGCConfig(DIM, 3)).table
    params = SGCParams(table, {"params": {"kernel": jnp.eye(DIM)}})
    found = apply_sgc(params, operator, SGCConfig(DIM, 3))
    for config in (
        LightGCNConfig(DIM, 3, alphas=(0.0, 0.0, 0.0, 1.0)),
        LightGCNConfig(DIM, 3, layer_combination="last"),
    ):
        expected = lightgcn.apply(LightGCNParams(table), operator, config)
        np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize(("module", "config"), [(gcn, GCNConfig(64, 2)), (sgc, SGCConfig(64, 2))])
def test_initial_weights_are_uniform_within_glorots_bound(module, config):
    """U(−b, b) with b = √(6 / (D + D)): its extremes and its variance b²/3."""
    weights = module.init(jax.random.key(0), NODES, config).weights
    bound = np.sqrt(6 / 128)
    for kernel in jax.tree.leaves(weights):
        assert kernel.shape == (64, 64)
        assert 0.99 * bound < np.abs(kernel).max() <= bound
        assert kernel.var() == pytest.approx(bound**2 / 3, rel=0.1)
    table, other = (module.init(jax.random.key(seed), NODES, config).table for seed in (0, 1))
    assert (table != other).all()


@pytest.mark.parametrize("config", [GCNConfig, SGCConfig])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim": 0}, "dim: expected at least 1, got 0"),
        ({"layers": 0}, "layers: expected at least 1, got 0"),
        ({"init_std": -0.1}, "init_std: expected a positive number, got -0.1"),
    ],
)
def test_impossible_settings_are_refused(config, settings, message):
    with pytest.raises(InputError, match=message):
        config(**settings)
