"""Sweeps: what is tried, that trials together are trials alone, and that test stays out of it."""

import collections
import dataclasses
import json
import math

import jax
import numpy as np
import pytest
import scipy.stats
from matplotlib.figure import Figure

from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import parts as protocol
from lightgcn_jax.graph import csr_rows
from lightgcn_jax.runs import Interrupted, RunDirectory, SilentReporter, fit
from lightgcn_jax.runs import trainer as loop
from lightgcn_jax.settings import TrainConfig
from lightgcn_jax.sweeps import Range, SweepConfig, resume_sweep, run_sweep
from lightgcn_jax.sweeps import space as sweep_space
from lightgcn_jax.sweeps import sweep as sweep_module
from lightgcn_jax.sweeps.plot import plot_sweep
from lightgcn_jax.sweeps.space import groups_of, named
from lightgcn_jax.sweeps.sweep import TrialResult

METRIC = "recall@10"


@pytest.fixture(scope="module")
def base(small_config):
    """What compiles fastest, where nothing is asked of the quality; a chunk is an epoch."""
    return TrainConfig(
        model="mf", dim=4, epochs=2, batch_size=256, negatives=16, ks=small_config.ks,
        select_by=METRIC, evaluate_every=1, patience=0, learning_rate=0.02, sampling="users",
        reject_seen=False, checkpoint_seconds=0.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def graph_base(small_config):
    return dataclasses.replace(
        small_config, layers=1, backend="segment", evaluate_every=1, sampling="users",
        reject_seen=False, dim=4,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    """Curves take longer to draw than such runs to train; the sweep of the module has them."""
    monkeypatch.setattr(loop, "plot_curves", lambda *_: [])


class Broken(Exception):
    pass


class BreakAfter(SilentReporter):
    """Breaks off like a crash, after so many chunks of training."""

    def __init__(self, chunks):
        self.left = chunks

    def advanced(self, **_):
        self.left -= 1
        if self.left == 0:
            raise Broken


def lines(path):
    """The records of trials.jsonl, without what depends on the clock."""
    records = [json.loads(line) for line in (path / "trials.jsonl").read_text().splitlines()]
    return [{name: value for name, value in one.items() if name != "seconds"} for one in records]


@pytest.fixture
def ranked(monkeypatch, small_split):
    """Which parts are ranked, as they are: told by the pairs, not by their names."""
    parts = {
        part: np.asarray(csr_rows(pairs.users, pairs.items, len(small_split.users)).columns)
        for part in ("train", "valid", "test")
        for pairs in [getattr(small_split, part)]
    }
    calls, evaluate = [], protocol.evaluate

    def spy(scorer, relevant, **options):
        columns = np.asarray(relevant.columns)
        calls.append(next(part for part, own in parts.items() if np.array_equal(columns, own)))
        return evaluate(scorer, relevant, **options)

    monkeypatch.setattr(protocol, "evaluate", spy)
    return calls


# What is tried.


def test_a_grid_is_every_combination(base):
    config = SweepConfig(base, {"dim": (4, 8), "l2": (0.0, 1e-3, 1e-2)})
    chosen = [tuple(trial.settings.values()) for trial in config.combinations]
    assert chosen == [(dim, l2) for dim in (4, 8) for l2 in (0.0, 1e-3, 1e-2)]
    for number, trial in enumerate(config.combinations):
        assert trial.number == number
        assert trial.config == dataclasses.replace(base, **trial.settings)


def test_a_trial_takes_what_its_model_reads(graph_base):
    base = graph_base
    config = SweepConfig(base, {"model": ("mf", "lightgcn", "popular")})
    mf, lightgcn, popular = (trial.config for trial in config.combinations)
    assert lightgcn == base
    assert (mf.dim, mf.epochs, mf.layers) == (base.dim, base.epochs, TrainConfig().layers)
    assert popular == TrainConfig(model="popular", ks=base.ks)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": {}}, "expected settings to try"),
        ({"values": {"dims": (1, 2)}}, "dims: expected a setting of training"),
        ({"values": {"seed": (1, 2)}}, "seed: expected a setting in which trials may differ"),
        ({"values": {"dim": (4, 4)}}, "dim: expected distinct values"),
        ({"values": {"dim": ()}}, "dim: expected distinct values"),
        ({"values": {"dim": (4, 0)}}, "trial dim=0: "),
        ({"values": {"model": ("mf", "svd")}}, "model: expected one of mf, .*, got 'svd'"),
        ({"values": {"model": ("lightgcn", "mf"), "layers": (1, 2)}}, "which mf does not read"),
        ({"values": {"neighbours": (1, 2)}}, "which mf does not read"),
        ({"values": {"model": ("popular", "gfcf")}}, "dim: .* which popular does not read"),
        ({"values": {"margin": (0.1, 0.2)}}, "trial margin=0.1: margin: a setting of loss"),
        ({"values": {"dim": (4,)}, "ranges": {"dim": Range(1, 2)}, "trials": 1}, "got both"),
        ({"ranges": {"loss": Range(1, 2)}, "trials": 1}, "loss: expected values"),
        (
            {"values": {}, "ranges": {"dim": Range(1.5, 2)}, "trials": 1},
            "dim: expected whole numbers",
        ),
        ({"values": {}, "ranges": {"dim": Range(1, 2)}}, "trials: expected how many"),
        ({"trials": 0}, "trials: expected at least 1"),
        ({"trials": 3}, "trials: expected at most 2"),
        ({"together": 0}, "together: expected at least 1"),
        ({"seed": -1}, "seed: expected at least 0"),
        ({"select_by": "recall@7"}, "select_by: expected one of"),
    ],
)
def test_nonsense_is_refused_before_any_work(change, message, base):
    with pytest.raises(InputError, match=message):
        SweepConfig(base, **{"values": {"dim": (4, 8)}} | change)


def test_other_protocols_are_refused(base):
    for name in ("legacy", "fixed"):
        with pytest.raises(InputError, match="protocol: expected strict"):
            SweepConfig(dataclasses.replace(base, protocol=name), {"dim": (4, 8)})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2, 1), "expected low < high, got 2..1"),
        ((0, math.inf), "expected low < high"),
        ((0, 1, "log"), "expected positive ends"),
        ((1, 2, "cubic"), "scale: expected one of"),
    ],
)
def test_ranges_that_are_none(arguments, message):
    with pytest.raises(InputError, match=message):
        Range(*arguments)


def test_draws_are_reproducible_distinct_and_in_range(base):
    def drawn(seed):
        return SweepConfig(
            base,
            {"sampling": ("users", "interactions")},
            {"learning_rate": Range(1e-4, 1e-1), "dim": Range(2, 5)},
            trials=20,
            seed=seed,
        ).combinations

    trials = drawn(3)
    assert trials == drawn(3)
    assert [trial.settings for trial in trials] != [trial.settings for trial in drawn(4)]
    assert len({named(trial.settings) for trial in trials}) == 20
    for trial in trials:
        assert 1e-4 <= trial.config.learning_rate <= 1e-1
        assert trial.config.dim in (2, 3, 4, 5)
    assert {type(trial.config.dim) for trial in trials} == {int}


def test_draws_from_a_small_grid_find_all_of_it(base):
    config = SweepConfig(base, {"dim": (1, 2, 3), "batch_size": (1, 2)}, trials=6)
    grid = SweepConfig(base, {"dim": (1, 2, 3), "batch_size": (1, 2)})
    assert {named(one.settings) for one in config.combinations} == {
        named(one.settings) for one in grid.combinations
    }


@pytest.mark.parametrize(("scale", "is_log"), [("auto", True), ("log", True), ("linear", False)])
def test_whole_numbers_follow_their_distribution(scale, is_log):
    low, high, count = 1, 12, 20_000
    drawn = Range(low, high, scale)
    assert drawn.is_log == is_log
    rng = np.random.default_rng(0)
    found = collections.Counter(drawn.draw(rng, whole=True) for _ in range(count))
    numbers = np.arange(low, high + 1)
    # On the log scale n has the length of [log n, log(n + 1)).
    weights = np.log1p(1 / numbers) if is_log else np.ones(len(numbers))
    expected = count * weights / weights.sum()
    assert set(found) <= set(numbers.tolist())
    observed = [found[int(number)] for number in numbers]
    assert scipy.stats.chisquare(observed, expected).pvalue > 1e-3


@pytest.mark.parametrize(
    ("scale", "share"),
    [("log", lambda x: (np.log10(x) + 4) / 3), ("linear", lambda x: (x - 1e-4) / (1e-1 - 1e-4))],
)
def test_numbers_follow_their_distribution(scale, share):
    drawn, rng = Range(1e-4, 1e-1, scale), np.random.default_rng(0)
    values = np.array([drawn.draw(rng, whole=False) for _ in range(20_000)])
    observed = np.histogram(share(values), 20, (0, 1))[0]
    assert observed.sum() == len(values)
    assert scipy.stats.chisquare(observed).pvalue > 1e-3


def test_within_a_decade_auto_is_linear():
    assert not Range(1, 10).is_log
    assert not Range(-1, 100).is_log
    assert Range(1, 11).is_log


# Which trials train together.


def groups(config, together=8):
    return groups_of(config.combinations, together=together, num_nodes=200, num_edges=1000)


def test_trials_of_one_program_form_a_group(base):
    config = SweepConfig(base, {"learning_rate": (0.1, 0.2), "dim": (4, 8), "l2": (0.0, 0.1)})
    by_dim = [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert groups(config) == by_dim
    assert groups(config, 3) == [[0, 1, 4], [5], [2, 3, 6], [7]]


def test_seeds_of_a_trial_are_never_torn(base):
    seeded = dataclasses.replace(base, seeds=3)
    config = SweepConfig(seeded, {"l2": (0.0, 0.1, 0.2, 0.3)})
    assert groups(config, 8) == [[0, 1], [2, 3]]
    assert groups(config, 2) == [[0], [1], [2], [3]]


def test_memory_bounds_a_group(base, monkeypatch):
    config = SweepConfig(base, {"l2": (0.0, 0.1, 0.2, 0.3)})
    one = sweep_space.lane_bytes(base, 200, 1000)
    # Four tables of N × D floats at the very least: parameters, two moments, the best epoch.
    assert one >= 4 * 4 * 200 * base.dim
    monkeypatch.setattr(sweep_space, "device_memory", lambda: 2 * one)
    assert groups(config) == [[0, 1], [2, 3]]
    monkeypatch.setattr(sweep_space, "device_memory", lambda: one // 2)
    assert groups(config) == [[0], [1], [2], [3]]
    assert sweep_space.lane_bytes(dataclasses.replace(base, dim=512), 200, 1000) > one


def test_closed_forms_are_fitted_one_by_one():
    config = SweepConfig(TrainConfig(model="gfcf"), {"low_pass_weight": (0.1, 0.2)})
    assert groups(config) == [[0], [1]]


# Trials, the choice, and the run of the best.


@pytest.fixture(scope="module")
def swept(small_split, graph_base, tmp_path_factory):
    """A group of two trials of two seeds; patience ends their runs at different epochs."""
    path = tmp_path_factory.mktemp("sweeps") / "sweep"
    base = dataclasses.replace(graph_base, patience=1, seeds=2)
    config = SweepConfig(base, {"learning_rate": (0.002, 0.05)})
    result = run_sweep(small_split, config, out=path, data={"dataset": "small"})
    return config, result


@pytest.mark.slow
def test_trials_together_are_trials_alone(swept, small_split):
    config, result = swept
    assert json.loads((result.path / "sweep.json").read_text())["groups"] == [[0, 1]]
    for trial, got in zip(config.combinations, result.trials, strict=True):
        assert got.settings == trial.settings
        alone = fit(small_split, trial.config).summary
        for mine, own in zip(got.seeds, alone["seeds"], strict=True):
            assert (mine["seed"], mine["best_epoch"]) == (own["seed"], own["best_epoch"])
            for part in ("train", "valid"):
                for name, value in own[part].items():
                    assert mine[part][name] == pytest.approx(value, abs=2e-3), (part, name)
        assert got.spread("valid", METRIC)["mean"] == pytest.approx(
            np.mean([seed["valid"][METRIC] for seed in got.seeds])
        )
        assert got.spread("valid", METRIC)["ci95_half_width"] > 0


def test_the_best_on_validation_is_trained_as_a_run(swept):
    config, result = swept
    values = [trial.spread("valid", METRIC)["mean"] for trial in result.trials]
    assert result.best.trial == int(np.argmax(values))
    ranking = [values[trial.trial] for trial in result.ranking()]
    assert ranking == sorted(values, reverse=True)
    run = RunDirectory.open(result.path / "best")
    assert run.config == config.combinations[result.best.trial].config
    assert run.data["dataset"] == "small"
    assert run.summary()["test"] == result.run.summary["test"]
    assert run.summary()["valid"][METRIC] == pytest.approx(max(values), abs=2e-3)


def test_what_a_sweep_leaves(swept):
    _, result = swept
    names = {path.name for path in result.path.iterdir()}
    kept = {"sweep.json", "split", "trials.jsonl", "groups", "sweep.png", "best"}
    assert names == kept | {".lock"}
    assert result.plot.read_bytes().startswith(b"\x89PNG")
    for group in (result.path / "groups").iterdir():
        left = {path.name for path in group.iterdir()}
        assert left == {"metrics.jsonl", "summary.json", "loss.png", "metrics.png"}
    for line in lines(result.path):
        assert "test not ranked" in line["protocol_note"]
        assert all("test" not in seed for seed in line["seeds"])


def test_a_finished_sweep_is_returned(swept):
    _, result = swept
    before = lines(result.path)
    again = resume_sweep(result.path)
    assert lines(result.path) == before
    assert again.best == result.best
    assert again.trials == result.trials
    assert again.run.already_finished


@pytest.mark.slow
def test_test_is_ranked_once_and_for_the_best_alone(base, small_split, ranked, tmp_path):
    config = SweepConfig(base, {"model": ("mf", "popular")})
    result = run_sweep(small_split, config, out=tmp_path / "sweep")
    assert ranked.count("test") == 1
    assert ranked[-1] == "test"
    own = fit(small_split, config.combinations[1].config).summary
    assert result.trials[1].seeds == [
        {"seed": 0, "best_epoch": 0, "train": own["train"], "valid": own["valid"]}
    ]


@pytest.mark.slow
def test_dimensions_under_study(base, small_split, ranked, tmp_path, monkeypatch):
    """The more dimensions, the more of what was seen is remembered; test is there, and labelled."""
    drawn = []
    monkeypatch.setattr(Figure, "savefig", keep_figure(drawn, Figure.savefig))
    base = dataclasses.replace(base, epochs=20, evaluate_every=20, checkpoint_seconds=60.0)
    config = SweepConfig(base, {"dim": (1, 4)}, study=True)
    result = run_sweep(small_split, config, out=tmp_path / "sweep")
    trained = [trial.spread("train", METRIC)["mean"] for trial in result.trials]
    assert trained[0] < trained[1]
    assert ranked.count("test") == 2
    assert (result.run, result.refitted) == (None, None)
    assert not (tmp_path / "sweep" / "best").exists()
    for trial, line in zip(result.trials, lines(tmp_path / "sweep"), strict=True):
        assert line["protocol_note"].startswith("study: TEST ranked for every trial")
        alone = fit(small_split, config.combinations[trial.trial].config).summary
        assert trial.seeds[0]["test"][METRIC] == pytest.approx(alone["test"][METRIC], abs=2e-3)
    [axes] = drawn[-1].axes
    assert axes.get_xlabel() == "dim"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["train", "valid", "test"]
    assert "study" in drawn[-1].get_suptitle()


@pytest.mark.slow
def test_every_lane_of_a_study_is_ranked_by_its_own_best(base, small_split, tmp_path):
    config = SweepConfig(base, {"learning_rate": (0.002, 0.05)}, study=True, refit=True)
    result = run_sweep(small_split, config, out=tmp_path / "sweep")
    for trial, got in zip(config.combinations, result.trials, strict=True):
        alone = fit(small_split, trial.config).summary
        assert got.seeds[0]["test"][METRIC] == pytest.approx(alone["test"][METRIC], abs=2e-3)
    # Asked to refit, it trains the best after all.
    assert result.run.config == config.combinations[result.best.trial].config
    again = RunDirectory.open(tmp_path / "sweep" / "best-refit")
    assert (again.config.protocol, again.config.epochs) == (
        "fixed",
        result.run.summary["best_epoch"],
    )
    assert len(again.split.train) == len(small_split.train) + len(small_split.valid)
    assert result.refitted.summary["test"] == again.summary()["test"]


# What goes wrong.


@pytest.fixture(scope="module")
def two_groups(base, small_split, tmp_path_factory):
    path = tmp_path_factory.mktemp("two") / "sweep"
    config = SweepConfig(base, {"learning_rate": (0.002, 0.05, 0.01, 0.1)}, together=2)
    return config, run_sweep(small_split, config, out=path)


# In the first group, in the second one, and in the run of the best: a chunk is an epoch.
@pytest.mark.slow
@pytest.mark.parametrize("chunks", [1, 3, 5])
def test_a_broken_sweep_resumes_to_the_same_trials(chunks, two_groups, small_split, tmp_path):
    config, whole = two_groups
    with pytest.raises(Broken):
        run_sweep(small_split, config, out=tmp_path / "broken", reporter=BreakAfter(chunks))
    result = resume_sweep(tmp_path / "broken")
    assert len(lines(whole.path)) == 4
    assert lines(tmp_path / "broken") == lines(whole.path)
    assert result.run.summary["test"] == whole.run.summary["test"]


@pytest.mark.slow
def test_a_group_that_was_trained_but_not_recorded(two_groups, small_split, tmp_path, monkeypatch):
    config, whole = two_groups

    def fail(*_):
        raise Broken

    with monkeypatch.context() as patch:
        patch.setattr(sweep_module.SweepDirectory, "write_results", fail)
        with pytest.raises(Broken):
            run_sweep(small_split, config, out=tmp_path / "broken")
    # Its training is behind it: the next chunk is one of the second group.
    with pytest.raises(Broken):
        resume_sweep(tmp_path / "broken", reporter=BreakAfter(1))
    assert lines(tmp_path / "broken") == lines(whole.path)[:2]


@pytest.mark.slow
def test_only_the_diverging_trial_is_given_up(base, small_split, tmp_path):
    config = SweepConfig(base, {"learning_rate": (1e30, 0.01)})
    result = run_sweep(small_split, config, out=tmp_path / "sweep")
    assert [bool(trial.diverged) for trial in result.trials] == [True, False]
    assert "learning_rate 1e+30" in result.trials[0].diverged
    assert [trial.trial for trial in result.ranking()] == [1, 0]
    alone = fit(small_split, config.combinations[1].config).summary
    assert result.trials[1].seeds[0]["valid"] == alone["valid"]
    assert resume_sweep(tmp_path / "sweep").trials == result.trials


@pytest.mark.slow
def test_trials_that_all_diverge(base, small_split, tmp_path):
    config = SweepConfig(base, {"learning_rate": (1e30, 1e31)})
    with pytest.raises(InputError, match="every trial diverged, the first: the loss became"):
        run_sweep(small_split, config, out=tmp_path / "sweep")
    assert all(line["diverged"] for line in lines(tmp_path / "sweep"))


@pytest.mark.slow
def test_what_does_not_fit_together_is_trained_one_by_one(base, small_split, tmp_path, monkeypatch):
    train = sweep_module.Trainer.train

    def out_of_memory(trainer, *arguments):
        if len(trainer.lanes) > 1:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return train(trainer, *arguments)

    monkeypatch.setattr(sweep_module.Trainer, "train", out_of_memory)
    config = SweepConfig(base, {"l2": (0.0, 0.1)})
    result = run_sweep(small_split, config, out=tmp_path / "sweep")
    assert [trial.diverged for trial in result.trials] == [None, None]
    names = sorted(path.name for path in (tmp_path / "sweep" / "groups").iterdir())
    assert names == ["000-trial-0", "000-trial-1"]


def test_ctrl_c_names_the_way_on(base, small_split, tmp_path):
    class CtrlC(SilentReporter):
        def noted(self, _):
            raise KeyboardInterrupt

    config = SweepConfig(base, {"l2": (0.0, 0.1)})
    with pytest.raises(Interrupted, match=r"go on with: lightgcn-jax sweep --resume .*sweep"):
        run_sweep(small_split, config, out=tmp_path / "sweep", reporter=CtrlC())


def test_directories_that_are_no_sweep(small_split, swept, tmp_path):
    config, result = swept
    with pytest.raises(InputError, match="expected a new or empty directory"):
        run_sweep(small_split, config, out=result.path)
    with pytest.raises(InputError, match=r"it holds no sweep\.json"):
        resume_sweep(tmp_path)
    (tmp_path / "sweep.json").write_text('{"format": 99}')
    with pytest.raises(InputError, match="expected a sweep of format 1, got 99"):
        resume_sweep(tmp_path)
    (tmp_path / "trials.jsonl").write_text("{")
    with pytest.raises(InputError, match=r"trials\.jsonl: expected a trial a line"):
        sweep_module.SweepDirectory(tmp_path).results()
    directory = sweep_module.SweepDirectory(result.path)
    with directory.locked(), pytest.raises(InputError, match="another process runs this sweep"):
        resume_sweep(result.path)


def test_cutoffs_beyond_the_catalogue(base, small_split, tmp_path):
    config = SweepConfig(dataclasses.replace(base, ks=(10, 1000)), {"dim": (4, 8)})
    with pytest.raises(InputError, match="ks: expected cut-offs of at most"):
        run_sweep(small_split, config, out=tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


def test_layer_weights_survive_the_file(graph_base, small_split, tmp_path):
    values = {"alphas": ((0.5, 0.5), (0.2, 0.8), None)}
    config = SweepConfig(graph_base, values)
    sweep_module.SweepDirectory.create(tmp_path / "sweep", small_split, config, {})
    opened = sweep_module.SweepDirectory.open(tmp_path / "sweep")
    assert opened.trials == config.combinations
    opened.write_results({0: result_of(0, {"alphas": (0.5, 0.5)}, 0.1)})
    assert opened.results()[0].settings == {"alphas": (0.5, 0.5)}


# The picture.


def keep_figure(drawn, save):
    def saving(figure, *arguments, **options):
        drawn.append(figure)
        return save(figure, *arguments, **options)

    return saving


def result_of(number, settings, valid, seeds=1):
    records = [
        {"seed": seed, "best_epoch": 1, "train": {METRIC: 1.0}, "valid": {METRIC: valid + seed}}
        for seed in range(seeds)
    ]
    return TrialResult(number, settings, "note", records, 1.0)


@pytest.fixture
def draw(tmp_path, monkeypatch):
    def drawn(settings, **changes):
        figures = []
        monkeypatch.setattr(Figure, "savefig", keep_figure(figures, Figure.savefig))
        results = [result_of(n, one, n / 10, **changes) for n, one in enumerate(settings)]
        results.append(dataclasses.replace(results[0], trial=99, seeds=[], diverged="inf"))
        path = plot_sweep(tmp_path, results, METRIC, study=False)
        assert path.read_bytes().startswith(b"\x89PNG")
        return figures[-1]

    return drawn


def test_one_numeric_setting_gives_a_curve_a_part(draw):
    [axes] = draw([{"dim": dim, "loss": "bpr"} for dim in (64, 4, 16)], seeds=2).axes
    assert axes.get_xlabel() == "dim"
    assert axes.get_xscale() == "log"
    train, valid = (container.lines[0] for container in axes.containers)
    assert train.get_xdata().tolist() == valid.get_xdata().tolist() == [4, 16, 64]
    # Means over two seeds, half a point above the first one's value.
    assert valid.get_ydata().tolist() == pytest.approx([0.6, 0.7, 0.5])


def test_a_second_setting_gives_a_set_of_curves_a_value(draw):
    settings = [{"dim": d, "loss": loss} for loss in ("bpr", "softmax") for d in (4, 5, 6)]
    [axes] = draw(settings).axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == [f"{part}, loss {loss}" for loss in ("bpr", "softmax") for part in
                      ("train", "valid")]  # fmt: skip
    assert axes.get_xscale() == "linear"


@pytest.mark.parametrize(
    "settings",
    [
        [{"learning_rate": 10.0**-n, "l2": n / 100} for n in range(10)],
        [{"dim": n, "loss": "bpr", "layers": n % 3} for n in range(1, 5)],
        [{"loss": "bpr"}, {"loss": "softmax"}],
        [{"loss": "bpr"}],
    ],
    ids=["two continuous", "three", "names", "one trial"],
)
def test_all_else_is_drawn_as_dots(draw, settings):
    figure = draw(settings)
    varied = [name for name in settings[0] if len({one[name] for one in settings}) > 1]
    assert [axes.get_xlabel() for axes in figure.axes] == (varied or list(settings[0]))
    for axes in figure.axes:
        assert len(axes.containers) == len(settings)
    assert figure.axes[0].get_ylabel() == f"valid {METRIC}"
