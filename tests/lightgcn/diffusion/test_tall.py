"""Products of two tall tables beside float64, on every instruction set."""

import jax
import numpy as np
import pytest

from lightgcn_jax.diffusion import obstacles
from lightgcn_jax.diffusion.native import tall_product
from lightgcn_jax.diffusion.native.library import limit_instructions

OBSTACLE = obstacles("cpu")["native"]
pytestmark = pytest.mark.skipif(OBSTACLE is not None, reason=f"native: {OBSTACLE}")


@pytest.mark.parametrize("instructions", ["baseline", "AVX2", "AVX-512"])
# Widths that fill registers and that do not, rows of several runs, and none.
@pytest.mark.parametrize(("rows", "width", "dim"), [(0, 2, 3), (5, 1, 16), (9_000, 13, 50)])
def test_a_tall_product_is_that_of_the_transposed_table(instructions, rows, width, dim):
    rng = np.random.default_rng(rows)
    a, b = (rng.normal(size=(rows, one)).astype(np.float32) for one in (width, dim))
    exact = a.astype(float).T @ b.astype(float)
    if limit_instructions(instructions) != instructions:
        pytest.skip(f"needs a processor with {instructions}")
    try:
        found = jax.jit(tall_product)(a, b)
    finally:
        limit_instructions()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, exact, atol=1e-6 * max(1, rows) ** 0.5 * 10)
