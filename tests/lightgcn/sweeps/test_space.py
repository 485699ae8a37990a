"""What a sweep tries, and which trials train together; nothing is trained here."""

import ast
import math
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest

import lightgcn_jax
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph import training_graph
from lightgcn_jax.settings.names import from_flat
from lightgcn_jax.sweeps import Range, SweepConfig, directory
from lightgcn_jax.sweeps.directory import groups_of
from lightgcn_jax.sweeps.space import named, quiet_optuna
from lightgcn_jax.training.strategies import StepCost

BASE = {"model": "mf", "dim": 4, "ks": (5, 10), "select_by": "recall@10", "learning_rate": 0.02}


def configs_of(config):
    return [config.trial_config(parameters) for parameters in config.planned]


def without(name, base=BASE):
    return {other: value for other, value in base.items() if other != name}


# The search.


def test_a_grid_is_every_combination():
    config = SweepConfig(without("dim"), {"dim": (4, 8), "l2": (0.0, 1e-3, 1e-2)})
    expected = [{"dim": dim, "l2": l2} for dim in (4, 8) for l2 in (0.0, 1e-3, 1e-2)]
    assert config.planned == expected
    assert (config.sampler, config.num_trials, config.train_best) == ("grid", 6, True)
    for parameters in expected:
        assert config.trial_config(parameters) == from_flat(BASE | parameters)


def test_a_trial_takes_what_its_model_score_and_loss_read():
    base = without("model") | {"layers": 1, "margin": 0.2, "hidden": 5}
    search = {"model": ("mf", "lightgcn", "popular")}
    with pytest.raises(InputError, match="margin: a setting of loss max-margin, got loss bpr"):
        SweepConfig(base, search)
    base |= {"loss": "max-margin"}
    with pytest.raises(InputError, match="hidden: a setting of score mlp, got score inner"):
        SweepConfig(base, search)
    with pytest.raises(InputError, match=r"trial model=popular score=inner: .* does not read"):
        SweepConfig(base, search | {"score": ("inner", "mlp")})
    *trained, popular = configs_of(SweepConfig(base | {"score": "mlp"}, search))
    assert popular == from_flat({"model": "popular", "ks": (5, 10)})
    read = {"mf": without("layers", base), "lightgcn": base}
    assert trained == [from_flat(read[model] | {"model": model, "score": "mlp"}) for model in read]
    # One trial that reads a setting is enough.
    inner, _ = configs_of(SweepConfig(base | {"model": "lightgcn"}, {"score": ("inner", "mlp")}))
    assert inner == from_flat(without("hidden", base))


def test_layer_weights_are_parameters_as_they_are_typed():
    values = ((0.5, 0.5), (0.2, 0.8), None)
    config = SweepConfig({"layers": 1}, {"alphas": values})
    assert [one["alphas"] for one in config.planned] == ["0.5/0.5", "0.2/0.8", None]
    assert [one.model.alphas for one in configs_of(config)] == [*values]


def test_numbers_of_numpy_are_numbers():
    given = BASE | {"dim": np.int64(4), "ks": np.array([5, 10])}
    config = SweepConfig(given, {"l2": np.array([0.0, 0.5])}, trials=np.int64(2))
    assert config == SweepConfig(BASE, {"l2": (0.0, 0.5)}, trials=2)
    assert [type(one["l2"]) for one in config.planned] == [float, float]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"search": {}}, "search: expected settings to try"),
        ({"search": {"dims": (1, 2)}}, "dims: expected a setting in which trials may differ"),
        ({"search": {"seed": (1, 2)}}, "seed: expected a setting in which trials may differ"),
        ({"search": {"l2": (4, 4)}}, "l2: expected distinct values"),
        ({"search": {"l2": ()}}, "l2: expected distinct values"),
        ({"search": {"dim": (4, 8)}}, "dim: is swept already"),
        ({"search": {"l2": (0, -1)}}, "trial l2=-1: l2: expected a number of at least 0"),
        ({"search": {"loss": ("bpr", "mse")}}, "trial loss=mse: loss: expected one of .*'mse'"),
        ({"search": {"model": ("mf", "svd")}, "base": {}}, "model: expected one of .*'svd'"),
        ({"search": {"model": ("lightgcn", "mf"), "layers": (1, 2)}, "base": {}}, "which mf does"),
        ({"search": {"neighbours": (1, 2)}}, "trial neighbours=1: .* which mf does not read"),
        ({"search": {"model": ("popular", "gfcf")}, "base": {"dim": 2}}, "^dim: .* popular does"),
        ({"search": {"margin": (0.1, 0.2)}}, "trial margin=0.1: margin: a setting of loss"),
        ({"base": BASE | {"dims": 1}}, "dims: expected a setting of training"),
        ({"base": BASE | {"protocol": "legacy"}}, "protocol: expected strict"),
        ({"base": BASE | {"protocol": "fixed"}}, "protocol: expected strict"),
        ({"base": BASE | {"select_by": "recall@7"}}, "select_by: expected one of"),
        ({"search": {"loss": Range(1, 2)}, "trials": 1}, "loss: expected values"),
        ({"search": {"negatives": Range(1.5, 2)}, "trials": 1}, "negatives: expected whole numb"),
        ({"search": {"l2": Range(1, 2)}}, "trials: expected how many"),
        ({"sampler": "tpe"}, "trials: expected how many"),
        ({"sampler": "grid", "trials": 2}, "sampler: expected random or tpe"),
        ({"sampler": "grid", "search": {"l2": Range(1, 2)}}, "sampler: expected random or tpe"),
        ({"sampler": "grid", "search": {"epochs": Range(1, 9)}}, "sampler: expected random or"),
        ({"sampler": "cmaes"}, "sampler: expected None or one of"),
        ({"trials": 0}, "trials: expected None or a whole number of at least 1"),
        ({"trials": 3}, "trials: expected at most 2, got 3"),
        ({"trials": 7, "search": {"negatives": Range(1, 6)}}, "trials: expected at most 6"),
        ({"together": 0}, "together: expected a whole number of at least 1"),
        ({"seed": -1}, "seed: expected a whole number of at least 0"),
    ],
)
def test_nonsense_is_refused_before_any_work(change, message):
    with pytest.raises(InputError, match=message):
        SweepConfig(**{"base": BASE, "search": {"l2": (0.0, 0.1)}} | change)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2, 1), "expected low < high, got 2..1"),
        ((0, math.inf), "high: expected a number"),
        ((0, 1, "log"), "expected positive ends"),
        ((1, 2, "cubic"), "scale: expected one of"),
    ],
)
def test_ranges_that_are_none(arguments, message):
    with pytest.raises(InputError, match=message):
        Range(*arguments)


def test_beyond_a_decade_of_positive_numbers_auto_is_log():
    for ends, scale in (((1, 10), "linear"), ((-1, 100), "linear"), ((1, 11), "log")):
        assert Range(*ends) == Range(*ends, scale)


def test_ranges_and_values_are_optunas_distributions():
    whole, logarithmic = Range(2.0, 5), Range(1e-4, 1e-1)
    search = {"l2": logarithmic, "negatives": whole, "biases": [True, False]}
    config = SweepConfig(BASE, search, trials=1)
    kinds = optuna.distributions
    assert config.distributions == {
        "l2": kinds.FloatDistribution(1e-4, 1e-1, log=True),
        "negatives": kinds.IntDistribution(2, 5),
        "biases": kinds.CategoricalDistribution((True, False)),
    }


# Draws.

SEARCH = {
    "sampling": ("users", "interactions"),
    "learning_rate": Range(1e-4, 1e-1),
    "dim": Range(2, 5),
}


def drawing(**changes):
    base = {"model": "mf", "ks": (5, 10)}
    return SweepConfig(base, SEARCH, **{"trials": 20, "seed": 3} | changes)


def finished(parameters, value, config):
    """An Optuna trial that was told a value."""
    return optuna.trial.create_trial(
        params=parameters, distributions=config.distributions, value=value
    )


def test_draws_are_reproducible_distinct_readable_and_in_range():
    config = drawing()
    assert config.planned == drawing().planned
    assert config.planned != drawing(seed=4).planned
    assert len({named(parameters) for parameters in config.planned}) == 20
    for trial in configs_of(config):
        rate = trial.optimization.learning_rate
        assert 1e-4 <= rate <= 1e-1
        assert rate == float(f"{rate:.4g}")
        assert trial.model.dim in (2, 3, 4, 5)
        assert type(trial.model.dim) is int


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_draws_from_a_small_grid_find_all_of_it(sampler):
    search = {"dim": (1, 2, 3), "batch_size": (1, 2)}
    config = SweepConfig({"model": "mf"}, search, trials=6, sampler=sampler, together=4)
    known = []
    while len(known) < 6:
        known += [finished(one, len(known), config) for one in config.batch(known)]
    grid = SweepConfig({"model": "mf"}, search).planned
    assert sorted(named(trial.params) for trial in known) == sorted(map(named, grid))


def test_tpe_draws_where_trials_were_good_and_as_it_would_after_a_break():
    config = drawing(sampler="tpe", trials=100, together=16)

    def value(parameters):
        return -abs(math.log10(parameters["learning_rate"]) + 2)

    known = [finished(one, value(one), config) for one in drawing(trials=30).planned]
    drawn = config.batch(known)
    assert drawn == config.batch(known)
    assert len(drawn) == 16
    # Far from the best rate, random draws are 0.83 on average.
    assert -np.mean([value(one) for one in drawn]) < 0.6
    assert len(config.batch(known + [finished(one, 0, config) for one in drawn] * 4)) == 6


def test_a_trial_of_many_seeds_is_drawn_alone():
    config = SweepConfig(BASE | {"seeds": 5}, {"l2": Range(0, 1)}, trials=3, sampler="tpe")
    assert len(config.batch([])) == 1


# Optuna.


def test_without_optuna_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"pip install 'lightgcn-pinsage-jax\[sweep\]'"):
        SweepConfig(BASE, {"l2": (0.0, 0.1)})


def test_optuna_is_imported_where_it_is_used():
    for path in Path(lightgcn_jax.__file__).parent.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                assert not ast.unparse(node).startswith(("import optuna", "from optuna")), path


def test_optunas_log_is_silent_for_a_while(capsys):
    before = optuna.logging.get_verbosity()
    with quiet_optuna() as module:
        module.create_study()
    assert optuna.logging.get_verbosity() == before
    assert capsys.readouterr() == ("", "")


# Which trials train together.


@pytest.fixture(scope="module")
def graph(small_split):
    return training_graph(small_split)


def groups(search, graph, base=BASE, together=8):
    base = {name: value for name, value in base.items() if name not in search}
    return groups_of(configs_of(SweepConfig(base, search)), together, graph)


def test_trials_of_one_program_form_a_group(graph):
    search = {"learning_rate": (0.1, 0.2), "dim": (4, 8), "l2": (0.0, 0.1)}
    assert groups(search, graph) == [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert groups(search, graph, together=3) == [[0, 1, 4], [5], [2, 3, 6], [7]]


def test_seeds_of_a_trial_are_never_torn(graph):
    base, search = BASE | {"seeds": 3}, {"l2": (0.0, 0.1, 0.2, 0.3)}
    assert groups(search, graph, base) == [[0, 1], [2, 3]]
    assert groups(search, graph, base, 2) == [[0], [1], [2], [3]]


def test_memory_bounds_a_group(graph, monkeypatch):
    search = {"l2": (0.0, 0.1, 0.2, 0.3)}
    one = StepCost.of(graph, from_flat(BASE).strategies).held_bytes
    monkeypatch.setattr(directory, "device_memory", lambda: 4 * one)
    assert groups(search, graph) == [[0, 1], [2, 3]]
    monkeypatch.setattr(directory, "device_memory", lambda: one)
    assert groups(search, graph) == [[0], [1], [2], [3]]


def test_closed_forms_are_fitted_one_by_one(graph):
    assert groups({"low_pass_weight": (0.1, 0.2)}, graph, {"model": "gfcf"}) == [[0], [1]]
