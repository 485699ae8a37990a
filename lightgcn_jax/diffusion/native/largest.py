"""The largest scores of each query, by a kernel that reads the scores once."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Float, RankedIds
from lightgcn_jax.diffusion.native.library import target_name
from lightgcn_jax.diffusion.storage import sum_dtype


def largest_of_columns(
    scores: Float[Array, "items queries"], k: int
) -> tuple[RankedIds, Float[Array, "queries cutoff"]]:
    """The K largest of each column, best first, of equal ones the lower row.

    A score is compared with the K-th best that its column has had so far; few exceed that.

    Args:
        scores: ``float[I, Q]``; zeros of either sign are equal. A column with a NaN gets nothing
            but NaN.
        k: K ≤ I.

    Returns:
        Their rows ``int32[Q, K]``, −1 for entries of −inf, and the scores ``float[Q, K]``.
    """
    # There are kernels for the types that sums run in; widening keeps the order.
    wide = scores.astype(sum_dtype(scores.dtype))
    shape = scores.shape[1], k
    results = jax.ShapeDtypeStruct(shape, jnp.int32), jax.ShapeDtypeStruct(shape, wide.dtype)
    call = jax.ffi.ffi_call(target_name("top_k"), results, vmap_method="sequential")
    items, best = call(wide)
    return items, best.astype(scores.dtype)
