import pytest

from lightgcn_jax.errors import InputError
from lightgcn_jax.training import PRESETS, TrainConfig
from lightgcn_jax.training.optimizer import learning_rate_schedule


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
        ("layers", -1, "layers: expected 0 or more, got -1"),
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
    ],
)
def test_nonsense_is_refused(field, value, message):
    with pytest.raises(InputError, match=message):
        TrainConfig(**{field: value})


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
    config = TrainConfig(epochs=10, learning_rate=2.0, schedule=schedule)
    rate = learning_rate_schedule(config, steps_per_epoch=10)
    assert float(rate(0)) == pytest.approx(2.0)
    assert float(rate(50)) == pytest.approx(2.0 * half_way)
    assert float(rate(100)) == pytest.approx(2.0 * end, abs=1e-6)


def test_warm_up_rises_linearly_then_the_schedule_starts():
    config = TrainConfig(epochs=12, learning_rate=2.0, schedule="linear", warmup_epochs=2)
    rate = learning_rate_schedule(config, steps_per_epoch=10)
    assert [float(rate(step)) for step in (0, 10, 20, 70, 120)] == pytest.approx([0, 1, 2, 1, 0])
