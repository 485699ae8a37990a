"""Sweeps over settings: many trials, one choice on validation, test ranked once, at the end.

=====================  ==========================================================================
sweep.json             format version, what is swept, the trials, which of them train together
split/                 the base settings, ids and pairs, as in a run directory
trials.jsonl           a line a finished trial, replaced as a whole when a group ends
groups/NNN/            checkpoints of the trials under way; curves and metrics.jsonl stay
sweep.png              where matplotlib is installed
best/, best-refit/     the runs of the best trial
.lock                  held by the process that sweeps
=====================  ==========================================================================
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jax

from lightgcn_jax.data.pairs import PARTS
from lightgcn_jax.data.splits import Split
from lightgcn_jax.errors import InputError
from lightgcn_jax.files import locked, read_json, write_json, write_text
from lightgcn_jax.training.checkpoint import load_checkpoint, remove_unfinished
from lightgcn_jax.training.closed_form import closed_form_of
from lightgcn_jax.training.interrupt import Interrupted
from lightgcn_jax.training.lanes import VARIABLE
from lightgcn_jax.training.loop import Trainer
from lightgcn_jax.training.progress import Reporter, SilentReporter
from lightgcn_jax.training.protocol import apply_protocol, open_arena, rank_parts, training_graph
from lightgcn_jax.training.records import Progress, TrainArrays, TrainingDiverged
from lightgcn_jax.training.run_directory import RunDirectory
from lightgcn_jax.training.runs import FitResult, fit, refit, resume
from lightgcn_jax.training.summary import seed_statistics
from lightgcn_jax.training.sweep_plot import plot_sweep
from lightgcn_jax.training.sweep_space import SweepConfig, Trial, groups_of, named, trials_of

FORMAT_VERSION = 1
CHOOSING_NOTE = "strict: epochs and settings selected on validation, test not ranked"
STUDY_NOTE = "study: TEST ranked for every trial; choose and report nothing by it"


@dataclasses.dataclass(frozen=True)
class TrialResult:
    """What came of a trial.

    Attributes:
        trial: its number.
        settings: those that the sweep chose.
        protocol_note: what the figures mean.
        seeds: for each seed ``seed``, ``best_epoch`` (0 for a closed form), and the metrics of
            each ranked part; none of a diverged trial.
        seconds: its share of the time of those that trained together.
        diverged: what happened, where the loss was no longer finite.
    """

    trial: int
    settings: dict[str, Any]
    protocol_note: str
    seeds: list[dict[str, Any]]
    seconds: float | None = None
    diverged: str | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that were ranked."""
        return tuple(part for part in PARTS if self.seeds and self.seeds[0].get(part))

    def spread(self, part: str, metric: str) -> dict[str, float]:
        """Mean over the seeds, with ``ci95_half_width`` where there are several."""
        return seed_statistics([seed[part][metric] for seed in self.seeds])


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


@dataclasses.dataclass(frozen=True)
class SweepDirectory:
    """A directory that holds one sweep; see the module for its files."""

    path: Path

    @classmethod
    def create(
        cls, path: Path, split: Split, config: SweepConfig, data: Mapping[str, Any]
    ) -> SweepDirectory:
        """Write what is known before the first trial, all at once.

        Raises:
            InputError: the directory already holds something.
        """
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(
                f"{path}: expected a new or empty directory, it already holds something; "
                f"go on with a sweep by resuming it, or choose another name"
            )
        groups = groups_of(
            config.combinations,
            together=config.together,
            num_nodes=len(split.users) + len(split.items),
            num_edges=len(split.train),
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        try:
            with RunDirectory.creating(temporary / "split", split, config.base, data, "none"):
                pass
            write_json(
                temporary / "sweep.json",
                {
                    "format": FORMAT_VERSION,
                    "data": dict(data),
                    "values": {name: list(values) for name, values in config.values.items()},
                    "ranges": {
                        name: dataclasses.asdict(drawn) for name, drawn in config.ranges.items()
                    },
                    "seed": config.seed,
                    "metric": config.metric,
                    "study": config.study,
                    "train_best": config.trains_best,
                    "refit": config.refit,
                    "trials": [trial.settings for trial in config.combinations],
                    "groups": groups,
                },
            )
            temporary.chmod(path.parent.stat().st_mode)
            temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> SweepDirectory:
        """Open an existing sweep.

        Raises:
            InputError: it is missing, no sweep, or of another format version.
        """
        if not (path / "sweep.json").exists():
            raise InputError(f"{path}: expected the directory of a sweep, it holds no sweep.json")
        directory = cls(path)
        found = directory.plan.get("format") if isinstance(directory.plan, dict) else None
        if found != FORMAT_VERSION:
            raise InputError(f"{path}: expected a sweep of format {FORMAT_VERSION}, got {found!r}")
        return directory

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Hold the sweep for this process; InputError where another one has it."""
        message = f"{self.path}: another process runs this sweep; wait for it or stop it"
        return locked(self.path / ".lock", message)

    @cached_property
    def plan(self) -> dict[str, Any]:
        """The content of sweep.json."""
        return read_json(self.path / "sweep.json")

    @cached_property
    def start(self) -> RunDirectory:
        """The base settings, where the data came from, and the split."""
        return RunDirectory.open(self.path / "split")

    @cached_property
    def trials(self) -> tuple[Trial, ...]:
        """Every trial, by number."""
        chosen = [_with_tuples(settings) for settings in self.plan["trials"]]
        return trials_of(self.start.config, chosen, self.plan["metric"])

    def group(self, index: int, trial: int | None = None) -> Path:
        """The folder of a group, or of one of its trials that trains alone."""
        name = f"{index:03d}" if trial is None else f"{index:03d}-trial-{trial}"
        return self.path / "groups" / name

    def results(self) -> dict[int, TrialResult]:
        """What is finished, by trial."""
        path = self.path / "trials.jsonl"
        if not path.exists():
            return {}
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
            results = [TrialResult(**json.loads(line)) for line in lines]
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}: expected a trial a line, got {error}") from None
        return {
            result.trial: dataclasses.replace(result, settings=_with_tuples(result.settings))
            for result in results
        }

    def write_results(self, results: Mapping[int, TrialResult]) -> None:
        """Replace trials.jsonl."""
        lines = [json.dumps(dataclasses.asdict(results[trial])) for trial in sorted(results)]
        write_text(self.path / "trials.jsonl", "".join(f"{line}\n" for line in lines))


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
    remove_unfinished(directory.checkpoints)
    trainer = Trainer(split, config, None, directory, reporter, variants=variants)
    checkpoint = load_checkpoint(directory.checkpoints, trainer.array_template())
    if checkpoint is None:
        arrays = TrainArrays.start(trainer.initial_states())
        progress = Progress.start(len(trainer.lanes))
    else:
        arrays, progress = checkpoint.arrays, Progress(**checkpoint.progress)
        reporter.noted(f"resumed from {checkpoint.path.name}, after epoch {progress.epoch}")
    directory.write_metrics(progress.history)
    summary = trainer.train(arrays, progress).summary
    one = {"seed": config.seed} | summary
    kept = ("seed", "best_epoch", *PARTS[:-1])
    records = [{name: lane[name] for name in kept} for lane in summary.get("seeds", [one])]
    if "test" in parts:
        # The last checkpoint holds the best epoch of every lane.
        checkpoint = load_checkpoint(directory.checkpoints, trainer.array_template())
        assert checkpoint is not None
        for index, record in enumerate(records):
            scorer = trainer.scorer(checkpoint.arrays.best, index)
            record |= rank_parts(scorer, trainer.arena, ("test",), config.ks)
    seconds = sum(summary[f"{name}_seconds"] for name in ("train", "compile", "evaluate"))
    return records, seconds


def _fit_closed_form(
    directory: SweepDirectory, trial: Trial, parts: tuple[str, ...]
) -> TrialResult:
    config, split = trial.config, directory.start.split
    form, arena, graph = closed_form_of(config), open_arena(split), training_graph(split)
    start, records = time.perf_counter(), []
    for seed in range(config.seed, config.seed + config.seeds):
        scorer = form.fit(graph, config, jax.random.key(seed))
        metrics = rank_parts(scorer, arena, parts, config.ks)
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


def _with_tuples(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings from JSON, which knows lists alone."""
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
    }
