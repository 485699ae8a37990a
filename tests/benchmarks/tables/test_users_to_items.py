"""The two packages are judged on one split and one ranking."""

import dataclasses

import pytest

from benchmarks.tables import users_to_items
from benchmarks.tables.users_to_items import Row
from lightgcn_jax.data import temporal_split
from lightgcn_jax.settings import TrainConfig
from pinsage_jax.evaluation.baselines import popularity
from pinsage_jax.evaluation.metrics import evaluate_items
from pinsage_jax.tasks.holdout import time_task
from tests.pinsage.trained import pins, tiny


@pytest.fixture(scope="module")
def task_and_split():
    data = pins()
    split = temporal_split(data.interactions, 0.8, 0.1, 0.1, per_user=True)
    return time_task(data, max_queries=None), split


def test_popularity_has_the_same_figures_in_either_package(task_and_split):
    task, split = task_and_split
    line = users_to_items.line_of(Row("", TrainConfig(model="popular", ks=(20,))), task, split, 3)
    wanted = evaluate_items(popularity(task, task.test), task.test, ks=(20,)).metrics
    assert line["test"] == pytest.approx({name: wanted[name] for name in line["test"]}, rel=1e-5)
    assert len(line["runs"]) == 1


@pytest.mark.slow
def test_a_row_of_pinsage_has_its_seeds_and_the_published_figures(task_and_split):
    config = tiny(pooling="none", curriculum="none", epochs=1, steps_per_epoch=2)
    line = users_to_items.line_of(Row("ours", config, (0.5, 0.25)), *task_and_split, 2)
    assert [set(one) for one in line["runs"]] == [{"recall@20", "ndcg@20"}] * 2
    assert line["published"] == {"recall@20": 0.5, "ndcg@20": 0.25}
    assert set(line["ci95_half_width"]) == {"recall@20", "ndcg@20"}
    table = users_to_items.table_of("pins", [line])
    assert table.row_count == 1
    assert len(table.columns) == 7


def test_rows_differ_by_what_their_names_say():
    by_name = {row.name: row.config for row in users_to_items.MOVIELENS}
    assert dataclasses.replace(by_name["PinSAGE"], loss="softmax") == by_name["PinSAGE, softmax"]
    assert by_name["features alone"].layers == 0
    assert "tags" not in by_name["PinSAGE"].columns
    assert all(row.config.id_embedding and row.published for row in users_to_items.GOWALLA)
