"""Each baseline's scores against dense NumPy, on one small task."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightgcn_jax.data import Interactions
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph.bipartite import csr_rows
from lightgcn_jax.models.itemcf import ItemCf
from pinsage_jax.evaluation.baselines import (
    cooccurrence,
    item_cosine,
    personal_pagerank,
    popularity,
    random_scores,
)
from pinsage_jax.evaluation.feature_cosine import feature_cosine
from pinsage_jax.evaluation.metrics import ranks_of
from pinsage_jax.features.inputs import Input
from pinsage_jax.tasks.task import HeldOut, Task

NUM_ITEMS, NUM_CONTEXTS, NUM_QUERIES = 12, 8, 5
RNG = np.random.default_rng(0)
DENSE = (RNG.random((NUM_CONTEXTS, NUM_ITEMS)) < 0.4).astype(int)
# Every item has a context, so that all have a row, and one edge stands twice.
DENSE[np.arange(NUM_ITEMS) % NUM_CONTEXTS, np.arange(NUM_ITEMS)] = 1
QUERIES = np.array([[0, -1], [3, 7], [5, 5], [-1, 11], [-1, -1]], np.int32)
INPUTS = (
    Input("visual", "dense", 3, 3),
    Input("degree", "dense", 1, 1),
    Input("words", "bag", 6, 4),
    Input("tags", "bag", 3, 2),
)


def task_of():
    contexts, items = np.nonzero(DENSE)
    train = Interactions.from_arrays(np.append(contexts, contexts[0]), np.append(items, items[0]))
    seen = csr_rows([0, 1, 1, 2, 3], [0, 3, 7, 5, 11], NUM_QUERIES)
    relevant = csr_rows(np.arange(NUM_QUERIES), [4, 1, 9, 2, 6], NUM_QUERIES)
    held_out = HeldOut(QUERIES, relevant, seen)
    task = Task(
        data=None, train=train, pairs=None, valid=held_out, test=held_out,
        train_items=np.ones(NUM_ITEMS, bool),
    )  # fmt: skip
    return task, held_out


TASK, HELD_OUT = task_of()
scores_of = jax.jit(lambda scorer, rows: scorer.scores(rows))


def scored(scorer):
    assert (scorer.num_queries, scorer.num_items) == (NUM_QUERIES, NUM_ITEMS)
    assert scorer.block_bytes_per_query >= 0
    return np.asarray(scores_of(scorer, jnp.arange(NUM_QUERIES))).T


def test_baselines_are_ranked_like_a_model():
    ranks = {
        name: ranks_of(scorer, HELD_OUT).tolist()
        for name, scorer in (
            ("popularity", popularity(TASK, HELD_OUT)),
            ("cosine", item_cosine(TASK, HELD_OUT)),
            ("counts", cooccurrence(TASK, HELD_OUT)),
            ("pagerank", personal_pagerank(TASK, HELD_OUT)),
            ("features", feature_cosine(INPUTS, encoded(1), QUERIES)),
        )
    }
    assert all(1 <= rank <= NUM_ITEMS for row in ranks.values() for rank in row)
    # Query 4 is empty: nothing is seen and all scores are 0, so the same hash decides for both.
    assert ranks["cosine"][4] == ranks["features"][4]
    degrees = np.bincount(TASK.train.item_rows).astype(float)
    others = np.arange(NUM_ITEMS) != 0  # seen
    before = (degrees > degrees[4]) & others
    equal = (degrees == degrees[4]) & others
    assert 1 + before.sum() <= ranks["popularity"][0] <= before.sum() + equal.sum()


def test_popularity_is_the_number_of_training_edges():
    degrees = np.bincount(TASK.train.item_rows)
    assert degrees.sum() == DENSE.sum() + 1
    np.testing.assert_array_equal(
        scored(popularity(TASK, HELD_OUT)), np.tile(degrees, (NUM_QUERIES, 1))
    )


def test_random_scores_belong_to_the_key():
    one, same, other = (scored(random_scores(jax.random.key(k), TASK, HELD_OUT)) for k in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()
    assert len(np.unique(one)) == one.size


def test_item_cosine_sums_the_cosines_of_seen_items():
    rows = DENSE / DENSE.sum(axis=1, keepdims=True).clip(1)
    gram = rows.T @ DENSE
    # Contexts are scaled to length 1: two items share Σ 1/|c| over the contexts of both.
    lengths = np.sqrt(np.diag(gram))
    cosines = gram / np.outer(lengths, lengths)
    np.fill_diagonal(cosines, 0)
    expected = np.zeros((NUM_QUERIES, NUM_ITEMS))
    for query, items in enumerate(([0], [3, 7], [5], [11], [])):
        expected[query] = cosines[items].sum(axis=0)
    np.testing.assert_allclose(scored(item_cosine(TASK, HELD_OUT)), expected, atol=1e-6)
    few = item_cosine(TASK, HELD_OUT, ItemCf(neighbours=1))
    scores = np.asarray(scores_of(few, jnp.arange(NUM_QUERIES))).T
    assert ((scores > 0).sum(axis=1) <= [1, 2, 1, 1, 0]).all()


def of_queries(scores):
    """Rows of items as rows of queries: the mean over a query's items, 0 for none."""
    filled = [query[query >= 0] for query in QUERIES]
    return np.array([scores[items].sum(axis=0) / max(1, len(items)) for items in filled])


def edges():
    """How often each context holds each item: one edge stands twice."""
    contexts, items = np.nonzero(DENSE)
    counts = DENSE.astype(float)
    counts[contexts[0], items[0]] += 1
    return counts


def test_cooccurrence_counts_common_contexts():
    counts = edges()
    expected = of_queries(counts.T @ counts)
    np.testing.assert_allclose(scored(cooccurrence(TASK, HELD_OUT)), expected, atol=1e-5)


def test_pagerank_is_that_of_the_dense_matrix():
    counts = edges()
    step = (counts.T / counts.sum(axis=0)[:, None]) @ (counts / counts.sum(axis=1, keepdims=True))
    x = np.eye(NUM_ITEMS)
    for _ in range(10):
        x = 0.2 * np.eye(NUM_ITEMS) + 0.8 * x @ step
    found = scored(personal_pagerank(TASK, HELD_OUT, restart=0.2))
    np.testing.assert_allclose(found, of_queries(x), atol=1e-6)


def encoded(seed):
    rng = np.random.default_rng(seed)
    arrays = {
        "visual": rng.normal(size=(NUM_ITEMS, 3)).astype(np.float32),
        "degree": rng.normal(size=(NUM_ITEMS, 1)).astype(np.float32),
        "words": rng.integers(-1, 6, (NUM_ITEMS, 4)).astype(np.int32),
        "tags": rng.integers(-1, 3, (NUM_ITEMS, 2)).astype(np.int32),
    }
    # Item 2 has no words, item 5 no dense features, item 8 nothing at all.
    arrays["words"][[2, 8]] = arrays["tags"][[8]] = -1
    arrays["visual"][[5, 8]] = arrays["degree"][[5, 8]] = 0
    return arrays


def unit(row):
    length = np.linalg.norm(row)
    return row / length if length else row


def feature_vectors(inputs, arrays):
    """Every item's parts written out: dense inputs together, then the counts of each bag."""
    vectors = []
    for item in range(NUM_ITEMS):
        of_item = {entry.name: arrays[entry.name][item].astype(float) for entry in inputs}
        dense = [of_item[entry.name] for entry in inputs if entry.kind == "dense"]
        bags = [
            np.bincount(row[row >= 0].astype(int), minlength=entry.size).astype(float)
            for entry in inputs
            if entry.kind == "bag"
            for row in [of_item[entry.name]]
        ]
        parts = [unit(np.concatenate([np.zeros(0), *dense])), *map(unit, bags)]
        vectors.append(unit(np.concatenate(parts)))
    return np.array(vectors)


@pytest.mark.parametrize("chosen", [(0, 1, 2, 3), (0, 1), (3, 2)], ids=["all", "dense", "bags"])
def test_feature_cosine_is_that_of_the_vectors_written_out(chosen):
    inputs, arrays = [INPUTS[at] for at in chosen], encoded(1)
    vectors = feature_vectors(inputs, arrays)
    expected = np.zeros((NUM_QUERIES, NUM_ITEMS))
    for at, query in enumerate(QUERIES):
        if (query >= 0).any():
            expected[at] = vectors @ vectors[query[query >= 0]].mean(axis=0)
    got = scored(feature_cosine(inputs, arrays, QUERIES))
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert np.abs(expected).max() > 0.99
    assert not got[:, 8].any()


@pytest.mark.parametrize(
    ("inputs", "changes", "queries", "message"),
    [
        ((), {}, QUERIES, "inputs: expected at least one input"),
        ((*INPUTS, Input("year", "dense", 2, 2)), {}, QUERIES, "arrays: expected the input 'year'"),
        (INPUTS, {"words": np.zeros((12, 3), int)}, QUERIES, r"words: expected shape \[12, 4\]"),
        (INPUTS, {"tags": np.full((12, 2), 3)}, QUERIES, "tags: expected ids below 3 and −1, .* 3"),
        (INPUTS, {"degree": np.full((12, 1), np.inf)}, QUERIES, "degree: expected finite numbers"),
        (INPUTS, {}, QUERIES + 1, "queries: .* rows of −1 to 11, got .* to 12"),
        (INPUTS, {}, QUERIES[0], r"queries: expected int32\[queries, n\]"),
    ],
)
def test_bad_input_is_named(inputs, changes, queries, message):
    with pytest.raises(InputError, match=message):
        feature_cosine(inputs, encoded(0) | changes, queries)
