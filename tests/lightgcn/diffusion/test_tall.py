"""Products of two tall tables beside float64, on every instruction set."""

import jax
import numpy as np
import pytest

from lightgcn_jax.diffusion import obstacles
from lightgcn_jax.diffusion.native import tall_product

OBSTACLE = obstacles("cpu")["native"]
pytestmark = pytest.mark.skipif(OBSTACLE is not None, reason=f"native: {OBSTACLE}")


@pytest.mark.usefixtures("instructions")
# Widths that fill registers and that do not, rows of several runs, and none.
@pytest.mark.parametrize(
    ("rows", "width", "dim"), [(0, 2, 3), (5, 1, 16), (9_000, 13, 50), (40, 17, 9)]
)
def test_a_tall_product_is_that_of_the_transposed_table(rows, width, dim):
    rng = np.random.default_rng(rows)
    a, b = (rng.normal(size=(rows, one)).astype(np.float32) for one in (width, dim))
    exact = a.astype(float).T @ b.astype(float)
    found = jax.jit(tall_product)(a, b)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, exact, atol=1e-6 * max(1, rows) ** 0.5 * 10)
