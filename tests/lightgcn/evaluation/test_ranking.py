import functools

import flax.struct
import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightgcn_jax.data import Pairs
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import InnerProduct, exact_top_k, rank, ready_scorer
from lightgcn_jax.evaluation import ranking as ranking_module
from lightgcn_jax.graph import csr_rows
from tests.lightgcn.oracles import stable_top_k


def tables(queries, items):
    return InnerProduct(jnp.asarray(queries, jnp.float32), jnp.asarray(items, jnp.float32))


def padded(scores, width):
    """Scores ``[I, Q]`` with −inf rows up to a multiple of the group width."""
    rows = -len(scores) % width
    return jnp.asarray(np.pad(scores, ((0, rows), (0, 0)), constant_values=-np.inf))


# Few shapes, so that few programs compile; few distinct values, so that ties are everywhere.
@given(
    shape=st.sampled_from([(1, 1), (17, 3), (17, 17), (400, 5), (401, 20)]),
    values=st.sampled_from([1, 2, 5, 1000]),
    width=st.sampled_from([1, 2, 7]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=80, deadline=None)
def test_exact_top_k_is_the_stable_full_sort(shape, values, width, seed):
    items, k = shape
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, values, size=(items, 6)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.1] = -np.inf
    # Zeros of either sign are equal.
    scores[(scores == 0) & (rng.random(scores.shape) < 0.5)] = -0.0
    got = jax.jit(exact_top_k, static_argnums=(1, 2))(padded(scores, width), k, width)
    for query in range(6):
        column = scores[:, query]
        # Rows at −inf stand in order too, but rank() reports them as −1.
        assert np.asarray(got.items)[query].tolist() == stable_top_k(column, k)
        assert np.asarray(got.scores)[query].tolist() == sorted(column, reverse=True)[:k]


# 31 items at k = 2 once padded to a count of which the best group width is another.
@pytest.mark.parametrize(
    ("num_items", "k"), [(31, 2), (1682, 10), (9066, 7), (17_632, 90), (5, 5), (1, 1), (97, 96)]
)
def test_rank_fits_any_catalogue_and_cut_off(num_items, k):
    rng = np.random.default_rng(num_items)
    users, items = rng.integers(-2, 3, (3, 4)), rng.integers(-2, 3, (num_items, 4))
    got = rank(tables(users, items), np.arange(3), k)
    for user in range(3):
        assert got.items[user].tolist() == stable_top_k(items @ users[user], k)


@pytest.mark.parametrize("k", [1, 6, 50])
@pytest.mark.parametrize("block_scores", [64, 10**6])
def test_rank_masks_seen_items_in_blocks_of_any_size(k, block_scores, monkeypatch):
    monkeypatch.setattr(ranking_module, "_BLOCK_SCORES", block_scores)
    rng = np.random.default_rng(1)
    users, items = rng.integers(-3, 4, (13, 4)), rng.integers(-3, 4, (50, 4))
    seen_users, seen_items = np.nonzero(rng.random((13, 50)) < 0.3)
    rows = np.array([4, 0, 12, 4, 7])
    got = rank(
        tables(users, items),
        rows,
        k,
        seen=csr_rows(seen_users, seen_items, 13),
    )
    for place, user in enumerate(rows):
        scores = items @ users[user]
        expected = stable_top_k(scores, k, seen_items[seen_users == user])
        available = got.items[place][got.items[place] >= 0]
        assert available.tolist() == expected
        assert got.scores[place][: len(expected)].tolist() == scores[expected].tolist()
        assert (got.items[place][len(expected) :] == -1).all()
        assert np.isneginf(got.scores[place][len(expected) :]).all()


def test_candidates_restrict_and_keep_rows():
    rng = np.random.default_rng(2)
    users, items = rng.normal(size=(5, 4)), rng.normal(size=(60, 4))
    candidates = np.flatnonzero(rng.random(60) < 0.5)
    seen_users, seen_items = np.nonzero(rng.random((5, 60)) < 0.3)
    got = rank(
        tables(users, items),
        np.arange(5),
        7,
        seen=csr_rows(seen_users, seen_items, 5),
        candidates=candidates,
    )
    for user in range(5):
        left_out = set(seen_items[seen_users == user]) | (set(range(60)) - set(candidates))
        assert got.items[user].tolist() == stable_top_k(items @ users[user], 7, left_out)


def test_renaming_items_renames_the_ranking():
    rng = np.random.default_rng(3)
    users, items = rng.normal(size=(4, 8)), rng.normal(size=(100, 8))
    order = rng.permutation(100)
    first = rank(tables(users, items), np.arange(4), 10)
    second = rank(tables(users, items[order]), np.arange(4), 10)
    assert (order[second.items] == first.items).all()


def test_negative_zeros_tie_with_zeros():
    """A user of zeros scores −0 where an item is negative, +0 elsewhere: all tie, by row."""
    assert exact_top_k(jnp.array([[-0.0], [0.0]]), 1, 1).items.tolist() == [[0]]
    items = np.where(np.arange(40) % 3 == 0, -1, 1)[:, None]
    got = rank(tables([[0.0]], items), np.array([0]), 3)
    assert got.items.tolist() == [[0, 1, 2]]
    assert not np.signbit(got.scores).any()


@pytest.mark.parametrize(
    ("k", "rows", "message"),
    [
        (0, [0], "k: expected 1 to 100 .items to rank., got 0"),
        (101, [0], "k: expected 1 to 100"),
        (5.0, [0], "k: expected 1 to 100 .*, got 5.0"),
        (5, [4], r"rows: expected rows in \[0, 4\), got values from 4 to 4"),
        (5, [-1], r"rows: expected rows in \[0, 4\)"),
        (5, [0.5], "rows: expected a one-dimensional integer array"),
        (5, [[0]], "rows: expected a one-dimensional integer array"),
    ],
)
def test_bad_requests_are_refused(k, rows, message):
    with pytest.raises(InputError, match=message):
        rank(tables(np.ones((4, 8)), np.ones((100, 8))), np.array(rows), k)


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ([3, 2], "candidates: expected distinct item rows in ascending order"),
        ([2, 2], "candidates: expected distinct"),
        ([2, 9], r"candidates: expected rows in \[0, 9\), got values from 2 to 9"),
        ([], "k: expected 1 to 0"),
        ([1], "k: expected 1 to 1 .items to rank., got 2"),
    ],
)
def test_bad_candidates_are_refused(candidates, message):
    with pytest.raises(InputError, match=message):
        rank(tables(np.ones((4, 2)), np.ones((9, 2))), [0], 2, candidates=candidates)


@pytest.mark.parametrize(
    ("seen", "message"),
    [
        (csr_rows([0], [1], 3), "seen: expected 4 rows, one for each query, got 3"),
        (([0, 1], [1]), "seen: expected as many items as users, got 1 and 2"),
        (([4], [1]), r"seen, users: expected rows in \[0, 4\)"),
        (([0], [9]), r"seen, items: expected rows in \[0, 9\)"),
        (([0.0], [1]), "seen, users: expected a one-dimensional integer array"),
    ],
)
def test_seen_items_that_do_not_fit_are_refused(seen, message):
    with pytest.raises(InputError, match=message):
        rank(tables(np.ones((4, 2)), np.ones((9, 2))), [0], 2, seen=seen)


@pytest.mark.parametrize("number", [np.int64, np.int8, jnp.int32])
def test_a_cut_off_may_be_a_scalar_of_numpy_or_jax(number):
    scorer = tables(np.ones((4, 2)), np.ones((9, 2)))
    got = rank(scorer, jnp.arange(4), number(3))
    assert got.items.tolist() == [[0, 1, 2]] * 4


def test_seen_items_come_as_rows_as_pairs_or_as_columns():
    rng = np.random.default_rng(6)
    scorer = tables(rng.normal(size=(7, 3)), rng.normal(size=(20, 3)))
    users, items = np.nonzero(rng.random((7, 20)) < 0.3)
    rows = rank(scorer, np.arange(7), 5, seen=csr_rows(users, items, 7))
    order = rng.permutation(len(users))
    for pairs in (Pairs.from_rows(users, items), (users[order], items[order].tolist())):
        np.testing.assert_array_equal(rank(scorer, range(7), 5, seen=pairs).items, rows.items)


def test_no_rows_give_an_empty_ranking():
    scorer = tables(np.ones((4, 8)), np.ones((100, 8)))
    assert rank(scorer, np.array([], int), 3).items.shape == (0, 3)


@flax.struct.dataclass
class Table:
    """Scores that are no inner products, read from a table."""

    table: jax.Array
    block_bytes_per_query: int = flax.struct.field(pytree_node=False, default=0)

    @property
    def num_queries(self):
        return self.table.shape[1]

    @property
    def num_items(self):
        return self.table.shape[0]

    def scores(self, rows):
        return self.table[:, rows]


# A few candidates are scored alone, many by leaving out the others.
@pytest.mark.parametrize("bytes_per_query", [0, 20_000_000, 10**9])
@pytest.mark.parametrize("chosen", [None, 40, 9])
def test_any_scorer_ranks_like_its_table(bytes_per_query, chosen):
    """53 items need padding; with gigabytes a query each is ranked alone."""
    rng = np.random.default_rng(4)
    table = rng.integers(0, 30, (53, 9)).astype(np.float32)
    candidates = np.arange(53) if chosen is None else np.sort(rng.permutation(53)[:chosen])
    seen_queries, seen_items = np.nonzero(rng.random((9, 53)) < 0.2)
    got = rank(
        Table(jnp.asarray(table), bytes_per_query),
        np.array([8, 0, 3, 3]),
        5,
        seen=csr_rows(seen_queries, seen_items, 9),
        candidates=None if chosen is None else candidates,
    )
    for place, query in enumerate([8, 0, 3, 3]):
        left_out = set(seen_items[seen_queries == query]) | (set(range(53)) - set(candidates))
        expected = stable_top_k(table[:, query], 5, left_out)
        assert got.items[place].tolist() == expected
        assert got.scores[place].tolist() == table[expected, query].tolist()
    with pytest.raises(InputError, match=r"rows: expected rows in \[0, 9\)"):
        rank(Table(jnp.asarray(table)), np.array([9]), 5)


def test_a_block_holds_no_more_than_the_scorer_allows():
    def at_once(bytes_per_query):
        table = Table(jnp.zeros((10, 2)), bytes_per_query)
        return ranking_module.queries_at_once(ready_scorer(table))

    assert at_once(0) == ranking_module._BLOCK_SCORES // 10
    assert at_once(1_000_000) == 32
    # 97 would fit.
    assert at_once(ranking_module._BLOCK_BYTES // 97) == 96
    assert at_once(10**12) == 1


@flax.struct.dataclass
class Negated(InnerProduct):
    """Scores that a subclass computes in a way of its own."""

    def scores(self, rows):
        return -super().scores(rows)


@pytest.mark.parametrize("candidates", [None, [1, 3, 4], [2]])
def test_a_subclass_is_ranked_by_its_own_scores(candidates):
    items = jnp.arange(9.0)[:, None]
    got = rank(Negated(jnp.ones((1, 1)), items), [0], 1, candidates=candidates)
    first = 0 if candidates is None else candidates[0]
    assert got.items.tolist() == [[first]]
    assert got.scores.tolist() == [[-first]]


settings_in_scores = []


@flax.struct.dataclass
class Watching(InnerProduct):
    """Notes JAX's settings when its scores are traced."""

    spoilt: bool = flax.struct.field(pytree_node=False, default=False)

    def scores(self, rows):
        config = jax.config
        settings_in_scores.append((config.jax_debug_nans, config.jax_numpy_dtype_promotion))
        scores = super().scores(rows)
        return scores.at[0].set(jnp.nan) if self.spoilt else scores


def test_the_callers_settings_hold_in_scores(monkeypatch):
    """Two blocks, so that one could run elsewhere than in the calling thread."""
    monkeypatch.setattr(ranking_module, "_BLOCK_SCORES", 64)
    scorer = Watching(jnp.ones((13, 4)), jnp.ones((9, 4)))
    settings_in_scores.clear()
    rank(scorer, range(13), 2)
    with jax.debug_nans(True), jax.numpy_dtype_promotion("strict"):
        rank(scorer, range(13), 2)
    assert settings_in_scores == [(False, "standard"), (True, "strict")]


def test_a_nan_that_the_caller_looks_for_is_found_in_any_block(monkeypatch):
    monkeypatch.setattr(ranking_module, "_BLOCK_SCORES", 64)
    scorer = Watching(jnp.ones((13, 4)), jnp.ones((9, 4)), spoilt=True)
    rank(scorer, range(13), 2)
    for rows in ([0], range(13)):
        with jax.debug_nans(True), pytest.raises(FloatingPointError):
            rank(scorer, rows, 2)


def precisions(jaxpr):
    """The precision of every product of a program, those of its inner programs among them."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            found.append(equation.params["precision"])
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            found += precisions(inner)
    return found


HIGHEST = (jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)


@flax.struct.dataclass
class Plain(InnerProduct):
    """Products that leave the precision to JAX, as a scorer of one's own may."""

    def scores(self, rows):
        return self.items @ self.queries[rows].T


@pytest.mark.parametrize("kind", [InnerProduct, Plain])
def test_float32_is_ranked_by_products_of_float32(kind):
    """JAX's default is bfloat16 on a TPU and TF32 on recent GPUs, also where a CPU traces it."""
    ready, rows = ready_scorer(kind(jnp.ones((3, 4)), jnp.ones((9, 4)))), jnp.arange(3)
    block = functools.partial(ranking_module.rank_block, k=2, width=1, seen_capacity=0)
    program = jax.make_jaxpr(block)(rows, ready.scorer, ready.excluded, None, None)
    found = precisions(program.jaxpr)
    assert found
    assert set(found) == {HIGHEST}


def test_a_ready_scorer_is_ranked_as_it_is(monkeypatch):
    """Its items are the very array that each call ranks, filled up once."""
    rng = np.random.default_rng(7)
    scorer = tables(rng.normal(size=(5, 3)), rng.normal(size=(1682, 3)))
    ready = ready_scorer(scorer)
    assert ready.scorer.num_items > 1682
    ranked, rank_block = [], ranking_module.rank_block

    def noting(rows, scorer, *arrays, **static):
        ranked.append(scorer.items)
        return rank_block(rows, scorer, *arrays, **static)

    monkeypatch.setattr(ranking_module, "rank_block", noting)
    some = np.flatnonzero(rng.random(1682) < 0.7)
    for k, candidates in ((1, None), (20, None), (20, some), (7, some[1:])):
        got = rank(ready, range(5), k, candidates=candidates)
        expected = rank(scorer, range(5), k, candidates=candidates)
        np.testing.assert_array_equal(got.items, expected.items)
        np.testing.assert_array_equal(got.scores, expected.scores)
    assert all(items is ready.scorer.items for items in ranked[::2])


def test_candidates_are_chosen_once():
    ready = ready_scorer(tables(np.ones((4, 2)), np.ones((9, 2))), [1, 2, 3, 4, 5])
    assert rank(ready, [0], 2).items.tolist() == [[1, 2]]
    with pytest.raises(InputError, match="candidates: expected none beside a scorer whose"):
        rank(ready, [0], 2, candidates=[1])


def test_sets_of_candidates_share_programs():
    """Sizes are rounded up to powers of two: five sets of 20 to 30 items, one program."""
    rng = np.random.default_rng(8)
    scorer = tables(rng.normal(size=(5, 3)), rng.normal(size=(331, 3)))
    before = ranking_module.rank_block._cache_size()
    for size in (20, 23, 25, 29, 30):
        rank(scorer, range(5), 3, candidates=np.sort(rng.permutation(331)[:size]))
    assert ranking_module.rank_block._cache_size() == before + 1
    for size in (297, 298, 299, 300, 301):
        rank(scorer, range(5), 3, candidates=np.sort(rng.permutation(331)[:size]))
    assert ranking_module.rank_block._cache_size() == before + 2
