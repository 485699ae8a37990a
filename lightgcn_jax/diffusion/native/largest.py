"""The largest scores of each query, by kernels that read the scores once or hold none of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Bool, Float, Ids, RankedIds
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
    items, best = _call("top_k", (wide,), scores.shape[1], k, seen, queries)
    return items, best.astype(scores.dtype)


def multiplies(items: Array, queries: Array) -> bool:
    """Whether there is a kernel for tables of these types.

    Args:
        items: ``[I, D]``.
        queries: ``[Q, D]``.
    """
    return items.dtype == queries.dtype and items.dtype in (jnp.float32, jnp.float64)


def largest_products(
    items: Float[Array, "items dim"],
    queries: Float[Array, "queries dim"],
    k: int,
    allowed: Bool[Array, " items"] | Bool[Array, "queries items"] | None = None,
    seen: CsrRows | None = None,
    rows: Ids | None = None,
) -> tuple[RankedIds, Float[Array, "queries cutoff"]]:
    """The items of the K largest inner products with each query, best first, ties to the lower row.

    Products are compared with the K-th best of their query while they are in registers, and never
    written. One is summed in the order of the columns: it has the same bits whichever queries and
    items stand beside it.

    Args:
        items: ``float[I, D]`` of a type that :func:`multiplies` knows.
        queries: ``float[Q, D]`` of the same type.
        k: K ≤ I.
        allowed: which items may be found, or which by each query; None for all.
        seen: rows of items that are left out; None leaves out nothing.
        rows: ``int32[Q]``, the row of ``seen`` that counts for each query.

    Returns:
        Their rows ``int32[Q, K]``, −1 where there are fewer, and the products ``float[Q, K]``, −inf
        there; a query with a product that is no number gets nothing but NaN.
    """
    mask = jnp.zeros(0, bool) if allowed is None else allowed.ravel()
    given = items, queries, mask
    return _call("top_k_products", given, queries.shape[0], k, seen, rows)


def _call(
    name: str,
    given: tuple[Array, ...],
    num_queries: int,
    k: int,
    seen: CsrRows | None,
    rows: Ids | None,
) -> tuple[Array, Array]:
    shape = num_queries, k
    results = jax.ShapeDtypeStruct(shape, jnp.int32), jax.ShapeDtypeStruct(shape, given[0].dtype)
    call = jax.ffi.ffi_call(target_name(name), results, vmap_method="sequential")
    none = jnp.zeros(0, jnp.int32)
    hidden = (jnp.zeros(1, jnp.int32), none) if seen is None else (seen.offsets, seen.columns)
    found, best = call(*given, *hidden, none if rows is None else rows)
    return found, best
