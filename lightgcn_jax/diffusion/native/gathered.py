"""Weighted sums of a table's rows, a list of places for each: the kernels on arrays of a program.

Where a matrix is made inside a compiled program, as for the neighbours in a mini-batch, no storage
holds it: its entries are arrays like any others.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Float, Int
from lightgcn_jax.diffusion.native.library import target_name
from lightgcn_jax.diffusion.storage import sum_dtype
from lightgcn_jax.errors import InputError

# Offsets are numbers of 32 bits.
_MOST_PLACES = 2**31 - 1


def gathered_sums(
    table: Float[Array, "nodes dim"],
    places: Int[Array, "rows width"],
    weights: Float[Array, "rows width"],
) -> Float[Array, "rows dim"]:
    """Σ_t weights[r, t] · table[places[r, t]], without a derivative.

    Args:
        table: ``float32[n, D]``.
        places: ``int32[rows, T]`` in any order; one out of range is taken for the nearest.
        weights: ``float32[rows, T]``.

    Returns:
        ``float32[rows, D]``.
    """
    return _call("multiply", len(places), places, weights, table, len(table))


def scattered_sums(
    slopes: Float[Array, "rows dim"],
    places: Int[Array, "rows width"],
    weights: Float[Array, "rows width"],
    nodes: int,
) -> Float[Array, "nodes dim"]:
    """The transpose of :func:`gathered_sums`: each node's Σ weights[r, t] · slopes[r].

    A node's terms are summed in the order of the rows, whatever the threads are.

    Args:
        slopes: ``float32[rows, D]``.
        places: ``int32[rows, T]``, as for the sums.
        weights: ``float32[rows, T]``; entries of weight 0 cost nothing.
        nodes: n.

    Returns:
        ``float32[n, D]``.
    """
    return _call("multiply_transposed", nodes, places, weights, slopes, nodes)


def _call(call: str, rows: int, places: Array, weights: Array, table: Array, nodes: int) -> Any:
    count, width = places.shape
    if count * width > _MOST_PLACES:
        raise InputError(
            f"places: expected at most {_MOST_PLACES:,}, got {count:,} rows of {width:,}"
        )
    offsets = jnp.arange(count + 1, dtype=jnp.int32) * width
    # The kernels read where they are told: nothing checks the places after this.
    columns = jnp.clip(places.astype(jnp.int32), 0, max(nodes - 1, 0)).reshape(-1)
    # There are kernels of both calls for the types that sums run in.
    kind = sum_dtype(table.dtype)
    result = jax.ShapeDtypeStruct((rows, table.shape[1]), kind)
    function = jax.ffi.ffi_call(target_name(call), result, vmap_method="sequential")
    sums = function(offsets, columns, weights.astype(kind).reshape(-1), table.astype(kind))
    return sums.astype(table.dtype)
