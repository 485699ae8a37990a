"""Ranks, hit-rate, MRR and triplets against counts by hand and in plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import InnerProduct, evaluate
from lightgcn_jax.graph.bipartite import csr_rows
from lightgcn_jax.models.trivial import PopularScorer
from pinsage_jax.evaluation import metrics as evaluation
from pinsage_jax.evaluation.metrics import (
    chance,
    compose_queries,
    evaluate_items,
    ranks_of,
    reciprocal_ranks,
    triplet_accuracy,
)
from pinsage_jax.graph.hashing import salts, scrambled
from pinsage_jax.tasks.task import HeldOut
from tests.lightgcn.laws import LEVEL, chi_square

NUM_ITEMS, NUM_QUERIES = 23, 37
DRAWS = 4_000
CANDIDATES = np.array([0, 2, 3, 5, 6, 7, 11, 13, 14, 15, 19, 21, 22])


def held_out_of(queries, relevant, seen):
    """``relevant`` and ``seen`` as lists of rows."""

    def rows(lists):
        owners = np.repeat(np.arange(len(lists)), [len(row) for row in lists])
        return csr_rows(owners, np.concatenate([np.zeros(0, int), *lists]), len(lists))

    return HeldOut(np.asarray(queries, np.int32), rows(relevant), rows(seen))


def small_world(seed):
    """Vectors of small whole numbers, so that scores are exact and many are equal."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-1, 2, (NUM_ITEMS, 3)).astype(np.float32)
    queries = rng.integers(0, NUM_ITEMS, (NUM_QUERIES, 2))
    queries[rng.random(NUM_QUERIES) < 0.3, 1] = -1
    queries[4] = -1
    relevant, seen = [], []
    for at, query in enumerate(queries):
        others = rng.permutation(np.setdiff1d(np.arange(NUM_ITEMS), query))
        relevant.append(others[: at % 5])
        # Some positives are seen as well: they cannot be ranked.
        seen.append(np.union1d(query[query >= 0], others[3 : rng.integers(3, 8)]))
    return vectors, held_out_of(queries, relevant, seen)


def row_of(rows, at):
    offsets = np.asarray(rows.offsets)
    return np.asarray(rows.columns)[offsets[at] : offsets[at + 1]]


def composed(vectors, query):
    chosen = query[query >= 0]
    return vectors[chosen].astype(float).mean(axis=0) if len(chosen) else np.zeros(vectors.shape[1])


def ranks_by_hand(vectors, held_out, candidates=None):
    """A sort of what may be ranked, in float64; equal scores by the hash of query and item."""
    pool = np.arange(len(vectors)) if candidates is None else candidates
    ranks = []
    for at, query in enumerate(np.asarray(held_out.queries)):
        scores = vectors.astype(float) @ composed(vectors, query)
        allowed = np.setdiff1d(pool, row_of(held_out.seen, at))
        order = scrambled(allowed.astype(np.uint32), salts(np.full(1, at, np.uint32)))
        ranking = allowed[np.lexsort((order, -scores[allowed]))].tolist()
        for item in row_of(held_out.relevant, at):
            ranks.append(ranking.index(item) + 1 if item in ranking else 0)
    return ranks


def on_a_line(relevant, seen=((),)):
    """One query that scores item i by −i: without seen items the rank of item i is i + 1."""
    vectors = np.stack([-np.arange(120), np.ones(120)], axis=1).astype(np.float32)
    scorer = InnerProduct(jnp.tile(jnp.array([[1.0, 0.0]]), (len(relevant), 1)), vectors)
    queries = np.zeros((len(relevant), 1))
    return scorer, held_out_of(queries, relevant, list(seen) * len(relevant))


def test_a_query_is_the_mean_of_its_valid_items():
    vectors = jnp.array([[1.0, 2.0], [3.0, -2.0], [0.0, 5.0]])
    queries = jnp.array([[0, 1], [2, -1], [-1, 2], [-1, -1], [1, 1]])
    assert compose_queries(vectors, queries).tolist() == [[2, 0], [0, 5], [0, 5], [0, 0], [3, -2]]


@pytest.mark.parametrize("candidates", [None, CANDIDATES], ids=["all", "some"])
@pytest.mark.parametrize("memory_bytes", [1, 32_000_000])
def test_ranks_are_those_of_a_sort(candidates, memory_bytes):
    for seed in range(6):
        vectors, held_out = small_world(seed)
        expected = ranks_by_hand(vectors, held_out, candidates)
        got = ranks_of(vectors, held_out, candidates=candidates, memory_bytes=memory_bytes)
        assert got.dtype == np.int32
        assert got.tolist() == expected
        # There is something to see: ties, positives that are not ranked, and later places.
        assert 0 in expected
        assert max(expected) > 10


def test_a_scorer_is_ranked_like_vectors():
    vectors, held_out = small_world(1)
    queries = compose_queries(jnp.asarray(vectors), jnp.asarray(held_out.queries))
    by_scorer = ranks_of(InnerProduct(queries, jnp.asarray(vectors)), held_out)
    assert by_scorer.tolist() == ranks_of(vectors, held_out).tolist()
    # Alike for everybody and equal for all: the hash decides.
    popular = PopularScorer(jnp.zeros(NUM_ITEMS), NUM_QUERIES)
    expected = ranks_by_hand(np.zeros((NUM_ITEMS, 1)), held_out)
    assert ranks_of(popular, held_out).tolist() == expected


def test_equal_scores_favour_no_row():
    """All items score the same for 3,000 queries: each has every rank as often as any other."""
    count = 3_000
    relevant = csr_rows(
        np.repeat(np.arange(count), NUM_ITEMS), np.tile(np.arange(NUM_ITEMS), count), count
    )
    nothing = csr_rows(np.zeros(0, int), np.zeros(0, int), count)
    held_out = HeldOut(np.full((count, 1), -1, np.int32), relevant, nothing)
    ranks = ranks_of(PopularScorer(jnp.zeros(NUM_ITEMS), count), held_out).reshape(count, NUM_ITEMS)
    assert (np.sort(ranks, axis=1) == np.arange(1, NUM_ITEMS + 1)).all()
    for item in (0, 1, NUM_ITEMS // 2, NUM_ITEMS - 1):
        counts = np.bincount(ranks[:, item], minlength=NUM_ITEMS + 1)[1:]
        assert chi_square(counts, np.ones(NUM_ITEMS)) > LEVEL


def test_nothing_seen_and_nothing_relevant():
    vectors, held_out = small_world(2)
    nothing = held_out_of(held_out.queries, [[]] * NUM_QUERIES, [[]] * NUM_QUERIES)
    assert ranks_of(vectors, nothing).tolist() == []
    unseen = HeldOut(held_out.queries, held_out.relevant, nothing.seen)
    assert ranks_of(vectors, unseen).tolist() == ranks_by_hand(vectors, unseen)


def test_recall_and_ndcg_are_those_of_the_full_ranking():
    vectors, held_out = small_world(3)
    # No scores are equal: the two packages order equals differently.
    vectors = vectors + np.random.default_rng(0).normal(0, 0.1, vectors.shape).astype(np.float32)
    ours = evaluate_items(vectors, held_out, ks=(1, 5, 20))
    queries = compose_queries(jnp.asarray(vectors), jnp.asarray(held_out.queries))
    theirs = evaluate(
        InnerProduct(queries, jnp.asarray(vectors)),
        held_out.relevant,
        ks=(1, 5, 20),
        seen=held_out.seen,
    )
    assert ours.queries.tolist() == theirs.users.tolist()
    assert ours.queries_without_positives == theirs.users_without_items > 0
    # Query 4 is empty, so all its scores are equal.
    filled = ours.queries != 4
    for name in (f"{metric}@{k}" for metric in ("recall", "ndcg") for k in (1, 5, 20)):
        one, other = ours.per_query[name], theirs.per_user[name]
        np.testing.assert_allclose(one[filled], other[filled], rtol=1e-6)
        np.testing.assert_allclose(ours.metrics[name], one.mean(), rtol=1e-6)
    # A query of one positive is hit or not: the pair's metric is the query's.
    single = filled & (np.diff(held_out.relevant.offsets)[ours.queries] == 1)
    np.testing.assert_array_equal(
        ours.per_query["hit_rate@5"][single], theirs.per_user["hit_rate@5"][single]
    )
    assert single.any()
    # Query 4 has positives, and no item of its own.
    assert ours.empty_queries == 1


def test_mrr_divides_ranks_by_its_scale_and_rounds_up():
    ranks = np.array([1, 2, 100, 101, 200, 201, 0])
    expected = [1, 1, 1, 1 / 2, 1 / 2, 1 / 3, 0]
    np.testing.assert_allclose(reciprocal_ranks(ranks, 100), expected)
    expected = [1, 1 / 2, 1 / 100, 1 / 101, 1 / 200, 1 / 201, 0]
    np.testing.assert_allclose(reciprocal_ranks(ranks), expected)
    scorer, held_out = on_a_line([[0, 99, 100], [3]])
    scaled = evaluate_items(scorer, held_out, mrr_scale=100)
    # Ranks 1, 100 and 101, then 4.
    assert scaled.ranks.tolist() == [1, 100, 101, 4]
    assert scaled.metrics["mrr/100"] == pytest.approx((1 + 1 + 1 / 2 + 1) / 4)
    assert scaled.mrr_scale == 100
    assert "mrr" not in scaled.metrics
    plain = evaluate_items(scorer, held_out)
    assert plain.metrics["mrr"] == pytest.approx((1 + 1 / 100 + 1 / 101 + 1 / 4) / 4)


def test_the_paper_s_metrics_are_means_over_pairs():
    """Query 0 finds one of four positives in the first ten, query 1 its only one."""
    scorer, held_out = on_a_line([[2, 50, 60, 110], [7]])
    result = evaluate_items(scorer, held_out, ks=(10, 100))
    assert list(result.metrics) == [
        "hit_rate@10", "hit_rate@100", "mrr", "recall@10", "recall@100", "ndcg@10", "ndcg@100",
    ]  # fmt: skip
    assert result.metrics["hit_rate@10"] == pytest.approx(2 / 5)
    assert result.metrics["hit_rate@100"] == pytest.approx(4 / 5)
    assert result.metrics["recall@10"] == pytest.approx((1 / 4 + 1) / 2)
    np.testing.assert_allclose(result.per_query["hit_rate@100"], [3 / 4, 1])
    np.testing.assert_allclose(
        result.per_query["mrr"], [(1 / 3 + 1 / 51 + 1 / 61 + 1 / 111) / 4, 1 / 8], rtol=1e-6
    )


def test_what_cannot_be_ranked_is_a_miss_and_counted():
    """Items 0 and 1 are seen and item 5 is outside the pool, which counts the seen items."""
    scorer, held_out = on_a_line([[0, 5, 6], [7]], seen=[[0, 1]])
    result = evaluate_items(scorer, held_out, candidates=np.delete(np.arange(120), [3, 4, 5]))
    assert result.ranks.tolist() == [0, 0, 2, 3]
    assert (result.unranked, result.pool) == (2, 117)
    assert result.metrics["hit_rate@10"] == pytest.approx(2 / 4)
    assert result.metrics["mrr"] == pytest.approx((1 / 2 + 1 / 3) / 4)


def test_vectors_of_other_items_score_chance():
    """Vectors that know nothing of the pairs: hits are binomial, with a random rank's chance."""
    rng = np.random.default_rng(7)
    items, pairs = 300, 3_000
    queries = rng.integers(0, items, pairs)
    positives = (queries + rng.integers(1, items, pairs)) % items
    held_out = HeldOut(
        queries[:, None].astype(np.int32),
        csr_rows(np.arange(pairs), positives, pairs),
        csr_rows(np.arange(pairs), queries, pairs),
    )
    vectors = rng.permutation(rng.normal(size=(items, 8))).astype(np.float32)
    ranks = ranks_of(vectors, held_out)
    for k in (10, 100):
        hits = int((ranks <= k).sum())
        # The query itself is left out of its own ranking.
        assert scipy.stats.binomtest(hits, pairs, chance(items - 1, k)).pvalue > 1e-3


def test_chance_is_the_share_of_the_pool():
    assert chance(200, 10) == 1 / 20
    assert chance(5, 10) == 1
    with pytest.raises(InputError, match="chance: expected a pool of at least 1"):
        chance(0, 10)


def test_triplets_by_hand():
    """Items on a line at 0, 1, 3, 3 and 4; strangers are neither the query nor the positive."""
    vectors = np.array([[0.0], [1.0], [3.0], [3.0], [4.0]], np.float32)
    # From 0: item 1 beats all others; item 4 none; 2 ties with 3, loses to 1, beats 4.
    held_out = held_out_of([[0], [0], [0], [-1]], [[1], [4], [2], [1]], [[]] * 4)
    result = triplet_accuracy(jax.random.key(1), vectors, held_out, draws=DRAWS)
    assert result.per_pair[:2].tolist() == [1, 0]
    assert result.per_pair[2] == pytest.approx((0 + 1 / 2 + 1) / 3, abs=0.04)
    assert result.accuracy == pytest.approx(result.per_pair.mean())
    assert result.left_out == 1


@pytest.mark.parametrize("candidates", [None, CANDIDATES], ids=["all", "some"])
def test_strangers_are_uniform_over_the_pool(candidates):
    """The share of right triplets against all strangers, to five deviations of the draws."""
    vectors, held_out = small_world(5)
    got = triplet_accuracy(jax.random.key(2), vectors, held_out, draws=DRAWS, candidates=candidates)
    pool = np.arange(NUM_ITEMS) if candidates is None else candidates
    expected = []
    for at, query in enumerate(held_out.queries):
        if not (query >= 0).any():
            continue
        distances = np.linalg.norm(vectors - composed(vectors, query), axis=1).round(6)
        for item in row_of(held_out.relevant, at):
            others = distances[np.setdiff1d(pool, [*query, item])]
            expected.append(
                (distances[item] < others).mean() + (distances[item] == others).mean() / 2
            )
    np.testing.assert_allclose(got.per_pair, expected, atol=5 * 0.5 / np.sqrt(DRAWS))
    assert len(set(expected)) > 10


def test_triplets_do_not_depend_on_the_blocks(monkeypatch):
    vectors, held_out = small_world(5)
    whole = triplet_accuracy(jax.random.key(2), vectors, held_out, draws=DRAWS)
    other = triplet_accuracy(jax.random.key(4), vectors, held_out, draws=DRAWS)
    assert (other.per_pair != whole.per_pair).any()
    monkeypatch.setattr(evaluation, "_BLOCK_BYTES", 4 * 3 * (DRAWS + 1) * 7)
    parts = triplet_accuracy(jax.random.key(2), vectors, held_out, draws=DRAWS)
    assert (parts.per_pair == whole.per_pair).all()


VECTORS, HELD_OUT = small_world(0)


@pytest.mark.parametrize(
    ("vectors", "settings", "message"),
    [
        (VECTORS, {"ks": (0,)}, r"ks: expected cut-offs of 1 to 23 .* got \(0,\)"),
        (VECTORS, {"ks": (24,)}, r"ks: expected cut-offs of 1 to 23"),
        (VECTORS, {"ks": (14,), "candidates": CANDIDATES}, r"ks: expected cut-offs of 1 to 13"),
        (VECTORS, {"ks": (1,), "mrr_scale": 0}, "mrr_scale: expected a whole number of at least 1"),
        (VECTORS, {"candidates": np.array([3, 3])}, "candidates: expected ascending item rows"),
        (VECTORS, {"candidates": np.array([0, 23])}, "candidates: .* of 0 to 22"),
        (VECTORS, {"candidates": np.zeros(0, int)}, "candidates: expected at least one item row"),
        (VECTORS[:20], {"ks": (1,)}, "held_out: expected item rows below 20, got 22"),
        (VECTORS[0], {"ks": (1,)}, r"vectors: expected float\[items, dimensions\]"),
        (VECTORS * np.nan, {"ks": (1,)}, "vectors: expected finite numbers, .* 23 rows"),
        (
            InnerProduct(jnp.zeros((3, 3)), jnp.asarray(VECTORS)),
            {"ks": (1,)},
            "model: expected a scorer of 37 queries, got 3",
        ),
    ],
)
def test_bad_input_is_named(vectors, settings, message):
    with pytest.raises(InputError, match=message):
        evaluate_items(vectors, HELD_OUT, **settings)


def test_nothing_to_judge_is_named():
    nothing = held_out_of([[0]], [[]], [[]])
    with pytest.raises(InputError, match="at least one query with a positive"):
        evaluate_items(VECTORS, nothing)
    with pytest.raises(InputError, match="at least one pair with a valid query"):
        triplet_accuracy(jax.random.key(0), VECTORS, nothing)
    with pytest.raises(InputError, match="draws: expected at least 1"):
        triplet_accuracy(jax.random.key(0), VECTORS, HELD_OUT, draws=0)
    with pytest.raises(InputError, match="pool: expected at least 4 items"):
        triplet_accuracy(jax.random.key(0), VECTORS, HELD_OUT, candidates=CANDIDATES[:3])
    short = HELD_OUT._replace(seen=nothing.seen)
    with pytest.raises(InputError, match="held_out: expected 37 rows of queries"):
        ranks_of(VECTORS, short)
