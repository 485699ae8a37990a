"""Runs of one process share what they compile where they differ in numbers alone."""

import numpy as np
import optax
import pytest

from lightgcn_jax.runs import fit
from lightgcn_jax.runs import programs as run_programs
from lightgcn_jax.runs.programs import programs_of
from lightgcn_jax.settings.names import replaced
from lightgcn_jax.training.epoch import EpochPlan

PLAN = EpochPlan(4, 1, 4)


def programs(config, *, plan=PLAN, edges=100, optimizer=None, shared=True):
    return programs_of((config.strategies,), plan, 20, edges, optimizer, shared=shared)


def test_numbers_and_the_epochs_of_a_constant_rate_make_no_program_of_their_own(small_config):
    first = programs(small_config)
    for changes in ({"learning_rate": 0.3}, {"l2": 0.5}, {"epochs": 3}, {"seed": 5}):
        assert programs(replaced(small_config, changes)) is first, changes


@pytest.mark.parametrize(
    "changes",
    [
        {"dim": 4}, {"init_std": 0.5}, {"loss": "binary"}, {"negatives": 3}, {"score": "cosine"},
        {"batch_size": 7}, {"sampling": "users"}, {"schedule": "cosine"}, {"warmup_epochs": 1.0},
    ],
    ids=str,
)  # fmt: skip
def test_what_decides_a_program_makes_another(changes, small_config):
    assert programs(replaced(small_config, changes)) is not programs(small_config)


def test_a_schedule_that_ends_makes_a_program_for_each_end(small_config):
    falling = replaced(small_config, {"schedule": "linear"})
    assert programs(replaced(falling, {"epochs": 9})) is not programs(falling)


def test_other_shapes_and_objects_of_ones_own_make_another(small_config):
    first = programs(small_config)
    assert programs(small_config, plan=EpochPlan(4, 2, 2)) is not first
    assert programs(small_config, edges=99) is not first
    assert programs(small_config, optimizer=optax.sgd(0.1), shared=False) is not first
    assert programs(small_config, shared=False) is not programs(small_config, shared=False)


def test_a_second_run_takes_the_programs_of_the_first_and_its_own_numbers(
    small_split, small_config, monkeypatch
):
    config = replaced(small_config, {"sampling": "users", "epochs": 1})
    other = replaced(config, {"learning_rate": 0.1, "l2": 0.3, "epochs": 2})
    alone = fit(small_split, other, optimizer=optax.adam(0.1))
    fit(small_split, config)
    again = "compiled again"
    monkeypatch.setattr(run_programs, "compile_steps", lambda *_: pytest.fail(again))
    shared = fit(small_split, other)
    assert shared.history[1]["loss"] == pytest.approx(alone.history[1]["loss"], rel=1e-5)
    np.testing.assert_allclose(shared.user_embeddings, alone.user_embeddings, rtol=1e-3, atol=1e-5)
