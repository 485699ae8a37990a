import argparse
import dataclasses

import numpy as np
import pytest

from benchmarks.tables import two_stage
from lightgcn_jax.data import generate_world
from lightgcn_jax.serving.two_stage import RankerConfig


@pytest.fixture(scope="module")
def world():
    made = generate_world(users=40, items=40, mean_degree=10, groups=2, seed=1).interactions
    times = np.random.default_rng(0).permutation(len(made)).astype(np.float64)
    return two_stage.cut(dataclasses.replace(made, timestamps=times))


def test_parts_follow_each_other_in_each_users_time(world):
    data = world.data
    for user in range(data.num_users):
        own = np.flatnonzero(data.user_rows == user)
        ordered = world.part[own[np.argsort(data.timestamps[own])]]
        assert (np.diff(ordered) >= 0).all()
        share = int(np.floor(0.1 * len(own) + 0.5))
        assert np.bincount(ordered, minlength=4)[1:].tolist() == [share] * 3


def test_a_history_holds_what_came_before_with_its_times(world):
    history, data = world.history(2), world.data
    when = {
        (user, item): time
        for user, item, time, part in zip(
            data.user_rows, data.item_rows, data.timestamps, world.part, strict=True
        )
        if part < 2
    }
    pairs = zip(history.pairs.users, history.pairs.items, strict=True)
    assert dict(zip(pairs, history.times, strict=True)) == when


@pytest.mark.slow
def test_what_comes_last_changes_no_training(world):
    """The second stage is the same whatever is judged, and a seed's line is the same twice."""
    once = dataclasses.replace(two_stage.FIRST_STAGE.optimization, epochs=1)
    model = dataclasses.replace(two_stage.FIRST_STAGE, optimization=once)
    ranker = RankerConfig(hidden=(4,), epochs=1)
    line = two_stage.line_of(world, model, ranker, 0)
    judged = np.flatnonzero(world.part == 3)
    fewer = np.where(np.isin(np.arange(len(world.part)), judged[::2]), 9, world.part)
    other = two_stage.line_of(world._replace(part=fewer), model, ranker, 0)
    for name in ("valid_before", "valid_after", "best_epoch"):
        assert line[name] == other[name]
    summary = two_stage.summary_of("d", [{"dataset": "d"} | line] * 2)
    assert summary["difference"] == pytest.approx(line["after"] - line["before"], abs=1e-6)
    assert two_stage.table_of({"d": summary}).row_count == 1


def test_options():
    parser = argparse.ArgumentParser()
    two_stage.add_options(parser)
    assert parser.parse_args(["--datasets", "ml-100k"]).seeds == 5
