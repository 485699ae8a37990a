"""The dense part of a layer of NGCF and its gradient beside float64, on every instruction set."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightgcn_jax.diffusion import obstacles
from lightgcn_jax.diffusion.native import NgcfLayer, ngcf_layer, ngcf_layer_gradient

OBSTACLE = obstacles("cpu")["native"]
pytestmark = pytest.mark.skipif(OBSTACLE is not None, reason=f"native: {OBSTACLE}")
SLOPE = 0.2


def random_layer(rows, width, dim, dtype=np.float32, seed=0):
    """A layer, and a cotangent of which every third row is 0."""
    rng = np.random.default_rng(seed)
    shapes = [(rows, width), (rows, width), (width, dim), (width, dim), (rows, dim)]
    *given, cotangent = (rng.normal(size=shape).astype(dtype) for shape in shapes)
    cotangent[::3] = 0
    return NgcfLayer(*given), cotangent


def written_out(given, cotangent, output):
    """Output and gradients in float64. The output tells the sign of z, which rounding decides."""
    messages, own, sums, products = (one.astype(float) for one in given)
    z = (messages + own) @ sums + (own * messages) @ products
    dz = np.where(output >= 0, 1, SLOPE) * cotangent.astype(float)
    by_sums, by_products = dz @ sums.T, dz @ products.T
    return [
        np.where(z >= 0, z, SLOPE * z),
        by_sums + by_products * own,
        by_sums + by_products * messages,
        (messages + own).T @ dz,
        (own * messages).T @ dz,
    ]


@jax.jit
def layer_and_gradient(given, cotangent):
    output = ngcf_layer(given, SLOPE)
    return [output, *ngcf_layer_gradient(given, output, cotangent, SLOPE)]


@pytest.mark.usefixtures("x64", "instructions")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
# Less than a register, a tile, a block; all of them and a rest; sums of several runs; written past
# the caches.
@pytest.mark.parametrize(
    ("rows", "width", "dim"),
    [
        (0, 3, 2),
        (1, 1, 1),
        (5, 3, 17),
        (200, 17, 3),
        (1_000, 100, 100),
        (9_000, 64, 8),
        (33_000, 64, 64),
    ],
)
def test_value_and_gradients_are_those_of_the_equation(dtype, rows, width, dim):
    given, cotangent = random_layer(rows, width, dim, dtype)
    found = layer_and_gradient(given, cotangent)
    expected = written_out(given, cotangent, np.asarray(found[0]))
    for number, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one.dtype == dtype
        # Sums of products of normal numbers, over columns or over rows.
        terms = width + dim if number < 3 else max(1, rows)
        bound = 40 * np.finfo(dtype).eps * terms**0.5
        np.testing.assert_allclose(one, other, rtol=0, atol=bound)


def test_a_row_without_a_cotangent_has_no_gradient():
    given, cotangent = random_layer(500, 16, 16)
    _, by_messages, by_own, *_ = layer_and_gradient(given, cotangent)
    for gradient in (by_messages, by_own):
        assert (np.asarray(gradient[::3]) == 0).all()
        assert (np.asarray(gradient[1::3]) != 0).all()


def test_under_vmap_every_layer_is_its_own():
    layers = [random_layer(50, 5, 7, seed=seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)
    found = jax.jit(jax.vmap(layer_and_gradient))(*stacked)
    for number, layer in enumerate(layers):
        for one, other in zip(found, layer_and_gradient(*layer), strict=True):
            np.testing.assert_array_equal(one[number], other)


def test_shapes_that_do_not_fit_are_refused():
    given, _ = random_layer(4, 3, 2)
    with pytest.raises(jax.errors.JaxRuntimeError, match="messages: expected the shape"):
        jax.block_until_ready(ngcf_layer(given._replace(messages=given.messages[:, :2]), SLOPE))
    with pytest.raises(jax.errors.JaxRuntimeError, match="matrices: expected a row for each"):
        jax.block_until_ready(ngcf_layer(given._replace(products=given.products[:2]), SLOPE))
