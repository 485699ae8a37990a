"""Losses on scores: one row's loss each, and the mini-batch as their ``jax.vmap``.

A row is the score of one positive and the scores of M negatives, from any score function: inner
product, cosine, a network. A temperature τ is the caller's: divide the scores by it. BPR and
softmax see differences of a row's scores alone, so adding a constant to a user's scores changes
nothing; the binary loss sees the scores themselves.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Float, Mask, Scalar, Vectors

Scores = Float[Array, " negatives"]
BatchScores = Float[Array, "batch negatives"]

Loss = Callable[..., Scalar]
"""``loss(positive, negatives, valid)``, or with ``log_expected`` as a fourth argument."""


def _mean(values: Array, valid: Mask) -> Scalar:
    """The mean over the valid values; 0 where there are none."""
    return jnp.where(valid, values, 0.0).sum() / jnp.maximum(valid.sum(), 1)


def bpr_loss(positive: Scalar, negatives: Scores, valid: Mask) -> Scalar:
    """Bayesian personalised ranking: the mean over valid negatives of −log σ(p − n).

    Args:
        positive: ``float[]``, p.
        negatives: ``float[M]``, n.
        valid: ``bool[M]``; False for a negative that does not count for the row.

    Returns:
        The mean over the valid negatives; 0 where there are none.

    References:
        Rendle et al. 2009, equation 4; He et al. 2020, equation 15.
    """
    return _mean(jax.nn.softplus(negatives - positive), valid)


def binary_loss(positive: Scalar, negatives: Scores, valid: Mask) -> Scalar:
    """Negative log-likelihood of edges: −log σ(p), plus the mean over valid of −log σ(−n).

    Both sides are means, so a positive weighs as much as all its negatives together. Scores are
    compared between users: a user whose scores are all high is punished, however they are ranked.

    Args:
        positive: ``float[]``, p.
        negatives: ``float[M]``, n.
        valid: ``bool[M]``; False for a negative that does not count for the row.
    """
    return jax.nn.softplus(-positive) + _mean(jax.nn.softplus(negatives), valid)


def softmax_loss(
    positive: Scalar, negatives: Scores, valid: Mask, log_expected: Scores | None = None
) -> Scalar:
    """Softmax over the positive and the negatives, corrected for how the negatives were drawn.

    −log(exp p / (exp p + Σ exp(n_j − log_expected_j))) over valid j, which is
    log(1 + Σ exp(n_j − log_expected_j − p)). Where item i is expected exp(log_expected_i) times
    among the M draws, the sum is an unbiased estimate of Σ exp(n_i) over the items that can be
    drawn and are valid; the loss, its logarithm, is consistent as M grows. All items as negatives
    and no ``log_expected`` give the full softmax over the positive and the valid items.

    Args:
        positive: ``float[]``, p.
        negatives: ``float[M]``, n.
        valid: ``bool[M]``; False for a negative that does not count for the row.
        log_expected: ``float[M]``, log(M q_j) for M draws from the law q; None for zeros, which
            leaves each negative its weight of 1.

    Returns:
        The loss; 0 where no negative is valid.

    References:
        Bengio and Senécal 2008 (importance sampling); Yi et al. 2019 (the logQ correction); Wu et
        al. 2022, "On the effectiveness of sampled softmax loss for item recommendation".
    """
    if log_expected is not None:
        negatives = negatives - log_expected
    terms = jnp.where(valid, negatives - positive, -jnp.inf)
    return jax.nn.logsumexp(jnp.concatenate([jnp.zeros_like(terms, shape=1), terms]))


def max_margin_loss(
    positive: Scalar, negatives: Scores, valid: Mask, margin: Scalar | float
) -> Scalar:
    """Hinge: the mean over valid negatives of max(0, n − p + margin).

    The mean estimates PinSAGE's expectation over its law of negatives, with the draws of the row
    in the law's place. The margin is a distance between scores, so scores keep their own scale:
    they are not divided by a temperature.

    Args:
        positive: ``float[]``, p.
        negatives: ``float[M]``, n.
        valid: ``bool[M]``; False for a negative that does not count for the row.
        margin: Δ, how far a positive must score above a negative to cost nothing.

    References:
        Ying et al. 2018 (PinSAGE), equation 1.
    """
    return _mean(jax.nn.relu(negatives - positive + margin), valid)


def batch_mean(
    loss: Loss,
    positives: Float[Array, " batch"],
    negatives: BatchScores,
    valid: Mask,
    weights: Float[Array, " batch"],
    log_expected: Float[Array, "..."] | None = None,
) -> Scalar:
    """Weighted mean over the rows of a batch of ``jax.vmap(loss)``.

    Args:
        loss: one row's loss, its settings bound: ``partial(max_margin_loss, margin=0.1)``.
        positives: ``float[B]``.
        negatives: ``float[B, M]``.
        valid: ``bool[B, M]``.
        weights: ``float[B]``; 1 for a real row, 0 for padding. Rows without a valid negative
            have nothing to rank and are left out of the mean as well.
        log_expected: ``float[M]``, the same for all rows, or ``float[B, M]``; only for a loss that
            takes it.

    Returns:
        The mean over the rows that count; 0 where there are none.
    """
    if log_expected is None:
        losses = jax.vmap(loss)(positives, negatives, valid)
    else:
        axis = 0 if log_expected.ndim == 2 else None
        losses = jax.vmap(loss, in_axes=(0, 0, 0, axis))(positives, negatives, valid, log_expected)
    counted = weights * valid.any(axis=1)
    total = counted.sum()
    return (losses * counted).sum() / jnp.where(total > 0, total, 1.0)


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
        return _mean(of_positives, seen)

    has_both = interactions.any(axis=1) & ~interactions.all(axis=1)
    return _mean(jax.vmap(of_user)(scores, interactions), has_both)


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
