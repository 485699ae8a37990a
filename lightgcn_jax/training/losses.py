"""Losses on scores: each of one row, and of a mini-batch as their ``jax.vmap``.

A row is the score of one positive and the scores of M negatives, from any score function: inner
product, cosine, a network. Every loss has the signature ``loss(positive, negatives, valid)``, with
an optional fourth argument ``log_expected``. BPR and softmax see differences of a row's scores, so
adding a constant to a user's scores changes nothing; the binary loss sees the scores themselves.

The functions are the mathematics; the classes are the same with their settings, and what a run
takes: ``BPR()``, ``Binary()``, ``Softmax(temperature=0.12)``, ``MaxMargin(margin=0.1)``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Float, Mask, Scalar, Vectors
from lightgcn_jax.fields import POSITIVE, SWITCH, Checked, at_least, setting

Scores = Float[Array, " negatives"]
BatchScores = Float[Array, "batch negatives"]

Loss = Callable[..., Scalar]
"""``loss(positive, negatives, valid)``; with ``log_expected`` as a fourth argument where the loss
has an attribute ``sampling_correction`` that is true."""


def _mean(values: Array, valid: Mask) -> Scalar:
    """The mean over the valid values; 0 where there are none."""
    return jnp.where(valid, values, 0.0).sum() / jnp.maximum(valid.sum(), 1)


def bpr_loss(
    positive: Scalar, negatives: Scores, valid: Mask, log_expected: Scores | None = None
) -> Scalar:
    """Bayesian personalised ranking: the mean over valid negatives of −log σ(p − n).

    Args:
        positive: ``float[]``, p.
        negatives: ``float[M]``, n.
        valid: ``bool[M]``; False for a negative that does not count for the row.
        log_expected: not used; a mean over the draws stands for the law they come from.

    Returns:
        The mean over the valid negatives; 0 where there are none.

    Example:
        >>> valid = jnp.array([True, True])
        >>> float(bpr_loss(jnp.array(1.0), jnp.array([1.0, 1.0]), valid))  # log 2
        0.6931471824645996

    References:
        Rendle et al. 2009, equation 4; He et al. 2020, equation 15.
    """
    del log_expected
    return _mean(jax.nn.softplus(negatives - positive), valid)


def binary_loss(
    positive: Scalar, negatives: Scores, valid: Mask, log_expected: Scores | None = None
) -> Scalar:
    """Negative log-likelihood of edges: −log σ(p), plus the mean over valid of −log σ(−n).

    Both sides are means, so a positive weighs as much as all its negatives together. Scores are
    compared between users: a user whose scores are all high is punished, however they are ranked.

    Args:
        positive: ``float[]``, p.
        negatives: ``float[M]``, n.
        valid: ``bool[M]``; False for a negative that does not count for the row.
        log_expected: not used; a mean over the draws stands for the law they come from.

    Example:
        >>> valid = jnp.array([True, False])
        >>> float(binary_loss(jnp.array(0.0), jnp.array([0.0, 9.0]), valid))  # 2 log 2
        1.3862943649291992
    """
    del log_expected
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

    Example:
        >>> valid = jnp.array([True, True])
        >>> float(softmax_loss(jnp.array(0.0), jnp.array([0.0, 0.0]), valid))  # log 3
        1.0986123085021973

    References:
        Bengio and Senécal 2008 (importance sampling); Yi et al. 2019 (the logQ correction); Wu et
        al. 2022, "On the effectiveness of sampled softmax loss for item recommendation".
    """
    if log_expected is not None:
        negatives = negatives - log_expected
    terms = jnp.where(valid, negatives - positive, -jnp.inf)
    return jax.nn.logsumexp(jnp.concatenate([jnp.zeros_like(terms, shape=1), terms]))


def max_margin_loss(
    positive: Scalar,
    negatives: Scores,
    valid: Mask,
    log_expected: Scores | None = None,
    *,
    margin: Scalar | float,
) -> Scalar:
    """Hinge: the mean over valid negatives of max(0, n − p + margin).

    The mean estimates PinSAGE's expectation over its law of negatives, with the draws of the row
    in the law's place. The margin is a distance between scores, so scores keep their own scale:
    they are not divided by a temperature.

    Args:
        positive: ``float[]``, p.
        negatives: ``float[M]``, n.
        valid: ``bool[M]``; False for a negative that does not count for the row.
        log_expected: not used; a mean over the draws stands for the law they come from.
        margin: Δ, how far a positive must score above a negative to cost nothing.

    Example:
        >>> valid = jnp.array([True, True])
        >>> float(max_margin_loss(jnp.array(1.0), jnp.array([0.5, 2.0]), valid, margin=0.5))
        0.75

    References:
        Ying et al. 2018 (PinSAGE), equation 1.
    """
    del log_expected
    return _mean(jax.nn.relu(negatives - positive + margin), valid)


@dataclasses.dataclass(frozen=True)
class _WithTemperature(Checked):
    temperature: float = setting(1.0, POSITIVE)

    _function: ClassVar[Loss]

    def __call__(
        self, positive: Scalar, negatives: Scores, valid: Mask, log_expected: Scores | None = None
    ) -> Scalar:
        """The loss of one row.

        Args:
            positive: ``float[]``.
            negatives: ``float[M]``.
            valid: ``bool[M]``; False for a negative that does not count for the row.
            log_expected: ``float[M]``, for a softmax that corrects for sampling; else not used.
        """
        positive, negatives = positive / self.temperature, negatives / self.temperature
        return type(self)._function(positive, negatives, valid, log_expected)


@dataclasses.dataclass(frozen=True)
class BPR(_WithTemperature):
    """:func:`bpr_loss` of scores divided by a temperature.

    Attributes:
        temperature: what scores are divided by.

    Example:
        >>> float(BPR(temperature=2.0)(jnp.array(2.0), jnp.array([2.0]), jnp.array([True])))
        0.6931471824645996
    """

    _function = staticmethod(bpr_loss)


@dataclasses.dataclass(frozen=True)
class Binary(_WithTemperature):
    """:func:`binary_loss` of scores divided by a temperature.

    Attributes:
        temperature: what scores are divided by.

    Example:
        >>> float(Binary()(jnp.array(0.0), jnp.array([0.0]), jnp.array([True])))  # 2 log 2
        1.3862943649291992
    """

    _function = staticmethod(binary_loss)


@dataclasses.dataclass(frozen=True)
class Softmax(_WithTemperature):
    """:func:`softmax_loss` of scores divided by a temperature.

    Attributes:
        temperature: what scores are divided by.
        sampling_correction: weigh the negatives by how likely they were drawn, so that they stand
            for all items.

    Example:
        >>> float(Softmax(temperature=0.5)(jnp.array(1.0), jnp.array([1.0]), jnp.array([True])))
        0.6931471824645996
    """

    sampling_correction: bool = setting(False, SWITCH)

    _function = staticmethod(softmax_loss)


@dataclasses.dataclass(frozen=True)
class MaxMargin(Checked):
    """:func:`max_margin_loss` with its margin.

    Attributes:
        margin: how far a positive must score above a negative to cost nothing.

    Example:
        >>> float(MaxMargin(margin=0.5)(jnp.array(1.0), jnp.array([0.75]), jnp.array([True])))
        0.25
    """

    margin: float = setting(1.0, at_least(0))

    def __call__(
        self, positive: Scalar, negatives: Scores, valid: Mask, log_expected: Scores | None = None
    ) -> Scalar:
        """The loss of one row.

        Args:
            positive: ``float[]``.
            negatives: ``float[M]``.
            valid: ``bool[M]``; False for a negative that does not count for the row.
            log_expected: not used.
        """
        return max_margin_loss(positive, negatives, valid, log_expected, margin=self.margin)


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
        loss: the loss of one row, for instance ``MaxMargin(margin=0.1)``.
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
