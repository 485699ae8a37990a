"""Losses on scores, each of one row; :mod:`lightgcn_jax.training.batch_terms` has those of a batch.

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

from lightgcn_jax.arrays import Array, Float, Mask, Scalar
from lightgcn_jax.fields import POSITIVE, SWITCH, Checked, at_least, setting

Scores = Float[Array, " negatives"]
BatchScores = Float[Array, "batch negatives"]

Loss = Callable[..., Scalar]
"""``loss(positive, negatives, valid)``; with ``log_expected`` as a fourth argument where the loss
has an attribute ``sampling_correction`` that is true."""


def mean_of_valid(values: Array, valid: Mask) -> Scalar:
    """The mean over the valid values; 0 where there are none.

    Args:
        values: ``float[M]``.
        valid: ``bool[M]``.
    """
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
    return mean_of_valid(jax.nn.softplus(negatives - positive), valid)


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
    return jax.nn.softplus(-positive) + mean_of_valid(jax.nn.softplus(negatives), valid)


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


def bilateral_softmax_loss(
    positive: Scalar,
    negatives: Scores,
    valid: Mask,
    log_expected: Scores | None = None,
    *,
    negative_weight: Scalar | float = 1.0,
) -> Scalar:
    """Softmax whose two sides weigh differently: −p + w log Σ exp(n_j) over valid j.

    The positive is no part of the sum. A weight below 1 lets the hardest negatives, among which are
    items that the user would like, push less.

    Args:
        positive: ``float[]``, p.
        negatives: ``float[M]``, n.
        valid: ``bool[M]``; False for a negative that does not count for the row.
        log_expected: not used.
        negative_weight: w, the ratio of the temperatures of both sides.

    Returns:
        The loss; 0 where no negative is valid.

    Example:
        >>> valid = jnp.array([True, True])
        >>> loss = bilateral_softmax_loss(jnp.array(1.0), jnp.zeros(2), valid, negative_weight=2.0)
        >>> float(loss)  # 2 log 2 − 1
        0.3862943649291992

    References:
        Wu et al. 2024, "BSL: Understanding and improving softmax loss for recommendation",
        equation 15, as its code has it.
    """
    del log_expected
    counts = valid.any()
    # The logarithm of an empty sum has no gradient: a row without negatives takes another.
    total = jax.nn.logsumexp(jnp.where(valid | ~counts, negatives, -jnp.inf))
    return jnp.where(counts, negative_weight * total - positive, 0.0)


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
    return mean_of_valid(jax.nn.relu(negatives - positive + margin), valid)


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
        return type(self)._function(positive, negatives, valid, log_expected, **self._more)

    @property
    def _more(self) -> dict[str, float]:
        """What the function takes beside scores."""
        return {}


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
class BilateralSoftmax(_WithTemperature):
    """:func:`bilateral_softmax_loss` of scores divided by a temperature.

    Attributes:
        temperature: what scores are divided by.
        negative_weight: how much the negatives' side weighs beside the positive's.

    Example:
        >>> loss = BilateralSoftmax(temperature=0.5, negative_weight=0.5)
        >>> float(loss(jnp.array(1.0), jnp.array([1.0]), jnp.array([True])))
        -1.0
    """

    negative_weight: float = setting(1.0, POSITIVE)

    _function = staticmethod(bilateral_softmax_loss)

    @property
    def _more(self) -> dict[str, float]:
        return {"negative_weight": self.negative_weight}


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
