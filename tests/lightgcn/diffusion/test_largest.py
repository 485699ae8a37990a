"""The largest of each column, and of each vector's products, beside a stable sort of all rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lightgcn_jax.diffusion.native import largest_of_columns, largest_products, multiplies
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


def whole_tables(rows, queries, dim, seed=0):
    """Tables of small whole numbers: products without rounding, ties everywhere."""
    rng = np.random.default_rng(seed)
    items, vectors = (rng.integers(-2, 3, (count, dim)) for count in (rows, queries))
    return items.astype(np.float32), vectors.astype(np.float32)


# Of whole groups and any rest of registers, of few columns and of such as fill no register; of one
# vector, for which rows are turned; of so many rows that they are shared out among threads; of more
# than are kept sorted.
PRODUCTS = [
    *((1, 1, 1, 1), (50, 1, 5, 7), (9_000, 1, 64, 20), (333, 1, 19, 33), (70_000, 1, 16, 300)),
    *((700, 9, 8, 10), (701, 20, 3, 10), (90, 33, 17, 90), (611, 64, 64, 20), (40, 65, 6, 40)),
    *((9_001, 70, 32, 5), (300, 300, 5, 7), (2_000, 3, 4, 700), (5, 4, 0, 2)),
]


@pytest.mark.parametrize("instructions", ["baseline", "AVX2", "AVX-512"])
@pytest.mark.parametrize(("rows", "queries", "dim", "k"), PRODUCTS)
def test_products_are_ranked_as_a_stable_sort_ranks_them(instructions, rows, queries, dim, k):
    if limit_instructions(instructions) != instructions:
        pytest.skip(f"needs a processor with {instructions}")
    items, vectors = whole_tables(rows, queries, dim)
    try:
        got_rows, got = largest_products(jnp.asarray(items), jnp.asarray(vectors), k)
    finally:
        limit_instructions()
    expected_rows, expected = by_sorting(items @ vectors.T, k)
    np.testing.assert_array_equal(got_rows, expected_rows)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("instructions", ["baseline", "AVX2", "AVX-512"])
@pytest.mark.parametrize(("rows", "queries"), [(60, 1), (300, 37), (20_000, 40), (90, 130)])
@pytest.mark.parametrize("differs", [False, True])
def test_products_that_may_not_be_found_are_left_out(instructions, rows, queries, differs):
    """By a mask and by what is seen, of which what is no number spoils nothing."""
    if limit_instructions(instructions) != instructions:
        pytest.skip(f"needs a processor with {instructions}")
    rng = np.random.default_rng(rows)
    items, vectors = whole_tables(rows, queries, 6, seed=1)
    asked = rng.permutation(queries + 2)[:queries].astype(np.int32)
    has_seen = rng.random((queries + 2, rows)) < rng.random((queries + 2, 1)) - 0.2
    has_seen[asked[0]] = True
    allowed = rng.random((queries, rows) if differs else rows) < 0.7
    for_all = allowed if differs else np.broadcast_to(allowed, (queries, rows))
    nowhere = ~(for_all & ~has_seen[asked]).any(axis=0)
    items[nowhere] = np.nan
    scores = np.where(for_all & ~has_seen[asked], vectors @ np.nan_to_num(items).T, -np.inf)
    seen = csr_rows(*np.nonzero(has_seen), queries + 2)
    given = map(jnp.asarray, (items, vectors))
    try:
        got_rows, got = largest_products(*given, 9, jnp.asarray(allowed), seen, jnp.asarray(asked))
    finally:
        limit_instructions()
    expected_rows, expected = by_sorting(scores.T, 9)
    np.testing.assert_array_equal(got_rows, expected_rows)
    np.testing.assert_array_equal(got, expected)


def test_a_product_has_the_same_bits_whatever_stands_beside_it():
    rng = np.random.default_rng(0)
    items, vectors = (
        jnp.asarray(rng.normal(size=(rows, 50)), jnp.float32) for rows in (4_000, 150)
    )
    all_rows, together = largest_products(items, vectors, 10)
    for at in (0, 63, 70, 149):
        rows, alone = largest_products(items, vectors[at : at + 1], 10)
        np.testing.assert_array_equal(rows[0], all_rows[at])
        np.testing.assert_array_equal(alone[0], together[at])
    # The best of them, among others in another order.
    rows = np.sort(np.asarray(all_rows[0]))
    np.testing.assert_array_equal(largest_products(items[rows], vectors[:3], 10)[1][0], together[0])


@pytest.mark.parametrize("queries", [1, 5, 66])
def test_a_product_that_is_no_number_spoils_its_query_alone(queries):
    items, vectors = np.ones((40, 3), np.float32), np.ones((queries, 3), np.float32)
    items[7, 0] = np.inf
    vectors[queries // 2, 0] = 0
    rows, best = largest_products(jnp.asarray(items), jnp.asarray(vectors), 2)
    spoilt = np.isnan(best).all(axis=1)
    assert spoilt.nonzero()[0].tolist() == [queries // 2]
    assert (np.asarray(rows)[~spoilt] == [7, 0]).all()


def test_products_in_float64_are_told_apart_that_float32_holds_for_one():
    with jax.enable_x64(True):
        items, vectors = 1 + np.arange(40.0)[:, None] * 1e-12, np.ones((70, 1))
        rows, _ = largest_products(jnp.asarray(items), jnp.asarray(vectors), 3)
    assert (np.asarray(rows) == [39, 38, 37]).all()


def test_products_of_other_types_have_no_kernel():
    narrow, wide = jnp.ones((3, 2), jnp.bfloat16), jnp.ones((3, 2))
    assert multiplies(wide, wide)
    assert not multiplies(narrow, narrow)
    assert not multiplies(wide, narrow)
