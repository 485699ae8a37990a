"""Sweeps over settings: many trials, one choice on validation, test ranked once, at the end."""

from __future__ import annotations

import dataclasses
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from lightgcn_jax.data.pairs import PARTS
from lightgcn_jax.data.protocol import apply_protocol
from lightgcn_jax.data.splits import Split
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.parts import evaluation_sets, rank_parts
from lightgcn_jax.graph.bipartite import training_graph
from lightgcn_jax.runs.checkpoint import load_checkpoint
from lightgcn_jax.runs.closed_form import closed_form_of
from lightgcn_jax.runs.directory import RunDirectory
from lightgcn_jax.runs.fit import FitResult, fit, refit, resume, train_on
from lightgcn_jax.runs.interrupt import Interrupted
from lightgcn_jax.runs.node_order import in_training_order
from lightgcn_jax.runs.progress import TrainingDiverged
from lightgcn_jax.runs.replicas import VARIABLE
from lightgcn_jax.runs.reporter import Reporter, SilentReporter
from lightgcn_jax.runs.trainer import Trainer
from lightgcn_jax.sweeps.directory import SweepDirectory, TrialResult
from lightgcn_jax.sweeps.plot import plot_sweep
from lightgcn_jax.sweeps.space import SweepConfig, Trial, named

CHOOSING_NOTE = "strict: epochs and settings selected on validation, test not ranked"
STUDY_NOTE = "study: TEST ranked for every trial; choose and report nothing by it"


@dataclasses.dataclass(frozen=True)
class SweepResult:
    """A finished sweep.

    Attributes:
        path: its directory.
        metric: what chose, on validation.
        study: whether test was ranked for every trial.
        trials: by number.
        best: the one with the highest metric on validation.
        run: the best one's run, the only one in which test is ranked; None for a study alone.
        refitted: its run on train and validation, if that was asked for.
        plot: the picture, where matplotlib is installed.
    """

    path: Path
    metric: str
    study: bool
    trials: list[TrialResult]
    best: TrialResult
    run: FitResult | None
    refitted: FitResult | None
    plot: Path | None

    def ranking(self) -> list[TrialResult]:
        """The trials from best to worst on validation; diverged ones stand last."""
        return sorted(self.trials, key=lambda result: -_value(result, self.metric))


def run_sweep(
    split: Split,
    config: SweepConfig,
    *,
    out: Path | str,
    reporter: Reporter | None = None,
    data: Mapping[str, Any] | None = None,
) -> SweepResult:
    """Try settings, choose by the validation metric, and train the best as a run of its own.

    No trial ranks test, but under ``study``; the run of the best one ranks it once.

    Args:
        split: from :mod:`lightgcn_jax.data`.
        config: what to try.
        out: a new directory.
        reporter: receives progress.
        data: JSON value stored with the sweep: where the interactions came from.

    Raises:
        InputError: settings and data do not fit, ``out`` holds something, or every trial diverged.
        Interrupted: Ctrl-C; the sweep can be resumed.
    """
    split = apply_protocol(split, "strict")
    if config.base.is_trained:
        split = in_training_order(split, config.base)
    if max(config.base.ks) > len(split.items):
        raise InputError(
            f"ks: expected cut-offs of at most {len(split.items)} (the catalogue's size), "
            f"got {max(config.base.ks)}"
        )
    directory = SweepDirectory.create(Path(out), split, config, data or {})
    return _go_on(directory, reporter or SilentReporter())


def resume_sweep(path: Path | str, *, reporter: Reporter | None = None) -> SweepResult:
    """Go on with a sweep that was broken off; a finished one is returned.

    Raises:
        InputError: no sweep, or another version's.
    """
    return _go_on(SweepDirectory.open(Path(path)), reporter or SilentReporter())


def _go_on(directory: SweepDirectory, reporter: Reporter) -> SweepResult:
    path, plan = directory.path, directory.plan
    with directory.locked():
        try:
            results = _all_results(directory, reporter)
            best = max(results, key=lambda result: _value(result, plan["metric"]))
            if best.diverged:
                raise InputError(
                    f"{path}: every trial diverged, the first: {results[0].diverged}; "
                    f"try lower learning rates"
                )
            plot = plot_sweep(path, results, plan["metric"], study=plan["study"])
            run = _best_run(directory, best, reporter) if plan["train_best"] else None
            refitted = _refitted(directory, reporter) if plan["refit"] else None
        except (Interrupted, KeyboardInterrupt):
            raise Interrupted(
                f"interrupted; go on with: lightgcn-jax sweep --resume {shlex.quote(str(path))}"
            ) from None
    return SweepResult(path, plan["metric"], plan["study"], results, best, run, refitted, plot)


def _all_results(directory: SweepDirectory, reporter: Reporter) -> list[TrialResult]:
    """Train what is not finished, a group at a time."""
    trials, results = directory.trials, directory.results()
    for index, numbers in enumerate(directory.plan["groups"]):
        left = [trials[number] for number in numbers if number not in results]
        for finished in _group_results(directory, index, left, reporter):
            results |= {result.trial: result for result in finished}
            directory.write_results(results)
        for folder in (directory.path / "groups").glob(f"{index:03d}*"):
            _keep_curves(folder)
    return [results[trial.number] for trial in trials]


def _group_results(
    directory: SweepDirectory, index: int, left: Sequence[Trial], reporter: Reporter
) -> Iterator[list[TrialResult]]:
    """What came of a group: all at once, or one by one where together they can't be trained."""
    numbers = directory.plan["groups"][index]
    # A group is recorded at once: where a part of it is, it was taken apart before.
    if len(left) == len(numbers) > 1:
        try:
            reporter.noted(f"{_which(left, directory)}, together")
            yield _train(directory, directory.group(index), left, reporter)
            return
        except (TrainingDiverged, jax.errors.JaxRuntimeError) as error:
            if not (isinstance(error, TrainingDiverged) or "RESOURCE_EXHAUSTED" in str(error)):
                raise
            reporter.noted(f"{error}. These trials are trained one by one.")
            shutil.rmtree(directory.group(index), ignore_errors=True)
    for trial in left:
        folder = directory.group(index, trial.number if len(numbers) > 1 else None)
        reporter.noted(_which([trial], directory))
        try:
            yield _train(directory, folder, [trial], reporter)
        except TrainingDiverged as error:
            reporter.noted(str(error))
            # What is left to say of the checkpoints and the advice are not the trial's.
            message = str(error).partition(";")[0]
            yield [_result(directory, trial, [], diverged=message)]


def _which(trials: Sequence[Trial], directory: SweepDirectory) -> str:
    each = "; ".join(named(trial.settings) for trial in trials)
    numbers = ", ".join(str(trial.number) for trial in trials)
    return f"Trial {numbers} of 0 to {len(directory.trials) - 1}: {each}"


def _train(
    directory: SweepDirectory, folder: Path, trials: Sequence[Trial], reporter: Reporter
) -> list[TrialResult]:
    """Train and judge trials that differ in nothing but VARIABLE settings."""
    parts = PARTS if directory.plan["study"] else PARTS[:-1]
    if not trials[0].config.is_trained:
        return [_fit_closed_form(directory, trial, parts) for trial in trials]
    records, seconds = _train_lanes(directory.start.split, folder, trials, parts, reporter)
    share = round(seconds / len(trials), 3)
    seeds = trials[0].config.seeds
    return [
        _result(directory, trial, records[place * seeds : (place + 1) * seeds], share)
        for place, trial in enumerate(trials)
    ]


def _train_lanes(
    split: Split, folder: Path, trials: Sequence[Trial], parts: tuple[str, ...], reporter: Reporter
) -> tuple[list[dict[str, Any]], float]:
    """A record a trial and seed, and the seconds they took; goes on from a checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    directory = RunDirectory(folder)
    config = trials[0].config
    variants = [
        {name: trial.settings[name] for name in VARIABLE if name in trial.settings}
        for trial in trials
    ]
    trainer = Trainer(split, config, None, directory, reporter, variants=variants)
    summary = train_on(trainer, directory, reporter).summary
    one = {"seed": config.seed} | summary
    kept = ("seed", "best_epoch", *PARTS[:-1])
    records = [{name: lane[name] for name in kept} for lane in summary.get("seeds", [one])]
    if "test" in parts:
        # The last checkpoint holds the best epoch of every lane.
        checkpoint = load_checkpoint(directory.checkpoints, trainer.array_template())
        assert checkpoint is not None
        for index, record in enumerate(records):
            scorer = trainer.scorer(checkpoint.arrays.best, index)
            record |= rank_parts(scorer, trainer.sets, ("test",), config.ks)
    seconds = sum(summary[f"{name}_seconds"] for name in ("train", "compile", "evaluate"))
    return records, seconds


def _fit_closed_form(
    directory: SweepDirectory, trial: Trial, parts: tuple[str, ...]
) -> TrialResult:
    config, split = trial.config, directory.start.split
    form, sets, graph = closed_form_of(config), evaluation_sets(split), training_graph(split)
    start, records = time.perf_counter(), []
    for seed in range(config.seed, config.seed + config.seeds):
        scorer = form.fit(graph, config, jax.random.key(seed))
        metrics = rank_parts(scorer, sets, parts, config.ks)
        records.append({"seed": seed, "best_epoch": 0} | metrics)
    return _result(directory, trial, records, round(time.perf_counter() - start, 3))


def _result(
    directory: SweepDirectory,
    trial: Trial,
    seeds: list[dict[str, Any]],
    seconds: float | None = None,
    diverged: str | None = None,
) -> TrialResult:
    note = STUDY_NOTE if directory.plan["study"] else CHOOSING_NOTE
    return TrialResult(trial.number, trial.settings, note, seeds, seconds, diverged)


def _value(result: TrialResult, metric: str) -> float:
    """What a trial is chosen by; below every metric where it diverged."""
    return -1.0 if result.diverged else result.spread("valid", metric)["mean"]


def _keep_curves(folder: Path) -> None:
    """Free the space of a group that is recorded."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    for name in ("embeddings.safetensors", "model.safetensors", "order.npy"):
        (folder / name).unlink(missing_ok=True)


def _best_run(directory: SweepDirectory, best: TrialResult, reporter: Reporter) -> FitResult:
    trial = directory.trials[best.trial]
    data = directory.start.data | {"sweep": {"trials": len(directory.trials)} | trial.settings}
    return _run(
        directory.path / "best",
        f"The best trial, {named(trial.settings)}, is trained as a run",
        reporter,
        lambda out: fit(directory.start.split, trial.config, out=out, reporter=reporter, data=data),
    )


def _refitted(directory: SweepDirectory, reporter: Reporter) -> FitResult:
    return _run(
        directory.path / "best-refit",
        "Its settings are trained anew on train and validation",
        reporter,
        lambda out: refit(directory.path / "best", out=out, reporter=reporter),
    )


def _run(
    out: Path, message: str, reporter: Reporter, start: Callable[[Path], FitResult]
) -> FitResult:
    """The run in a directory: a new one, or the one that is there, to its end."""
    if out.exists():
        return resume(out, reporter=reporter)
    reporter.noted(message)
    return start(out)
