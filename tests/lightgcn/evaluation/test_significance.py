import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings

from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import (
    compare_paired,
    holm,
    paired_bootstrap,
    paired_permutation_test,
    paired_t_test,
    significance,
)


@given(seed=st.integers(0, 2**31), size=st.integers(2, 60), shift=st.floats(-1, 1))
@settings(deadline=None)
def test_t_test_is_students(seed, size, shift):
    """t = d̄ √n / s, written out in NumPy."""
    rng = np.random.default_rng(seed)
    first = rng.normal(size=size)
    second = first + rng.normal(shift, 0.5, size=size)
    statistic, p = paired_t_test(first, second)
    differences = second - first
    expected = differences.mean() * np.sqrt(size) / differences.std(ddof=1)
    assert statistic == pytest.approx(expected)
    assert p == pytest.approx(2 * scipy.stats.t.sf(abs(expected), size - 1))


def test_hand_computed_case():
    """Differences 1, 2, 3: mean 2, s = 1, t = 2 / (1 / √3) = 2√3 of 2 degrees of freedom."""
    got = compare_paired(np.array([0.0, 1.0, 2.0]), np.array([1.0, 3.0, 5.0]))
    assert got.users == 3
    assert got.difference == 2
    assert got.statistic == pytest.approx(2 * np.sqrt(3))
    # The distribution function of t with 2 degrees of freedom is (1 + t / √(2 + t²)) / 2.
    assert got.t_test_p == pytest.approx(1 - np.sqrt(12 / 14))
    # Of the 27 resamples one has the mean 1 and one the mean 3: 1/27 > 2.5 %.
    assert (got.low, got.high) == (1, 3)
    # All positive is one of 2³ ways to give them signs, all negative another.
    assert got.permutation_p == 2 / 2**3


def all_signs(differences):
    """The two-sided p value by trying every sign, in whole numbers."""
    sums = [
        np.dot(signs, differences) for signs in itertools.product((-1, 1), repeat=len(differences))
    ]
    above = np.mean([one >= sum(differences) for one in sums])
    below = np.mean([one <= sum(differences) for one in sums])
    return min(1.0, 2 * min(above, below))


@given(differences=st.lists(st.integers(-4, 4), min_size=1, max_size=9), single=st.booleans())
@settings(deadline=None)
def test_permutation_test_counts_every_sign(differences, single):
    # Thirds are rounded, and still 7/3 − 5/3 ties with 2/3.
    kind = np.float32 if single else np.float64
    first = np.arange(len(differences)).astype(kind) / kind(3)
    second = (np.arange(len(differences)) + differences).astype(kind) / kind(3)
    p = paired_permutation_test(first, second)
    assert p == all_signs(differences)
    assert p >= 2 / 2 ** len(differences) or len(differences) == 1


def test_drawn_signs_agree_with_all_signs():
    differences = np.random.default_rng(1).integers(-9, 15, 12)
    exact = all_signs(differences)
    assert paired_permutation_test(np.zeros(12), differences) == exact
    assert 0.01 < exact < 0.3
    drawn = paired_permutation_test(np.zeros(12), differences, resamples=2**12 - 1)
    # Five standard deviations of a share of one side, doubled.
    assert drawn == pytest.approx(exact, abs=10 * np.sqrt(exact / 2 / 2**12))
    assert drawn != exact


def test_p_is_never_below_what_the_users_can_show():
    """With every difference positive, p = 2 / 2ⁿ, and from 14 users on the draws' 2 / 10,000."""
    expected = [2 / 2**n if n < 14 else 2 / 10_000 for n in range(1, 18)]
    rng = np.random.default_rng(0)
    found = [paired_permutation_test(np.zeros(n), 1 + rng.random(n)) for n in range(1, 18)]
    assert found == expected
    assert all(p >= 2 / 2**n for n, p in enumerate(found, 1))


def test_swapping_the_two_swaps_the_signs():
    rng = np.random.default_rng(1)
    first, second = rng.random((2, 50))
    one, other = compare_paired(first, second), compare_paired(second, first)
    assert (one.difference, one.statistic) == (-other.difference, -other.statistic)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert (one.t_test_p, one.permutation_p) == (other.t_test_p, other.permutation_p)


def nothing_but(difference, p, users):
    """A comparison in which neither the t-test nor the bootstrap can say anything."""
    return pytest.approx(
        significance.PairedComparison(users, difference, *[np.nan] * 4, p).__dict__, nan_ok=True
    )


def test_equal_values_show_no_difference():
    values = np.random.default_rng(0).random(30)
    assert compare_paired(values, values).__dict__ == nothing_but(0, 1, 30)
    assert compare_paired(np.zeros(2), np.zeros(2)).__dict__ == nothing_but(0, 1, 2)


@pytest.mark.parametrize("users", [1, 2, 4, 13])
def test_one_difference_for_all_is_judged_by_its_signs(users):
    got = compare_paired(np.ones(users), np.zeros(users))
    assert got.__dict__ == nothing_but(-1, 2 / 2**users, users)
    # 5/6 − 1/2 and 1/3 − 0 are one number but for rounding, which is no spread.
    first = np.array([0, 1 / 2] * users, np.float32)
    second = np.array([1 / 3, 5 / 6] * users, np.float32)
    got = compare_paired(first, second)
    assert np.ptp(second - first) > 0
    assert np.isnan([got.low, got.high, got.statistic, got.t_test_p]).all()
    assert got.permutation_p == max(2 / 4**users, 2 / 10_000)


def test_blocks_and_seeds(monkeypatch):
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 40))
    whole = compare_paired(first, second, resamples=1001)
    assert compare_paired(first, second, resamples=1001, seed=1) != whole
    # Draws of one generator do not depend on how many are taken at once.
    monkeypatch.setattr(significance, "_BLOCK_DRAWS", 40 * 7)
    assert compare_paired(first, second, resamples=1001) == whole


def test_the_interval_of_many_users_is_that_of_few(monkeypatch):
    """Beyond 1,000 users percentiles do: BCa moves the ends by some hundredths of the width."""
    rng = np.random.default_rng(0)
    second = rng.exponential(size=1_001)
    low, high = paired_bootstrap(np.zeros(1_001), second)
    monkeypatch.setattr(significance, "_MANY_USERS", 1_001)
    corrected = paired_bootstrap(np.zeros(1_001), second)
    assert (low, high) != corrected
    assert (low, high) == pytest.approx(corrected, abs=0.06 * (high - low))
    margin = scipy.stats.norm.ppf(0.975) * second.std(ddof=1) / np.sqrt(1_001)
    assert high - low == pytest.approx(2 * margin, rel=0.06)


# What becomes of the metrics of one and the same ranking twice: a symmetric difference.
NO_DIFFERENCE = {
    "smooth": lambda rng, shape: rng.normal(size=shape),
    "skewed": lambda rng, shape: rng.exponential(size=shape) - rng.exponential(size=shape),
    "hits": lambda rng, shape: rng.choice([-1.0, 0.0, 1.0], p=[0.25, 0.5, 0.25], size=shape),
}


@pytest.mark.parametrize("users", [3, 5, 8, 20])
@pytest.mark.parametrize("kind", NO_DIFFERENCE)
def test_chance_is_called_significant_no_more_often_than_allowed(kind, users):
    """False positives at 5 %: no more than a fair coin of 5 % gives in 999 of 1,000 tests."""
    experiments = 300
    seconds = NO_DIFFERENCE[kind](np.random.default_rng(users), (experiments, users))
    zeros = np.zeros(users)
    p_values = np.array(
        [
            paired_permutation_test(zeros, one, resamples=499, seed=seed)
            for seed, one in enumerate(seconds)
        ]
    )
    for level in (0.05, 0.01):
        allowed = scipy.stats.binom.ppf(0.999, experiments, level)
        assert (p_values < level).sum() <= allowed
    if users < 6:
        # 2 / 2⁵ > 5 %: so few users cannot show anything.
        assert p_values.min() >= 2 / 2**users


@pytest.fixture(scope="module")
def simulated():
    """1,000 experiments of 40 users without a true difference."""
    rng = np.random.default_rng(0)
    found = []
    for seed in range(1000):
        first, second = rng.exponential(size=(2, 40))
        found.append(compare_paired(first, second, resamples=999, seed=seed))
    return found


# The t-test assumes a normal mean, which 40 differences are near to.
@pytest.mark.parametrize(("test", "slack"), [("t_test_p", 0.002), ("permutation_p", 0.002)])
def test_p_values_are_uniform_without_a_difference(simulated, test, slack):
    p_values = np.array([getattr(one, test) for one in simulated])
    for level in (0.01, 0.05, 0.1, 0.3, 0.5, 0.8):
        deviation = np.sqrt(level * (1 - level) / len(p_values))
        assert abs((p_values < level).mean() - level) < 4 * deviation + slack, level


def test_intervals_cover_the_true_difference(simulated):
    covered = np.mean([one.low <= 0 <= one.high for one in simulated])
    assert 0.92 < covered < 0.97


def test_a_true_difference_is_found():
    rng = np.random.default_rng(0)
    first = rng.exponential(size=400)
    got = compare_paired(first, first + rng.normal(0.1, 0.5, size=400))
    assert got.low < 0.1 < got.high
    assert got.low > 0
    assert max(got.t_test_p, got.permutation_p) < 0.01


def test_holm_by_hand():
    """Ascending 0.01, 0.02, 0.03, 0.5: 4 · 0.01, 3 · 0.02, 2 · 0.03, 0.5; never falling."""
    np.testing.assert_allclose(holm(np.array([0.5, 0.01, 0.03, 0.02])), [0.5, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(holm(np.array([0.03, 0.02])), [0.04, 0.04])
    assert holm(np.array([0.7, 0.6])).tolist() == [1, 1]
    assert holm(np.array([0.2])).tolist() == [0.2]
    assert holm(np.array([])).tolist() == []
    # What says nothing counts as a test: 3 · 0.01, 2 · 0.02.
    np.testing.assert_allclose(holm(np.array([np.nan, 0.02, 0.01])), [np.nan, 0.04, 0.03])


@given(p_values=st.lists(st.floats(0, 1), min_size=1, max_size=8), seed=st.integers(0, 99))
def test_holm_rejects_as_step_down_does(p_values, seed):
    order = np.random.default_rng(seed).permutation(len(p_values))
    p_values = np.array(p_values)
    adjusted = holm(p_values)
    assert holm(p_values[order]).tolist() == adjusted[order].tolist()
    for level in (0.01, 0.05, 0.5):
        rejected, left = set(), len(p_values)
        for place in np.argsort(p_values, kind="stable"):
            if p_values[place] * left > level:
                break
            rejected.add(int(place))
            left -= 1
        assert set(np.flatnonzero(adjusted <= level).tolist()) == rejected


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([1.0, 2.0], [1.0], r"shapes \[2\] and \[1\]"),
        ([], [], "of one user or more"),
        ([[1.0, 2.0]], [[1.0, 2.0]], r"\[1, 2\]"),
        ([1.0, np.inf], [1.0, np.inf], "finite"),
        ([1.0, np.nan], [1.0, 0.0], "finite"),
    ],
)
@pytest.mark.parametrize(
    "test", [compare_paired, paired_t_test, paired_bootstrap, paired_permutation_test]
)
def test_what_does_not_fit_is_refused(test, first, second, message):
    with pytest.raises(InputError, match=message):
        test(np.array(first), np.array(second))


@pytest.mark.parametrize("test", [paired_bootstrap, paired_permutation_test])
def test_no_resamples_are_refused(test):
    with pytest.raises(InputError, match="resamples: expected at least 1, got 0"):
        test(np.zeros(3), np.ones(3), resamples=0)
