import numpy as np
import pytest

from lightgcn_jax.data.protocol import apply_protocol
from lightgcn_jax.errors import InputError
from lightgcn_jax.runs import SilentReporter, TrainingDiverged, fit
from lightgcn_jax.runs.progress import Progress, TrainArrays
from lightgcn_jax.runs.replicas import PER_REPLICA, replicas_of
from lightgcn_jax.runs.trainer import Trainer
from lightgcn_jax.settings import flat
from lightgcn_jax.settings.names import replaced
from lightgcn_jax.training import TracedSettings

VARIANTS = ({"learning_rate": 0.02, "l2": 1e-3}, {"learning_rate": 0.005, "l2": 0.1})


def train(split, config, variants=()):
    trainer = Trainer(
        apply_protocol(split, config.protocol), config, None, None, SilentReporter(), variants
    )
    arrays = TrainArrays.start(trainer.initial_states())
    return trainer.train(arrays, Progress.start(len(trainer.replicas)))


def test_replicas_are_variants_times_seeds(small_config):
    replicas = replicas_of(replaced(small_config, {"seed": 3, "seeds": 2}), VARIANTS)
    assert [replica.label for replica in replicas] == [
        {**variant, "seed": seed} for variant in VARIANTS for seed in (3, 4)
    ]
    for replica in replicas:
        assert replica.config == replaced(small_config, replica.label)
    assert [replica.label for replica in replicas_of(small_config)] == [{"seed": 0}]


def test_what_may_differ_and_what_may_not(small_config):
    for name in PER_REPLICA:
        loss = "max-margin" if name == "margin" else "bpr"
        [replica] = replicas_of(replaced(small_config, {"loss": loss}), [{name: 0.5}])
        assert flat(replica.config)[name] == 0.5
    with pytest.raises(InputError, match="dim: expected one of learning_rate, l2, temperature"):
        replicas_of(small_config, [{"dim": 4}])
    with pytest.raises(InputError, match="learning_rate: expected more than 0, got -1"):
        replicas_of(small_config, [{"learning_rate": -1.0}])
    with pytest.raises(InputError, match="margin: a setting of loss max-margin, got loss bpr"):
        replicas_of(small_config, [{"margin": 0.5}])


def test_traced_settings_are_stacked_replica_by_replica(small_config):
    replicas = replicas_of(small_config, VARIANTS)
    traced = TracedSettings.stacked([replica.config.strategies for replica in replicas])
    np.testing.assert_allclose(traced.learning_rate, [0.02, 0.005])
    np.testing.assert_allclose(traced.l2, [1e-3, 0.1])
    np.testing.assert_allclose(traced.temperature, [1, 1])
    np.testing.assert_allclose(traced.margin, [0, 0])


@pytest.fixture(scope="module")
def together(small_split, small_config):
    return train(small_split, small_config, VARIANTS)


def test_variants_together_train_as_alone(together, small_split, small_config):
    for index, variant in enumerate(VARIANTS):
        alone = fit(small_split, replaced(small_config, variant))
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
    replicas = together.summary["seeds"]
    assert all("test" not in replica for replica in replicas)
    best = max(replicas, key=lambda replica: replica["valid"]["recall@10"])
    assert together.summary["best_epoch"] == best["best_epoch"]
    assert together.scorer.num_items == len(small_split.items)


def test_the_replica_that_diverged_is_named(small_split, small_config):
    with pytest.raises(TrainingDiverged, match=r"at step \d+ of \d+ of epoch \d+ \(learning_rate"):
        train(small_split, small_config, ({"learning_rate": 0.01}, {"learning_rate": 1e30}))
