"""The loss of a batch by hand: positives as negatives, laws that are corrected, a share for the
hard ones, and what it is worth before anything is learnt."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pinsage_jax.encoder.pinsage import init_params, make_model
from pinsage_jax.training.batch import Targets, log_expected_draws
from pinsage_jax.training.preparation import host_item_arrays, item_arrays, prepare
from pinsage_jax.training.step import score_loss
from pinsage_jax.training.trainer import Trainer
from tests.lightgcn.laws import LEVEL, chi_square
from tests.pinsage.trained import pins_task, tiny
from tests.pinsage.worlds import INPUTS, ITEMS, PLAIN

LOSSES = ["max-margin", "bpr", "binary", "softmax"]
CONFIG = dataclasses.replace(PLAIN, batch_size=4, negatives=5, in_batch=True, loss="softmax")
MODEL = make_model(INPUTS, CONFIG)
PARAMS = init_params(jax.random.key(0), MODEL)
Z = np.random.default_rng(0).normal(size=(ITEMS, 6))
# Two rows ask for item 4, which is another row's query; the last positive is the first query.
TARGETS = Targets(
    np.array([[0, -1], [4, 1], [2, -1], [39, -1]], np.int32),
    np.array([4, 5, 4, 0], np.int32),
    np.array([8, 0, 9, 4, 30], np.int32),
    np.array([[10, -1], [11, 5], [-1, -1], [13, 14]], np.int32),
)
EVERY_ROW = np.ones(4, np.float32)


def loss_of(config, targets=TARGETS, weights=EVERY_ROW, vectors=Z, log_expected=None):
    given = jax.tree.map(jnp.asarray, (targets, weights, np.asarray(vectors, np.float32)))
    targets, weights, vectors = given
    key = jax.random.key(0)
    return score_loss(key, MODEL, PARAMS, vectors, targets, weights, config, log_expected)


def row_loss(config, positive, others, log_expected=0.0):
    """The loss of one row from its scores, in float64."""
    difference = np.asarray(others) - positive
    if config.loss == "max-margin":
        return np.maximum(0, difference + config.margin).mean()
    difference = difference / config.temperature
    if config.loss == "bpr":
        return np.log1p(np.exp(difference)).mean()
    if config.loss == "binary":
        of_others = np.log1p(np.exp(np.asarray(others) / config.temperature)).mean()
        return np.log1p(np.exp(-positive / config.temperature)) + of_others
    return np.log(1 + np.exp(difference - log_expected).sum())


def by_hand(config, chosen, logs=None):
    """The mean over the rows that have a negative.

    Args:
        chosen: the negatives of each row, without those that do not count for it.
        logs: the logarithm of how often each item is expected.
    """
    rows = []
    for query, positive, others in zip(TARGETS.queries, TARGETS.positives, chosen, strict=True):
        if others:
            q = Z[query[query >= 0]].mean(axis=0)
            expected = 0.0 if logs is None else logs[others]
            rows.append(row_loss(config, q @ Z[positive], Z[others] @ q, expected))
    return np.mean(rows)


DRAWN = [[8, 9, 30], [8, 0, 9, 30], [8, 0, 9, 30], [8, 9, 4, 30]]
HARD = [[10], [11], [], [13, 14]]
# Neither the row's own positive, wherever it stands, nor an item of its query.
MATES = [[5], [0], [5, 0], [4, 5, 4]]


def joined(*lists):
    return [[*itertools.chain(*parts)] for parts in zip(*lists, strict=True)]


@pytest.mark.parametrize("loss", LOSSES)
def test_the_positives_of_other_rows_are_negatives(loss):
    config = dataclasses.replace(CONFIG, loss=loss)
    expected = by_hand(config, joined(DRAWN, MATES, HARD))
    np.testing.assert_allclose(loss_of(config), expected, rtol=1e-5)
    alone = dataclasses.replace(config, in_batch=False)
    np.testing.assert_allclose(loss_of(alone), by_hand(config, joined(DRAWN, HARD)), rtol=1e-5)


def test_a_row_that_fills_up_the_batch_is_nobody_s_negative():
    weights = np.array([1, 0, 1, 1], np.float32)
    mates = [[], [], [0], [4, 4]]  # without item 5
    chosen = joined(DRAWN, mates, HARD)
    chosen[1] = []
    np.testing.assert_allclose(loss_of(CONFIG, weights=weights), by_hand(CONFIG, chosen), rtol=1e-5)


@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("loss", LOSSES)
def test_hard_negatives_have_their_share_of_the_loss(loss, share, corrected):
    """(1 − ω) that of the shared ones and ω that of the hard, each a mean over the rows that have
    such; 0 counts both together. No law is corrected for among the hard ones."""
    config = dataclasses.replace(CONFIG, loss=loss, hard_weight=share, in_batch=corrected)
    logs = expected = None
    shared = joined(DRAWN, MATES) if corrected else DRAWN
    if corrected and loss == "softmax":
        logs = np.random.default_rng(1).normal(size=ITEMS)
        expected = log_expected_draws(TARGETS, jnp.asarray(logs, jnp.float32), config)
    if share:
        of_shared, of_hard = by_hand(config, shared, logs), by_hand(config, HARD)
        value = (1 - share) * of_shared + share * of_hard
    else:
        if logs is not None:
            logs[[10, 11, 13, 14]] = 0
        value = by_hand(config, joined(shared, HARD), logs)
    np.testing.assert_allclose(loss_of(config, log_expected=expected), value, rtol=1e-5)


@pytest.mark.parametrize("hard", [np.full((4, 2), -1, np.int32), np.zeros((4, 0), np.int32)])
def test_where_no_hard_negative_counts_the_shared_ones_are_all_of_the_loss(hard):
    targets = TARGETS._replace(hard=hard)
    for share in (0.0, 0.3, 0.9):
        config = dataclasses.replace(CONFIG, hard_weight=share, in_batch=False)
        np.testing.assert_allclose(loss_of(config, targets), by_hand(config, DRAWN), rtol=1e-5)


def two_items(gap, config, correct=True):
    """The loss of a batch whose query is item 0 and whose positives are 1 and 2, of which 1 scores
    so much more; every item stands among the negatives as often as the laws let expect.

    Positives are 1 in eight of ten rows. Of the six drawn negatives four are item 1, so that 1 is
    expected 12 times and 2 four times.
    """
    vectors = jnp.stack([jnp.ones(1), jnp.full(1, gap * config.temperature), jnp.zeros(1)])
    targets = Targets(
        np.zeros((10, 1), np.int32),
        np.array([1, 1, 2, 1, 1, 1, 1, 2, 1, 1], np.int32),
        np.array([1, 2, 1, 1, 2, 1], np.int32),
        np.zeros((10, 0), np.int32),
    )
    logs = jnp.log(jnp.array([1e-9, 12.0, 4.0]))
    expected = log_expected_draws(targets, logs, config) if correct else None
    given = jax.tree.map(jnp.asarray, targets)
    weights = jnp.ones(10)
    return score_loss(jax.random.key(0), MODEL, PARAMS, vectors, given, weights, config, expected)


def test_a_corrected_softmax_is_that_over_all_items():
    """So its optimum is the law of the positives: a gap of log 0.8 − log 0.2."""
    config = dataclasses.replace(CONFIG, batch_size=10, negatives=6)
    assert log_expected_draws(TARGETS, jnp.zeros(ITEMS), config).shape == (5 + 4,)
    for gap in (-1.0, 0.0, 2.0):
        whole = 0.8 * np.log1p(np.exp(-gap)) + 0.2 * np.log1p(np.exp(gap))
        np.testing.assert_allclose(two_items(gap, config), whole, rtol=1e-5)
    slope = jax.grad(two_items)
    assert abs(slope(np.log(4.0), config)) < 1e-5
    # Where no count is corrected for, the optimum lies elsewhere: at e^gap = 4 the slope is
    # 0.2 · 48 / 49 − 0.8 · 1 / 2.
    np.testing.assert_allclose(slope(np.log(4.0), config, False), 9.6 / 49 - 0.4, rtol=1e-4)


def test_a_batch_holds_each_item_as_often_as_expected():
    """Counts of drawn negatives and of positives over many batches, by the law by degree, and
    their sum."""
    task = pins_task()
    config = tiny(
        pooling="none", structure=0, curriculum="none", negative_law="degree", in_batch=True
    )
    prepared = prepare(task, config)
    items = host_item_arrays(task, prepared, config)
    expected = np.exp(items.log_draws.astype(float))
    np.testing.assert_allclose(
        items.log_draws, item_arrays(task, prepared, config).log_draws, rtol=1e-5
    )
    known = task.train_items
    assert (expected[~known] == 0).all()
    np.testing.assert_allclose(expected.sum(), config.negatives + config.batch_size, rtol=1e-5)
    degrees = np.bincount(task.train.item_rows, minlength=len(known))
    edges = degrees / degrees.sum()
    rows = np.random.default_rng(0).choice(items.training_items, 100_000, p=items.law)
    drawn = np.bincount(rows, minlength=len(known))
    law = np.where(degrees > 0, expected - config.batch_size * edges, 0)
    assert chi_square(drawn, law) > LEVEL
    # An epoch asks every edge alike, but for the few whose context keeps no other.
    asked = np.zeros(len(known))
    for fold in prepared.folds:
        positives = fold.pairs.draw(np.random.default_rng(1), 100_000).positives
        asked += np.bincount(positives, minlength=len(known)) / 1e5 * fold.pairs.num_pairs
    asked /= asked.sum()
    assert np.abs(asked - edges).sum() < 0.1


@pytest.mark.parametrize("layers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_before_the_first_step_a_run_pays_what_a_constant_encoder_pays(layers):
    """log(1 + the negatives that count), to which the scores of unlearnt vectors of length 1 add a
    few hundredths; the structure's scores rank from the beginning."""
    config = tiny(
        layers=layers,
        pooling="importance" if layers else "none",
        curriculum="none",
        batch_size=1024,
        negatives=200,
        steps_per_epoch=2,
        tables="host",
    )
    task, first = pins_task(), {}
    for structure in (0, 32):
        settings = dataclasses.replace(config, structure=structure)
        trainer = Trainer(task, settings, prepare(task, settings))
        _, records = next(trainer.epochs.run(trainer.start().state, 1, steps=2, active=0))
        first[structure] = float(np.asarray(records.loss)[0])
    # A negative is the query or the positive of a row with probability 2 / 270.
    constant = np.log1p(config.negatives * (1 - 2 / task.train_items.sum()))
    assert constant - 0.02 < first[0] < constant + 0.2
    assert first[32] < first[0] - 0.04
