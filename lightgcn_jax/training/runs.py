"""Runs from the outside: fit a split, resume after any kill, rank again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from lightgcn_jax.data.pairs import PARTS
from lightgcn_jax.data.splits import Split
from lightgcn_jax.errors import InputError
from lightgcn_jax.training.checkpoint import (
    load_checkpoint,
    remove_unfinished,
    save_checkpoint,
)
from lightgcn_jax.training.config import TrainConfig
from lightgcn_jax.training.loop import Progress, TrainArrays, Trained, Trainer
from lightgcn_jax.training.progress import Reporter, SilentReporter
from lightgcn_jax.training.protocol import LABELS, apply_protocol, open_arena, rank_parts
from lightgcn_jax.training.run_directory import RunDirectory
from lightgcn_jax.training.step import TrainState


@dataclasses.dataclass(frozen=True)
class FitResult:
    """A trained run.

    Attributes:
        config: its settings.
        split: the pairs and id maps it was trained and judged on, protocol applied.
        summary: the figures, as in summary.json.
        history: a record an epoch and seed, as in metrics.jsonl.
        user_embeddings: ``float32[U, D]``, final, of the best epoch.
        item_embeddings: ``float32[I, D]``.
        directory: where the run lies; None if it was not written.
        already_finished: the run had ended before; nothing was trained now.
    """

    config: TrainConfig
    split: Split
    summary: dict[str, Any]
    history: list[dict[str, Any]]
    user_embeddings: np.ndarray
    item_embeddings: np.ndarray
    directory: Path | None = None
    already_finished: bool = False


def fit(
    split: Split,
    config: TrainConfig | None = None,
    *,
    out: Path | str | None = None,
    optimizer: optax.GradientTransformation | None = None,
    reporter: Reporter | None = None,
    data: Mapping[str, Any] | None = None,
    initial: TrainState | None = None,
) -> FitResult:
    """Train LightGCN on a split.

    Args:
        split: from :mod:`lightgcn_jax.data`; the protocol decides which part does what.
        config: the settings; by default those of :class:`TrainConfig`.
        out: a new directory for the run; None keeps everything in memory.
        optimizer: any optax transformation, in place of Adam under the configured schedule.
        reporter: receives progress; silent by default.
        data: JSON value stored with the run: where the interactions came from.
        initial: states to start from, with a leading seed axis; by default drawn from the seeds.

    Returns:
        The trained run.

    Raises:
        InputError: settings and data do not fit, or ``out`` holds something.
        TrainingDiverged: the loss became NaN or infinite.
        Interrupted: Ctrl-C; a run directory can be resumed.
    """
    config = config or TrainConfig()
    if max(config.ks) > len(split.items):
        raise InputError(
            f"ks: expected cut-offs of at most {len(split.items)} (the catalogue's size), "
            f"got {max(config.ks)}"
        )
    split = apply_protocol(split, config.protocol)
    progress = Progress.start(config.seeds)
    arrays = None if initial is None else TrainArrays.start(initial)
    directory = None
    if out is not None:
        kind = "adam" if optimizer is None else "custom"
        with RunDirectory.creating(Path(out), split, config, data or {}, kind) as made:
            if arrays is not None:
                # Where the run goes on from can't be drawn again from its seeds.
                save_checkpoint(made.checkpoints, 0, arrays, dataclasses.asdict(progress))
        directory = RunDirectory(Path(out))
    with nullcontext() if directory is None else directory.locked():
        trainer = Trainer(split, config, optimizer, directory, reporter or SilentReporter())
        arrays = arrays or TrainArrays.start(trainer.initial_states())
        return _result(trainer, trainer.train(arrays, progress))


def resume(
    path: Path | str,
    *,
    optimizer: optax.GradientTransformation | None = None,
    reporter: Reporter | None = None,
) -> FitResult:
    """Go on with a run that was broken off, with its own stored settings.

    On the same machine and a deterministic storage the result is bit for bit that of a run that
    was never broken off. A run without a checkpoint starts again; a finished one is returned.

    Args:
        path: the run's directory.
        optimizer: the transformation the run was started with, if it was given one.
        reporter: receives progress.

    Raises:
        InputError: no run, another version's run, or every checkpoint is damaged.
    """
    directory = RunDirectory.open(Path(path))
    reporter = reporter or SilentReporter()
    summary = directory.summary()
    if summary is not None:
        return _finished(directory, summary)
    if (directory.optimizer == "custom") != (optimizer is not None):
        raise InputError(
            f"{path}: the run was started with optimizer {directory.optimizer!r}; "
            f"resume it from Python with the same optax transformation"
            if optimizer is None
            else f"{path}: the run was started with Adam; resume it without an optimizer"
        )
    with directory.locked():
        remove_unfinished(directory.checkpoints)
        trainer = Trainer(directory.split, directory.config, optimizer, directory, reporter)
        checkpoint = load_checkpoint(directory.checkpoints, trainer.array_template())
        if checkpoint is None:
            reporter.noted("no checkpoint yet: the run starts again")
            arrays = TrainArrays.start(trainer.initial_states())
            progress = Progress.start(directory.config.seeds)
        else:
            arrays, progress = checkpoint.arrays, Progress(**checkpoint.progress)
            reporter.noted(f"resumed from {checkpoint.path.name}, after epoch {progress.epoch}")
        directory.write_metrics(progress.history)
        return _result(trainer, trainer.train(arrays, progress))


def _finished(directory: RunDirectory, summary: dict[str, Any]) -> FitResult:
    users, items = directory.embeddings()
    return FitResult(
        directory.config,
        directory.split,
        summary,
        directory.history(),
        users,
        items,
        directory.path,
        already_finished=True,
    )


def _result(trainer: Trainer, trained: Trained) -> FitResult:
    directory = trainer.directory
    return FitResult(
        trainer.config,
        trainer.arena.split,
        *trained,
        directory=None if directory is None else directory.path,
    )


def evaluate_run(path: Path | str, ks: tuple[int, ...]) -> dict[str, Any]:
    """Rank a finished run's parts again at chosen cut-offs.

    Returns:
        ``protocol``, ``protocol_note``, the parts' metrics, and ``users_without_test_items``.

    Raises:
        InputError: no finished run, or a cut-off that does not fit the catalogue.
    """
    directory = RunDirectory.open(Path(path))
    users, items = directory.embeddings()
    arena = open_arena(directory.split)
    protocol = directory.config.protocol
    metrics = rank_parts(jnp.asarray(users), jnp.asarray(items), arena, PARTS, ks)
    return {
        "protocol": protocol,
        "protocol_note": LABELS[protocol],
        **metrics,
        "users_without_test_items": arena.users_without_test_items,
    }
