"""What the host gathers is what the device gathers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pinsage_jax.encoder.blocks import bounds, make_blocks, mark_layers
from pinsage_jax.tasks.pairs import ExplicitPairs
from pinsage_jax.training import host_pipeline
from pinsage_jax.training.batch import HostItemArrays, Targets, training_view
from pinsage_jax.training.host_pipeline import batches, draw, gather
from pinsage_jax.training.step import in_places
from tests.pinsage.worlds import (
    ITEMS,
    LAW,
    NEIGHBORS,
    PLAIN,
    by_degree,
    item_arrays,
    random_features,
    random_table,
)

CONFIG = dataclasses.replace(PLAIN, dim=6, batch_size=4, negatives=6, hard_cap=2, drop_contexts=0.0)
TABLE = random_table()
MOST = bounds(4 * 4 + 6, NEIGHBORS, 2, ITEMS)
WORD = np.uint32(7)
PAIRS = ExplicitPairs(np.arange(20, dtype=np.int32), np.arange(20, 40, dtype=np.int32))


def host_items(**changes):
    rng = np.random.default_rng(0)
    given = HostItemArrays(
        features=random_features(),
        ids=np.asarray(TABLE.ids),
        weights=np.asarray(TABLE.weights),
        training_items=np.arange(10, 30, dtype=np.int32),
        hard_pool=rng.integers(0, ITEMS, (ITEMS, 8)).astype(np.int32),
        degree_of_none=-3.0,
    )
    return given._replace(**changes)


@pytest.mark.parametrize("mask_targets", [False, True])
def test_the_blocks_are_those_of_the_device(mask_targets):
    config = dataclasses.replace(CONFIG, mask_targets=mask_targets)
    targets = Targets(
        np.array([[0], [1], [2], [39]], np.int32),
        np.array([4, 5, 6, 7], np.int32),
        np.array([8, 0, 9, 9, 30, 31], np.int32),
        np.array([[10, -1], [11, 12], [-1, -1], [13, 14]], np.int32),
    )
    ours = gather(targets, host_items(), config, (MOST,), WORD)
    on_device = Targets(*map(jnp.asarray, targets))
    view = training_view(jax.random.key(0), on_device, item_arrays(), config)
    marks = mark_layers(view, on_device.ids, 2, MOST)
    theirs = make_blocks(view, marks, MOST)
    np.testing.assert_array_equal(ours.counts, marks.counts)
    for one, two in zip(ours.blocks, theirs.layers, strict=True):
        np.testing.assert_array_equal(one.own, two.own)
        np.testing.assert_allclose(one.weights, two.weights, atol=1e-6)
        counted = np.asarray(two.weights) > 0
        np.testing.assert_array_equal(one.places[counted], np.asarray(two.places)[counted])
    for one, two in zip(ours.targets, in_places(on_device, theirs.place), strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(ours.features["looks"], random_features()["looks"][theirs.nodes])


def test_draws_follow_the_rules():
    targets = draw(PAIRS, host_items(), CONFIG, 1, np.random.default_rng(0))
    assert set(targets.negatives) <= set(range(10, 30))
    np.testing.assert_array_equal(targets.positives, targets.queries[:, 0] + 20)
    pool = host_items().hard_pool
    for row in range(4):
        assert targets.hard[row, 0] in pool[targets.queries[row, 0]]
    assert (targets.hard[:, 1] == -1).all()
    law = np.where(np.arange(20) < 2, 0.5, 0.0)
    drawn = draw(PAIRS, host_items(law=law), CONFIG, 0, np.random.default_rng(0))
    assert set(drawn.negatives) <= {10, 11}
    assert (drawn.hard == -1).all()


def test_expected_draws_go_with_the_negatives():
    config = dataclasses.replace(CONFIG, loss="softmax", negative_law="degree")
    items = host_items(law=LAW, log_draws=np.asarray(by_degree(config.negatives)["log_draws"]))
    targets = draw(PAIRS, items, config, 0, np.random.default_rng(0))
    given = gather(targets, items, config, (MOST,), WORD)
    expected = np.log(config.negatives * LAW[targets.negatives - 10])
    np.testing.assert_allclose(given.log_expected, expected, rtol=1e-6)
    uncorrected = gather(targets, items, CONFIG, (MOST,), WORD)
    assert uncorrected.log_expected is None


def test_an_item_without_contexts_has_the_degree_of_none():
    config = dataclasses.replace(CONFIG, drop_contexts=0.5)
    targets = draw(PAIRS, host_items(), config, 0, np.random.default_rng(0))
    given = gather(targets, host_items(), config, (MOST,), WORD)
    lost = given.features["log_degree"][:, 0] == -3.0
    assert 0 < lost.sum() < len(lost)


def taken(**changes):
    rng = np.random.default_rng(3)
    settings = {"steps": 5, "active": 1, "rng": rng} | changes
    return list(batches(PAIRS, host_items(), CONFIG, (MOST,), **settings))


def assert_same(first, second):
    for one, two in zip(first, second, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, two)


def test_batches_come_in_order_whatever_the_thread_does():
    first = taken()
    assert len(first) == 5
    assert_same(first, taken())


@pytest.mark.parametrize("done", [0, 1, 4, 5])
def test_steps_that_were_taken_are_drawn_and_not_gathered(done, monkeypatch):
    whole, gathered = taken(), []
    monkeypatch.setattr(
        host_pipeline, "gather", lambda *given: gathered.append(given) or gather(*given)
    )
    assert_same(taken(done=done), whole[done:])
    assert len(gathered) == 5 - done


def test_an_error_while_gathering_reaches_the_trainer():
    broken = host_items(hard_pool=np.zeros((1, 8), np.int32))
    made = batches(PAIRS, broken, CONFIG, (MOST,), steps=3, active=2, rng=np.random.default_rng(0))
    with pytest.raises(IndexError):
        list(made)


def test_the_next_capacities_are_taken_when_the_first_are_too_small():
    targets = draw(PAIRS, host_items(), CONFIG, 0, np.random.default_rng(0))
    small = tuple(2 for _ in MOST)
    given = gather(targets, host_items(), CONFIG, (small, MOST), WORD)
    assert given.tier == 1
    assert len(given.features["looks"]) == MOST[0]
