"""The leading singular vectors of an operator, found by applying it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from lightgcn_jax.arrays import Array, Float, NodeTable, PRNGKey
from lightgcn_jax.diffusion.operator import Operator, diffuse
from lightgcn_jax.diffusion.storage import exact_product
from lightgcn_jax.errors import InputError

# Squared singular values below this many units of rounding of the largest are taken for zero.
_NEGLIGIBLE = 16
# How much an accelerated iteration may raise the largest direction over what it holds down, and how
# many applications of M Mᵀ it may take. A larger growth drowns small directions in the rounding of
# the largest.
_GROWTH = 1e5
_MOST_STEPS = 8


class Svd(NamedTuple):
    """The leading singular triplets of a matrix of R rows and C columns.

    Attributes:
        left: ``float[R, r]``, orthonormal columns, zeros where the value is 0.
        values: ``float[r]``, non-negative, descending.
        right: ``float[C, r]``, orthonormal columns, zeros where the value is 0; the largest entry
            of each column, by magnitude, is positive, which settles the sign of the pair.
    """

    left: NodeTable
    values: Float[Array, " rank"]
    right: NodeTable


def truncated_svd(
    operator: Operator,
    key: PRNGKey,
    *,
    rank: int,
    oversampling: int = 16,
    iterations: int = 4,
    accelerated: bool = False,
    dtype: DTypeLike = jnp.float32,
    start: NodeTable | None = None,
) -> Svd:
    """The r largest singular values of M and their vectors, by randomised block iteration.

    A normal block of r + p columns is multiplied by (M Mᵀ)^q M, its columns made orthogonal after
    every application; M restricted to the span Q of the result is decomposed exactly (Halko,
    Martinsson and Tropp 2011, algorithms 4.4 and 5.1). So Mᵀ·left = right·values to rounding and no
    value exceeds the true one, whatever q; that they reach it takes iterations: direction j is off
    by about (σ_{r+p+1}/σ_j)^{2q+1}. With r + p ≥ min(R, C) the result is exact to rounding.

    Accelerated, an iteration multiplies by a Chebyshev polynomial of M Mᵀ in place of M Mᵀ itself:
    one that stays within ±1 up to the least squared value that the block holds, and grows fastest
    beyond (Zhou, Saad, Tiago and Chelikowsky 2006, section 3). It takes up to 8 applications of
    M Mᵀ, as many as the growth allows, and values that lie close together come apart in a few
    iterations: on Gowalla, 512 triplets, 3 of them find more than 12 others, in about the time.

    Values below 4√ε of the largest (ε the rounding of ``dtype``: 1.4e-3 in float32, 6e-8 in
    float64) are taken for zero, and their vectors are zeros, so that a matrix of lower rank than r
    gives no arbitrary directions.

    Work: 2q + 2 applications, accelerated up to 18q + 2, and O((R + C)(r + p)²) in each iteration
    to make columns orthogonal. Memory: about four tables of max(R, C) rows and r + p columns.

    Args:
        operator: R×C.
        key: seeds the block; the same key gives the same result on the same machine.
        rank: r, how many triplets.
        oversampling: p, columns beside r; fewer where min(R, C) leaves no room.
        iterations: q, how often the block is multiplied by M Mᵀ, or by a polynomial of it.
        accelerated: whether by a polynomial.
        dtype: type of the block and of the result.
        start: the block, for whoever lays tables out in a way of their own; by default
            :func:`starting_block` of the key.

    Returns:
        The triplets, largest first.

    Raises:
        InputError: the rank is outside [1, min(R, C)], or a count is negative.
    """
    most = min(operator.shape)
    if not 1 <= rank <= most:
        raise InputError(
            f"rank: expected 1 to {most} for an operator of shape {operator.shape}, got {rank}"
        )
    for field, count in (("oversampling", oversampling), ("iterations", iterations)):
        if count < 0:
            raise InputError(f"{field}: expected 0 or more, got {count}")
    if start is None:
        start = starting_block(key, operator.shape, rank, oversampling, dtype)
    return _truncated_svd(
        operator, start, rank, iterations, _chebyshev_step if accelerated else _power_step
    )


@functools.partial(jax.jit, static_argnames=("shape", "rank", "oversampling", "dtype"))
def starting_block(
    key: PRNGKey,
    shape: tuple[int, int],
    rank: int,
    oversampling: int = 16,
    dtype: DTypeLike = jnp.float32,
) -> NodeTable:
    """A normal block, with which :func:`truncated_svd` begins.

    Args:
        key: consumed.
        shape: R and C, of the matrix.
        rank: r.
        oversampling: p.
        dtype: its type.

    Returns:
        ``float[C, w]``, w = min(r + p, R, C).
    """
    return jax.random.normal(key, (shape[1], min(rank + oversampling, *shape)), dtype)


@functools.partial(jax.jit, static_argnames=("rank", "iterations", "refine"))
def _truncated_svd(
    operator: Operator,
    start: NodeTable,
    rank: int,
    iterations: int,
    refine: Callable[[Operator, NodeTable], NodeTable],
) -> Svd:
    adjoint, dtype = operator.transpose(), start.dtype
    block = diffuse(operator, start)
    block = jax.lax.fori_loop(0, iterations, lambda _, block: refine(operator, block), block)
    basis = _orthonormal(block)
    # M ≈ Q Qᵀ M = Q (Mᵀ Q)ᵀ with Mᵀ Q = P T, and only the small T is left to decompose.
    projected = diffuse(adjoint, basis)
    outer = _orthonormal(projected)
    inner_left, values, inner_right = jnp.linalg.svd(exact_product(outer.T, projected).T)
    values = values[:rank]
    present = values > math.sqrt(_NEGLIGIBLE * jnp.finfo(dtype).eps) * values[0]
    right = exact_product(outer, inner_right[:rank].T)
    signs = jnp.where(present[None, :], _signs(right), 0)
    left = exact_product(basis, inner_left[:, :rank])
    return Svd(left * signs, jnp.where(present, values, 0), right * signs)


def _power_step(operator: Operator, block: NodeTable) -> NodeTable:
    """M Mᵀ times the block, whose columns stay apart."""
    return diffuse(operator, _conditioned(diffuse(operator.transpose(), _conditioned(block))))


def _chebyshev_step(operator: Operator, block: NodeTable) -> NodeTable:
    """T_m(2 M Mᵀ/b − I) times approximate singular vectors, b the least of their squared values.

    Each column then grows by about its own factor, so that columns of length 1 again stay apart.
    """
    adjoint = operator.transpose()
    basis = _orthonormal(block)
    projected = diffuse(adjoint, basis)
    squares, vectors = jnp.linalg.eigh(exact_product(projected.T, projected))
    edge = jnp.maximum(squares[0], _NEGLIGIBLE * jnp.finfo(block.dtype).eps * squares[-1])
    edge = jnp.where(edge > 0, edge, 1)
    # T_m(x) is about e^(m·arcosh x)/2 beyond 1.
    rate = jnp.arccosh(jnp.maximum(2 * squares[-1] / edge - 1, 1))
    steps = jnp.clip(math.log(_GROWTH) / jnp.maximum(rate, 1e-3), 1, _MOST_STEPS).astype(int)

    def mapped(x: NodeTable) -> NodeTable:
        return (2 / edge) * diffuse(operator, diffuse(adjoint, x)) - x

    def step(_, pair):
        before, last = pair
        return last, 2 * mapped(last) - before

    basis = exact_product(basis, vectors)
    grown = jax.lax.fori_loop(1, steps, step, (basis, mapped(basis)))[1]
    lengths = jnp.linalg.norm(grown, axis=0, keepdims=True)
    return grown / jnp.where(lengths > 0, lengths, 1)


def _conditioned(block: NodeTable) -> NodeTable:
    """The block's span in columns of about length 1 and about orthogonal; 0 for what it lacks.

    By the eigenvectors of the small Gram matrix: three times faster than Householder's QR on two
    cores, matrix products nearly throughout, and nothing to go wrong where the block is singular.
    """
    squares, vectors = jnp.linalg.eigh(exact_product(block.T, block))
    present = squares > _NEGLIGIBLE * jnp.finfo(block.dtype).eps * squares[-1]
    scales = jnp.where(present, jax.lax.rsqrt(jnp.where(present, squares, 1)), 0)
    return exact_product(block, vectors * scales[None, :])


def _orthonormal(block: NodeTable) -> NodeTable:
    # The Gram matrix squares the block's condition number; once conditioned, that is about 1.
    return _conditioned(_conditioned(block))


def _signs(vectors: NodeTable) -> Float[Array, "1 rank"]:
    largest = jnp.argmax(jnp.abs(vectors), axis=0)[None, :]
    return jnp.where(jnp.take_along_axis(vectors, largest, axis=0) < 0, -1, 1).astype(vectors.dtype)
