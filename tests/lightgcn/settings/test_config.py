import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightgcn_jax.errors import InputError
from lightgcn_jax.settings import PRESETS, TrainConfig
from lightgcn_jax.training.optimizer import make_optimizer, relative_schedule


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", 0, "epochs: expected a whole number of at least 1, got 0"),
        ("epochs", 2.5, "epochs: expected a whole number of at least 1, got 2.5"),
        ("seed", 2**31, "seed: expected seeds below 2"),
        ("alphas", (0.5, float("nan"), 0.2, 0.1), "alphas: expected finite weights"),
        ("learning_rate", float("inf"), "learning_rate: expected more than 0"),
        ("ks", (10, 10), "ks: expected distinct cut-offs"),
        ("batch_size", 0, "batch_size: expected a whole number of at least 1"),
        ("layers", -1, "layers: expected at least 0, got -1"),
        ("dim", 0, "dim: expected at least 1, got 0"),
        ("alphas", (1.0,), "alphas: expected layers \\+ 1 = 4 weights, got 1"),
        ("learning_rate", 0.0, "learning_rate: expected more than 0"),
        ("learning_rate", float("nan"), "learning_rate: expected more than 0"),
        ("l2", float("inf"), "l2: expected a number of at least 0, got inf"),
        ("sampling", "edges", "sampling: expected one of"),
        ("schedule", "steps", "schedule: expected one of"),
        ("protocol", "loose", "protocol: expected one of"),
        ("ks", (), "ks: expected distinct cut-offs of at least 1"),
        ("ks", (0,), "ks: expected distinct cut-offs of at least 1"),
        ("select_by", "recall@7", "select_by: expected one of recall@10"),
        ("init_std", 0.0, "init_std: expected a positive number"),
        ("backend", "dense", "backend: expected one of"),
        ("model", "svd", "model: expected one of .*'lightgcn', 'gfcf'"),
        ("neighbours", 7, "neighbours: a setting of itemcf, which lightgcn does not read"),
        ("singular_vectors", 0, "singular_vectors: expected a whole number of at least 1"),
        ("low_pass_weight", float("nan"), "low_pass_weight: expected a number of at least 0"),
        ("temperature", 0.0, "temperature: expected more than 0, got 0.0"),
        ("temperature", -1.0, "temperature: expected more than 0, got -1.0"),
        ("edge_dropout", 1.0, "edge_dropout: expected a share of at least 0 and below 1, got 1.0"),
        ("loss", "hinge", "loss: expected one of"),
        ("score", "dot", "score: expected one of"),
        ("negative_sampler", "mixed", "negative_sampler: expected one of"),
        ("hidden", 8, "hidden: a setting of score mlp, got score inner; leave it out"),
        ("margin", 0.5, "margin: a setting of loss max-margin, got loss bpr; leave it out"),
        ("sampling_correction", True, "sampling_correction: a setting of loss softmax, got loss"),
        ("popularity_power", 0.5, "popularity_power: a setting of negative_sampler popularity"),
        ("hard_pool", 64, "hard_pool: a setting of negative_sampler hard, got .* uniform"),
        ("biases", True, "biases: a setting of mf, which lightgcn does not read"),
        ("aggregate", "max", "aggregate: a setting of gnn, which lightgcn does not read"),
        ("schedule_epochs", 99, "schedule_epochs: expected 0 or at least the 100 epochs of the"),
    ],
)
def test_nonsense_is_refused(field, value, message):
    with pytest.raises(InputError, match=message):
        TrainConfig(**{field: value})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"loss": "max-margin", "temperature": 0.1},
            "temperature: a setting of loss bpr or binary",
        ),
        (
            {"loss": "softmax", "negative_sampler": "hard", "sampling_correction": True},
            "sampling_correction: expected a sampler whose probabilities are known",
        ),
        (
            {
                "loss": "softmax",
                "negative_sampler": "in-batch",
                "sampling_correction": True,
                "sampling": "users",
            },
            "sampling_correction: expected the sampling of interactions beside in-batch",
        ),
        (
            {"negative_sampler": "hard", "negatives": 64, "hard_pool": 32},
            "negatives: expected at most hard_pool = 32 of the sampler hard, got 64",
        ),
        ({"negative_sampler": "in-batch", "negatives": 64}, "negatives: a setting of"),
        (
            {"negative_sampler": "all", "negative_sharing": "per-user"},
            "negative_sharing: a setting",
        ),
        ({"negative_sampler": "all", "reject_seen": False}, "reject_seen: the sampler all takes"),
        ({"model": "mf", "biases": True, "score": "cosine"}, "biases: expected the score inner"),
        ({"model": "mf", "layers": 2}, "layers: a setting of gcn, .*, which mf"),
        ({"model": "ngcf", "layers": 0}, "layers: expected"),
        ({"layer_combination": "last", "learn_alphas": True}, "layer_combination|learn_alphas"),
        ({"model": "gfcf", "loss": "softmax"}, "loss: a setting of mf, "),
    ],
)
def test_combinations_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        TrainConfig(**settings)


def test_the_paper_preset_is_the_papers():
    paper = PRESETS["paper"]
    assert (paper.dim, paper.layers, paper.batch_size, paper.epochs) == (64, 3, 2048, 1000)
    assert (paper.learning_rate, paper.l2, paper.init_std) == (1e-3, 1e-4, 0.1)
    assert (paper.sampling, paper.negatives, paper.negative_sharing) == ("users", 1, "per-user")
    assert paper.protocol == "legacy"


@pytest.mark.parametrize(
    ("schedule", "half_way", "end"),
    [
        ("constant", 1.0, 1.0),
        ("cosine", 0.5, 0.0),
        ("linear", 0.5, 0.0),
        ("exponential", 0.1, 0.01),
    ],
)
def test_schedules_by_name(schedule, half_way, end):
    config = TrainConfig(epochs=10, schedule=schedule)
    rate = relative_schedule(config, steps_per_epoch=10)
    assert float(rate(0)) == pytest.approx(1.0)
    assert float(rate(50)) == pytest.approx(half_way)
    assert float(rate(100)) == pytest.approx(end, abs=1e-6)


def test_warm_up_rises_linearly_then_the_schedule_starts():
    config = TrainConfig(epochs=12, schedule="linear", warmup_epochs=2)
    rate = relative_schedule(config, steps_per_epoch=10)
    shares = [float(rate(step)) for step in (0, 10, 20, 70, 120)]
    assert shares == pytest.approx([0, 0.5, 1, 0.5, 0])


def test_a_schedule_may_run_past_the_epochs():
    config = TrainConfig(epochs=5, schedule="linear", schedule_epochs=10)
    assert float(relative_schedule(config, steps_per_epoch=10)(50)) == pytest.approx(0.5)


def test_the_rate_of_adam_may_be_traced():
    config = TrainConfig(epochs=2, learning_rate=0.5, schedule="cosine")
    gradient = jnp.array([1.0, -2.0])

    def updates(rate):
        optimizer = make_optimizer(config, 3, rate)
        return optimizer.update(gradient, optimizer.init(gradient))[0]

    np.testing.assert_allclose(jax.jit(updates)(0.5), updates(None), rtol=1e-6)
    np.testing.assert_allclose(jax.jit(updates)(1.0), 2 * updates(None), rtol=1e-6)
