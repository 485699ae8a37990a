"""The benchmark of PinSAGE at scale runs its stages, goes on where one was killed, and claims what
they told."""

import argparse
import dataclasses
import json
import os

import numpy as np
import pytest

from benchmarks.speed import pinsage_scale
from benchmarks.speed.three_billion import ITEMS, PAIRS, days_on_two_cores, on_accelerators
from benchmarks.workloads import pinsage_scale_stages as stages
from benchmarks.workloads.plain_scores import WALKS, plain_scores
from benchmarks.workloads.topic_world import WIDTH, write_world
from pinsage_jax.encoder.all_items import embed_all
from pinsage_jax.graph.item_graph import ItemGraph
from pinsage_jax.graph.neighborhoods import NeighborTable


class Killed(Exception):
    """Stands for the end of a process."""


def test_the_world_has_its_sizes_and_topics_meet(tmp_path):
    told = write_world(tmp_path, 20_000, 30_000)
    items, contexts, features = (
        np.load(tmp_path / f"{name}.npy") for name in ("item_rows", "context_rows", "features")
    )
    assert items.shape == contexts.shape == (30_000,)
    assert features.shape == (20_000, WIDTH)
    assert np.bincount(contexts).max() == told["largest"]
    assert len(np.unique(contexts)) == told["contexts"]
    # Of two neighbours in the log most share a context, and so do their features.
    same = contexts[1:] == contexts[:-1]
    alike = (features[items[1:]] * features[items[:-1]]).sum(axis=1)
    assert alike[same].mean() > 1 > abs(alike[~same].mean())


@pytest.fixture
def in_this_process(monkeypatch):
    """Stages are called, and a kill is an exception."""
    monkeypatch.setattr(stages, "_CHUNK", 256)
    monkeypatch.setattr(stages, "_QUERIES", 100)
    small = dataclasses.replace(stages.CONFIG, dim=8, walks=5, data_init=False)
    monkeypatch.setattr(stages, "CONFIG", small)

    def kill(*_):
        raise Killed

    monkeypatch.setattr(os, "kill", kill)

    def measured(stage, folder, *arguments, status=0):
        took = {"stage": stage, "seconds": 60.0, "cpu_seconds": 30.0, "peak_gb": 2.0}
        if status:
            with pytest.raises(Killed):
                stages.STAGES[stage](folder, *arguments)
            return took
        told = stages.STAGES[stage](folder, *arguments)
        if stage == "embed":
            given = (one(folder) for one in (stages._model, stages._params, stages._inputs))
            whole = embed_all(*given, stages._table(folder), chunk=256)
            np.testing.assert_array_equal(np.load(stages._layer(folder, 2)), whole.vectors)
        return took | json.loads(json.dumps(told))

    monkeypatch.setattr(pinsage_scale, "_measured", measured)


@pytest.mark.usefixtures("in_this_process")
def test_all_stages_run_and_training_and_embedding_are_resumed(tmp_path):
    parser = argparse.ArgumentParser()
    pinsage_scale.add_options(parser)
    sizes = ["--items", "1000", "--memberships", "8000", "--neighbors", "4", "--pairs", "64"]
    report = pinsage_scale.run(
        parser.parse_args([*sizes, "--minutes", "0.02", "--folder", str(tmp_path)])
    )
    claims = {claim.name: claim for claim in report.claims}
    assert claims["peak_gb"].value == 2
    assert claims["minutes_in_all"].value == len(report.details["stages"]) + 2  # two were resumed
    assert claims["resumed_bytes_agree"].holds
    told = {one["stage"]: one for one in report.details["stages"]}
    assert list(told) == list(stages.STAGES)
    assert 0 < told["train"]["begun_with_steps"] < told["train"]["steps"]
    assert told["train"]["count"] == 64 * told["train"]["steps"]
    assert told["embed"]["begun_with_rows"] == [1000, 512, 0]
    assert 0 < told["rank"]["metrics"]["PinSAGE"]["mrr"] < 1
    assert report.details["three_billion"]["days_on_two_cores"]["embed"] > 0


def test_plain_scores_of_a_small_graph():
    # Contexts {0, 1, 2} and {0, 1}; of item 0 the walks found item 1 three times in four.
    graph = ItemGraph.from_pairs([0, 1, 2, 0, 1], [0, 0, 0, 1, 1], num_items=4, num_contexts=2)
    ids = np.array([[1, 2], [0, -1], [0, 1], [-1, -1]], np.int32)
    weights = np.array([[0.75, 0.25], [1, 0], [0.5, 0.5], [0, 0]], np.float32)
    found = plain_scores(graph, NeighborTable(ids, weights), np.array([0, 2]), np.array([1, 2, 3]))
    expected = {
        "shared contexts": [[2, 1], [1, 1], [0, 0]],
        "one traversal": [[1 / 3 + 1 / 2, 1 / 3], [1 / 3, 1 / 3], [0, 0]],
        "its neighbours": [[0.75, 0.5], [0.25, 0], [0, 0]],
    }
    assert found.keys() == {*expected, "walks with restart"}
    visits = found["walks with restart"]
    np.testing.assert_array_equal(visits[2], 0)  # no context has item 3
    # At every traversal walks from 0 stand at 0, 1 or 2, and a traversal leads to 1 from each.
    onward = np.array([[5, 5, 2], [5, 5, 2], [4, 4, 4]]) / 12
    at, share = np.array([[1.0, 0, 0], [0, 0, 1]]), 0
    for _ in range(WALKS.length):
        at = at @ onward
        share = share + at / WALKS.length
        at = 0.85 * at + 0.15 * np.array([[1.0, 0, 0], [0, 0, 1]])
    np.testing.assert_allclose(visits[:2] / WALKS.visits, share[:, 1:].T, atol=0.01)
    for name, scores in expected.items():
        np.testing.assert_allclose(found[name], scores, rtol=1e-6)


def test_days_are_in_proportion_to_what_is_counted():
    one = {"stage": "embed", "unit": "items", "count": ITEMS // 1_000, "seconds_of_work": 86.4}
    assert days_on_two_cores([one]) == {"embed": pytest.approx(1)}


def test_accelerators_hold_the_catalogue():
    found = on_accelerators(33, 20, 1_024, ["h200"])[0]
    # Neighbours alone take 160 bytes an item, features 132.
    assert found["devices"] * 141e9 > ITEMS * 292
    assert 0 < found["training_seconds"] < PAIRS
    assert found["all_items_seconds"] > 0
