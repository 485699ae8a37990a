"""The largest of each column beside a stable sort of all rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lightgcn_jax.diffusion.native import largest_of_columns
from lightgcn_jax.diffusion.native.library import limit_instructions, load
from lightgcn_jax.graph import csr_rows

pytestmark = pytest.mark.skipif(load().library is None, reason=str(load().obstacle))


def by_sorting(scores, k):
    """Rows and scores, best first; −0 equals 0, and −inf is nothing."""
    order = np.argsort(-(scores + 0.0), axis=0, kind="stable")[:k].T
    best = np.take_along_axis(scores.T + 0.0, order, axis=1)
    return np.where(best > -np.inf, order, -1), best


def assert_ranked(scores, k):
    rows, best = by_sorting(scores, k)
    got_rows, got = largest_of_columns(jnp.asarray(scores), k)
    np.testing.assert_array_equal(got_rows, rows)
    np.testing.assert_array_equal(got, best)
    assert not np.signbit(np.asarray(got)[np.asarray(got) == 0]).any()


@pytest.mark.parametrize("instructions", ["baseline", "AVX2", "AVX-512"])
@pytest.mark.parametrize(
    ("rows", "columns", "k"),
    [
        *((1, 1, 1), (9, 1, 9), (100, 1, 7), (20_003, 1, 20)),
        *((5, 3, 5), (300, 16, 20), (1_000, 37, 10), (70, 100, 70), (20_000, 96, 20)),
    ],
)
def test_equals_a_stable_sort(instructions, rows, columns, k):
    """With few values there are many ties; some columns are masked but for a few rows."""
    if limit_instructions(instructions) != instructions:
        pytest.skip(f"needs a processor with {instructions}")
    rng = np.random.default_rng(rows)
    values = np.array([-np.inf, -2.5, -0.0, 0.0, 1e-3, 7.0], np.float32)
    try:
        assert_ranked(rng.normal(size=(rows, columns)).astype(np.float32), k)
        assert_ranked(rng.choice(values, (rows, columns)), k)
        few = np.full((rows, columns), -np.inf, np.float32)
        few[rng.integers(0, rows, columns), np.arange(columns)] = 1
        assert_ranked(few, k)
        # In ascending order every score is looked at.
        assert_ranked(np.tile(np.arange(rows, dtype=np.float32)[:, None], columns), k)
    finally:
        limit_instructions()


@settings(deadline=None, max_examples=50)
@given(
    arrays(np.float32, (9, 5), elements=st.sampled_from([-np.inf, -1, -0.0, 0.0, 2, 3])),
    st.integers(1, 9),
)
def test_any_small_table(scores, k):
    assert_ranked(scores, k)


@pytest.mark.parametrize("instructions", ["baseline", "AVX2", "AVX-512"])
@pytest.mark.parametrize(("rows", "columns", "k"), [(40, 1, 7), (300, 37, 20), (90, 33, 80)])
def test_seen_items_are_left_out_whatever_their_scores(instructions, rows, columns, k):
    if limit_instructions(instructions) != instructions:
        pytest.skip(f"needs a processor with {instructions}")
    rng = np.random.default_rng(rows)
    scores = rng.integers(0, 9, (rows, columns)).astype(np.float32)
    queries = rng.permutation(columns + 3)[:columns].astype(np.int32)
    # Some have seen nothing, one everything.
    has_seen = rng.random((columns + 3, rows)) < rng.random((columns + 3, 1)) - 0.2
    has_seen[queries[0]] = columns > 1
    hidden = np.where(has_seen[queries].T, -np.inf, scores)
    # What is no number and seen spoils nothing.
    scores[has_seen[queries].T & (scores == 8)] = np.nan
    seen = csr_rows(*np.nonzero(has_seen), columns + 3)
    try:
        got_rows, got = largest_of_columns(jnp.asarray(scores), k, seen, jnp.asarray(queries))
    finally:
        limit_instructions()
    expected_rows, expected = by_sorting(hidden, k)
    np.testing.assert_array_equal(got_rows, expected_rows)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("kind", [jnp.float16, jnp.bfloat16])
def test_narrow_scores_are_ranked_as_they_are(kind):
    scores = jnp.asarray(np.random.default_rng(0).normal(size=(90, 7)), kind)
    rows, best = largest_of_columns(scores, 5)
    assert best.dtype == kind
    expected, values = by_sorting(np.asarray(scores, np.float32), 5)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(best.astype(jnp.float32), values)


def test_what_is_no_number_spoils_its_column_alone():
    scores = np.arange(120, dtype=np.float32).reshape(6, 20)
    scores[4, 3] = scores[5, 19] = np.nan
    _, best = largest_of_columns(jnp.asarray(scores), 2)
    spoilt = np.isnan(best)
    assert spoilt.all(axis=1).nonzero()[0].tolist() == [3, 19]
    assert spoilt.sum() == 4


def test_in_float64_scores_are_told_apart_that_float32_holds_for_one():
    with jax.enable_x64(True):
        assert_ranked(1 + np.arange(40, dtype=np.float64).reshape(8, 5) * 1e-12, 3)
