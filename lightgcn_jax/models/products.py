"""Products of dense layers over many rows, whose gradient on a CPU a kernel of our own computes."""

from __future__ import annotations

from typing import Any

import jax

from lightgcn_jax.arrays import Array, Float, Vectors
from lightgcn_jax.diffusion.native import on_platform, tall_product


@jax.custom_vjp
def product(rows: Float[Array, "rows width"], kernel: Float[Array, "width dim"]) -> Vectors:
    """x W of many rows and few columns, ``float[rows, D]``.

    Args:
        rows: x, ``float[rows, width]``.
        kernel: W, ``float[width, D]``.
    """
    return rows @ kernel


def _forward(rows: Array, kernel: Array) -> tuple[Array, Any]:
    return rows @ kernel, (rows, kernel)


def _backward(kept: Any, slope: Array) -> tuple[Array, Array]:
    rows, kernel = kept
    transposed = on_platform(tall_product, lambda rows, slope: rows.T @ slope)
    return slope @ kernel.T, transposed(rows, slope)


product.defvjp(_forward, _backward)


def dense_product(rows: Array, kernel: Array, *_: Any, **__: Any) -> Array:
    """The product of a dense layer, as ``flax.linen.Dense`` calls it.

    Args:
        rows: ``float[rows, width]``.
        kernel: ``float[width, D]``.
    """
    return product(rows, kernel)
