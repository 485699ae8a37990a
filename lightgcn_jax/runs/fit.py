"""Runs from the outside: fit a split, resume after any kill, rank again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import optax
from jax.sharding import Mesh

from lightgcn_jax.data.also_seen import SeenIds
from lightgcn_jax.data.protocol import apply_protocol
from lightgcn_jax.data.splits import Split
from lightgcn_jax.errors import InputError
from lightgcn_jax.models import ClosedForm, Model, Score
from lightgcn_jax.models.model import bare_model
from lightgcn_jax.processes.agreement import gathered, is_first, several, telling
from lightgcn_jax.runs.checkpoint import checkpoint_folders, remove_unfinished, save_checkpoint
from lightgcn_jax.runs.closed_form import fit_closed_form
from lightgcn_jax.runs.directory import RunDirectory
from lightgcn_jax.runs.interrupt import gone_unless_begun, resumable
from lightgcn_jax.runs.loading import load_params, load_scorer
from lightgcn_jax.runs.mesh_checkpoint import load_together
from lightgcn_jax.runs.node_order import in_training_order, is_arranged
from lightgcn_jax.runs.own_objects import check_complete
from lightgcn_jax.runs.processes import check_same_run
from lightgcn_jax.runs.progress import Progress, TrainArrays, Trained, TrainingDiverged
from lightgcn_jax.runs.reporter import Reporter, SilentReporter
from lightgcn_jax.runs.result import FitResult
from lightgcn_jax.runs.trainer import Trainer
from lightgcn_jax.settings.config import (
    ClosedFormConfig,
    Config,
    TrainConfig,
    check_ks,
    with_fitting_ks,
)
from lightgcn_jax.settings.registry import model_name
from lightgcn_jax.sharding import mesh_of
from lightgcn_jax.training import NegativeSampler, TrainState
from lightgcn_jax.training.losses import Loss

_DEALT_IN_MEMORY = (
    "rows of the prepared folder are dealt out in memory, for shards would be uneven; prepare it "
    "with --ordering dealt, and each process reads its own rows"
)


def fit(
    split: Split,
    config: Config | None = None,
    *,
    model: Model | ClosedForm | None = None,
    score: Score | None = None,
    loss: Loss | None = None,
    negatives: NegativeSampler | Callable[..., Any] | None = None,
    optimizer: optax.GradientTransformation | None = None,
    out: Path | str | None = None,
    reporter: Reporter | None = None,
    data: Mapping[str, Any] | None = None,
    initial: TrainState | None = None,
    also_seen: SeenIds | None = None,
    mesh: Mesh | str | None = None,
) -> FitResult:
    """Train a model on a split, or fit it in closed form.

    The rows of the run's split stand in another order than those of ``split``: one that does not
    depend on how users and items are called, so that no figure does, and for a large graph one in
    which training is faster. Read embeddings by the run's own id maps, ``result.split.users``. The
    rows of a prepared folder (:func:`lightgcn_jax.open_prepared`) stand in such an order already.

    Args:
        split: a split from :mod:`lightgcn_jax.data`; the protocol decides which part does what.
        config: the settings; by default those of :class:`TrainConfig`.
        model: a model in place of that of ``config``, or an estimator, which holds one; without
            ``config``, a closed form takes the settings of :class:`ClosedFormConfig`.
        score: a score in place of that of ``config``.
        loss: a loss in place of that of ``config``.
        negatives: a sampler in place of that of ``config``.
        optimizer: any optax transformation, in place of Adam under the configured schedule; for a
            trained model only.
        out: a new directory for the run; None keeps everything in memory.
        reporter: receives progress; silent by default.
        data: JSON value stored with the run: where the interactions came from.
        initial: states to start from, with a leading seed axis, whose rows are those of ``split``;
            by default drawn from the seeds. For a trained model only.
        also_seen: pairs that users know beyond the split, low ratings for instance: neither trained
            on nor recommended.
        mesh: devices to share the tables and the batches out over, ``data=2,model=4`` for instance
            or ``auto`` (see :func:`lightgcn_jax.sharding.mesh_of`); None for one device, of
            several processes for ``auto``. For a trained model only.

    Returns:
        The run.

    Raises:
        InputError: settings and data do not fit, or ``out`` holds something.
        TrainingDiverged: the loss became NaN or infinite.
        Interrupted: Ctrl-C; a run directory can be resumed.

    References:
        The settings of each part are documented with it: :class:`~lightgcn_jax.models.LightGCN`,
        :class:`~lightgcn_jax.training.Softmax`, :class:`~lightgcn_jax.training.SharedNegatives`.
    """
    if not isinstance(split, Split):
        raise InputError(
            f"split: expected a Split, ratio_split(interactions) for instance, got "
            f"{type(split).__name__}; LightGCN().fit(…) takes any table"
        )
    reporter = reporter or SilentReporter()
    directory = None if out is None else RunDirectory(Path(out))
    arrays = None if initial is None else TrainArrays.start(initial)
    trainer = None
    with telling():
        config = _settings(config, model, {"score": score, "loss": loss, "negatives": negatives})
        mesh = "auto" if mesh is None and several() else mesh
        for name, value in (("optimizer", optimizer), ("initial", initial), ("mesh", mesh)):
            if value is not None:
                _check_trained(config, name)
        mesh = mesh_of(mesh)
        if config.ks == TrainConfig().ks:
            config, note = with_fitting_ks(config, len(split.items))
            if note:
                reporter.noted(note)
        check_ks(config, len(split.items))
        arranged = initial is not None or is_arranged(split, config)
        split = split if arranged else split.in_canonical_order()
        split = apply_protocol(split, config.protocol)
        progress = Progress.start(config.seeds)
        if isinstance(config, TrainConfig):
            ordered = in_training_order(split, config, mesh) if initial is None else split
            if is_arranged(split, config) and not is_arranged(ordered, config):
                reporter.noted(_DEALT_IN_MEMORY)
            split = ordered
            trainer = Trainer(split, config, optimizer, directory, reporter, mesh=mesh)
            _ = trainer.inputs  # What does not fit is refused here, before anything is written.
        known = None if also_seen is None else also_seen.beside(split)
    check_same_run(split, config, mesh, known)
    path = None if directory is None else directory.path
    # Of several processes the first one writes, and the others wait for it.
    own = directory if is_first() else None
    with telling():
        if own is not None:
            kind = "none" if trainer is None else "adam" if optimizer is None else "custom"
            with RunDirectory.creating(own.path, split, config, data or {}, kind, known) as made:
                if arrays is not None:
                    # Where the run goes on from can't be drawn again from its seeds.
                    save_checkpoint(made.checkpoints, 0, arrays, dataclasses.asdict(progress))
    gathered()
    with (
        gone_unless_begun(None if own is None else path, TrainingDiverged),
        nullcontext() if own is None else own.locked(),
        resumable(directory),
    ):
        if isinstance(config, ClosedFormConfig):
            trained = fit_closed_form(split, config, directory, reporter)
        else:
            assert trainer is not None
            arrays = arrays or TrainArrays.start(trainer.initial_states())
            trained = trainer.train(arrays, progress)
        return FitResult(config, split, *trained, path, also_seen=known)


def _settings(
    config: Config | None, model: Model | ClosedForm | None, others: Mapping[str, Any]
) -> Config:
    """The settings with the strategies that were given in place of theirs."""
    model = bare_model(model)
    given = {name: value for name, value in others.items() if value is not None}
    if isinstance(model, ClosedForm) and not isinstance(config, TrainConfig):
        config = dataclasses.replace(config or ClosedFormConfig(), model=model)
    elif model is not None:
        given["model"] = model
    config = config or TrainConfig()
    for name in given:
        if name != "model":
            _check_trained(config, name)
    return dataclasses.replace(config, **given)


def resume(
    path: Path | str,
    *,
    model: Model | ClosedForm | None = None,
    score: Score | None = None,
    loss: Loss | None = None,
    negatives: NegativeSampler | Callable[..., Any] | None = None,
    optimizer: optax.GradientTransformation | None = None,
    reporter: Reporter | None = None,
    mesh: Mesh | str | None = None,
) -> FitResult:
    """Go on with a run that was broken off, with its own stored settings.

    On the same machine and a deterministic storage the result is bit for bit that of a run that
    was never broken off. A run without a checkpoint starts again, as a closed form always does; a
    finished one is returned.

    Args:
        path: the run's directory.
        model: the model the run was started with, if it was one of your own.
        score: likewise the score.
        loss: likewise the loss.
        negatives: likewise the sampler.
        optimizer: the transformation the run was started with, if it was given one.
        reporter: receives progress.
        mesh: as :func:`fit` takes it; it need not be that of the run's start.

    Raises:
        InputError: no run, another version's run, an object that the run was not started with or
            that is missing, or every checkpoint is damaged.
    """
    directory = RunDirectory.open(Path(path))
    reporter = reporter or SilentReporter()
    config = directory.config_with(model=model, score=score, loss=loss, negatives=negatives)
    summary = directory.summary()
    if summary is not None:
        history, scorer = directory.history(), load_scorer(directory, config)
        return FitResult(
            config,
            directory.split,
            summary,
            history,
            scorer,
            load_params(directory, config),
            directory.path,
            already_finished=True,
            also_seen=directory.also_seen,
        )
    check_complete(config)
    mesh = "auto" if mesh is None and several() else mesh
    for name, value in (("optimizer", optimizer), ("mesh", mesh)):
        if value is not None:
            _check_trained(config, name)
    mesh = mesh_of(mesh)
    if (directory.optimizer == "custom") != (optimizer is not None):
        raise InputError(
            f"{path}: the run was started with optimizer {directory.optimizer!r}; "
            f"resume it from Python with the same optax transformation"
            if optimizer is None
            else f"{path}: the run was started with Adam; resume it without an optimizer"
        )
    held, trainer = directory.locked() if is_first() else nullcontext(), None
    with telling(), held, resumable(directory):
        if isinstance(config, TrainConfig):
            split = directory.split
            trainer = Trainer(split, config, optimizer, directory, reporter, mesh=mesh)
            _ = trainer.inputs
            check_same_run(split, config, mesh, directory.also_seen)
        if is_first():
            directory.begin_again()
        if trainer is not None:
            if not checkpoint_folders(directory.checkpoints):
                reporter.noted("no checkpoint yet: the run starts again")
            trained = train_on(trainer, directory, reporter)
        else:
            assert isinstance(config, ClosedFormConfig)
            trained = fit_closed_form(directory.split, config, directory, reporter)
        return FitResult(
            config, directory.split, *trained, directory.path, also_seen=directory.also_seen
        )


def train_on(trainer: Trainer, directory: RunDirectory, reporter: Reporter) -> Trained:
    """Train from the directory's last good checkpoint, or from the start where there is none.

    Args:
        trainer: the run's trainer.
        directory: the run's directory.
        reporter: receives progress.
    """
    if is_first():
        remove_unfinished(directory.checkpoints)
    template, layout = trainer.array_template(), trainer.layout
    checkpoint = load_together(directory.checkpoints, template, layout)
    if checkpoint is None:
        arrays = TrainArrays.start(trainer.initial_states())
        progress = Progress.start(len(trainer.replicas))
    else:
        arrays = checkpoint.arrays
        where, replicas = checkpoint.path / "progress.json", len(trainer.replicas)
        progress = Progress.stored(checkpoint.progress, where, replicas)
        reporter.noted(f"resumed from {checkpoint.path.name}, after epoch {progress.epoch}")
    if is_first():
        directory.write_metrics(progress.history)
    return trainer.train(arrays, progress)


def refit(
    path: Path | str,
    *,
    protocol: Literal["fixed", "all"] = "fixed",
    out: Path | str | None = None,
    reporter: Reporter | None = None,
    mesh: Mesh | str | None = None,
) -> FitResult:
    """Train anew on more than train, with what a run chose on validation.

    The settings are the run's, the number of epochs that of its best epoch under the run's own
    schedule: nothing is selected.

    Args:
        path: a finished run under ``strict``.
        protocol: ``fixed`` trains on train and validation and ranks test once; ``all`` trains on
            test too, for serving.
        out: a new directory for the new run.
        reporter: receives progress.
        mesh: as :func:`fit` takes it.

    Raises:
        InputError: no finished run, one under another protocol, or one that was made with objects
            of one's own.
    """
    old = RunDirectory.open(Path(path))
    old.refuse_own_objects("refitted", f"fit with the same objects under the protocol {protocol}")
    summary = old.summary()
    if old.config.protocol != "strict" or summary is None:
        state = "finished" if summary is not None else "unfinished"
        raise InputError(
            f"{path}: expected a finished run under strict, which chose on validation, got a "
            f"{state} one under {old.config.protocol}"
        )
    config = dataclasses.replace(old.config, protocol=protocol)
    if isinstance(config, TrainConfig):
        before, epochs = config.optimization, summary["best_epoch"]
        over = before.schedule_epochs or before.epochs
        optimization = dataclasses.replace(before, epochs=epochs, schedule_epochs=over)
        config = dataclasses.replace(config, optimization=optimization)
    data = {"refit_of": str(path), **old.data}
    known = SeenIds.of_rows(old.split, old.also_seen)
    about: dict[str, Any] = {"out": out, "reporter": reporter, "data": data, "mesh": mesh}
    return fit(old.split, config, **about, also_seen=known)


def _check_trained(config: Config, argument: str) -> None:
    if not config.is_trained:
        raise InputError(
            f"{argument}: expected a model that is trained to take it, got {model_name(config)}"
        )
