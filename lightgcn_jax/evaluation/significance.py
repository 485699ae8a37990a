"""Whether one ranking is better than another on the same users, or by chance.

Both tests are paired: they look at a user's difference of two values of a metric, so that how hard
a user is plays no part. The t-test assumes that the mean of the differences is about normal, the
bootstrap assumes nothing of the kind; Smucker, Allan and Carterette 2007 find the two in agreement
on rankings. Where several rankings are compared, Holm's procedure keeps the probability of any
false finding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.stats

from lightgcn_jax.errors import InputError

RESAMPLES = 10_000
CONFIDENCE = 0.95
# Drawn users of one block of resamples: about 50 MB.
_BLOCK_DRAWS = 1 << 22


@dataclass(frozen=True)
class PairedComparison:
    """A mean difference and what speaks for it.

    Attributes:
        users: n, those compared.
        difference: mean of the n differences, the second values less the first.
        low: lower end of its 95 % interval, from the bootstrap.
        high: upper end.
        statistic: t of the paired t-test; infinite where all differences are one number, not 0.
        t_test_p: its two-sided p value.
        bootstrap_p: the two-sided p value of the bootstrap, at least 2 / (resamples + 1).
    """

    users: int
    difference: float
    low: float
    high: float
    statistic: float
    t_test_p: float
    bootstrap_p: float


def compare_paired(
    first: np.ndarray, second: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0
) -> PairedComparison:
    """Test whether the means of two values of the same users differ.

    Args:
        first: ``float[n]``, a metric of each user.
        second: ``float[n]``, the same of another ranking, in the same order of users.
        resamples: of the bootstrap.
        seed: of the bootstrap; the same seed resamples the same places.

    Raises:
        InputError: lengths differ, there are fewer than two users, or a value is not finite.
    """
    differences = _differences(first, second)
    statistic, t_test_p = paired_t_test(first, second)
    low, high, bootstrap_p = paired_bootstrap(first, second, resamples=resamples, seed=seed)
    mean = float(differences.mean())
    return PairedComparison(len(differences), mean, low, high, statistic, t_test_p, bootstrap_p)


def paired_t_test(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Student's paired t-test: t = d̄ / (s / √n) against t of n − 1 degrees of freedom.

    Args:
        first: ``float[n]``.
        second: ``float[n]``.

    Returns:
        t, positive where the second values are larger, and the two-sided p value. Without any
        spread it is 0 and 1 where the values are equal, otherwise ±∞ and 0.

    Raises:
        InputError: lengths differ, there are fewer than two users, or a value is not finite.
    """
    differences = _differences(first, second)
    mean = differences.mean()
    if (differences == differences[0]).all():
        return (0.0, 1.0) if mean == 0 else (float(np.copysign(np.inf, mean)), 0.0)
    statistic = mean / (differences.std(ddof=1) / np.sqrt(len(differences)))
    p = 2 * scipy.stats.t.sf(abs(statistic), len(differences) - 1)
    return float(statistic), float(p)


def paired_bootstrap(
    first: np.ndarray, second: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float, float]:
    """The mean difference over users drawn with replacement (Efron and Tibshirani 1993, ch. 13).

    The interval holds the middle 95 % of the resampled means (percentile method). The p value is
    the level at which that interval just reaches 0: twice the smaller of the shares of resamples
    at or below 0 and at or above it, the sample itself counted with them on both sides, at most 1.

    Args:
        first: ``float[n]``.
        second: ``float[n]``.
        resamples: drawn in blocks, n · resamples draws in all.
        seed: of the draws.

    Returns:
        The interval's ends and the two-sided p value.

    Raises:
        InputError: lengths differ, there are fewer than two users, or a value is not finite.
    """
    if resamples < 1:
        raise InputError(f"resamples: expected at least 1, got {resamples}")
    differences = _differences(first, second)
    n = len(differences)
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    block = max(1, _BLOCK_DRAWS // n)
    for start in range(0, resamples, block):
        drawn = rng.integers(0, n, (min(block, resamples - start), n), dtype=np.int32)
        means[start : start + block] = differences[drawn].mean(axis=1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    rarer = min((means <= 0).sum(), (means >= 0).sum())
    return float(low), float(high), min(1.0, float(2 * (1 + rarer) / (1 + resamples)))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down correction (Holm 1979) of m p values, ``float[m]``.

    In ascending order the j-th (from 1) becomes the largest of (m − i + 1) p_i, i ≤ j, at most 1:
    to reject below α keeps the probability of any false rejection below α, however the tests hang
    together.
    """
    p_values = np.asarray(p_values, np.float64)
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p_values[order]), 1)
    return adjusted


def _differences(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.ndim != 1 or first.shape != second.shape or len(first) < 2:
        raise InputError(
            f"paired values: expected two of at least two users each, equally many, got shapes "
            f"{list(first.shape)} and {list(second.shape)}"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise InputError("paired values: expected finite numbers")
    return second - first
