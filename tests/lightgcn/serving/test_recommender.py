"""Recommendations on a world small enough to score by hand."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest

from lightgcn_jax.data import IdMap, Pairs, Split, block_world, given_split
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import InnerProduct, ranking
from lightgcn_jax.graph import csr_rows
from lightgcn_jax.models import LightGCN
from lightgcn_jax.models.trivial import PopularScorer
from lightgcn_jax.runs import FitResult, RunDirectory, fit
from lightgcn_jax.serving import Ranked, Recommender
from lightgcn_jax.settings import Selection, TrainConfig
from lightgcn_jax.training import Optimization, SharedNegatives

# Scores:       10  20  30  40  50
#   a (1, 0)     1   2   0   0   1
#   b (0, 1)     0   0   3   0   0
#   c (1, 1)     1   2   3   0   1
# Seen: a has 20, b has 30.
USERS = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
ITEMS = np.array([[1, 0], [2, 0], [0, 3], [0, 0], [1, 0]], np.float32)


@pytest.fixture(scope="module")
def recommender() -> Recommender:
    return Recommender(
        IdMap.from_values(["a", "b", "c"]),
        IdMap.from_values([10, 20, 30, 40, 50]),
        InnerProduct(USERS, ITEMS),
        csr_rows([0, 1], [1, 2], 3),
    )


def as_lists(ranked: Ranked | None) -> tuple[list, list]:
    assert ranked is not None
    assert ranked.scores.dtype == np.float32
    return ranked.ids, ranked.scores.tolist()


def test_highest_inner_products_without_seen_items_and_ties_by_row(recommender):
    assert as_lists(recommender.recommend("a", 3)) == ([10, 50, 30], [1, 1, 0])


def test_seen_items_on_request(recommender):
    assert as_lists(recommender.recommend("a", 2, exclude_seen=False)) == ([20, 10], [2, 1])


def test_fewer_than_k_where_the_rest_is_seen(recommender):
    assert as_lists(recommender.recommend("a", 5)) == ([10, 50, 30, 40], [1, 1, 0, 0])


def test_only_chosen_items(recommender):
    ranked = recommender.recommend("c", among=[40, 30, 10, 30])
    assert as_lists(ranked) == ([30, 10, 40], [3, 1, 0])


def test_filtered_items(recommender):
    ranked = recommender.recommend("c", 3, exclude=["30", "20"])
    assert as_lists(ranked) == ([10, 50, 40], [1, 1, 0])


def test_both_filters_and_seen(recommender):
    ranked = recommender.recommend("a", among=[10, 20, 30], exclude=[10])
    assert as_lists(ranked) == ([30], [0])


def test_nothing_left_is_an_empty_ranking(recommender):
    assert as_lists(recommender.recommend("a", among=[10], exclude=[10])) == ([], [])
    assert recommender.recommend(["a", "b"], among=[])[1].ids == []


@pytest.mark.parametrize("batch", [list, tuple, np.array, pl.Series])
def test_a_batch_is_its_members_one_by_one(recommender, batch):
    users = ["c", "a", "b", "a", "c"]
    for one, ranked in zip(users, recommender.recommend(batch(users), 4), strict=True):
        assert as_lists(ranked) == as_lists(recommender.recommend(one, 4))
    for one, ranked in zip(users, recommender.similar_users(batch(users), 2), strict=True):
        assert as_lists(ranked) == as_lists(recommender.similar_users(one, 2))


def test_an_empty_batch(recommender):
    assert recommender.recommend([], 2) == []


def test_similar_items_by_cosine_without_the_item_itself(recommender):
    # 10, 20 and 50 point one way: cosine 1, in the order of rows; 30 is orthogonal, 40 is zero.
    assert as_lists(recommender.similar_items(10, 5)) == ([20, 50, 30, 40], [1, 1, 0, 0])
    assert recommender.similar_items(10, 1).ids == [20]
    assert as_lists(recommender.similar_items(40, 2)) == ([10, 20], [0, 0])


def test_similar_users_by_cosine(recommender):
    ids, scores = as_lists(recommender.similar_users("c", 3))
    assert ids == ["a", "b"]
    np.testing.assert_allclose(scores, [1 / 2**0.5] * 2, rtol=1e-6)


def test_cosines_of_extreme_lengths_are_finite(recommender):
    lengths = np.array([1e-25, 1e25, 1e-25, 0, 1], np.float32)[:, None]
    extreme = replace(recommender, scorer=InnerProduct(USERS, ITEMS * lengths))
    np.testing.assert_allclose(extreme.similar_items(10, 5).scores, [1, 1, 0, 0], rtol=1e-6)


@pytest.mark.parametrize("number", [np.int64, np.int32, jnp.int32])
def test_scalars_of_numpy_and_jax_are_taken(recommender, number):
    assert as_lists(recommender.recommend("a", number(3))) == ([10, 50, 30], [1, 1, 0])
    assert as_lists(recommender.similar_items(number(10), number(1))) == ([20], [1])
    chosen = [number(40), number(30)]
    assert as_lists(recommender.recommend(np.str_("c"), 2, among=chosen)) == ([30, 40], [3, 0])


def test_no_call_copies_the_catalogue(monkeypatch):
    """1,682 items must be filled up to whole groups: once, not with every call."""
    rng = np.random.default_rng(0)
    users, items = rng.random((9, 4), np.float32), rng.random((1682, 4), np.float32)
    ids = IdMap.from_values([f"u{row}" for row in range(9)]), IdMap.from_values(range(1682))
    recommender = Recommender(*ids, InnerProduct(users, items), csr_rows([0], [1], 9))
    ranked, rank_block = [], ranking.rank_block

    def noting(rows, scorer, *arrays, **static):
        ranked.append(scorer.items)
        return rank_block(rows, scorer, *arrays, **static)

    monkeypatch.setattr(ranking, "rank_block", noting)
    for k in (1, 20):
        recommender.recommend("u3", k)
        recommender.recommend(["u1", "u2"], k, exclude=[5, 7])
    assert len(ranked) == 4
    assert all(table is ranked[0] for table in ranked)
    ranked.clear()
    for k in (1, 20):
        recommender.similar_items([3, 9], k)
    assert ranked[0] is ranked[1]
    assert ranked[0].shape[0] > 1682


def test_a_single_unknown_id_is_refused(recommender):
    with pytest.raises(InputError, match="user: unknown id 'nobody'"):
        recommender.recommend("nobody", 1)
    with pytest.raises(InputError, match="item: unknown id 11"):
        recommender.similar_items(11, 1)


def test_unknown_ids_of_a_batch_are_named_once_and_the_rest_is_answered(recommender):
    with pytest.warns(UserWarning, match="unknown user ids: 'x', 'y'") as caught:
        first, *others, last = recommender.recommend(["x", "a", "y", "b"], 1)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert first is None
    assert others[0] == recommender.recommend("a", 1)
    assert others[1] is None
    assert last.ids == [10]


def test_unknown_items_in_filters_are_named(recommender):
    with pytest.raises(InputError, match="among: unknown item ids: 11, 12"):
        recommender.recommend("a", 1, among=[10, 11, 12])
    with pytest.raises(InputError, match="exclude: unknown item ids: 'x'"):
        recommender.recommend("a", 1, exclude=["x"])
    with pytest.raises(InputError, match="several item ids"):
        recommender.recommend("a", 1, among="10")


@pytest.mark.parametrize("k", [0, -1, 2.5])
def test_k_is_at_least_one(recommender, k):
    for ask in (recommender.recommend, recommender.similar_users):
        with pytest.raises(InputError, match=f"k: expected 1 to .*, got {k}"):
            ask("a", k)
    with pytest.raises(InputError, match=f"k: expected 1 to .*, got {k}"):
        recommender.similar_items([10], k)


def test_k_beyond_what_there_is_is_cut_and_said(recommender):
    with pytest.warns(UserWarning, match="k: 6 were asked for, 5 may be recommended"):
        assert len(recommender.recommend("b", 6, exclude_seen=False).ids) == 5
    with pytest.warns(UserWarning, match="k: 4 were asked for, 2 may be recommended"):
        assert len(recommender.recommend("b", 4, among=[10, 20]).ids) == 2
    with pytest.warns(UserWarning, match="k: 6 were asked for, 5 items there are"):
        assert len(recommender.similar_items(10, 6).ids) == 4
    with pytest.warns(UserWarning, match="k: 4 were asked for, 3 users there are"):
        assert len(recommender.similar_users(["a"], 4)[0].ids) == 2
    # The 20 that nobody asked for are cut in silence.
    assert len(recommender.recommend("b", exclude_seen=False).ids) == 5


# Training holds what was seen: c, 10, 40 and 50 are new, and 20 and 30 have one user each.
def test_users_of_whom_nothing_is_known_get_popular_items_and_are_told(recommender):
    known = csr_rows([0, 1, 1], [1, 2, 1], 3)
    trained = replace(recommender, train=known)
    assert trained.knows_user(["a", "c", "nobody"]).tolist() == [True, False, False]
    with pytest.warns(UserWarning, match="no training interaction names user 'c': popular items"):
        assert as_lists(trained.recommend("c", 2)) == ([20, 30], [2, 1])
    with pytest.warns(UserWarning, match="'c'"):
        both = trained.recommend(["c", "a"], 2)
    assert as_lists(both[1]) == as_lists(trained.recommend("a", 2)) == ([10, 50], [1, 1])
    assert as_lists(both[0]) == ([20, 30], [2, 1])


def test_nothing_is_similar_to_what_nobody_knows(recommender):
    trained = replace(recommender, train=csr_rows([0, 1], [1, 2], 3))
    with pytest.raises(InputError, match="item: nothing is known of 40: no training interaction"):
        trained.similar_items(40, 2)
    with pytest.raises(InputError, match="user: nothing is known of 'c'"):
        trained.similar_users("c", 2)
    with pytest.warns(UserWarning, match="nothing is known of 40, 10: no training"):
        found = trained.similar_items([20, 40, 10], 1)
    assert [one is None for one in found] == [False, True, True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scorer": InnerProduct(USERS[:2], ITEMS)}, r"user_embeddings: expected float32\[3, D\]"),
        (
            {"scorer": InnerProduct(USERS, ITEMS[:, :1])},
            r"item_embeddings: expected float32\[5, D\]",
        ),
        ({"scorer": InnerProduct(USERS, ITEMS.astype(float))}, "got float64"),
        (
            {"scorer": InnerProduct(USERS * np.float32(np.nan), ITEMS)},
            "expected finite numbers, got nan",
        ),
        (
            {"scorer": PopularScorer(jnp.ones(4), 3)},
            "scorer: expected 3 users and 5 items .* got 3 and 4",
        ),
        (
            {"scorer": PopularScorer(jnp.full(5, jnp.inf), 3)},
            r"scorer\.popularity: expected finite",
        ),
        ({"seen": csr_rows([0], [5], 3)}, "seen: expected 3 rows of items below 5"),
        ({"seen": csr_rows([0], [1], 4)}, "got 4 rows"),
    ],
)
def test_parts_that_do_not_fit_are_refused(recommender, change, message):
    with pytest.raises(InputError, match=message):
        replace(recommender, **change)


def test_all_items_of_a_run_count_as_seen_and_test_items_are_open_to_judgement(tmp_path):
    pairs = [Pairs.from_rows(np.array([user]), np.array([item])) for user, item in [(0, 1), (0, 4)]]
    test = Pairs.from_rows(np.array([0, 1]), np.array([0, 2]))
    ids = IdMap.from_values(["a", "b", "c"]), IdMap.from_values([10, 20, 30, 40, 50])
    split = Split(*ids, *pairs, test, description="by hand")
    with RunDirectory.creating(tmp_path / "run", split, TrainConfig(), {}, "adam"):
        pass
    run = RunDirectory(tmp_path / "run")
    with pytest.raises(InputError, match="no embeddings yet"):
        Recommender.from_run(run.path)
    run.write_embeddings(USERS, ITEMS)
    figures = {"best_epoch": 1, "epochs": 1, "parameters": 9, "embedding_parameters": 9}
    parts = {part: {} for part in ("train", "valid", "test")}
    about = {"model": "lightgcn", "protocol": "strict", "protocol_note": "strict"}
    run.write_summary(figures | parts | about)
    result = FitResult(TrainConfig(), split, {}, [], InnerProduct(USERS, ITEMS))
    for of, given in ((Recommender.from_run, run.path), (Recommender.from_fit, result)):
        assert as_lists(of(given).recommend("a", 5)) == ([30, 40], [0, 0])
        judging = of(given, offer_test=True)
        assert as_lists(judging.recommend("a", 5)) == ([10, 30, 40], [1, 0, 0])
        # Validation counts as seen, but training alone makes a user or an item known.
        with pytest.warns(UserWarning, match="names user 'b'"):
            assert judging.recommend("b", 1).ids == [20]


@pytest.mark.slow
def test_a_trained_run_recommends_what_was_withheld(tmp_path):
    """Every user of the block world lacks one item of the own group: the only right answer."""
    split = given_split(block_world())
    config = TrainConfig(
        model=LightGCN(dim=8, layers=2),
        negatives=SharedNegatives(16),
        optimization=Optimization(epochs=20, batch_size=64, learning_rate=0.05),
        selection=Selection("recall@1"),
        protocol="legacy",
        ks=(1, 5),
    )
    result = fit(split, config, out=tmp_path / "run")
    recommender = Recommender.from_run(tmp_path / "run", offer_test=True)
    withheld = dict(zip(split.test.users.tolist(), split.test.items.tolist(), strict=True))
    users = split.users.external(list(withheld))
    answers = recommender.recommend(users, 1)
    right = split.items.external(list(withheld.values()))
    assert [ranked.ids[0] for ranked in answers] == right
    in_memory = Recommender.from_fit(result, offer_test=True).recommend(users, 1)
    assert [ranked.ids for ranked in in_memory] == [ranked.ids for ranked in answers]


def test_another_k_or_filter_needs_no_other_program():
    """One user is ranked by one program, whatever is asked of it."""
    rng = np.random.default_rng(0)
    users, items = rng.normal(size=(3, 2)), rng.normal(size=(70, 2))
    scorer = InnerProduct(jnp.asarray(users, jnp.float32), jnp.asarray(items, jnp.float32))
    seen = csr_rows(np.array([0, 1], np.int32), np.array([4, 9], np.int32), 3)
    ids = [IdMap(pl.Series("id", np.arange(n))) for n in (3, 70)]
    recommender = Recommender(*ids, scorer, seen)
    recommender.recommend(0, 1)
    before = ranking.rank_block._cache_size()
    oracle = items @ users[1]
    oracle[9] = -np.inf
    for k, allowed, hidden in [
        (3, None, None), (7, None, [1]), (13, range(20), None), (2, [9, 3, 5], [5]),
        (31, np.arange(1, 60), [2, 3]), (1, None, list(range(66))),
    ]:  # fmt: skip
        masked = np.full(70, -np.inf)
        masked[slice(None) if allowed is None else list(allowed)] = 0
        masked[hidden or []] = -np.inf
        best = np.argsort(-(oracle + masked), kind="stable")[:k]
        best = best[np.isfinite((oracle + masked)[best])]
        assert recommender.recommend(1, k, among=allowed, exclude=hidden).ids == list(best)
    assert ranking.rank_block._cache_size() == before


def test_an_index_of_its_items_finds_what_it_recommends(recommender):
    found = recommender.index().search(USERS, 3)
    for user, one in zip(["a", "b", "c"], found, strict=True):
        expected = recommender.recommend(user, 3, exclude_seen=False)
        assert as_lists(one) == as_lists(expected)
    similar = recommender.index("cosine").search(ITEMS[:1], 3)[0]
    assert similar.ids == [10, *recommender.similar_items(10, 2).ids]
    popular = replace(recommender, scorer=PopularScorer(jnp.ones(5), 3))
    with pytest.raises(InputError, match="expected a model that has them"):
        popular.index()
