"""Sweeps: trials together are trials alone, test stays out of the choice, any kill is survived."""

import contextlib
import json
import os
import shutil
import uuid

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure

from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import parts as evaluation
from lightgcn_jax.files import locked
from lightgcn_jax.graph import csr_rows
from lightgcn_jax.runs import Interrupted, RunDirectory, SilentReporter, fit, verify
from lightgcn_jax.runs import trainer as training
from lightgcn_jax.runs.progress import TrainingDiverged
from lightgcn_jax.sweeps import Range, SweepConfig, resume_sweep, run_sweep
from lightgcn_jax.sweeps import sweep as sweep_module
from lightgcn_jax.sweeps.directory import SweepDirectory, spread

METRIC = "recall@10"
RATES = {"learning_rate": (0.002, 0.05)}
# What compiles fastest, where nothing is asked of the quality; a call of the steps is an epoch.
BASE = {
    "model": "mf", "dim": 4, "epochs": 2, "batch_size": 256, "negatives": 16, "ks": (5, 10),
    "select_by": METRIC, "evaluate_every": 1, "patience": 0, "sampling": "users",
    "reject_seen": False, "checkpoint_seconds": 0.0, "rank_train": True,
}  # fmt: skip
GF_CF = {"model": "gfcf", "singular_vectors": 8, "ks": (5, 10)}
CLOSED = {"ks": (5, 10)}
MODELS = {"model": ("popular", "random")}


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    """Curves take longer to draw than such runs to train."""
    monkeypatch.setattr(training, "plot_curves", lambda *_: [])


class Broken(Exception):
    pass


class BreakAfter(SilentReporter):
    """Breaks off like a crash, after so many calls of the compiled steps, or so many lines."""

    def __init__(self, calls=0, lines=0):
        self.calls, self.lines = calls, lines

    def advanced(self, **_):
        self.calls -= 1
        if self.calls == 0:
            raise Broken

    def noted(self, _):
        self.lines -= 1
        if self.lines == 0:
            raise Broken


class Listening(SilentReporter):
    def __init__(self):
        self.heard = []

    def noted(self, message):
        self.heard.append(message)


def records(trials):
    """What is known of trials, without what depends on the clock."""
    return [
        (trial.number, trial.state, trial.params, trial.value,
         {name: value for name, value in trial.user_attrs.items() if name != "seconds"})
        for trial in trials
    ]  # fmt: skip


def stored(path):
    return SweepDirectory(path).study.get_trials()


@contextlib.contextmanager
def counted(split):
    """Which parts are ranked, as they are: told by the pairs, not by their names."""
    parts = {
        part: np.asarray(csr_rows(pairs.users, pairs.items, len(split.users)).columns)
        for part in ("train", "valid", "test")
        for pairs in [getattr(split, part)]
    }
    calls, evaluate = [], evaluation.evaluate

    def spy(scorer, relevant, **options):
        columns = np.asarray(relevant.columns)
        same = (part for part, own in parts.items() if np.array_equal(columns, own))
        calls.append(next(same, "train and valid"))
        return evaluate(scorer, relevant, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "evaluate", spy)
        yield calls


# Trials, the choice, and the run of the best.


@pytest.fixture(scope="module")
def swept(small_split, tmp_path_factory):
    """A group of two trials of two seeds; patience ends their runs at different epochs."""
    path = tmp_path_factory.mktemp("sweeps") / "sweep"
    own = {"model": "lightgcn", "layers": 1, "backend": "segment", "epochs": 4, "patience": 1}
    config = SweepConfig(BASE | own | {"seeds": 2}, RATES)
    with counted(small_split) as ranked:
        result = run_sweep(small_split, config, out=path, data={"dataset": "small"})
    return config, result, ranked


def test_trials_of_one_program_train_together(swept):
    config, result, _ = swept
    assert [trial.user_attrs["group"] for trial in result.trials] == [0, 0]
    assert [trial.params for trial in result.trials] == config.planned
    for trial in result.trials:
        seeds = trial.user_attrs["seeds"]
        assert [seed["seed"] for seed in seeds] == [0, 1]
        valid = spread(seeds, "valid", METRIC)
        assert valid["mean"] == trial.value
        assert valid["mean"] == pytest.approx(np.mean([seed["valid"][METRIC] for seed in seeds]))
        assert valid["ci95_half_width"] > 0


def test_trials_together_are_trials_alone(swept, small_split):
    config, result, _ = swept
    for trial in result.trials:
        alone = fit(small_split, config.trial_config(trial.params)).summary
        assert_same_seeds(trial, alone)


def assert_same_seeds(trial, alone):
    for mine, own in zip(trial.user_attrs["seeds"], alone["seeds"], strict=True):
        assert (mine["seed"], mine["best_epoch"]) == (own["seed"], own["best_epoch"])
        for part in ("train", "valid"):
            assert mine[part] == pytest.approx(own[part], abs=2e-3)


def test_the_best_on_validation_is_trained_as_a_run(swept):
    config, result, _ = swept
    values = [trial.value for trial in result.trials]
    assert result.best.number == int(np.argmax(values))
    assert [trial.value for trial in result.ranking()] == sorted(values, reverse=True)
    run = RunDirectory.open(result.path / "best")
    assert run.config == config.trial_config(result.best.params)
    assert run.data["dataset"] == "small"
    assert run.data["sweep"] == {"trials": 2, **result.best.params}
    assert run.summary() == result.run.summary
    assert_same_seeds(result.best, run.summary())


def test_test_is_ranked_once_by_the_best_alone(swept):
    _, result, ranked = swept
    # Once for each of its two seeds, after all else.
    assert ranked.count("test") == 2
    assert ranked[-2:] == ["test", "test"]
    for trial in result.trials:
        assert "test not ranked" in trial.user_attrs["protocol_note"]
        assert all(seed.keys() == {"seed", "best_epoch", "train", "valid"}
                   for seed in trial.user_attrs["seeds"])  # fmt: skip


def test_what_a_sweep_leaves(swept):
    _, result, _ = swept
    names = {path.name for path in result.path.iterdir()}
    files = {"sweep.json", "split", "optuna.log", "groups", "sweep.png", "best", ".lock"}
    assert names == files | {"sums.json"}
    assert result.plot.read_bytes().startswith(b"\x89PNG")
    [group] = (result.path / "groups").iterdir()
    left = {path.name for path in group.iterdir()}
    assert left == {"metrics.jsonl", "summary.json", "loss.png", "metrics.png"}


def test_a_finished_sweep_is_returned(swept):
    _, result, _ = swept
    kept = (path for path in result.path.rglob("*") if path.suffix in (".json", ".log"))
    before = {path: path.read_bytes() for path in kept}
    again = resume_sweep(result.path)
    assert {path: path.read_bytes() for path in before} == before
    assert records(again.trials) == records(result.trials)
    assert again.config == result.config
    assert again.best.number == result.best.number
    assert again.run.already_finished


def test_a_finished_sweep_has_sums(swept, tmp_path):
    _, result, _ = swept
    found = verify(result.path)
    assert found.is_whole
    assert {"sweep.json", "optuna.log", "split/pairs.safetensors", "best/config.json"} <= set(
        found.files
    )
    for name in ("sweep.json", "optuna.log", "split/users.parquet", "best/config.json"):
        copy = shutil.copytree(result.path, tmp_path / name.replace("/", "-"))
        content = (copy / name).read_bytes()
        (copy / name).write_bytes(content.replace(b"1", b"2", 1) + b" ")
        assert verify(copy).damaged == {name: "changed"}
        with pytest.raises(InputError, match=f"{name}: has other bytes than were written"):
            resume_sweep(copy)


def test_closed_forms_are_judged_as_runs_are(small_split, tmp_path):
    config = SweepConfig(CLOSED, MODELS)
    with counted(small_split) as ranked:
        result = run_sweep(small_split, config, out=tmp_path / "sweep")
    assert ranked == ["valid"] * 2 + ["valid", "test"]
    own = result.run.summary
    assert result.best.user_attrs["seeds"] == [{"best_epoch": 0, "seed": 0, "valid": own["valid"]}]


# A study.


@pytest.fixture(scope="module")
def study(small_split, tmp_path_factory):
    """Two groups of two; each replica has a best epoch of its own."""
    path = tmp_path_factory.mktemp("study") / "sweep"
    base = {name: value for name, value in BASE.items() if name != "dim"} | {"epochs": 6}
    search = {"dim": (1, 4), "learning_rate": (0.02, 0.2)}
    config = SweepConfig(base, search, study=True, refit=True)
    drawn, save = [], Figure.savefig

    def saving(figure, *arguments, **options):
        drawn.append(figure)
        return save(figure, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch, counted(small_split) as ranked:
        patch.setattr(training, "plot_curves", lambda *_: [])
        patch.setattr(Figure, "savefig", saving)
        result = run_sweep(small_split, config, out=path)
    return config, result, ranked, drawn


@pytest.mark.slow
def test_a_study_ranks_test_for_every_trial_and_says_so(study):
    _, result, ranked, drawn = study
    # Four trials, the run of the best, and its run on train and validation.
    assert ranked.count("test") == 6
    for trial in result.trials:
        assert trial.user_attrs["protocol_note"].startswith("study: TEST ranked for every trial")
        assert METRIC in trial.user_attrs["seeds"][0]["test"]
    assert "study" in drawn[-1].get_suptitle()


@pytest.mark.slow
def test_more_dimensions_remember_more_of_what_was_seen(study):
    _, result, _, drawn = study
    train = {named: spread(trial.user_attrs["seeds"], "train", METRIC)["mean"]
             for trial in result.trials for named in [(*trial.params.values(),)]}  # fmt: skip
    assert train[1, 0.2] < train[4, 0.2]
    # A curve a part and value of the other setting.
    [axes] = drawn[-1].axes
    assert len(axes.containers) == 6


@pytest.mark.slow
def test_every_replica_of_a_study_is_ranked_by_its_own_best(study, small_split):
    config, result, _, _ = study
    epochs = {trial.user_attrs["seeds"][0]["best_epoch"] for trial in result.trials}
    assert len(epochs) > 1
    assert result.run.config == config.trial_config(result.best.params)
    for trial in result.trials:
        alone = fit(small_split, config.trial_config(trial.params)).summary
        assert trial.user_attrs["seeds"][0]["test"] == pytest.approx(alone["test"], abs=2e-3)


@pytest.mark.slow
def test_the_best_is_trained_anew_on_train_and_validation(study, small_split):
    _, result, _, _ = study
    again = RunDirectory.open(result.path / "best-refit")
    assert again.config.protocol == "fixed"
    assert again.config.optimization.epochs == result.run.summary["best_epoch"]
    assert len(again.split.train) == len(small_split.train) + len(small_split.valid)
    assert result.refitted.summary["test"] == again.summary()["test"]


def test_a_study_trains_no_run_unless_it_is_asked_to(small_split, tmp_path):
    for name, asked in (("no", False), ("yes", True)):
        config = SweepConfig(CLOSED, MODELS, study=True, train_best=asked)
        result = run_sweep(small_split, config, out=tmp_path / name)
        assert (result.run is not None) == (tmp_path / name / "best").exists() == asked
        assert result.refitted is None


# What breaks off.


@pytest.fixture(scope="module")
def two_groups(small_split, tmp_path_factory):
    search = {"learning_rate": (0.002, 0.05, 0.01, 0.1)}
    config = SweepConfig(BASE, search, together=2)
    path = tmp_path_factory.mktemp("two") / "sweep"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "plot_curves", lambda *_: [])
        return config, run_sweep(small_split, config, out=path)


@pytest.mark.slow
def test_a_sweep_survives_any_kill(two_groups, small_split, tmp_path, monkeypatch):
    config, whole = two_groups
    path = tmp_path / "broken"
    # In the first group, where an epoch is a call of the steps.
    with pytest.raises(Broken):
        run_sweep(small_split, config, out=path, reporter=BreakAfter(1))
    # While Optuna writes: half a line, and its lock.
    with (path / "optuna.log").open("a") as log:
        log.write('{"op_code": 6, "worker_')
    left = ("optuna.log.lock", f"optuna.log.lock{uuid.uuid4()}.rename")
    for name in left:
        os.symlink("optuna.log", path / name)
    # Between training and recording.
    with monkeypatch.context() as patch:
        patch.setattr(SweepDirectory, "tell", lambda *_, **__: BreakAfter(lines=1).noted(""))
        with pytest.raises(Broken):
            resume_sweep(path)
    assert not set(left) & {*os.listdir(path)}
    # In the second group: that of the first is behind it, and its trials are recorded at once.
    with pytest.raises(Broken):
        resume_sweep(path, reporter=BreakAfter(1))
    assert len(stored(path)) == 4
    assert records(stored(path))[:2] == records(whole.trials)[:2]
    # In the run of the best.
    with pytest.raises(Broken):
        resume_sweep(path, reporter=BreakAfter(2))
    result = resume_sweep(path)
    assert records(result.trials) == records(whole.trials) == records(stored(path))
    assert result.run.summary["test"] == whole.run.summary["test"]


def test_a_group_of_which_a_part_is_recorded(two_groups, small_split, tmp_path, monkeypatch):
    """Its training goes on where all of it stood: nothing is trained again."""
    config, whole = two_groups
    path, tell = tmp_path / "broken", SweepDirectory.tell

    def first_only(directory, trial, **attributes):
        if trial.number == 1:
            raise Broken
        tell(directory, trial, **attributes)

    with monkeypatch.context() as patch:
        patch.setattr(SweepDirectory, "tell", first_only)
        with pytest.raises(Broken):
            run_sweep(small_split, config, out=path)
    with pytest.raises(Broken):
        resume_sweep(path, reporter=BreakAfter(1))
    assert records(stored(path))[:2] == records(whole.trials)[:2]


def test_tpe_goes_on_as_it_would_have(small_split, tmp_path):
    config = SweepConfig(
        GF_CF, {"low_pass_weight": Range(0, 1)}, trials=4, sampler="tpe", together=2, study=True
    )
    whole = run_sweep(small_split, config, out=tmp_path / "whole")
    assert len({trial.params["low_pass_weight"] for trial in whole.trials}) == 4
    path = tmp_path / "broken"
    # At the last of the second batch.
    with pytest.raises(Broken):
        run_sweep(small_split, config, out=path, reporter=BreakAfter(lines=4))
    assert len(stored(path)) == 4
    assert records(resume_sweep(path).trials) == records(whole.trials)


def test_ctrl_c_names_the_way_on(small_split, tmp_path):
    class CtrlC(SilentReporter):
        def noted(self, _):
            raise KeyboardInterrupt

    config = SweepConfig(CLOSED, MODELS)
    with pytest.raises(Interrupted, match=r"go on with: lightgcn-jax sweep --resume .*sweep"):
        run_sweep(small_split, config, out=tmp_path / "sweep", reporter=CtrlC())


# What goes wrong.


def test_only_the_diverging_trial_is_given_up(small_split, tmp_path):
    config, reporter = SweepConfig(BASE, {"learning_rate": (1e30, 0.01)}), Listening()
    result = run_sweep(small_split, config, out=tmp_path / "sweep", reporter=reporter)
    diverged, other = result.trials
    assert [trial.state.name for trial in result.trials] == ["PRUNED", "COMPLETE"]
    assert "learning_rate 1e+30" in diverged.user_attrs["diverged"]
    assert ";" not in diverged.user_attrs["diverged"]
    assert [trial.number for trial in result.ranking()] == [1, 0]
    # Trained alone, as the run of the best is.
    assert other.user_attrs["seeds"][0]["valid"] == result.run.summary["valid"]
    assert sum("trained one by one" in line for line in reporter.heard) == 1
    assert records(resume_sweep(tmp_path / "sweep").trials) == records(result.trials)


def test_trials_that_all_diverge(small_split, tmp_path, monkeypatch):
    def diverge(*_):
        raise TrainingDiverged("the loss became nan; kept")

    monkeypatch.setattr(sweep_module, "_train", diverge)
    config = SweepConfig(BASE, {"learning_rate": (1e30, 1e31)})
    message = r"every trial diverged, the first: the loss became nan; try lower"
    with pytest.raises(InputError, match=message):
        run_sweep(small_split, config, out=tmp_path / "sweep")
    assert {trial.state.name for trial in stored(tmp_path / "sweep")} == {"PRUNED"}


@pytest.mark.parametrize("together", [True, False])
def test_what_does_not_fit_together_is_trained_one_by_one(
    together, small_split, tmp_path, monkeypatch
):
    seeds = [{"seed": 0, "best_epoch": 1, "train": {METRIC: 0.5}, "valid": {METRIC: 0.25}}]

    def out_of_memory(_, folder, trials, __):
        folder.mkdir(parents=True)
        if len(trials) > 1 or not together:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return [seeds], 1.0

    monkeypatch.setattr(sweep_module, "_train", out_of_memory)
    config, out = SweepConfig(BASE, {"l2": (0.0, 0.1)}, study=True), tmp_path / "sweep"
    if not together:
        # One run that does not fit is for the caller to know.
        with pytest.raises(jax.errors.JaxRuntimeError):
            run_sweep(small_split, config, out=out)
        return
    result = run_sweep(small_split, config, out=out)
    assert [trial.value for trial in result.trials] == [0.25, 0.25]
    assert sorted(path.name for path in (out / "groups").iterdir()) == ["000", "001"]


def test_directories_that_are_no_sweep(small_split, swept, tmp_path):
    config, result, _ = swept
    with pytest.raises(InputError, match="expected a new or empty directory"):
        run_sweep(small_split, config, out=result.path)
    with pytest.raises(InputError, match=r"it holds no sweep\.json"):
        resume_sweep(tmp_path)
    for content, found in (({"format": 1}, "1"), ([], "None")):
        (tmp_path / "sweep.json").write_text(json.dumps(content))
        with pytest.raises(InputError, match=f"expected a sweep of format 2, got {found}"):
            resume_sweep(tmp_path)
    lock = locked(result.path / ".lock", "")
    with lock, pytest.raises(InputError, match="another process runs this sweep"):
        resume_sweep(result.path)


def test_cutoffs_beyond_the_catalogue(small_split, tmp_path):
    config = SweepConfig(CLOSED | {"ks": (10, 1000)}, MODELS)
    with pytest.raises(InputError, match="ks: expected cut-offs of at most"):
        run_sweep(small_split, config, out=tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


def test_a_search_survives_the_file(small_split, tmp_path):
    search = {"alphas": ((0.5, 0.5), (0.2, 0.8), None), "l2": Range(0, 1, "linear")}
    config = SweepConfig({"layers": 1, "ks": (5,)}, search, trials=4, refit=True)
    SweepDirectory.create(tmp_path / "sweep", small_split, config, {})
    opened = SweepDirectory(tmp_path / "sweep")
    assert opened.config == config
    assert opened.ask()[0].params == config.planned[0]
    asked = stored(tmp_path / "sweep")
    assert [trial.params for trial in asked] == config.planned
    chosen = [config.trial_config(trial.params) for trial in asked]
    assert {one.model.alphas for one in chosen} <= {*search["alphas"]}
