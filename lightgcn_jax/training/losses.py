"""Losses for one user; the mini-batch is their ``jax.vmap``."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Float, Mask, Scalar, Vector, Vectors


def bpr_loss(
    user: Vector, positive: Vector, negatives: Float[Array, "negatives dim"], valid: Mask
) -> Scalar:
    """Bayesian personalised ranking of one user: the mean over valid negatives of
    −log σ(score(u, pos) − score(u, neg)), with inner products as scores.

    Args:
        user: ``float[D]``.
        positive: ``float[D]``.
        negatives: ``float[M, D]``.
        valid: ``bool[M]``; False for a negative that the user has seen.

    Returns:
        The mean over the valid negatives; 0 where there are none.

    References:
        Rendle et al. 2009, equation 4; He et al. 2020, equation 15.
    """
    margins = user @ positive - negatives @ user
    losses = jnp.where(valid, jax.nn.softplus(-margins), 0.0)
    return losses.sum() / jnp.maximum(valid.sum(), 1)


def bpr_batch_loss(
    users: Vectors,
    positives: Vectors,
    negatives: Array,
    valid: Mask,
    weights: Float[Array, " batch"],
) -> Scalar:
    """Weighted mean over the batch of :func:`bpr_loss` under ``jax.vmap``.

    Args:
        users: ``float[B, D]``.
        positives: ``float[B, D]``.
        negatives: ``float[M, D]``, shared by the batch, or ``float[B, n, D]``, one set a user.
        valid: ``bool[B, M]`` or ``bool[B, n]``.
        weights: ``float[B]``; 1 for a real row, 0 for padding. Rows without a valid negative
            have no loss and are left out of the mean as well.

    Returns:
        The mean over the rows that count; 0 where there are none.
    """
    shared = negatives.ndim == 2
    losses = jax.vmap(bpr_loss, in_axes=(0, 0, None if shared else 0, 0))(
        users, positives, negatives, valid
    )
    counted = weights * valid.any(axis=1)
    return (losses * counted).sum() / jnp.maximum(counted.sum(), 1.0)


def l2_penalty(
    users: Vectors, positives: Vectors, negatives: Array, weights: Float[Array, " batch"]
) -> Scalar:
    """½ (Σ‖e_u‖² + Σ‖e_pos‖² + Σ‖e_neg‖²) / B on the layer-0 embeddings of the batch.

    A user's negatives count together as one: n negatives a user are weighted 1/n each, M shared
    ones B/M each, so the penalty's size does not depend on how negatives are drawn.

    Args:
        users, positives: ``float[B, D]`` layer-0 embeddings.
        negatives: ``float[M, D]`` shared or ``float[B, n, D]``.
        weights: ``float[B]``; 0 for padding, which is left out of the sums and of B.
    """

    def squared(vectors: Array) -> Array:
        return jnp.square(vectors).sum(axis=-1)

    rows = jnp.maximum(weights.sum(), 1.0)
    own = (weights * (squared(users) + squared(positives))).sum() / rows
    if negatives.ndim == 2:
        return 0.5 * (own + squared(negatives).mean())
    return 0.5 * (own + (weights * squared(negatives).mean(axis=1)).sum() / rows)
