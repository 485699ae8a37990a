import argparse

import numpy as np
import pytest

from benchmarks.harness.report import ratio_of_means
from benchmarks.tables import fold_in
from lightgcn_jax.data import generate_world
from lightgcn_jax.models import GfCf, Popular
from lightgcn_jax.settings import ClosedFormConfig


@pytest.fixture(scope="module")
def interactions():
    return generate_world(users=60, items=40, mean_degree=8, groups=2, seed=1).interactions


def test_newcomers_are_in_no_training_and_halves_are_disjoint(interactions):
    world = fold_in.world_of(interactions, seed=3)
    without, with_given = world.without, world.with_given
    rows = without.users.rows(list(world.given))
    assert len(rows) == 6
    assert not np.isin(without.train.users, rows).any()
    assert not np.isin(without.valid.users, rows).any()
    given = sum(len(items) for items in world.given.values())
    assert len(with_given.train) == len(without.train) + given
    assert np.array_equal(with_given.valid.keys, without.valid.keys)
    for user, items in world.given.items():
        hidden = world.hidden[user]
        assert not hidden.intersection(items)
        assert len(items) - len(hidden) in (0, 1)
        own = interactions.item_rows[interactions.user_rows == interactions.users.row(user)]
        assert {*items, *hidden} == set(interactions.items.external(np.unique(own)))


def test_recall_by_hand():
    assert fold_in.recall([[1, 2], [3], []], [{1, 5}, {3}, {4}]) == [0.5, 1, 0]


def test_a_closed_form_of_a_list_has_a_share_and_popularity_none(interactions):
    world = fold_in.world_of(interactions, seed=0)
    config = ClosedFormConfig(GfCf(singular_vectors=4), ks=(20,))
    recalls, _ = fold_in.judged(world, config)
    assert {way: len(own) for way, own in recalls.items()} == {
        "full": 6,
        "folded": 6,
        "as_trained": 6,
    }
    assert 0 < np.mean(recalls["folded"]) <= 1
    popular, nothing = fold_in.judged(world, ClosedFormConfig(Popular(), ks=(20,)))
    assert (set(popular), nothing) == ({"full"}, {})
    lines = [
        {"dataset": "d", "seed": seed, "name": name, "full": seed, "folded": 3.0, "seconds": 1.0}
        for seed in (0, 1)
        for name in ("a", "b")
    ]
    means = fold_in.means_of(lines)
    assert means["d", "a"] == {"full": 0.5, "folded": 3.0, "seconds": 1.0}
    ratio = ratio_of_means([1.0, 2.0], [2.0, 2.0])
    assert ratio.value == 0.75
    assert ratio.interval == (0.5, 1.0)
    assert fold_in.table_of(means, {("d", "a"): ratio}).row_count == 2


def test_options():
    parser = argparse.ArgumentParser()
    fold_in.add_options(parser)
    args = parser.parse_args(["--dataset", "lastfm", "--seeds", "1", "--rows", "MF"])
    assert (args.dataset, args.seeds, args.rows) == (["lastfm"], 1, ["MF"])
