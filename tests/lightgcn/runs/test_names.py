"""No figure depends on how users and items are called, nor on how the rows of a log are sorted.

The same log is written in many ways; every split, model, metric and policy must say the same of all
of them. Where the model is in closed form nothing else is random, and a trained model draws its
initial vectors and its batches by the rows of the run, which are the same too.
"""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightgcn_jax.data import (
    Interactions,
    given_split,
    leave_k_out_split,
    ratio_split,
    temporal_split,
)
from lightgcn_jax.models import ClosedForm
from lightgcn_jax.runs import evaluate_run, fit
from lightgcn_jax.serving import Recommender
from lightgcn_jax.settings import MODELS, from_flat

USERS, ITEMS, EVENTS = 30, 24, 200
KS = (1, 3, 10)

SPLITS = {
    "ratio": lambda data: ratio_split(data, 0.6, 0.2, 0.2, seed=3),
    "random": lambda data: leave_k_out_split(data, 1, latest=False, seed=3),
    "latest": lambda data: leave_k_out_split(data, 1),
    "temporal": lambda data: temporal_split(data, 0.6, 0.2, 0.2),
    "per user": lambda data: temporal_split(data, 0.6, 0.2, 0.2, per_user=True),
    "given": given_split,
}
COLD = ("skip", "popular", "keep")
CLOSED = {
    "filter": {"low_pass_rank": 4},
    "gfcf": {"singular_vectors": 4},
    "spectral": {"dim": 4},
    # Fewer than there are: which of equal cosines are kept is a tie too.
    "itemcf": {"neighbours": 3},
    "popular": {},
    "random": {},
}
TRAINED = {
    "dim": 4, "epochs": 2, "batch_size": 32, "negatives": 4, "select_by": "recall@3",
    "evaluate_every": 1, "learning_rate": 0.05,
}  # fmt: skip
TRAINED_MODELS = [name for name in MODELS if not issubclass(MODELS[name], ClosedForm)]


@functools.cache
def log(seed):
    """Events of few moments, popular items among them, with users and items that come late."""
    rng = np.random.default_rng(seed)
    users = rng.integers(0, USERS, EVENTS)
    items = (ITEMS * rng.random(EVENTS) ** 1.5).astype(int)
    times = rng.integers(0, 12, EVENTS) + 6 * (users > USERS - 4) + 6 * (items > ITEMS - 3)
    # A pair is in one part, however often it stands.
    parts = (users * 7 + items * 5) % 10 // 4
    return users, items, times, parts


def written(seed, random):
    """The same log in other words and another order; the ids of users and of items."""
    users, items, times, parts = log(seed)
    user_names = random.sample([f"u{n}" for n in range(USERS)], USERS)
    item_names = random.sample([n * n for n in range(ITEMS)], ITEMS)
    order = np.array(random.sample(range(EVENTS), EVENTS))
    data = Interactions.from_arrays(
        [user_names[user] for user in users[order]],
        [item_names[item] for item in items[order]],
        timestamps=times[order],
        parts=parts[order],
    )
    return data, user_names, item_names


def config_of(model, **changes):
    own = CLOSED.get(model, TRAINED)
    return from_flat({"model": model, "ks": KS, "rank_train": True} | own | changes)


@functools.cache
def figures_as_given(seed, split, model, cold):
    users, items, times, parts = log(seed)
    data = Interactions.from_arrays(users, items, timestamps=times, parts=parts)
    return figures_of(data, split, model, cold)


def figures_of(data, split, model, cold):
    changes = {"layers": 1} if model in ("gcn", "sgc", "ngcf", "gnn", "lightgcn") else {}
    summary = fit(SPLITS[split](data), config_of(model, cold=cold, **changes)).summary
    return {name: summary[name] for name in ("train", "valid", "test", "cold")}


def assert_names_do_not_matter(seed, split, model, cold, random):
    data, *_ = written(seed, random)
    found, expected = (
        figures_of(data, split, model, cold),
        figures_as_given(seed, split, model, cold),
    )
    assert found["cold"] == expected["cold"]
    for part in ("train", "valid", "test"):
        assert found[part] == pytest.approx(expected[part], rel=1e-6, abs=1e-9), part


@pytest.mark.parametrize("split", SPLITS)
def test_every_split_is_the_same_under_any_names(split):
    first, *_ = (SPLITS[split](data) for data in [written(0, np_random(0))[0]])
    for seed in range(1, 4):
        other = SPLITS[split](written(0, np_random(seed))[0])
        for one, two in zip(canonical_parts(first), canonical_parts(other), strict=True):
            np.testing.assert_array_equal(one, two)
        assert other.notes == first.notes


def np_random(seed):
    import random

    return random.Random(seed)


def canonical_parts(split):
    ordered = split.in_canonical_order()
    return [getattr(ordered, part).keys for part in ("train", "valid", "test")]


@pytest.mark.parametrize(
    ("model", "split", "cold"), [*zip(CLOSED, SPLITS, itertools.cycle(COLD), strict=False)]
)
def test_closed_forms_say_the_same_under_any_names(model, split, cold):
    """Each model, split and policy once; a thousand logs have them all together."""
    assert_names_do_not_matter(0, split, model, cold, np_random(len(model)))


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(
    seed=st.integers(0, 3),
    model=st.sampled_from([*CLOSED]),
    split=st.sampled_from([*SPLITS]),
    cold=st.sampled_from(COLD),
    random=st.randoms(use_true_random=False),
)
def test_a_thousand_logs_say_the_same_under_any_names(seed, model, split, cold, random):
    assert_names_do_not_matter(seed, split, model, cold, random)


@pytest.mark.slow
@pytest.mark.parametrize("model", TRAINED_MODELS)
def test_trained_models_say_the_same_under_any_names(model):
    assert_names_do_not_matter(0, "temporal", model, "keep", np_random(5))


def test_what_is_served_and_what_lists_are_like_is_the_same_under_any_names(tmp_path):
    found = []
    for seed in (1, 2):
        data, user_names, item_names = written(0, np_random(seed))
        path = tmp_path / str(seed)
        fit(SPLITS["temporal"](data), config_of("itemcf"), out=path)
        figures = evaluate_run(path, KS, beyond=True, groups=3, rank_train=True)
        recommender = Recommender.from_run(path)
        known = recommender.knows_user(user_names)
        lists = [
            [item_names.index(item) for item in one.ids]
            for one in recommender.recommend(
                [user for user, is_known in zip(user_names, known, strict=True) if is_known], 5
            )
        ]
        found.append((figures, lists, known.tolist()))
    assert found[0][0] == found[1][0]
    assert found[0][2] == found[1][2]
    assert found[0][1] == found[1][1]
