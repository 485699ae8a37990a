import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import InnerProduct, exact_top_k, rank
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


@pytest.mark.parametrize(("k", "rows"), [(0, [0]), (101, [0]), (5, [4]), (5, [-1])])
def test_bad_requests_are_refused(k, rows):
    with pytest.raises(InputError, match=r"expected (1 to 100|0 to 3)"):
        rank(tables(np.ones((4, 8)), np.ones((100, 8))), np.array(rows), k)


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


@pytest.mark.parametrize("bytes_per_query", [0, 20_000_000, 10**9])
@pytest.mark.parametrize("chosen", [None, 40])
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
    with pytest.raises(InputError, match="rows: expected 0 to 8"):
        rank(Table(jnp.asarray(table)), np.array([9]), 5)


def test_a_block_holds_no_more_than_the_scorer_allows():
    at_once = ranking_module._queries_at_once
    assert at_once(Table(jnp.zeros((10, 2)), 0), 10) == ranking_module._BLOCK_SCORES // 10
    assert at_once(Table(jnp.zeros((10, 2)), 1_000_000), 10) == 32
    # 97 would fit.
    assert at_once(Table(jnp.zeros((10, 2)), ranking_module._BLOCK_BYTES // 97), 10) == 96
    assert at_once(Table(jnp.zeros((10, 2)), 10**12), 10) == 1
