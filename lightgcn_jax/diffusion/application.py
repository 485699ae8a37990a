"""Products of a storage with tables, and what becomes of them under ``jax.vmap``.

Several tables with one matrix are one product with a table that is as much wider. For several
matrices no wider product exists, so the same kernel runs for one after another.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Float, Ids, NodeTable, Vectors
from lightgcn_jax.diffusion.storage import AccumulatingStorage, RowStorage, Storage, sum_dtype

Factor = Float[Array, ""] | float


@jax.custom_batching.custom_vmap
def multiply(storage: Storage, x: NodeTable) -> NodeTable:
    """M x, without a derivative.

    Args:
        storage: R×C.
        x: ``float[C, D]``.

    Returns:
        ``float[R, D]`` in the type of x.
    """
    return storage.multiply(x)


@multiply.def_vmap
def _multiply_batched(_, in_batched, storage, x):
    if any(jax.tree.leaves(in_batched[0])):
        return _vmapped(_multiply_in_turn, in_batched, storage, x), True
    return _apart(multiply(storage, _side_by_side(x)), len(x)), True


_multiply_in_turn = jax.custom_batching.sequential_vmap(multiply)


def multiply_add(
    storage: Storage, x: NodeTable, onto: NodeTable, scale: Factor, share: Factor
) -> NodeTable:
    """scale · M x + share · onto, without a derivative; in one pass where the storage can.

    Args:
        storage: R×C.
        x: ``float[C, D]``.
        onto: ``float[R, D]`` in the type of x.
        scale: a factor of the product.
        share: a factor of ``onto``.

    Returns:
        ``float[R, D]`` in the type of x; the sum runs in :func:`sum_dtype`.
    """
    kind = sum_dtype(x.dtype)
    return _multiply_add(storage, x, onto, jnp.asarray(scale, kind), jnp.asarray(share, kind))


@jax.custom_batching.custom_vmap
def _multiply_add(storage, x, onto, scale, share):
    if isinstance(storage, AccumulatingStorage):
        return storage.multiply_add(x, onto, scale, share)
    return _multiply_then_add(storage, x, onto, scale, share)


@_multiply_add.def_vmap
def _multiply_add_batched(size, in_batched, storage, x, onto, scale, share):
    storage_batched, x_batched, onto_batched, *factors_batched = in_batched
    if any(jax.tree.leaves((storage_batched, factors_batched))):
        return _vmapped(_multiply_then_add, in_batched, storage, x, onto, scale, share), True
    x, onto = (
        _side_by_side(table if batched else jnp.broadcast_to(table, (size, *table.shape)))
        for table, batched in ((x, x_batched), (onto, onto_batched))
    )
    return _apart(_multiply_add(storage, x, onto, scale, share), size), True


def _multiply_then_add(storage, x, onto, scale, share):
    return (scale * multiply(storage, x) + share * onto).astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def multiply_rows(storage: RowStorage, x: NodeTable, rows: Ids, capacity: int) -> Vectors:
    """(M x)[rows], with a derivative by x alone.

    Args:
        storage: R×C.
        x: ``float[C, D]``.
        rows: ``int32[Q]``, row ids.
        capacity: static; the most entries that the rows may have.

    Returns:
        ``float[Q, D]`` in the type of x.
    """
    return storage.multiply_rows(x, rows, capacity)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def multiply_rows_transposed(
    storage: RowStorage, y: Vectors, rows: Ids, capacity: int
) -> NodeTable:
    """M[rows]ᵀ y, with a derivative by y alone.

    Args:
        storage: R×C.
        y: ``float[Q, D]``.
        rows: ``int32[Q]``, row ids.
        capacity: static; the most entries that the rows may have.

    Returns:
        ``float[C, D]`` in the type of y.
    """
    return storage.multiply_rows_transposed(y, rows, capacity)


multiply_rows.defvjp(
    lambda storage, x, rows, capacity: (multiply_rows(storage, x, rows, capacity), (storage, rows)),
    lambda capacity, kept, cotangent: (
        None,
        multiply_rows_transposed(kept[0], cotangent, kept[1], capacity),
        None,
    ),
)
multiply_rows_transposed.defvjp(
    lambda storage, y, rows, capacity: (
        multiply_rows_transposed(storage, y, rows, capacity),
        (storage, rows),
    ),
    lambda capacity, kept, cotangent: (
        None,
        multiply_rows(kept[0], cotangent, kept[1], capacity),
        None,
    ),
)


def _vmapped(function: Callable[..., NodeTable], in_batched: Any, *arguments: Any) -> NodeTable:
    """Only what is batched is sliced: matrices that differ in weights share their structure."""
    axes = jax.tree.map(lambda batched: 0 if batched else None, tuple(in_batched))
    return jax.vmap(function, axes)(*arguments)


def _side_by_side(tables: Float[Array, "tables rows dim"]) -> NodeTable:
    count, rows, dim = tables.shape
    return jnp.moveaxis(tables, 0, 1).reshape(rows, count * dim)


def _apart(table: NodeTable, count: int) -> Float[Array, "tables rows dim"]:
    return jnp.moveaxis(table.reshape(len(table), count, -1), 1, 0)
