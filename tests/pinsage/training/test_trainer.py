"""Training as its parts: the learning rate, when it stops, what it reports, how often it traces."""

from types import SimpleNamespace
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lightgcn_jax.errors import InputError
from pinsage_jax.config import Purpose, metric_names, stream
from pinsage_jax.evaluation.ranks import reciprocal_ranks
from pinsage_jax.training import trainer as trainer_module
from pinsage_jax.training.folds import Fold, folds_of, neighbors_of
from pinsage_jax.training.preparation import prepare
from pinsage_jax.training.trainer import (
    Trainer,
    drawn_for,
    exceeds_chance,
    is_finished,
    make_optimizer,
)
from tests.pinsage.trained import pins_task, tiny

# Without layers: what is tested here is the same with them.
CONFIG = tiny(pooling="none", epochs=3, evaluate_every=2, loss="max-margin", learning_rate=1e-2)


class Heard:
    def __init__(self):
        self.advances, self.records = [], []

    def noted(self, message): ...

    def advanced(self, **event):
        self.advances.append(event)

    def evaluated(self, record):
        self.records.append(record)


@pytest.fixture(scope="module")
def trained():
    """A trainer after its last epoch, what it said, and where it stands."""
    heard = Heard()
    trainer = Trainer(pins_task(), CONFIG, prepare(pins_task(), CONFIG), heard)
    progress = trainer.start()
    while not trainer.finished(progress):
        progress, _ = trainer.advance(progress)
    return trainer, heard, progress


def test_validation_is_judged_where_it_is_due_and_at_the_end(trained):
    _, heard, progress = trained
    assert [record["epoch"] for record in heard.records] == [1, 2, 3]
    assert ["valid" in record for record in heard.records] == [False, True, True]
    values = {one["epoch"]: one["valid"]["mrr"] for one in heard.records if "valid" in one}
    assert progress.best_value == max(values.values())
    assert progress.best_epoch == max(values, key=values.__getitem__)


def test_the_start_is_assessed_as_an_epoch_is(trained):
    trainer, heard, _ = trained
    start = trainer.start()
    said = len(heard.records)
    assessed, record = trainer.assess_start(start)
    assert heard.records.pop() == record
    assert len(heard.records) == said
    figures = trainer.validate(start.best).metrics
    assert record == {"epoch": 0, "valid": figures}
    assert assessed == start._replace(best_value=figures["mrr"])


def test_a_gain_counts_if_it_exceeds_its_standard_error():
    """Gains of −1, 0, 0 and 4 have mean 0.75 and standard error √(59/12)/2 = 1.109."""
    gains = np.array([-1.0, 0.0, 0.0, 4.0])
    assert not exceeds_chance(gains)
    # Of seven times as many it is √(7 · 14.75 / 27 / 28) = 0.370.
    assert exceeds_chance(np.tile(gains, 7))
    assert not exceeds_chance(-np.tile(gains, 7))
    assert not exceeds_chance(np.array([1.0]))
    assert not exceeds_chance(np.zeros(3))


def test_the_start_gives_way_only_to_what_exceeds_chance(trained):
    trainer, heard, progress = trained
    found = trainer.validate(progress.best)
    start = trainer.start()
    assert trainer.is_better(found, start)  # the start was not judged: every epoch is better
    assessed, _ = trainer.assess_start(start)
    heard.records.pop()
    # What is no better than the start by a single pair stays behind it, though its mean is above.
    at_start = trainer.validate(start.best)
    ahead = at_start.ranks.copy()
    ahead[np.argmax(ahead)] = 1
    barely = at_start._replace(ranks=ahead, metrics={"mrr": float(reciprocal_ranks(ahead).mean())})
    assert barely.metrics["mrr"] > assessed.best_value
    assert not trainer.is_better(barely, assessed)
    every = at_start._replace(ranks=np.ones_like(ahead), metrics={"mrr": 1.0})
    assert trainer.is_better(every, assessed)
    # A resumed run has lost the ranks of its start and finds the same.
    trainer._start = None
    assert not trainer.is_better(barely, assessed)
    # Between trained epochs the larger mean decides.
    assert trainer.is_better(barely, assessed._replace(best_epoch=1))


def test_another_metric_chooses_at_cut_offs_of_one_s_own(trained):
    config = tiny(pooling="none", select_by="ndcg@5", ks=(5, 20))
    trainer = Trainer(pins_task(), config, trained[0].prepared)
    start = trainer.start()
    found = trainer.validate(start.best)
    assert set(found.metrics) == set(metric_names((5, 20)))
    assert trainer.is_better(found, start._replace(best_epoch=1, best_value=0.0))
    above = start._replace(best_epoch=1, best_value=found.metrics["ndcg@5"])
    assert not trainer.is_better(found, above)
    # The start gives way to a gain of the queries' values that exceeds chance.
    assessed, record = trainer.assess_start(start)
    assert assessed.best_value == record["valid"]["ndcg@5"]
    perfect = dict.fromkeys(found.per_query, np.ones(len(found.queries), np.float32))
    assert trainer.is_better(found._replace(per_query=perfect), assessed)
    assert not trainer.is_better(found, assessed)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"ks": (10, 500)},
            "ks: expected cut-offs of at most 2[0-9]{2}, the ranked items",
        ),
        ({"select_by": "recall@20"}, "select_by: expected one of mrr, hit_rate@10"),
        ({"select_by": "ndcg@10", "ks": (5,)}, "select_by: expected one of mrr, hit_rate@5, re"),
        ({"ks": ()}, "ks: expected distinct integers"),
        ({"ks": (5, 5)}, "ks: expected distinct integers"),
        ({"ks": (0,)}, "ks: expected distinct integers"),
        ({"ks": 10}, "ks: expected distinct integers"),
        ({"columns": int}, "columns: expected None or names of columns"),
        ({"select_by": 3}, "select_by: expected"),
        ({"hard_band": (0, "x")}, "hard_band: expected None or two ranks"),
        ({"in_batch": "no"}, "in_batch: expected"),
    ],
)
def test_metrics_and_cut_offs_that_do_not_fit(changes, message, trained):
    with pytest.raises(InputError, match=message):
        Trainer(pins_task(), tiny(pooling="none", **changes), trained[0].prepared)


def test_an_epoch_s_loss_is_the_mean_over_its_steps(trained):
    _, heard, _ = trained
    # One call for each of two folds.
    calls = [(epoch, share) for epoch in (1, 2, 3) for share in (0.5, 1)]
    assert [(one["epoch"], one["share"]) for one in heard.advances] == calls
    losses = np.reshape([one["loss"] for one in heard.advances], (3, 2)).mean(axis=1)
    assert list(losses) == pytest.approx([record["loss"] for record in heard.records])
    assert losses[-1] < losses[0]


def test_all_epochs_are_one_program(trained):
    """The curriculum moves from no hard negative to two; the program stays."""
    trainer, _, _ = trained
    assert trainer.epochs._chunk._cache_size() == 1
    assert trainer.tiers.sum() == 3 * CONFIG.steps_per_epoch
    assert "12 steps within" in trainer.tier_note()


def test_an_epoch_has_as_many_steps_as_the_pairs_fill():
    task = SimpleNamespace(pairs=SimpleNamespace(num_pairs=0))
    with pytest.raises(InputError, match="expected at least one query–positive pair"):
        Trainer(task, CONFIG, None)
    pairs = pins_task().pairs.num_pairs
    for folds in (0, 3):
        config = tiny(pooling="none", steps_per_epoch=0, folds=folds)
        trainer = Trainer(pins_task(), config, prepare(pins_task(), config))
        # As many for each fold.
        assert trainer.steps == -(-pairs // 64 // max(folds, 1)) * max(folds, 1)


def test_initial_values_and_the_items_they_are_set_by_have_keys_of_their_own(monkeypatch):
    """A key from which others are derived is not drawn from itself."""
    drawn_from = [stream(CONFIG, "init")]

    def noted(function):
        def call(key, *arguments):
            drawn_from.append(key)
            return function(key, *arguments)

        return call

    monkeypatch.setattr(trainer_module, "init_params", noted(trainer_module.init_params))
    monkeypatch.setattr(jax.random, "permutation", noted(jax.random.permutation))
    Trainer(pins_task(), CONFIG, prepare(pins_task(), CONFIG)).start()
    keys = [tuple(np.asarray(jax.random.key_data(key)).tolist()) for key in drawn_from]
    assert len(keys) == len(set(keys)) == 3


def test_every_purpose_has_a_key_of_its_own():
    keys = [stream(CONFIG, purpose) for purpose in get_args(Purpose)]
    assert len({tuple(np.asarray(jax.random.key_data(key)).tolist()) for key in keys}) == len(keys)


@pytest.mark.parametrize("warmup", [0.0, 1.0, 2.0])
def test_the_rate_rises_and_then_decays(warmup):
    """Adam moves by its rate, where the gradient is always the same."""
    config = tiny(warmup_epochs=warmup, learning_rate=0.5, decay=0.8)
    optimizer, params = make_optimizer(config, 4), jnp.zeros(1)
    state, moves = optimizer.init(params), []
    for _ in range(20):
        update, state = optimizer.update(jnp.ones(1), state, params)
        params = optax.apply_updates(params, update)
        moves.append(-float(update[0]))
    rise = int(4 * warmup)
    expected = [
        0.5 / rise + (0.5 - 0.5 / rise) * step / rise
        if step < rise
        else 0.5 * 0.8 ** ((step - rise) / 4)
        for step in range(20)
    ]
    np.testing.assert_allclose(moves, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("epoch", "best", "finished"),
    [(1, 0, False), (3, 3, False), (4, 3, False), (6, 3, False), (7, 3, True), (10, 10, True)],
)
def test_patience_counts_evaluations(epoch, best, finished):
    """Two evaluations without improvement, one every two epochs."""
    assert is_finished(tiny(epochs=10, patience=2, evaluate_every=2), epoch, best) == finished
    assert is_finished(tiny(epochs=10, patience=0), epoch, best) == (epoch == 10)


@pytest.mark.parametrize(
    ("every", "drawn"),
    [(0, [0, 0, 0, 0, 0, 0]), (1, [0, 0, 2, 3, 4, 5]), (2, [0, 0, 0, 3, 3, 5]), (9, [0] * 6)],
)
def test_which_draw_of_the_neighbours_an_epoch_trains_on(every, drawn):
    assert [drawn_for(epoch, every) for epoch in range(6)] == drawn


def test_neighbours_are_those_of_the_epoch_however_it_is_reached():
    """Going on from any epoch, or going back to the best one, takes the draw of that epoch."""
    config = tiny(layers=1, refresh_every=2, steps_per_epoch=1)
    task = pins_task()
    trainer = Trainer(task, config, prepare(task, config))
    prepared, start = trainer.prepared, trainer.epochs.folds
    for epoch, drawn in ((5, 5), (2, 0), (4, 3), (3, 3), (0, 0)):
        before = trainer.epochs.folds
        trainer.use_folds_of(epoch)
        whole = Fold(task.pairs, prepared.table, prepared.features)
        expected = folds_of(task, config, whole, prepared.schema, prepared.structure, epoch=drawn)
        for one, two in zip(trainer.epochs.folds, expected, strict=True):
            np.testing.assert_array_equal(one.table.ids, two.table.ids)
        # Nothing is drawn that is in use already.
        assert (trainer.epochs.folds is before) == (epoch == 3)
        # What validation and test are asked of stays.
        assert trainer.prepared is prepared
    # The cut stays; what each fold leaves is walked anew.
    trainer.use_folds_of(5)
    for one, two in zip(trainer.epochs.folds, start, strict=True):
        np.testing.assert_array_equal(one.pairs._positives, two.pairs._positives)
        assert not np.array_equal(one.table.ids, two.table.ids)


def test_without_folds_an_epoch_trains_on_a_new_draw_of_the_whole():
    config = tiny(layers=1, refresh_every=2, folds=0)
    trainer = Trainer(pins_task(), config, prepare(pins_task(), config))
    trainer.use_folds_of(4)
    (fold,) = trainer.epochs.folds
    expected = neighbors_of(trainer.prepared.graph, config, epoch=3)
    np.testing.assert_array_equal(fold.table.ids, expected.ids)
    assert fold.features is trainer.prepared.features
