import dataclasses

import numpy as np
import pytest

from lightgcn_jax.data.protocol import apply_protocol
from lightgcn_jax.errors import InputError
from lightgcn_jax.runs import SilentReporter, TrainingDiverged, fit
from lightgcn_jax.runs.progress import Progress, TrainArrays
from lightgcn_jax.runs.replicas import VARIABLE, lanes_of
from lightgcn_jax.runs.trainer import Trainer
from lightgcn_jax.training.step import Rates

VARIANTS = ({"learning_rate": 0.02, "l2": 1e-3}, {"learning_rate": 0.005, "l2": 0.1})


def train(split, config, variants=()):
    trainer = Trainer(
        apply_protocol(split, config.protocol), config, None, None, SilentReporter(), variants
    )
    arrays = TrainArrays.start(trainer.initial_states())
    return trainer.train(arrays, Progress.start(len(trainer.lanes)))


def test_lanes_are_variants_times_seeds(small_config):
    lanes = lanes_of(dataclasses.replace(small_config, seed=3, seeds=2), VARIANTS)
    assert [lane.label for lane in lanes] == [
        {**variant, "seed": seed} for variant in VARIANTS for seed in (3, 4)
    ]
    for lane in lanes:
        assert lane.config == dataclasses.replace(small_config, **lane.label)
    assert [lane.label for lane in lanes_of(small_config)] == [{"seed": 0}]


def test_what_may_differ_and_what_may_not(small_config):
    for name in VARIABLE:
        loss = "max-margin" if name == "margin" else "bpr"
        [lane] = lanes_of(dataclasses.replace(small_config, loss=loss), [{name: 0.5}])
        assert getattr(lane.config, name) == 0.5
    with pytest.raises(InputError, match="dim: expected one of learning_rate, l2, temperature"):
        lanes_of(small_config, [{"dim": 4}])
    with pytest.raises(InputError, match="learning_rate: expected more than 0, got -1"):
        lanes_of(small_config, [{"learning_rate": -1.0}])


def test_rates_are_stacked_lane_by_lane(small_config):
    lanes = lanes_of(small_config, VARIANTS)
    rates = Rates.stacked([lane.config for lane in lanes])
    np.testing.assert_allclose(rates.learning_rate, [0.02, 0.005])
    np.testing.assert_allclose(rates.l2, [1e-3, 0.1])
    np.testing.assert_allclose(rates.temperature, [1, 1])


@pytest.fixture(scope="module")
def together(small_split, small_config):
    return train(small_split, small_config, VARIANTS)


def test_variants_together_train_as_alone(together, small_split, small_config):
    for index, variant in enumerate(VARIANTS):
        alone = fit(small_split, dataclasses.replace(small_config, **variant))
        mine = [record for record in together.history if variant.items() <= record.items()]
        np.testing.assert_allclose(
            [record["loss"] for record in mine],
            [record["loss"] for record in alone.history],
            rtol=1e-4,
        )
        one = together.summary["seeds"][index]
        assert one["best_epoch"] == alone.summary["best_epoch"]
        # A near tie may fall the other way by rounding.
        assert one["valid"]["recall@10"] == pytest.approx(
            alone.summary["valid"]["recall@10"], abs=0.01
        )


def test_test_is_not_ranked_for_variants_and_the_best_on_validation_is_kept(together, small_split):
    assert together.summary["test"] == {}
    lanes = together.summary["seeds"]
    assert all("test" not in lane for lane in lanes)
    best = max(lanes, key=lambda lane: lane["valid"]["recall@10"])
    assert together.summary["best_epoch"] == best["best_epoch"]
    assert together.scorer.num_items == len(small_split.items)


def test_the_lane_that_diverged_is_named(small_split, small_config):
    with pytest.raises(TrainingDiverged, match=r"at step \d+ of \d+ of epoch \d+ \(learning_rate"):
        train(small_split, small_config, ({"learning_rate": 0.01}, {"learning_rate": 1e30}))
