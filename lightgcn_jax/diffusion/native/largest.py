"""The largest scores of each query, by a kernel that reads the scores once."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Float, Ids, RankedIds
from lightgcn_jax.diffusion.native.library import target_name
from lightgcn_jax.diffusion.storage import sum_dtype
from lightgcn_jax.graph.bipartite import CsrRows


def largest_of_columns(
    scores: Float[Array, "items queries"],
    k: int,
    seen: CsrRows | None = None,
    queries: Ids | None = None,
) -> tuple[RankedIds, Float[Array, "queries cutoff"]]:
    """The K largest of each column, best first, of equal ones the lower row.

    A score is compared with the K-th best that its column has had so far; few exceed that, and only
    of those is asked whether they are seen.

    Args:
        scores: ``float[I, Q]``; zeros of either sign are equal. A column with a NaN gets nothing
            but NaN.
        k: K ≤ I.
        seen: rows of items that are left out; None leaves out nothing.
        queries: ``int32[Q]``, the row of ``seen`` that counts for each column.

    Returns:
        Their rows ``int32[Q, K]``, −1 for entries of −inf, and the scores ``float[Q, K]``.
    """
    # There are kernels for the types that sums run in; widening keeps the order.
    wide = scores.astype(sum_dtype(scores.dtype))
    shape = scores.shape[1], k
    results = jax.ShapeDtypeStruct(shape, jnp.int32), jax.ShapeDtypeStruct(shape, wide.dtype)
    call = jax.ffi.ffi_call(target_name("top_k"), results, vmap_method="sequential")
    none = jnp.zeros(0, jnp.int32)
    hidden = (jnp.zeros(1, jnp.int32), none) if seen is None else (seen.offsets, seen.columns)
    items, best = call(wide, *hidden, none if queries is None else queries)
    return items, best.astype(scores.dtype)
