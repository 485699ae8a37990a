"""What the loss of a mini-batch is made of: a mean over rows, hard negatives, the L2 penalty."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Float, Mask, Scalar, Vectors
from lightgcn_jax.training.losses import BatchScores, Loss, bpr_loss, mean_of_valid


def row_factors(
    valid: Mask,
    weights: Float[Array, " batch"],
    importance: Float[Array, " batch"] | None = None,
    total_of: Callable[[Scalar], Scalar] | None = None,
) -> Float[Array, " batch"]:
    """What the loss of each row of a batch is multiplied by: c_b f_b / Σ_b c_b, where c_b is 1 for
    a row that counts and 0 for another, and f_b its importance.

    With f_b = w_b / w̄, w̄ the mean weight of all training interactions, the sum over an epoch in
    which each interaction stands once is that of Σ w ℓ / Σ w: the loss weighs its terms, the law of
    the rows stays as it is. Drawing rows in proportion to w instead would leave light interactions
    out of many epochs, and change what in-batch negatives and expected counts rest on.

    Args:
        valid: ``bool[B, M]``.
        weights: ``float[B]``; 1 for a real row, 0 for padding. Rows without a valid negative
            have nothing to rank and are left out as well.
        importance: ``float[B]``, f; None for ones.
        total_of: makes of Σ_b c_b that of a whole batch, of which these rows are one device's; None
            where they are all.

    Returns:
        ``float[B]``; zeros where no row counts.
    """
    counted = weights * valid.any(axis=1)
    total = counted.sum() if total_of is None else total_of(counted.sum())
    factors = counted / jnp.where(total > 0, total, 1.0)
    return factors if importance is None else factors * importance


def batch_mean(
    loss: Loss,
    positives: Float[Array, " batch"],
    negatives: BatchScores,
    valid: Mask,
    weights: Float[Array, " batch"],
    log_expected: Float[Array, "..."] | None = None,
    importance: Float[Array, " batch"] | None = None,
    total_of: Callable[[Scalar], Scalar] | None = None,
) -> Scalar:
    """Mean over the rows of a batch of ``jax.vmap(loss)``, weighed by :func:`row_factors`.

    Args:
        loss: the loss of one row, for instance ``MaxMargin(margin=0.1)``.
        positives: ``float[B]``.
        negatives: ``float[B, M]``.
        valid: ``bool[B, M]``.
        weights: ``float[B]``; 1 for a real row, 0 for padding.
        log_expected: ``float[M]``, the same for all rows, or ``float[B, M]``; only for a loss that
            takes it.
        importance: ``float[B]``; None for ones.
        total_of: as :func:`row_factors` takes it.

    Returns:
        The mean over the rows that count, or these rows' part of it; 0 where there are none.
    """
    if log_expected is None:
        losses = jax.vmap(loss)(positives, negatives, valid)
    else:
        axis = 0 if log_expected.ndim == 2 else None
        losses = jax.vmap(loss, in_axes=(0, 0, 0, axis))(positives, negatives, valid, log_expected)
    return (losses * row_factors(valid, weights, importance, total_of)).sum()


def bpr_all_pairs_loss(scores: Float[Array, "users items"], interactions: Mask) -> Scalar:
    """BPR without sampling: for each user the mean over all pairs of a seen and an unseen item of
    −log σ(score(seen) − score(unseen)), and of that the mean over users.

    What sampled BPR estimates where users, their positives and their unseen items are uniform.
    O(U·I²) work and memory: for small data.

    Args:
        scores: ``float[U, I]``.
        interactions: ``bool[U, I]``.

    Returns:
        The mean over the users that have both a seen and an unseen item; 0 where there are none.
    """

    def of_user(scores: Array, seen: Mask) -> Scalar:
        of_positives = jax.vmap(bpr_loss, in_axes=(0, None, None))(scores, scores, ~seen)
        return mean_of_valid(of_positives, seen)

    has_both = interactions.any(axis=1) & ~interactions.all(axis=1)
    return mean_of_valid(jax.vmap(of_user)(scores, interactions), has_both)


def hardest(negatives: BatchScores, valid: Mask, count: int) -> tuple[BatchScores, Mask]:
    """Hard negatives: of each row's pool, the valid negatives that score highest now.

    The choice is a constant to the gradient, which flows through the chosen scores. No correction
    for sampling goes with it: what is chosen depends on the scores, not on a law of draws.

    Args:
        negatives: ``float[B, P]``, scores of the pool.
        valid: ``bool[B, P]``.
        count: how many to keep, at most P.

    Returns:
        ``float[B, count]`` scores in descending order and ``bool[B, count]``, False where the row
        has fewer valid negatives.
    """
    known = jax.lax.stop_gradient(jnp.where(valid, negatives, -jnp.inf))
    _, places = jax.lax.top_k(known, count)
    take = jnp.take_along_axis
    return take(negatives, places, axis=1), take(valid, places, axis=1)


def l2_penalty(
    users: Vectors,
    positives: Vectors,
    negatives: Array,
    weights: Float[Array, " batch"],
    negative_weights: Float[Array, " negatives"] | None = None,
) -> Scalar:
    """½ (Σ‖e_u‖² + Σ‖e_pos‖² + Σ‖e_neg‖²) / B on the layer-0 embeddings of the batch.

    A user's negatives count together as one: n negatives a user are weighted 1/n each, M shared
    ones B/M each, so the penalty's size does not depend on how negatives are drawn.

    Args:
        users, positives: ``float[B, D]`` layer-0 embeddings.
        negatives: ``float[M, D]`` shared or ``float[B, n, D]``.
        weights: ``float[B]``; 0 for padding, which is left out of the sums and of B.
        negative_weights: ``float[M]``; 0 for shared negatives that are padding, which are left out
            of their sum and of M. None where none are.
    """

    def squared(vectors: Array) -> Array:
        return jnp.square(vectors).sum(axis=-1)

    rows = jnp.maximum(weights.sum(), 1.0)
    own = (weights * (squared(users) + squared(positives))).sum() / rows
    if negative_weights is not None:
        counted = jnp.maximum(negative_weights.sum(), 1.0)
        return 0.5 * (own + (negative_weights * squared(negatives)).sum() / counted)
    if negatives.ndim == 2:
        return 0.5 * (own + squared(negatives).mean())
    return 0.5 * (own + (weights * squared(negatives).mean(axis=1)).sum() / rows)
