"""Baselines by name, on all parts of a task, against what the parts say item by item."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightgcn_jax.errors import InputError
from pinsage_jax.data.items import ItemData
from pinsage_jax.data.world import PinWorld, generate_pins
from pinsage_jax.evaluation import baselines
from pinsage_jax.evaluation.baselines import BASELINES, evaluate_baseline, evaluate_scores, features
from pinsage_jax.evaluation.metrics import evaluate_items
from pinsage_jax.features.table import FeatureTable
from pinsage_jax.graph.structure import Structure
from pinsage_jax.tasks.holdout import cooccurrence_task, time_task
from pinsage_jax.tasks.task import graph_of, with_fresh_edges

WORLD = PinWorld(items=200, boards=60, mean_board_size=8, looks=2, uses=2, styles=2)
DATA = generate_pins(WORLD).data
TASK = cooccurrence_task(DATA)
PARTS = {"valid", "test", "fresh", "known"}


def scored(scorer):
    return np.asarray(scorer.scores(jnp.arange(scorer.num_queries))).T


@pytest.mark.parametrize("name", BASELINES)
def test_a_name_stands_for_a_function(name):
    functions = {
        "popularity": baselines.popularity,
        "cooccurrence": baselines.cooccurrence,
        "item-cosine": baselines.item_cosine,
        "pagerank": baselines.personal_pagerank,
        "structure": baselines.structure,
        "features": baselines.features,
    }
    assert BASELINES[name] is functions[name]
    found, pool = evaluate_baseline(TASK, name), np.flatnonzero(TASK.train_items)
    assert set(found) == PARTS
    scorer = functions[name](TASK, TASK.test)
    assert found["test"] == evaluate_items(scorer, TASK.test, candidates=pool).metrics
    grown = with_fresh_edges(TASK)
    scorer = functions[name](grown, TASK.fresh)
    assert found["fresh"] == evaluate_items(scorer, TASK.fresh).metrics
    assert found["fresh"]["mrr"] > 0


def test_structure_is_scored_by_inner_products():
    graph = graph_of(TASK)
    of_items = Structure.of(jax.random.key(0), graph, 128).items(graph).astype(np.float64)
    queries = np.asarray(TASK.test.queries)[:, 0]
    scores = scored(baselines.structure(TASK, TASK.test, rank=128))
    np.testing.assert_allclose(scores, of_items[queries] @ of_items.T, atol=1e-2, rtol=1e-3)


def test_what_is_not_known_is_named():
    with pytest.raises(InputError, match="unknown baseline 'rank': expected one of popularity, "):
        evaluate_baseline(TASK, "rank")


def test_added_items_have_the_edges_that_are_given_back():
    grown = with_fresh_edges(TASK)
    assert grown.train_items.all()
    new = ~TASK.train_items[grown.train.item_rows]
    keys = grown.train.pair_keys[new]
    items, contexts = TASK.fresh_edges
    assert set(keys) == set(contexts.astype(np.int64) * 200 + items)
    assert len(grown.train) == len(TASK.train) + len(items)
    # None of the pairs that are asked for is among them.
    counts = scored(baselines.cooccurrence(TASK, TASK.fresh))
    positives = np.asarray(TASK.fresh.relevant.columns)
    assert not counts[np.arange(len(positives)), positives].any()
    counts = scored(baselines.cooccurrence(grown, TASK.fresh))
    assert counts[np.arange(len(positives)), positives].any()


def test_without_held_out_items_there_are_two_parts():
    task = cooccurrence_task(DATA, held_out_items=0)
    assert set(evaluate_baseline(task, "popularity")) == {"valid", "test"}
    with pytest.raises(InputError, match="fresh_edges: expected a task with held-out items"):
        with_fresh_edges(task)


@pytest.mark.slow
@pytest.mark.parametrize("name", BASELINES)
def test_users_are_asked_as_well(name):
    task = time_task(DATA, last=3)
    found = evaluate_baseline(task, name)
    assert set(found) == {"valid", "test"}
    assert 0 < found["test"]["mrr"] < 1


def test_features_are_those_of_the_named_columns():
    both, looks = features(TASK, TASK.test), features(TASK, TASK.test, ["visual"])
    assert both.num_ids > 0
    assert looks.num_ids == 0
    rows = DATA.features.columns["visual"].values.astype(np.float64)
    trained = rows[TASK.train_items]
    rows = (rows - trained.mean(axis=0)) / trained.std(axis=0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    expected = rows[TASK.test.queries[:, 0]] @ rows.T
    np.testing.assert_allclose(scored(looks), expected, atol=1e-4)
    found = evaluate_scores(TASK, lambda task, held: features(task, held, ["visual"]))
    assert found["test"] != evaluate_baseline(TASK, "features")["test"]


def test_items_without_columns_have_no_features_to_compare():
    bare = ItemData("bare", DATA.interactions, FeatureTable({}, 200), {})
    with pytest.raises(InputError, match="expected at least one column to compare by, bare has"):
        evaluate_baseline(dataclasses.replace(TASK, data=bare), "features")


def test_a_catalogue_below_the_cut_offs_is_ranked_whole():
    data = generate_pins(PinWorld(items=12, boards=20, mean_board_size=4, looks=1, uses=1)).data
    task = cooccurrence_task(data, held_out_items=0.4)
    pool = int(task.train_items.sum())
    assert pool < 10
    found = evaluate_baseline(task, "popularity")
    assert found["test"][f"hit_rate@{pool}"] == 1
    assert "hit_rate@10" in found["known"]
