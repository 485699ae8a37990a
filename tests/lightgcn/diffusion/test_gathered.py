"""Sums over places of a table, and their transpose, beside dense float64 matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightgcn_jax.diffusion.native import gathered_sums, on_platform, scattered_sums
from lightgcn_jax.diffusion.native.library import load
from lightgcn_jax.errors import InputError

pytestmark = pytest.mark.skipif(load().library is None, reason=str(load().obstacle))


def drawn(rows, width, nodes, dim, seed=0):
    """Places in any order with repetitions; a third of the weights is 0."""
    rng = np.random.default_rng(seed)
    places = rng.integers(0, nodes, (rows, width)).astype(np.int32)
    weights = rng.normal(size=(rows, width)) * (rng.random((rows, width)) > 1 / 3)
    return places, weights, rng.normal(size=(nodes, dim)), rng.normal(size=(rows, dim))


def dense(places, weights, nodes):
    matrix = np.zeros((len(places), nodes))
    np.add.at(matrix, (np.arange(len(places))[:, None], places), weights)
    return matrix


@pytest.mark.parametrize(
    ("rows", "width", "nodes", "dim"),
    [(7, 5, 4, 64), (1, 1, 1, 1), (300, 50, 2_000, 17), (5_000, 8, 60, 100), (3, 0, 5, 4)],
)
def test_both_are_products_with_one_matrix(rows, width, nodes, dim):
    places, weights, table, slopes = drawn(rows, width, nodes, dim)
    matrix = dense(places, weights, nodes)
    given = jnp.asarray(places), jnp.asarray(weights, jnp.float32)
    sums = jax.jit(gathered_sums)(jnp.asarray(table, jnp.float32), *given)
    np.testing.assert_allclose(sums, matrix @ table, atol=2e-5)
    scatter = jax.jit(scattered_sums, static_argnames="nodes")
    back = scatter(jnp.asarray(slopes, jnp.float32), *given, nodes=nodes)
    np.testing.assert_allclose(back, matrix.T @ slopes, atol=1e-4)


def test_a_place_out_of_range_is_the_nearest():
    table = jnp.arange(6.0).reshape(3, 2)
    sums = gathered_sums(table, jnp.array([[-5, 99]]), jnp.ones((1, 2)))
    np.testing.assert_array_equal(sums, table[:1] + table[2:])


@pytest.mark.parametrize("kind", [jnp.float16, jnp.bfloat16])
def test_narrow_tables_are_summed_widely_and_rounded_once(kind):
    places, weights, table, slopes = drawn(20, 30, 9, 8)
    narrow, slopes = jnp.asarray(table, kind), jnp.asarray(slopes, kind)
    given = jnp.asarray(places), jnp.asarray(weights, jnp.float32)
    wide = gathered_sums(narrow.astype(jnp.float32), *given)
    np.testing.assert_array_equal(gathered_sums(narrow, *given), wide.astype(kind))
    wide = scattered_sums(slopes.astype(jnp.float32), *given, nodes=9)
    np.testing.assert_array_equal(scattered_sums(slopes, *given, nodes=9), wide.astype(kind))


def test_more_places_than_offsets_can_name_are_refused():
    places = jax.ShapeDtypeStruct((2**26, 32), jnp.int32)
    weights = jax.ShapeDtypeStruct((2**26, 32), jnp.float32)
    table = jax.ShapeDtypeStruct((5, 4), jnp.float32)
    with pytest.raises(InputError, match="places: expected at most 2,147,483,647, got 67,108,864"):
        jax.eval_shape(gathered_sums, table, places, weights)


def test_under_vmap_each_table_has_its_own_places():
    cases = [drawn(6, 3, 9, 8, seed) for seed in range(3)]
    places, weights, tables, slopes = (
        jnp.asarray(np.stack(one)) for one in zip(*cases, strict=True)
    )
    weights, tables, slopes = (one.astype(jnp.float32) for one in (weights, tables, slopes))
    sums = jax.vmap(gathered_sums)(tables, places, weights)
    back = jax.vmap(lambda *given: scattered_sums(*given, nodes=9))(slopes, places, weights)
    for case, got, got_back in zip(cases, sums, back, strict=True):
        matrix = dense(*case[:2], 9)
        np.testing.assert_allclose(got, matrix @ case[2], atol=1e-5)
        np.testing.assert_allclose(got_back, matrix.T @ case[3], atol=1e-5)


def test_programs_for_other_platforms_have_no_call_of_a_kernel():
    """A CPU's program calls it, the one lowered for CUDA does what the other function does."""
    function = on_platform(gathered_sums, lambda table, places, _: table[places].sum(axis=1))
    shapes = (
        jax.ShapeDtypeStruct((5, 4), jnp.float32),
        jax.ShapeDtypeStruct((3, 2), jnp.int32),
        jax.ShapeDtypeStruct((3, 2), jnp.float32),
    )
    traced = jax.jit(function).trace(*shapes)
    assert "native_multiply" in traced.lower(lowering_platforms=("cpu",)).as_text()
    assert "native_multiply" not in traced.lower(lowering_platforms=("cuda",)).as_text()
