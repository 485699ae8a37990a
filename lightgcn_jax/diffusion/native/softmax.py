"""Logarithms of sums of exponentials of products, and their gradients, in one pass."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Float, Mask
from lightgcn_jax.diffusion.native.library import target_name


class LogSumTerms(NamedTuple):
    """What log(exp(first) + Σ_j exp(⟨query, item_j⟩ + added_j)) over the valid j is made of.

    Attributes:
        queries: ``float[B, D]``.
        items: ``float[M, D]``, shared by all queries.
        added: ``float[M]``.
        first: ``float[B]``, a term of each query's own; −inf for none.
    """

    queries: Float[Array, "batch dim"]
    items: Float[Array, "shared dim"]
    added: Float[Array, " shared"]
    first: Float[Array, " batch"]


def log_sums(
    terms: LogSumTerms, valid: Mask, factors: Float[Array, " batch"]
) -> tuple[Float[Array, " batch"], LogSumTerms]:
    """Each query's log-sum, and the gradients of Σ_b factors[b] · logsum[b], without a derivative.

    Products and their exponentials are made for some queries at a time, which stay near, and are
    never a table. Gradients by items are summed over queries in runs of a length that the shapes
    settle, so the bits are the same whatever the threads are.

    Args:
        terms: all ``float32`` or all ``float64``.
        valid: ``bool[B, M]``, which items count for each query.
        factors: ``float[B]``.

    Returns:
        The log-sums ``float[B]``, 0 where there is no term, and the gradients.
    """
    kind, rows = terms.queries.dtype, len(terms.queries)
    each = jax.ShapeDtypeStruct((rows,), kind)
    slopes = (jax.ShapeDtypeStruct(one.shape, kind) for one in terms)
    call = jax.ffi.ffi_call(target_name("softmax"), (each, each, *slopes), vmap_method="sequential")
    found: Any = call(*terms, factors.astype(kind), valid)
    largest, sums, *gradients = found
    return largest + jnp.log(sums), LogSumTerms(*gradients)
