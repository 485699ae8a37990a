import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from lightgcn_jax.diffusion import (
    diffuse,
    diffusion_operator,
    interaction_operator,
    multiscale,
    uniform_alphas,
)
from lightgcn_jax.errors import InputError
from tests.lightgcn.oracles import dense_multiscale, dense_normalized_adjacency
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of, random_pairs

NODES, DIM = NUM_USERS + NUM_ITEMS, 4
ALPHAS = (0.4, 0.3, 0.2, 0.1)

some_normalizations = pytest.mark.parametrize("normalization", ["symmetric", "row"])


def table(seed=0, nodes=NODES, dim=DIM):
    return np.random.default_rng(seed).normal(size=(nodes, dim))


@jax.jit
def value_and_pullback(operator, x, alphas, cotangent):
    y, pullback = jax.vjp(lambda x, alphas: multiscale(operator, x, alphas), x, alphas)
    return y, *pullback(cotangent)


@some_normalizations
@pytest.mark.usefixtures("x64")
def test_value_and_both_gradients_are_the_dense_polynomials(backend, normalization):
    pairs = random_pairs(1)
    matrix = dense_normalized_adjacency(*pairs, NUM_USERS, NUM_ITEMS, normalization)
    operator = diffusion_operator(
        graph_of(*pairs), backend=backend, dtype=jnp.float64, normalization=normalization
    )
    x, cotangent = table(1), table(2)
    y, x_bar, alpha_bar = value_and_pullback(operator, x, jnp.array(ALPHAS), cotangent)
    np.testing.assert_allclose(y, dense_multiscale(matrix, x, ALPHAS), rtol=1e-11)
    np.testing.assert_allclose(x_bar, dense_multiscale(matrix.T, cotangent, ALPHAS), rtol=1e-11)
    powers = [np.linalg.matrix_power(matrix, k) @ x for k in range(len(ALPHAS))]
    np.testing.assert_allclose(alpha_bar, [(cotangent * p).sum() for p in powers], rtol=1e-11)


@some_normalizations
@pytest.mark.usefixtures("x64")
def test_numerical_gradients_to_second_order(normalization):
    operator = diffusion_operator(
        graph_of(*random_pairs(2, 3, 4), 3, 4), dtype=jnp.float64, normalization=normalization
    )
    jax.test_util.check_grads(
        jax.jit(lambda x, alphas: jnp.tanh(multiscale(operator, x, alphas))),
        (jnp.asarray(table(3, 7, 2)), jnp.array(ALPHAS[:3])),
        order=2,
        modes=("rev",),
    )


def test_each_argument_has_its_gradient_alone():
    operator = diffusion_operator(graph_of(*random_pairs(2)), normalization="left")
    x, alphas = jnp.asarray(table(), jnp.float32), jnp.array(ALPHAS)
    cotangent = jnp.asarray(table(1), jnp.float32)
    _, x_bar, alpha_bar = value_and_pullback(operator, x, alphas, cotangent)
    _, pullback = jax.vjp(lambda x: multiscale(operator, x, alphas), x)
    np.testing.assert_allclose(pullback(cotangent)[0], x_bar, rtol=1e-5, atol=1e-6)
    _, pullback = jax.vjp(lambda alphas: multiscale(operator, x, alphas), alphas)
    np.testing.assert_allclose(pullback(cotangent)[0], alpha_bar, rtol=1e-5, atol=1e-6)


def test_sums_of_bfloat16_tables_run_in_float32():
    # On a ring of two nodes Ã swaps them, so every power of it maps ones to ones and the sum is
    # the sum of the layer weights: each too small to move a bfloat16 of 1.
    operator = diffusion_operator(graph_of(np.array([0]), np.array([0]), 1, 1), dtype=jnp.bfloat16)
    x = jnp.ones((2, 3), jnp.bfloat16)
    alphas = jnp.array([1.0, *[2.0**-10] * 64])
    assert 1 + jnp.bfloat16(2.0**-10) == 1
    for function in (multiscale, jax.jit(multiscale)):
        y = function(operator, x, alphas)
        assert y.dtype == jnp.bfloat16
        np.testing.assert_array_equal(y, jnp.full_like(x, 1 + 64 * 2.0**-10))


@pytest.mark.parametrize("layers", [1, 3, 8])
def test_residuals_do_not_grow_with_the_layers(layers):
    operator = diffusion_operator(graph_of(*random_pairs(1)), normalization="row")
    x, alphas = jnp.asarray(table(), jnp.float32), jnp.array(uniform_alphas(layers))

    def kept(function, *arguments):
        """Shapes of what the backward pass keeps beside the graph's own arrays."""
        _, pullback = jax.vjp(function, *arguments)
        shapes = [leaf.shape for leaf in jax.tree.leaves(pullback) if hasattr(leaf, "shape")]
        constants = [leaf.shape for leaf in jax.tree.leaves(operator)] + [alphas.shape, ()]
        return [shape for shape in shapes if shape not in constants]

    assert kept(lambda x: multiscale(operator, x, alphas), x) == []
    assert kept(lambda x, alphas: multiscale(operator, x, alphas), x, alphas) == [x.shape]


def test_working_memory_does_not_grow_with_the_layers(backend):
    operator = diffusion_operator(graph_of(*random_pairs(1)), backend=backend)
    x = jnp.asarray(table(dim=256), jnp.float32)

    def temporary_tables(layers):
        alphas = jnp.array(uniform_alphas(layers))
        memory = value_and_pullback.lower(operator, x, alphas, x).compile().memory_analysis()
        return memory.temp_size_in_bytes / x.nbytes

    few, many = temporary_tables(3), temporary_tables(9)
    assert few > 1, "the sum and the power are at least one table beside the results"
    assert many < few + 0.1


def test_vmap_over_tables_and_layer_weights_is_a_loop(backend):
    operator = diffusion_operator(graph_of(*random_pairs(4)), backend=backend)
    tables = jnp.asarray(np.stack([table(seed) for seed in range(3)]), jnp.float32)
    alphas = jnp.array([ALPHAS, ALPHAS[::-1], uniform_alphas(3)])
    got = jax.jit(jax.vmap(value_and_pullback, (None, 0, 0, 0)))(operator, tables, alphas, tables)
    for index in range(3):
        expected = value_and_pullback(operator, tables[index], alphas[index], tables[index])
        for result, wanted in zip(got, expected, strict=True):
            np.testing.assert_allclose(result[index], wanted, rtol=1e-4, atol=1e-5)


def test_the_graph_is_an_argument_not_a_constant():
    operator = diffusion_operator(graph_of(*random_pairs(1)))
    x = jnp.asarray(table(), jnp.float32)
    closed = jax.make_jaxpr(lambda op, x: multiscale(op, x, ALPHAS))(operator, x)
    assert all(np.size(constant) <= len(ALPHAS) for constant in closed.consts)


def test_edge_weights_have_no_gradient_and_say_so():
    operator = diffusion_operator(graph_of(*random_pairs(2)))
    x = jnp.asarray(table(), jnp.float32)
    with pytest.raises(TypeError, match="edge weights are constants without a gradient"):
        jax.eval_shape(
            jax.grad(lambda op: multiscale(op, x, ALPHAS).sum(), allow_int=True), operator
        )


def test_no_layer_and_one_layer():
    assert uniform_alphas(3) == (0.25, 0.25, 0.25, 0.25)
    operator = diffusion_operator(graph_of(*random_pairs(1)))
    x = jnp.asarray(table(), jnp.float32)
    np.testing.assert_array_equal(multiscale(operator, x, uniform_alphas(0)), x)
    np.testing.assert_array_equal(multiscale(operator, x, (0.0, 1.0)), diffuse(operator, x))


def test_powers_need_weights_and_a_square_matrix():
    graph = graph_of(*random_pairs(1))
    x = jnp.ones((NODES, DIM))
    with pytest.raises(InputError, match=r"alphas: expected K \+ 1 weights, got shape \(0,\)"):
        multiscale(diffusion_operator(graph), x, ())
    with pytest.raises(InputError, match="expected a square matrix"):
        multiscale(interaction_operator(graph), x[:NUM_ITEMS], ALPHAS)
