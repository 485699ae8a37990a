"""Products of a table with another one of as many rows: the gradients of dense layers."""

from __future__ import annotations

from typing import Any

import jax

from lightgcn_jax.arrays import Array, Float
from lightgcn_jax.diffusion.native.library import target_name
from lightgcn_jax.diffusion.storage import sum_dtype


def tall_product(
    a: Float[Array, "rows width"], b: Float[Array, "rows dim"]
) -> Float[Array, "width dim"]:
    """aᵀ b, without a derivative, for tables of many more rows than columns.

    XLA's product of this shape on a CPU reads one of the tables against its layout and takes twice
    the time of one that multiplies as many numbers along it. Rows are summed in runs of a fixed
    length, so the bits are the same whatever the threads are.

    Args:
        a: ``float[n, P]``.
        b: ``float[n, Q]``.

    Returns:
        ``float[P, Q]`` in the type of a.
    """
    kind = sum_dtype(a.dtype)
    result = jax.ShapeDtypeStruct((a.shape[1], b.shape[1]), kind)
    call = jax.ffi.ffi_call(target_name("multiply_tall"), result, vmap_method="sequential")
    product: Any = call(a.astype(kind), b.astype(kind))
    return product.astype(a.dtype)
