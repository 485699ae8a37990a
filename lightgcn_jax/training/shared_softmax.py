"""Softmax losses over negatives that a batch shares, where scores are inner products.

B rows and M negatives have B·M scores. A step that holds them, their exponentials and their
gradient spends its time on moving them. On a CPU they are made for a few rows at a time, which stay
near, and what is kept are the gradients by the B + M vectors.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeGuard, cast

import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Float, Mask, Scalar
from lightgcn_jax.diffusion.native import LogSumTerms, are_compiled, log_sums, on_platform
from lightgcn_jax.models.heads import Inner, Score
from lightgcn_jax.training.losses import BilateralSoftmax, Loss, Softmax


class SharedProducts(NamedTuple):
    """What scores of the negatives are: ⟨query_b, item_j⟩ + added_j.

    Attributes:
        queries: ``float[B, D]``.
        items: ``float[M, D]``.
        added: ``float[M]``.
    """

    queries: Float[Array, "batch dim"]
    items: Float[Array, "shared dim"]
    added: Float[Array, " shared"]


def has_kernel(score: Score, loss: Loss) -> TypeGuard[Inner]:
    """Whether :func:`shared_softmax` computes this loss of these scores, by a kernel on CPU.

    Args:
        score: of users and items.
        loss: of one row.
    """
    # A class that derives from one of these may compute anything.
    multiplies = isinstance(score, Inner) and type(score).__call__ is Inner.__call__
    return multiplies and type(loss) in (Softmax, BilateralSoftmax) and are_compiled()


def shared_softmax(
    loss: Loss,
    positives: Float[Array, " batch"],
    negatives: SharedProducts,
    valid: Mask,
    factors: Float[Array, " batch"],
    log_expected: Float[Array, " shared"] | None = None,
) -> Scalar:
    """Σ_b f_b ℓ_b, where ℓ_b is the loss of row b.

    Its gradient is made together with it, for reverse mode alone and once.

    Args:
        loss: a :class:`Softmax` or a :class:`BilateralSoftmax`.
        positives: ``float[B]``, scores.
        negatives: their scores.
        valid: ``bool[B, M]``; False for a negative that does not count for the row.
        factors: ``float[B]``, f; 0 for a row without a valid negative.
        log_expected: ``float[M]``, for a softmax that corrects for sampling.
    """
    loss = cast(Softmax | BilateralSoftmax, loss)
    positives, added = positives / loss.temperature, negatives.added / loss.temperature
    if isinstance(loss, Softmax):
        first, weight = positives, 1.0
        added = added if log_expected is None else added - log_expected
    else:
        first, weight = jnp.full_like(positives, -jnp.inf), loss.negative_weight
    terms = LogSumTerms(negatives.queries / loss.temperature, negatives.items, added, first)
    # In 64-bit mode offsets may be wider than vectors, and weights narrower.
    kind = jnp.result_type(*terms)
    terms, factors = jax.tree.map(lambda one: one.astype(kind), (terms, factors))
    return weight * weighted_log_sums(terms, valid, factors) - jnp.vdot(factors, positives)


@jax.custom_vjp
def weighted_log_sums(terms: LogSumTerms, valid: Mask, factors: Float[Array, " batch"]) -> Scalar:
    """Σ_b f_b log(exp(first_b) + Σ_j exp(⟨query_b, item_j⟩ + added_j)) over the valid j of row b; a
    row without a term adds nothing.

    Args:
        terms: queries, items, added and first.
        valid: ``bool[B, M]``.
        factors: ``float[B]``, f.
    """
    return _forward(terms, valid, factors)[0]


def _forward(terms: LogSumTerms, valid: Mask, factors: Array) -> tuple[Scalar, Any]:
    sums, slopes = on_platform(log_sums, _log_sums)(terms, valid, factors)
    return jnp.vdot(factors, sums), (slopes, sums)


def _backward(kept: Any, cotangent: Scalar) -> tuple[LogSumTerms, None, Array]:
    slopes, sums = jax.tree.map(lambda leaf: cotangent * leaf, kept)
    return slopes, None, sums


weighted_log_sums.defvjp(_forward, _backward)


def _log_sums(terms: LogSumTerms, valid: Mask, factors: Array) -> tuple[Array, LogSumTerms]:
    """As the kernel, by operations of XLA."""

    def sums_of(terms: LogSumTerms) -> Array:
        scores = terms.queries @ terms.items.T + terms.added[None]
        counted = jnp.where(valid, scores, -jnp.inf)
        every = jnp.concatenate([terms.first[:, None], counted], axis=1)
        # The logarithm of an empty sum has no gradient: a row without a term takes another.
        empty = (every == -jnp.inf).all(axis=1, keepdims=True)
        return jax.nn.logsumexp(jnp.where(empty, -jnp.log(every.shape[1]), every), axis=1)

    sums, transposed = jax.vjp(sums_of, terms)
    return sums, transposed(factors)[0]
