"""The two packages are judged on one split and one ranking, after equally long training."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.tables import users_to_items
from benchmarks.tables.users_to_items import GOWALLA, MOVIELENS, Row
from lightgcn_jax.data import temporal_split
from lightgcn_jax.data.synthetic import block_world
from lightgcn_jax.models import MF, GfCf, ItemCf, LightGCN, Popular
from lightgcn_jax.settings import ClosedFormConfig, TrainConfig
from lightgcn_jax.training import Optimization, SharedNegatives
from pinsage_jax.data.sources import from_files
from pinsage_jax.evaluation.baselines import popularity
from pinsage_jax.evaluation.metrics import evaluate_items
from pinsage_jax.tasks.holdout import time_task
from tests.pinsage.trained import pins, tiny

FIGURES = {"recall@20": 0.25, "ndcg@20": 0.125}


@pytest.fixture(scope="module")
def task_and_split():
    data = pins()
    split = temporal_split(data.interactions, 0.8, 0.1, 0.1, per_user=True)
    return time_task(data, max_queries=None), split


def test_popularity_has_the_same_figures_in_either_package(task_and_split):
    task, split = task_and_split
    row = Row("", ClosedFormConfig(Popular(), ks=(20,)))
    line = users_to_items.line_of(row, task, split, 3, 1.0)
    degrees = popularity(task, task.test)
    # Of two equal items the one comes first that does in a run's rows; here that is in the score.
    rows = jnp.asarray(split.in_canonical_order().items.rows(split.items.ids), jnp.float32)
    scorer = degrees.replace(popularity=degrees.popularity - rows / degrees.num_items)
    wanted = evaluate_items(scorer, task.test, ks=(20,)).metrics
    assert line["test"] == pytest.approx({name: wanted[name] for name in line["test"]}, rel=1e-5)
    assert len(line["runs"]) == 1
    assert line["train_seconds_a_seed"] is None


def test_both_packages_have_one_split_of_gowalla(monkeypatch):
    """Validation is carved from the same users' same items, and the same test items are left."""
    data = from_files(block_world(groups=3, users_per_group=12, items_per_group=11), None)
    monkeypatch.setattr(users_to_items, "load_items", lambda *_: data)
    task, split = users_to_items.load("gowalla", None)
    users = np.unique(split.test.users)
    for held_out, part in ((task.valid, split.valid), (task.test, split.test)):
        lengths = np.diff(np.asarray(held_out.relevant.offsets))
        pairs = np.repeat(users, lengths), np.asarray(held_out.relevant.columns)
        assert set(zip(*pairs, strict=True)) == set(zip(part.users, part.items, strict=True))


@pytest.fixture
def runs(monkeypatch):
    """Nothing is trained: an epoch of LightGCN takes 0.5 s, a step of PinSAGE 0.02 s."""
    found = []

    def fit_users(_, config):
        found.append(config)
        summary = {"test": FIGURES}
        return types.SimpleNamespace(
            summary=summary | ({"train_seconds": 59.0} if config.is_trained else {})
        )

    def fit_items(_, config, *, reporter, prepared):
        found.append(config)
        prepared = prepared or types.SimpleNamespace(model=None)
        for epoch in range(1, config.epochs + 1):
            for share, seconds in ((0.5, 9.0 if epoch == 1 else 0.03), (1.0, 0.01)):
                reporter.advanced(epoch=epoch, share=share, loss=0.0, seconds_a_step=seconds)
        items = types.SimpleNamespace(vectors=None)
        return types.SimpleNamespace(prepared=prepared, params=None, items=items)

    fakes = {
        "fit_users": fit_users,
        "fit": fit_items,
        "prepare": lambda *_: types.SimpleNamespace(model=None),
        "seconds_an_epoch": lambda *_: 0.5,
        "seconds_a_step": lambda *_: 0.02,
        "query_scorer": lambda *_: None,
        "evaluate_items": lambda *_, **__: types.SimpleNamespace(metrics=FIGURES),
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(users_to_items, name, fake)
    return found


@pytest.mark.parametrize("row", dict.fromkeys((*MOVIELENS, *GOWALLA)), ids=lambda row: row.name)
def test_every_trained_row_has_one_budget_in_seconds_and_all_seeds(row, runs, task_and_split):
    line = users_to_items.line_of(row, *task_and_split, 2, 60.0)
    if isinstance(row.config, ClosedFormConfig | str):
        assert line["train_seconds_a_seed"] is None
        return
    assert [config.seed for config in runs] == [0, 1]
    assert line["runs"] == [FIGURES] * 2
    for config in runs:
        if isinstance(config, TrainConfig):
            epochs, every = config.optimization.epochs, config.selection.evaluate_every
            patience = config.selection.patience
            assert epochs * 0.5 == 60
            assert line["train_seconds_a_seed"] == 59
        else:
            epochs, every, patience = config.epochs, config.evaluate_every, config.patience
            assert config.epochs * config.steps_per_epoch * 0.02 == pytest.approx(60)
            # The first epoch waits for the compiler, and counts as the others do.
            assert line["train_seconds_a_seed"] == pytest.approx(60)
        assert epochs // every == 20
        assert patience == 0


def test_gowalla_has_own_rows_of_what_knows_users():
    own = {type(row.config.model) for row in GOWALLA if row in MOVIELENS}
    assert own == {Popular, ItemCf, GfCf, LightGCN}
    lines = [
        {
            "name": row.name,
            "seconds_a_seed": 2.0,
            "train_seconds_a_seed": None,
            "test": FIGURES,
            "runs": [FIGURES],
            **({"published": FIGURES} if row.published else {}),
        }
        for row in GOWALLA
    ]
    assert users_to_items.table_of("gowalla", lines).row_count == len(GOWALLA)


@pytest.mark.slow
def test_rows_are_trained_for_their_seconds(task_and_split):
    items = tiny(pooling="none", curriculum="none")
    users = TrainConfig(
        model=MF(dim=8),
        negatives=SharedNegatives(8),
        optimization=Optimization(batch_size=64),
        ks=(20,),
    )
    for config in (items, users):
        line = users_to_items.line_of(Row("ours", config, (0.5, 0.25)), *task_and_split, 2, 2.0)
        assert [set(one) for one in line["runs"]] == [{"recall@20", "ndcg@20"}] * 2
        assert set(line["ci95_half_width"]) == {"recall@20", "ndcg@20"}
        assert 0.5 < line["train_seconds_a_seed"] < 8
