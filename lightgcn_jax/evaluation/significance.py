"""Whether one ranking is better than another on the same users, or by chance.

All tests are paired: they look at a user's difference of two values of a metric, so that how hard
a user is plays no part. The permutation test asks how often a mean difference as large comes about
when each user's difference has a random sign: it assumes nothing but that without a true difference
either sign is as likely, and it is exact for any number of users. Student's t-test assumes that the
mean of the differences is about normal, which a few users cannot show. The interval is a
bootstrap's: with few users it is a rough one.

Smucker, Allan and Carterette 2007 find the tests in agreement on rankings of many queries. Where
several rankings are compared, Holm's procedure keeps the probability of any false finding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy  # which imports stats where it is asked for: a fifth of a command's start

from lightgcn_jax.errors import InputError

RESAMPLES = 9_999
"""Most signs that the permutation test tries, and resamples of the bootstrap."""
FEW_USERS = 20
"""Below so many users a comparison finds large differences only, and its interval is rough."""
# Above so many users the bias correction, whose cost is quadratic, is left out, for the shift that
# it makes falls with the root of the users; fewer resamples give the ends as precisely as needed.
_MANY_USERS = 1_000
_MANY_RESAMPLES = 1_999
_CONFIDENCE = 0.95
# Numbers drawn at once: a block stays in the cache.
_BLOCK_DRAWS = 1 << 18


@dataclass(frozen=True)
class PairedComparison:
    """A mean difference and what speaks for it.

    Without any spread, where all differences are one number or there is one user, neither the
    t-test nor the bootstrap can say anything, and their fields are NaN; the permutation test can.

    Attributes:
        users: n, those compared.
        difference: mean of the n differences, the second values less the first.
        low: lower end of its 95 % interval, from the bootstrap.
        high: upper end.
        statistic: t of the paired t-test.
        t_test_p: its two-sided p value.
        permutation_p: the two-sided p value of the permutation test, at least 2 / 2ⁿ.
    """

    users: int
    difference: float
    low: float
    high: float
    statistic: float
    t_test_p: float
    permutation_p: float


def compare_paired(
    first: np.ndarray, second: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0
) -> PairedComparison:
    """Test whether the means of two values of the same users differ.

    Args:
        first: ``float[n]``, a metric of each user.
        second: ``float[n]``, the same of another ranking, in the same order of users.
        resamples: most signs that the permutation test tries, and resamples of the bootstrap.
        seed: of both; the same seed draws the same users and signs.

    Returns:
        The difference, its interval and both p values.

    Raises:
        InputError: lengths differ, there is no user, or a value is not finite.

    Examples:
        >>> compare_paired(np.array([0.0, 0.0]), np.array([1.0, 1.0])).permutation_p
        0.5
    """
    low, high = paired_bootstrap(first, second, resamples=resamples, seed=seed)
    statistic, t_test_p = paired_t_test(first, second)
    permutation_p = paired_permutation_test(first, second, resamples=resamples, seed=seed)
    mean = float(np.mean(np.subtract(second, first, dtype=np.float64)))
    return PairedComparison(len(first), mean, low, high, statistic, t_test_p, permutation_p)


def paired_t_test(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Student's paired t-test: t = d̄ / (s / √n) against t of n − 1 degrees of freedom.

    Args:
        first: ``float[n]``.
        second: ``float[n]``.

    Returns:
        t, positive where the second values are larger, and the two-sided p value; both NaN where
        the differences have no spread.

    Raises:
        InputError: lengths differ, there is no user, or a value is not finite.
    """
    paired = _paired(first, second)
    if not paired.has_spread:
        return np.nan, np.nan
    found = scipy.stats.ttest_rel(paired.second, paired.first)
    return float(found.statistic), float(found.pvalue)


def paired_permutation_test(
    first: np.ndarray, second: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0
) -> float:
    """The sign-flip test of the mean difference (Fisher 1935; Edgington and Onghena 2007).

    With m differences that are not 0 there are 2ᵐ ways to give them signs, equally likely where
    nothing differs. p is twice the share of those whose sum is as far out on the observed side,
    the observed one among them, at most 1: exact where all are tried, and where some are drawn
    still no smaller than it should be (Phipson and Smyth 2010).

    Args:
        first: ``float[n]``.
        second: ``float[n]``.
        resamples: most signs to try: all 2ᵐ of them where they are no more, else so many drawn.
        seed: of the draws.

    Returns:
        The two-sided p value, at least 2 / 2ᵐ and at least 2 / (resamples + 1) where signs are
        drawn.

    Raises:
        InputError: lengths differ, there is no user, or a value is not finite.
    """
    _check_resamples(resamples)
    paired = _paired(first, second)
    # A difference of 0 has no sign.
    differences = paired.differences[paired.differences != 0]
    size = len(differences)
    if size < 2:
        return 1.0
    # Sums that are equal but for rounding must tie, or p comes out too small.
    grid = 2.0 ** np.ceil(np.log2(8 * np.sqrt(size) * paired.rounding))

    def on_grid(sums: np.ndarray) -> np.ndarray:
        return np.rint(sums / grid)

    if 2**size <= resamples:
        found = scipy.stats.permutation_test(
            (differences,),
            lambda signed, axis: on_grid(signed.sum(axis=axis)),
            permutation_type="samples",
            n_resamples=resamples,
            vectorized=True,
        )
        return float(found.pvalue)
    # What permutation_test draws, a hundred times as fast, for that sorts to draw a sign.
    rng = np.random.default_rng(seed)

    def positive(size: tuple[int, int]) -> np.ndarray:
        rows, columns = size
        # Whole words for each row, so that the draws do not depend on the blocks.
        words = rng.integers(0, 2**64, (rows, -(-columns // 64)), np.uint64)
        return np.unpackbits(words.view(np.uint8), axis=1, count=columns)

    found = scipy.stats.monte_carlo_test(
        np.ones(size, np.uint8),
        positive,
        # The sum of the positive ones, which grows with the sum of all.
        lambda signs, axis: on_grid(np.moveaxis(signs, axis, -1) @ differences),
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, _BLOCK_DRAWS // size),
    )
    return float(found.pvalue)


def paired_bootstrap(
    first: np.ndarray, second: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The 95 % interval of the mean difference, over users drawn with replacement.

    Up to 1,000 users the interval is corrected for bias and skewness (BCa, Efron 1987); above, it
    holds the middle 95 % of the resampled means (percentile method), at most 1,999 of them.

    Args:
        first: ``float[n]``.
        second: ``float[n]``.
        resamples: drawn in blocks, n · resamples draws in all.
        seed: of the draws.

    Returns:
        The interval's ends; NaN where the differences have no spread.

    Raises:
        InputError: lengths differ, there is no user, or a value is not finite.
    """
    _check_resamples(resamples)
    paired = _paired(first, second)
    if not paired.has_spread:
        return np.nan, np.nan
    users = len(paired.differences)
    many = users > _MANY_USERS
    found = scipy.stats.bootstrap(
        (paired.differences,),
        np.mean,
        n_resamples=min(resamples, _MANY_RESAMPLES) if many else resamples,
        batch=max(1, _BLOCK_DRAWS // users),
        vectorized=True,
        confidence_level=_CONFIDENCE,
        method="percentile" if many else "BCa",
        rng=np.random.default_rng(seed),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down correction (Holm 1979) of m p values.

    In ascending order the j-th (from 1) becomes the largest of (m − i + 1) p_i, i ≤ j, at most 1:
    to reject below α keeps the probability of any false rejection below α, however the tests hang
    together.

    Args:
        p_values: ``float[m]``; NaN stands for a test that says nothing, which counts as one.

    Returns:
        ``float[m]``, NaN where it was given.
    """
    p_values = np.asarray(p_values, np.float64)
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p_values[order]), 1)
    return adjusted


def _check_resamples(resamples: int) -> None:
    if resamples < 1:
        raise InputError(f"resamples: expected at least 1, got {resamples}")


class _Paired(NamedTuple):
    """Two values of the same users.

    Attributes:
        first: ``float64[n]``.
        second: ``float64[n]``.
        differences: ``float64[n]``, 0 where rounding explains a difference.
        rounding: the most that rounding of the values explains.
    """

    first: np.ndarray
    second: np.ndarray
    differences: np.ndarray
    rounding: float

    @property
    def has_spread(self) -> bool:
        return bool(np.ptp(self.differences) > self.rounding)


def _paired(first: np.ndarray, second: np.ndarray) -> _Paired:
    first, second = np.asarray(first), np.asarray(second)
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        raise InputError(
            f"paired values: expected two of each user, of one user or more, got shapes "
            f"{list(first.shape)} and {list(second.shape)}"
        )
    single = first.dtype == second.dtype == np.float32
    first, second = first.astype(np.float64), second.astype(np.float64)
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise InputError("paired values: expected finite numbers")
    eps = float(np.finfo(np.float32 if single else np.float64).eps)
    rounding = 8 * eps * float(max(np.abs(first).max(), np.abs(second).max()))
    differences = second - first
    return _Paired(first, second, np.where(abs(differences) > rounding, differences, 0), rounding)
