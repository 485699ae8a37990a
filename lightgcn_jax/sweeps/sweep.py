"""Sweeps over settings: many trials, one choice on validation, test ranked once, at the end."""

from __future__ import annotations

import dataclasses
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from lightgcn_jax.asked import asked_for
from lightgcn_jax.data.pairs import PARTS
from lightgcn_jax.data.protocol import apply_protocol
from lightgcn_jax.data.splits import Split
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.parts import evaluation_sets, rank_parts
from lightgcn_jax.files import held
from lightgcn_jax.interrupts import Interrupted, explained
from lightgcn_jax.runs.checkpoint import load_checkpoint
from lightgcn_jax.runs.closed_form import fits
from lightgcn_jax.runs.directory import RunDirectory
from lightgcn_jax.runs.fit import fit, refit, resume, train_on
from lightgcn_jax.runs.node_order import in_training_order
from lightgcn_jax.runs.progress import TrainingDiverged
from lightgcn_jax.runs.replicas import PER_REPLICA
from lightgcn_jax.runs.reporter import Reporter, SilentReporter
from lightgcn_jax.runs.result import FitResult
from lightgcn_jax.runs.summary import ranked_parts
from lightgcn_jax.runs.trainer import Trainer
from lightgcn_jax.settings.config import TrainConfig, check_ks, with_fitting_ks
from lightgcn_jax.sums import remove_sums
from lightgcn_jax.sweeps.directory import SweepDirectory, Trial
from lightgcn_jax.sweeps.plot import plot_sweep
from lightgcn_jax.sweeps.space import SweepConfig, named


@dataclasses.dataclass(frozen=True)
class SweepResult:
    """A finished sweep.

    Attributes:
        path: its directory.
        config: what was tried.
        trials: Optuna's, by number; a diverged one is pruned. What their user attributes hold is
            told in :mod:`lightgcn_jax.sweeps.directory`.
        best: the one with the highest metric on validation.
        run: the best one's run, the only one in which test is ranked; None for a study alone.
        refitted: its run on train and validation, if that was asked for.
        plot: the picture, where matplotlib is installed.
    """

    path: Path
    config: SweepConfig
    trials: list[Trial]
    best: Trial
    run: FitResult | None
    refitted: FitResult | None
    plot: Path | None

    def ranking(self) -> list[Trial]:
        """The trials from best to worst on validation; diverged ones stand last."""
        return sorted(self.trials, key=lambda trial: (trial.value is None, -(trial.value or 0)))


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
    reporter = reporter or SilentReporter()
    fitting, note = with_fitting_ks(config.shared, len(split.items))
    if note and "ks" not in config.base:
        reporter.noted(note)
        config = dataclasses.replace(config, base={**config.base, "ks": fitting.ks})
    check_ks(config.shared, len(split.items))
    split = apply_protocol(split.in_canonical_order(), "strict")
    directory = SweepDirectory.create(Path(out), split, config, data or {})
    return _go_on(directory, reporter)


def resume_sweep(path: Path | str, *, reporter: Reporter | None = None) -> SweepResult:
    """Go on with a sweep that was broken off; a finished one is returned.

    Args:
        path: its directory.
        reporter: receives progress.

    Raises:
        InputError: no sweep, or another version's.
        Interrupted: Ctrl-C.
    """
    return _go_on(SweepDirectory(Path(path)), reporter or SilentReporter())


def _go_on(directory: SweepDirectory, reporter: Reporter) -> SweepResult:
    path, config, start = directory.path, directory.config, directory.start
    taken = f"{path}: another process runs this sweep; wait for it or stop it"
    run = refitted = None
    way_on = f"interrupted; go on with: lightgcn-jax sweep --resume {shlex.quote(str(path))}"
    with held(path, taken), explained(way_on):
        try:
            while group := directory.ask():
                _train_group(directory, group, reporter)
                _keep_curves(path)
            _keep_curves(path)
            trials = directory.trials
            best = _best(path, trials)
            plot = plot_sweep(path, config, directory.study)
            chosen = config.trial_config(best.params)
            flags = directory.flags_of_run(chosen, best.params)
            if config.train_best:
                about = start.data | {"sweep": {"trials": len(trials)} | best.params}
                run = _run(
                    path / "best",
                    f"The best trial, {named(best.params)}, is trained as a run",
                    lambda out: fit(start.split, chosen, out=out, reporter=reporter, data=about),
                    reporter,
                    flags,
                )
            if config.refit:
                refitted = _run(
                    path / "best-refit",
                    "Its settings are trained anew on train and validation",
                    lambda out: refit(path / "best", out=out, reporter=reporter),
                    reporter,
                    flags and {"refit": str((path / "best").absolute())},
                )
            directory.finish()
        except Interrupted as end:
            raise end.saying(way_on) from None
    return SweepResult(path, config, trials, best, run, refitted, plot)


def _best(path: Path, trials: Sequence[Trial]) -> Trial:
    ranked = [trial for trial in trials if trial.value is not None]
    if not ranked:
        raise InputError(
            f"{path}: every trial diverged, the first: {trials[0].user_attrs['diverged']}; "
            f"try lower learning rates"
        )
    return max(ranked, key=lambda trial: trial.value)


def _run(
    out: Path,
    message: str,
    start: Callable[[Path], FitResult],
    reporter: Reporter,
    flags: Mapping[str, Any] | None,
) -> FitResult:
    """The run in a directory: a new one, which keeps the flags that repeat it, or the one that is
    there, to its end."""
    if out.exists():
        return resume(out, reporter=reporter)
    reporter.noted(message)
    with asked_for(flags):
        return start(out)


def _keep_curves(path: Path) -> None:
    """Free the space of the groups, all of which are recorded or not begun."""
    for folder in (path / "groups").iterdir() if (path / "groups").is_dir() else ():
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        tensors = "embeddings", "model", "parameters"
        remove_sums(folder, [f"{name}.safetensors" for name in tensors])


def _train_group(directory: SweepDirectory, trials: Sequence[Trial], reporter: Reporter) -> None:
    """Train a group and record what came of it; take it apart where it can't be trained."""
    numbers = ", ".join(str(trial.number) for trial in trials)
    each = "; ".join(named(trial.params) for trial in trials)
    together = ", together" if len(trials) > 1 else ""
    last = directory.config.num_trials - 1
    reporter.noted(f"Trial {numbers} of 0 to {last}: {each}{together}")
    folder = directory.path / "groups" / f"{trials[0].user_attrs['group']:03d}"
    try:
        seeds, seconds = _train(directory, folder, trials, reporter)
    except (TrainingDiverged, jax.errors.JaxRuntimeError) as error:
        diverged = isinstance(error, TrainingDiverged)
        if not diverged and (not together or "RESOURCE_EXHAUSTED" not in str(error)):
            raise
        if together:
            reporter.noted(f"{error}. These trials are trained one by one.")
            shutil.rmtree(folder, ignore_errors=True)
            for trial in trials:
                directory.note(trial, group=trial.number)
        else:
            reporter.noted(str(error))
            # What is left to say of the checkpoints and the advice are not the trial's.
            directory.tell(trials[0], diverged=str(error).partition(";")[0])
        return
    share = round(seconds / len(trials), 3)
    for trial, records in zip(trials, seeds, strict=True):
        directory.tell(trial, seeds=records, seconds=share)


def _train(
    directory: SweepDirectory, folder: Path, trials: Sequence[Trial], reporter: Reporter
) -> tuple[list[list[dict[str, Any]]], float]:
    """For each trial a record a seed, and the seconds of all; goes on from a checkpoint."""
    config, split = directory.config.trial_config(trials[0].params), directory.start.split
    parts = ranked_parts(config)
    parts = parts if directory.config.study else parts[:-1]
    if not isinstance(config, TrainConfig):
        sets = evaluation_sets(split, config.cold)
        fitted = [*fits(sets, config, parts)]
        seconds = sum(fitting + ranking for _, _, fitting, ranking in fitted)
        return [[{"best_epoch": 0} | record for record, *_ in fitted]], seconds
    folder.mkdir(parents=True, exist_ok=True)
    run = RunDirectory(folder)
    variants = [
        {name: value for name, value in trial.params.items() if name in PER_REPLICA}
        for trial in trials
    ]
    split = in_training_order(split, config)
    trainer = Trainer(split, config, None, run, reporter, variants=variants)
    summary = train_on(trainer, run, reporter).summary
    replicas = summary.get("seeds", [{"seed": config.seed} | summary])
    kept = ("seed", "best_epoch", *PARTS[:-1])
    records = [{name: replica.get(name, {}) for name in kept} for replica in replicas]
    if "test" in parts:
        # The last checkpoint holds the best epoch of every replica.
        checkpoint = load_checkpoint(run.checkpoints, trainer.array_template())
        assert checkpoint is not None
        for index, record in enumerate(records):
            scorer = trainer.scorer(checkpoint.arrays.best, index)
            record |= rank_parts(scorer, trainer.sets, ("test",), config.ks)
    seconds = sum(summary[f"{name}_seconds"] for name in ("train", "compile", "evaluate"))
    firsts = range(0, len(records), config.seeds)
    return [records[first : first + config.seeds] for first in firsts], seconds
