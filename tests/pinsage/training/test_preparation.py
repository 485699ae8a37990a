"""What training reads is made of the task as the settings say."""

import dataclasses

import jax
import numpy as np
import pytest

from pinsage_jax.negatives.hard import make_pool
from pinsage_jax.tasks.holdout import explicit_task
from pinsage_jax.tasks.task import graph_of
from pinsage_jax.training.preparation import hard_pool_of, prepare
from tests.pinsage.trained import pins, tiny

CONFIG = tiny(pooling="none", hard_band=(5, 60))


@pytest.fixture(scope="module")
def task():
    """Explicit pairs of random items, most of which share no context."""
    pairs = np.random.default_rng(0).integers(0, 300, (2, 2_000))
    queries, positives = pairs[:, pairs[0] != pairs[1]]
    return explicit_task(dataclasses.replace(pins(), pairs=(queries, positives)))


def positives_among(pool, task):
    ids, found = np.asarray(pool.ids), 0
    for query, positive in zip(task.pairs.queries, task.pairs.positives, strict=True):
        found += (ids[query] == positive).sum()
    return found


def test_no_training_positive_is_a_hard_negative(task):
    free = make_pool(jax.random.key(0), graph_of(task), band=(5, 60), pool=CONFIG.hard_pool)
    assert positives_among(free, task) > 20
    assert positives_among(prepare(task, CONFIG).hard, task) == 0
    asked = np.unique(task.test.queries)
    pool = hard_pool_of(jax.random.key(1), graph_of(task), task, CONFIG, asked)
    assert (np.asarray(pool.ids)[asked] >= 0).any()
    assert positives_among(pool, task) == 0
