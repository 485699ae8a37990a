"""A few rows of the diffused table, as a mini-batch reads them.

The sum over scales is formed at those rows alone. The last application of Ã, and the first of the
backward pass, need only the edges at those rows. Picking edges costs more an edge than the native
kernel does on all of them: see :func:`restriction_of`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from lightgcn_jax.arrays import Array, Float, Ids, NodeTable, Vectors
from lightgcn_jax.diffusion.jax_sparse import CsrStorage
from lightgcn_jax.diffusion.multiscale import layer_weights
from lightgcn_jax.diffusion.operator import Operator, constant_operator, diffuse, refuse_gradient
from lightgcn_jax.diffusion.storage import accumulator

# An application is restricted where there is room for at most this share of the entries: a little
# below the share at which both take the same time on Gowalla, D = 64, two cores, co-clustered nodes
# (40 % and 12 %, `python -m benchmarks less_work`). The transposed one adds by a scatter.
FORWARD_SHARE = 1 / 3
BACKWARD_SHARE = 1 / 12
# Room above the expected entries of a batch; a batch with more takes the full application.
_HEADROOM = 1.25


@flax.struct.dataclass
class Restriction:
    """Which applications pick their entries: a pytree without leaves, all of it static.

    Attributes:
        capacity: entries that are picked at most.
        backward: not only the last application but the first one of the backward pass too.
    """

    capacity: int = flax.struct.field(pytree_node=False)
    backward: bool = flax.struct.field(pytree_node=False)


def restriction_of(operator: Operator, expected_entries: float) -> Restriction | None:
    """The rule: restrict an application where it reads few enough of the entries.

    Args:
        operator: of the training graph.
        expected_entries: of the rows of a batch.

    Returns:
        None where neither application gains, or where the storage is not ``csr``: the others have
        no rows to pick from.
    """
    if not isinstance(operator.storage, CsrStorage):
        return None
    capacity = math.ceil(_HEADROOM * expected_entries)
    share = capacity / max(1, len(operator.storage.columns))
    return Restriction(capacity, share <= BACKWARD_SHARE) if share <= FORWARD_SHARE else None


def multiscale_rows(
    operator: Operator,
    x: NodeTable,
    alphas: ArrayLike | Sequence[float],
    rows: Ids,
    restriction: Restriction | None = None,
) -> Vectors:
    """(sum_k alpha_k Ã^k x)[rows]: :func:`multiscale` where a few rows are read.

    The backward pass is Horner's scheme, Ãᵀ(… Ãᵀ(alpha_K g) + alpha_{K-1} g …) + alpha_0 g, with g
    the cotangent spread over the N rows: it touches only the rows of g beside its K applications.

    Args:
        operator: N×N.
        x: ``float[N, D]``.
        alphas: ``float[K + 1]``.
        rows: ``int32[Q]``, nodes, some perhaps twice.
        restriction: static, from :func:`restriction_of`.

    Returns:
        ``float[Q, D]`` in the type of x.
    """
    alphas, rows = layer_weights(operator, x, alphas), jnp.asarray(rows)
    return _multiscale_rows(restriction if rows.size else None, operator, x, alphas, rows)


@jax.custom_vjp
def _multiscale_rows(restriction, operator, x, alphas, rows):
    scales = _scales(restriction, operator, x, len(alphas), rows)
    return jnp.tensordot(alphas, scales, 1).astype(x.dtype)


def _scales(
    restriction: Restriction | None, operator: Operator, x: NodeTable, count: int, rows: Ids
) -> Float[Array, "scales rows dim"]:
    """(Ã^k x)[rows] for k = 0 … count − 1, in the type that sums run in."""
    if operator.order is not None:
        x, rows = operator.order.enter(x), operator.order.places[rows]
        operator = operator.inside()

    def step(power, _):
        power = diffuse(operator, power)
        return power, power[rows]

    power, scales = jax.lax.scan(step, x, length=max(0, count - 2))
    scales = [x[rows][None], scales]
    if count > 1:
        scales.append(_last(restriction, operator, power, rows)[None])
    return jnp.concatenate(scales).astype(accumulator(x.dtype))


def _last(restriction: Restriction | None, operator: Operator, x: NodeTable, rows: Ids) -> Vectors:
    """(Ã x)[rows]."""

    def full(x):
        return diffuse(operator, x)[rows]

    if restriction is None:
        return full(x)
    storage, capacity = cast(CsrStorage, operator.storage), restriction.capacity
    return jax.lax.cond(
        _fits(storage, rows, capacity),
        lambda x: multiply_rows(storage, x, rows, capacity),
        full,
        x,
    )


def _first_transposed(
    restriction: Restriction | None, operator: Operator, y: Vectors, rows: Ids, dtype: DTypeLike
) -> NodeTable:
    """Ãᵀ applied, to tables of ``dtype``, to y spread over the rows; in the type of y."""

    def full(y):
        spread = jnp.zeros((operator.shape[0], y.shape[1]), y.dtype).at[rows].add(y)
        return diffuse(operator.transpose(), spread.astype(dtype)).astype(y.dtype)

    if restriction is None or not restriction.backward:
        return full(y)
    storage, capacity = cast(CsrStorage, operator.storage), restriction.capacity
    return jax.lax.cond(
        _fits(storage, rows, capacity),
        lambda y: multiply_rows_transposed(storage, y, rows, capacity),
        full,
        y,
    )


@flax.struct.dataclass
class _Residual:
    """What the backward pass keeps; ``scales`` only where the gradient of alphas is wanted."""

    restriction: Restriction | None
    operator: Operator
    alphas: Float[Array, " scales"]
    rows: Ids
    scales: Float[Array, "scales rows dim"] | None
    differentiated: bool = flax.struct.field(pytree_node=False)


def _forward(restriction, operator, x, alphas, rows):
    operator, differentiated = constant_operator(operator)
    scales = None
    if alphas.perturbed:
        scales = _scales(restriction, operator, x.value, len(alphas.value), rows.value)
        y = jnp.tensordot(alphas.value, scales, 1).astype(x.value.dtype)
    else:
        y = _multiscale_rows(restriction, operator, x.value, alphas.value, rows.value)
    return y, _Residual(restriction, operator, alphas.value, rows.value, scales, differentiated)


def _backward(residual, cotangent):
    if residual.differentiated:
        refuse_gradient()
    if isinstance(cotangent, jax.custom_derivatives.SymbolicZero):
        return None, None, None, None, None
    operator, alphas, rows = residual.operator, residual.alphas, residual.rows
    by_alpha = None
    if residual.scales is not None:
        by_alpha = jnp.tensordot(residual.scales, cotangent.astype(alphas.dtype), 2)
    order = operator.order
    if order is not None:
        operator, rows = operator.inside(), order.places[rows]

    # A row that is read often gets many cotangents: they too add up in the type of sums.
    dtype, wide = cotangent.dtype, cotangent.astype(alphas.dtype)

    def step(total, alpha):
        spread = total.at[rows].add(alpha * wide).astype(dtype)
        return diffuse(operator.transpose(), spread).astype(wide.dtype), None

    if len(alphas) == 1:
        total = jnp.zeros((operator.shape[1], wide.shape[1]), wide.dtype)
    else:
        last = alphas[-1] * wide
        total = _first_transposed(residual.restriction, operator, last, rows, dtype)
        total, _ = jax.lax.scan(step, total, alphas[1:-1], reverse=True)
    x_bar = total.at[rows].add(alphas[0] * wide).astype(dtype)
    return None, None, x_bar if order is None else order.leave(x_bar), by_alpha, None


_multiscale_rows.defvjp(_forward, _backward, symbolic_zeros=True)


def picked_entries(storage: CsrStorage, rows: Ids) -> Array:
    """How many entries the rows have, ``int32[]``; a row asked for twice counts twice."""
    return (storage.offsets[rows + 1] - storage.offsets[rows]).sum()


def _fits(storage: CsrStorage, rows: Ids, capacity: int) -> Array:
    lengths = storage.offsets[rows + 1] - storage.offsets[rows]
    # Past 2^31 the whole number wraps around; the rounded one is never far from it before that.
    return (lengths.sum() <= capacity) & (lengths.astype(jnp.float32).sum() < 2.0**30)


def _pick(storage: CsrStorage, rows: Ids, capacity: int) -> tuple[CsrStorage, Ids]:
    """The rows as a matrix of their own, and the row of each of its entries.

    Entries past the last have weight 0 and stand in no row.
    """
    starts = storage.offsets[rows]
    lengths = storage.offsets[rows + 1] - starts
    ends = jnp.cumsum(lengths)
    slots = jnp.repeat(
        jnp.arange(len(rows), dtype=jnp.int32), lengths, total_repeat_length=capacity
    )
    places = jnp.arange(capacity, dtype=jnp.int32)
    entries = places + (starts - (ends - lengths))[slots]
    inside = places < ends[-1]
    picked = CsrStorage(
        offsets=jnp.concatenate([jnp.zeros(1, jnp.int32), ends.astype(jnp.int32)]),
        columns=storage.columns.at[entries].get(mode="clip"),
        weights=jnp.where(inside, storage.weights.at[entries].get(mode="clip"), 0),
        shape=(len(rows), storage.shape[1]),
    )
    return picked, slots


def multiply_rows(storage: CsrStorage, x: NodeTable, rows: Ids, capacity: int) -> Vectors:
    """(M x)[rows] from the entries of those rows alone.

    Args:
        storage: M, R×C.
        x: ``float[C, D]``.
        rows: ``int32[Q]``, row ids, some perhaps twice.
        capacity: entries that the rows have at most, static; with more the result is wrong, so
            compare :func:`picked_entries` first.

    Returns:
        ``float[Q, D]`` in the type of x.
    """
    return _pick(storage, rows, capacity)[0].multiply(x)


def multiply_rows_transposed(
    storage: CsrStorage, y: Vectors, rows: Ids, capacity: int
) -> NodeTable:
    """M[rows]ᵀ y from the entries of those rows alone, ``float[C, D]``; else as above.

    Holds one message an entry, ``[capacity, D]``, and adds them by a scatter.
    """
    kind = accumulator(y.dtype)
    picked, slots = _pick(storage, rows, capacity)
    messages = y[slots].astype(kind) * picked.weights.astype(kind)[:, None]
    total = jnp.zeros((storage.shape[1], y.shape[1]), kind)
    return total.at[picked.columns].add(messages).astype(y.dtype)
