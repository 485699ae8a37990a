"""Rows come out as NumPy sorts them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pinsage_jax.graph.sorted_rows import _by_network, sorted_rows

LARGEST = 2**32 - 1


@pytest.mark.parametrize("width", [0, 1, 2, 3, 8, 33, 500])
def test_each_row_is_sorted(width):
    rng = np.random.default_rng(width)
    rows = rng.integers(0, LARGEST, (7, width), np.uint32, endpoint=True)
    rows[:, : width // 2] = LARGEST
    rows = rng.permuted(rows, axis=1)
    np.testing.assert_array_equal(sorted_rows(jnp.asarray(rows)), np.sort(rows, axis=1))


def test_the_network_sorts_all_rows_of_zeros_and_ones():
    # By the 0-1 principle a network that sorts these sorts everything (Knuth, volume 3, 5.3.4).
    width = 16
    rows = ((np.arange(2**width)[:, None] >> np.arange(width)) & 1).astype(np.uint32)
    ones = rows.sum(axis=1)
    expected = np.arange(width) >= width - ones[:, None]
    np.testing.assert_array_equal(jax.jit(_by_network)(jnp.asarray(rows)), expected)


def test_equal_rows_and_no_rows():
    assert sorted_rows(jnp.zeros((0, 5), jnp.uint32)).shape == (0, 5)
    np.testing.assert_array_equal(sorted_rows(jnp.full((2, 5), 3, jnp.uint32)), np.full((2, 5), 3))
