import itertools
import math
import time

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import CATALOGUE_METRICS, catalogue, catalogue_metrics
from lightgcn_jax.evaluation.catalogue import gini
from tests.lightgcn import oracles
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of, pair_sets

# Items 0, 1, 2 have 2, 1 and 1 training users, item 3 none; user 2 has no training item.
TRAIN = graph_of([0, 0, 1, 1], [0, 1, 0, 2], num_users=3, num_items=4)


def oracle(ranked, interactions, users, k):
    """Every metric from its definition, pair by pair."""
    lists = [[item for item in row[:k] if item >= 0] for row in ranked]
    degrees = interactions.sum(axis=0)
    trained = (interactions.sum(axis=1) > 0).sum()
    filled = [one for one in lists if one]

    def cosine(i, j):
        lengths = math.sqrt(degrees[i] * degrees[j])
        return interactions[:, i] @ interactions[:, j] / lengths if lengths else 0.0

    def mean_over(lists, value):
        return np.mean([np.mean([value(item) for item in one]) for one in lists])

    counts = [sum(item in one for one in lists) for item in range(len(degrees))]
    differences = sum(abs(a - b) for a in counts for b in counts)
    found = {
        "gini": differences / (2 * len(counts) * sum(counts)),
        "novelty": mean_over(filled, lambda item: -math.log2(max(degrees[item], 1) / trained)),
        "popularity": mean_over(filled, lambda item: degrees[item]),
    }
    with_pairs = [one for one in lists if len(one) > 1]
    if with_pairs:
        found["diversity"] = np.mean(
            [
                np.mean([1 - cosine(*pair) for pair in itertools.combinations(one, 2)])
                for one in with_pairs
            ]
        )
    if len(lists) > 1:
        found["personalisation"] = 1 - np.mean(
            [len({*a} & {*b}) / k for a, b in itertools.combinations(lists, 2)]
        )
    own = {user: np.flatnonzero(interactions[user]) for user in users}
    both = [(one, own[user]) for one, user in zip(lists, users, strict=True)]
    both = [(one, profile) for one, profile in both if one and len(profile)]
    if both:
        recommended, profiles = (
            mean_over(each, lambda item: degrees[item]) for each in zip(*both, strict=True)
        )
        found["popularity_lift"] = (recommended - profiles) / profiles
    return {f"{name}@{k}": value for name, value in found.items()}


def test_hand_computed_case():
    got = catalogue_metrics(np.array([[0, 3], [0, 1], [1, -1]]), TRAIN, (2, 1))
    expected = {
        # Counts 2, 1, 0, 0: the differences of the six pairs are 1, 2, 2, 1, 1, 0.
        "gini@1": 2 * 7 / (2 * 4 * 3),
        # Two training users: a popular item says nothing, one with one user a bit.
        "novelty@1": (0 + 0 + 1) / 3,
        "personalisation@1": 1 - (1 + 0 + 0) / 3,
        "popularity@1": (2 + 2 + 1) / 3,
        # Users 0 and 1, whose items have 2 and 1 training users.
        "popularity_lift@1": 2 / 1.5 - 1,
        # Counts 2, 2, 0, 1.
        "gini@2": 2 * (0 + 2 + 1 + 2 + 1 + 1) / (2 * 4 * 5),
        # Item 3, without users, counts as if it had one.
        "novelty@2": ((0 + 1) / 2 + (0 + 1) / 2 + 1) / 3,
        # Items 0 and 1 share one user, of 2 and 1; item 3 shares none; the last list has no pair.
        "diversity@2": (1 + (1 - 1 / math.sqrt(2))) / 2,
        "personalisation@2": 1 - (1 / 2 + 0 + 1 / 2) / 3,
        "popularity@2": ((2 + 0) / 2 + (2 + 1) / 2 + 1) / 3,
        "popularity_lift@2": ((1 + 1.5) / 2) / 1.5 - 1,
    }
    assert got == pytest.approx(expected)
    order = [f"{name}@{k}" for k in (1, 2) for name in CATALOGUE_METRICS]
    assert list(got) == [name for name in order if name in expected]


@given(
    pairs=pair_sets().filter(lambda pairs: len(pairs[0])),
    seed=st.integers(0, 2**31),
    queries=st.integers(1, 6),
    k=st.integers(1, 5),
    block=st.sampled_from([1, 20, 1 << 22]),
)
@settings(max_examples=150, deadline=None)
def test_agrees_with_the_definitions(pairs, seed, queries, k, block):
    rng = np.random.default_rng(seed)
    users = rng.permutation(NUM_USERS)[:queries]
    ranked = np.array([rng.permutation(NUM_ITEMS)[:5] for _ in users])
    # Lists of any length, the first not empty.
    ranked[np.arange(5) >= rng.integers(0, 6, (queries, 1))] = -1
    ranked[0, 0] = max(ranked[0, 0], 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "_BLOCK_ENTRIES", block)
        got = catalogue_metrics(ranked, graph_of(*pairs), (k, 5), users=users)
    interactions = oracles.dense_interactions(*pairs, NUM_USERS, NUM_ITEMS)
    expected = oracle(ranked, interactions, users, k) | oracle(ranked, interactions, users, 5)
    assert got == pytest.approx(expected, abs=1e-12)


def test_lists_of_the_whole_catalogue_take_steps_in_proportion():
    """Pair by pair these were 10^9 cosines, some ten seconds."""
    rng = np.random.default_rng(0)
    items, users = 4_000, 60
    cells = rng.choice(users * items, 9_000, replace=False)
    train = graph_of(*np.divmod(cells, items), users, items)
    ranked = np.array([rng.permutation(items) for _ in range(users)])
    started = time.process_time()
    found = catalogue_metrics(ranked, train, (items,))
    assert time.process_time() - started < 2
    assert 0 < found[f"diversity@{items}"] < 1


def test_gini_goes_from_equal_to_one_for_all():
    assert gini(np.full(10, 3)) == 0
    assert gini(np.eye(10, dtype=int)[4] * 7) == pytest.approx(1 - 1 / 10)
    assert gini(np.array([5])) == 0


def test_the_extremes_of_diversity_and_personalisation():
    """Items 0 and 1 have the same users, items 2 and 3 others."""
    train = graph_of([0, 0, 1, 1, 2, 3], [0, 1, 0, 1, 2, 3], num_users=4, num_items=4)
    same = catalogue_metrics(np.array([[0, 1], [1, 0]]), train, (2,))
    assert same["diversity@2"] == pytest.approx(0, abs=1e-12)
    assert same["personalisation@2"] == 0
    apart = catalogue_metrics(np.array([[0, 2], [1, 3]]), train, (2,))
    assert apart["diversity@2"] == apart["personalisation@2"] == 1


def test_what_is_not_defined_is_missing():
    # One user, without training items, and one item.
    got = catalogue_metrics(np.array([[0]]), TRAIN, (1,), users=np.array([2]))
    assert set(got) == {"gini@1", "novelty@1", "popularity@1"}


@pytest.mark.parametrize(
    ("ranked", "ks", "users", "message"),
    [
        ([0, 1], (1,), None, r"ranked: expected int\[users, K\], got int64\[2\]"),
        ([[0.5]], (1,), None, "got float64"),
        ([[-1]], (1,), None, "at least one recommended item"),
        ([[4]], (1,), None, "items of 0 to 3, or -1, got 4 to 4"),
        ([[0, -2]], (1,), None, "got -2 to 0"),
        ([[0]], (2,), None, r"ks: expected cut-offs of 1 to 1, got \[2\]"),
        ([[0]], (), None, "ks: expected"),
        ([[0]], (1,), [0, 1], "users: expected 1 rows"),
        ([[0]], (1,), [3], "of 0 to 2"),
    ],
)
def test_what_does_not_fit_is_refused(ranked, ks, users, message):
    users = None if users is None else np.array(users)
    with pytest.raises(InputError, match=message):
        catalogue_metrics(np.array(ranked), TRAIN, ks, users=users)


def test_nothing_to_train_on_is_refused():
    none = np.zeros(0, int)
    empty = graph_of(none, none, num_users=3, num_items=4)
    with pytest.raises(InputError, match="at least one interaction"):
        catalogue_metrics(np.array([[0]]), empty, (1,))
