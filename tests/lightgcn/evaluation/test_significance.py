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
    paired_t_test,
    significance,
)


@given(seed=st.integers(0, 2**31), size=st.integers(2, 60), shift=st.floats(-1, 1))
@settings(deadline=None)
def test_t_test_is_scipys(seed, size, shift):
    rng = np.random.default_rng(seed)
    first = rng.normal(size=size)
    second = first + rng.normal(shift, 0.5, size=size)
    expected = scipy.stats.ttest_rel(second, first)
    statistic, p = paired_t_test(first, second)
    assert statistic == pytest.approx(expected.statistic)
    assert p == pytest.approx(expected.pvalue)


def test_hand_computed_case():
    """Differences 1, 2, 3: mean 2, s = 1, t = 2 / (1 / √3) = 2√3 of 2 degrees of freedom."""
    got = compare_paired(np.array([0.0, 1.0, 2.0]), np.array([1.0, 3.0, 5.0]), resamples=20_000)
    assert got.users == 3
    assert got.difference == 2
    assert got.statistic == pytest.approx(2 * np.sqrt(3))
    # The distribution function of t with 2 degrees of freedom is (1 + t / √(2 + t²)) / 2.
    assert got.t_test_p == pytest.approx(1 - np.sqrt(12 / 14))
    # Of the 27 resamples one has the mean 1 and one the mean 3: 1/27 > 2.5 %.
    assert (got.low, got.high) == (1, 3)
    assert got.bootstrap_p == 2 / 20_001


def test_bootstrap_p_counts_resamples_on_both_sides():
    """Differences 3 and −1: means −1, 1, 3 in the shares 1/4, 1/2, 1/4; p = 2 · 1/4."""
    p = paired_bootstrap(np.zeros(2), np.array([3.0, -1.0]), resamples=40_000)[2]
    # Five standard deviations of the share of a quarter, doubled.
    assert p == pytest.approx(0.5, abs=2 * 5 * np.sqrt(3 / 16 / 40_000))


def test_swapping_the_two_swaps_the_signs():
    rng = np.random.default_rng(1)
    first, second = rng.random((2, 50))
    one, other = compare_paired(first, second), compare_paired(second, first)
    assert (one.difference, one.statistic) == (-other.difference, -other.statistic)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert (one.t_test_p, one.bootstrap_p) == (other.t_test_p, other.bootstrap_p)


def test_equal_values_show_no_difference():
    values = np.random.default_rng(0).random(30)
    got = compare_paired(values, values)
    assert (got.difference, got.low, got.high, got.statistic) == (0, 0, 0, 0)
    assert (got.t_test_p, got.bootstrap_p) == (1, 1)


def test_one_difference_for_all_has_no_spread():
    got = compare_paired(np.ones(4), np.zeros(4))
    assert (got.difference, got.low, got.high) == (-1, -1, -1)
    assert (got.statistic, got.t_test_p) == (-np.inf, 0)


def test_blocks_and_seeds(monkeypatch):
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 40))
    whole = paired_bootstrap(first, second, resamples=1001)
    assert paired_bootstrap(first, second, resamples=1001, seed=1) != whole
    # Draws of one generator do not depend on how many are taken at once.
    monkeypatch.setattr(significance, "_BLOCK_DRAWS", 40 * 7)
    assert paired_bootstrap(first, second, resamples=1001) == whole


@pytest.fixture(scope="module")
def simulated():
    """2,000 experiments of 40 users without a true difference."""
    rng = np.random.default_rng(0)
    found = []
    for seed in range(2000):
        first, second = rng.exponential(size=(2, 40))
        found.append(compare_paired(first, second, resamples=1000, seed=seed))
    return found


# Neither is exact: the t-test assumes a normal mean, and the percentile bootstrap of n users is a
# little bold, its spread too small by √((n − 1)/n).
@pytest.mark.parametrize(("test", "slack"), [("t_test_p", 0.002), ("bootstrap_p", 0.015)])
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
    assert max(got.t_test_p, got.bootstrap_p) < 0.01


def test_holm_by_hand():
    """Ascending 0.01, 0.02, 0.03, 0.5: 4 · 0.01, 3 · 0.02, 2 · 0.03, 0.5; never falling."""
    np.testing.assert_allclose(holm(np.array([0.5, 0.01, 0.03, 0.02])), [0.5, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(holm(np.array([0.03, 0.02])), [0.04, 0.04])
    assert holm(np.array([0.7, 0.6])).tolist() == [1, 1]
    assert holm(np.array([0.2])).tolist() == [0.2]
    assert holm(np.array([])).tolist() == []


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
        ([1.0], [2.0], "at least two users"),
        ([[1.0, 2.0]], [[1.0, 2.0]], r"\[1, 2\]"),
        ([1.0, np.inf], [1.0, np.inf], "finite"),
        ([1.0, np.nan], [1.0, 0.0], "finite"),
    ],
)
@pytest.mark.parametrize("test", [compare_paired, paired_t_test, paired_bootstrap])
def test_what_does_not_fit_is_refused(test, first, second, message):
    with pytest.raises(InputError, match=message):
        test(np.array(first), np.array(second))


def test_no_resamples_are_refused():
    with pytest.raises(InputError, match="resamples: expected at least 1, got 0"):
        paired_bootstrap(np.zeros(3), np.ones(3), resamples=0)
