"""A few rows of the diffused table, as a mini-batch reads them.

The sum over scales is formed at those rows only. The last application of Ã, and the first of the
backward pass, need only the edges at those rows: an operator that was planned for a batch
(:meth:`Operator.planned_for`) reads no others there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import cast

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from lightgcn_jax.arrays import Array, Float, Ids, NodeTable, Vectors
from lightgcn_jax.diffusion.application import multiply_rows, multiply_rows_transposed
from lightgcn_jax.diffusion.multiscale import applications_a_turn, layer_weights
from lightgcn_jax.diffusion.operator import ConstantOperator, Operator, diffuse
from lightgcn_jax.diffusion.storage import RowStorage, sum_dtype

Scales = Float[Array, "scales rows dim"]

# Accelerators would round float32 operands to fewer bits, which multiscale does not.
_HIGHEST = jax.lax.Precision.HIGHEST


def multiscale_rows(
    operator: Operator, x: NodeTable, alphas: ArrayLike | Sequence[float], rows: Ids
) -> Vectors:
    """(sum_k alpha_k Ã^k x)[rows]: :func:`multiscale` where a few rows are read.

    The backward pass is Horner's scheme, Ãᵀ(… Ãᵀ(alpha_K g) + alpha_{K-1} g …) + alpha_0 g, with g
    the cotangent spread over the N rows: it touches only the rows of g beside its K applications.

    Args:
        operator: N×N; its restriction decides which applications read only the edges at the rows.
        x: ``float[N, D]``.
        alphas: ``float[K + 1]``.
        rows: ``int32[Q]``, nodes; a node may stand among them twice.

    Returns:
        ``float[Q, D]`` in the type of x.

    Raises:
        InputError: the operator is not square, x does not fit it, or alphas are no K + 1 numbers.
    """
    x, rows = jnp.asarray(x), jnp.asarray(rows)
    alphas = layer_weights(operator, x, alphas)
    if not rows.size:
        operator = dataclasses.replace(operator, restriction=None)
    return _multiscale_rows(operator, x, alphas, rows)


@jax.custom_vjp
def _multiscale_rows(operator, x, alphas, rows):
    def read(power):
        return power[rows].astype(alphas.dtype)

    def step(carried, alpha):
        power, total = carried
        power = diffuse(operator, power)
        return (power, total + alpha * read(power)), None

    total = alphas[0] * read(x)
    if len(alphas) > 1:
        unroll = applications_a_turn(operator, len(alphas) - 2)
        (power, total), _ = jax.lax.scan(step, (x, total), alphas[1:-1], unroll=unroll)
        total = total + alphas[-1] * _last(operator, power, rows).astype(alphas.dtype)
    return total.astype(x.dtype)


def _weighted(alphas: Float[Array, " scales"], scales: Scales) -> Vectors:
    return jnp.tensordot(alphas, scales, 1, precision=_HIGHEST)


def _scales(operator: Operator, x: NodeTable, count: int, rows: Ids) -> Scales:
    """(Ã^k x)[rows] for k = 0 … count − 1, in the type that sums run in."""

    def step(power, _):
        power = diffuse(operator, power)
        return power, power[rows]

    length = max(0, count - 2)
    unroll = applications_a_turn(operator, length)
    power, scales = jax.lax.scan(step, x, length=length, unroll=unroll)
    scales = [x[rows][None], scales]
    if count > 1:
        scales.append(_last(operator, power, rows)[None])
    return jnp.concatenate(scales).astype(sum_dtype(x.dtype))


def _last(operator: Operator, x: NodeTable, rows: Ids) -> Vectors:
    """(Ã x)[rows]."""

    def full(x):
        return diffuse(operator, x)[rows]

    def few(x, storage, capacity):
        return multiply_rows(storage, x, rows, capacity)

    return _restricted(operator, rows, few, full, x)


def _first_transposed(operator: Operator, y: Vectors, rows: Ids, dtype: DTypeLike) -> NodeTable:
    """Ãᵀ applied, to tables of ``dtype``, to y spread over the rows; in the type of y."""

    def full(y):
        spread = jnp.zeros((operator.shape[0], y.shape[1]), y.dtype).at[rows].add(y)
        return diffuse(operator.transpose(), spread.astype(dtype)).astype(y.dtype)

    def few(y, storage, capacity):
        return multiply_rows_transposed(storage, y, rows, capacity)

    if operator.restriction is not None and not operator.restriction.backward:
        return full(y)
    return _restricted(operator, rows, few, full, y)


def _restricted(
    operator: Operator, rows: Ids, few: Callable, full: Callable[[Vectors], Vectors], x: Vectors
) -> Vectors:
    """``few`` where the rows' entries find room in the restriction, else ``full``."""
    if operator.restriction is None:
        return full(x)
    storage, capacity = cast(RowStorage, operator.storage), operator.restriction.capacity
    lengths = storage.row_lengths(rows)
    # Past 2^31 the whole number wraps around; the rounded one is never far from it before that.
    fits = (lengths.sum() <= capacity) & (lengths.astype(jnp.float32).sum() < 2.0**30)
    return jax.lax.cond(fits, lambda x: few(x, storage, capacity), full, x)


def _forward(operator, x, alphas, rows):
    constant = ConstantOperator.of(operator)
    operator, scales = constant.operator, None
    # The gradient of alphas reads all scales.
    if alphas.perturbed:
        scales = _scales(operator, x.value, len(alphas.value), rows.value)
        y = _weighted(alphas.value, scales).astype(x.value.dtype)
    else:
        y = _multiscale_rows(operator, x.value, alphas.value, rows.value)
    return y, (constant, alphas.value, rows.value, scales)


def _backward(residual, cotangent):
    constant, alphas, rows, scales = residual
    operator, adjoint = constant.operator, constant.transpose()
    if isinstance(cotangent, jax.custom_derivatives.SymbolicZero):
        return None, None, None, None
    # A row that is read often gets many cotangents: they too add up in the type of sums.
    dtype, wide = cotangent.dtype, cotangent.astype(alphas.dtype)
    by_alpha = None if scales is None else jnp.tensordot(scales, wide, 2, precision=_HIGHEST)

    def step(total, alpha):
        spread = total.at[rows].add(alpha * wide).astype(dtype)
        return diffuse(adjoint, spread).astype(wide.dtype), None

    if len(alphas) == 1:
        total = jnp.zeros((operator.shape[1], wide.shape[1]), wide.dtype)
    else:
        last = alphas[-1] * wide
        total = _first_transposed(operator, last, rows, dtype)
        unroll = applications_a_turn(adjoint, len(alphas) - 2)
        total, _ = jax.lax.scan(step, total, alphas[1:-1], reverse=True, unroll=unroll)
    x_bar = total.at[rows].add(alphas[0] * wide).astype(dtype)
    return None, x_bar, by_alpha, None


_multiscale_rows.defvjp(_forward, _backward, symbolic_zeros=True)
