"""Runs from the first step to the last: started, or resumed after any kill."""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from lightgcn_jax.errors import InputError
from lightgcn_jax.fields import document
from lightgcn_jax.files import refuse_taken
from lightgcn_jax.interrupts import Interrupted, Request, deferred
from lightgcn_jax.processes.agreement import (
    gathered,
    is_first,
    several,
    telling,
)
from lightgcn_jax.processes.placing import on_host
from lightgcn_jax.runs.checkpoint import remove_unfinished, save_checkpoint
from lightgcn_jax.runs.interrupt import gone_unless_begun, resumable, way_on
from lightgcn_jax.runs.mesh_checkpoint import load_together
from lightgcn_jax.sharding.mesh import shown
from pinsage_jax.config import PinSageConfig
from pinsage_jax.encoder.all_items import ItemVectors, embed_all
from pinsage_jax.evaluation.parts import evaluate_parts
from pinsage_jax.features.schema import TextEncoders
from pinsage_jax.runs.directory import PinSageRun
from pinsage_jax.runs.metadata import PROGRESS
from pinsage_jax.runs.processes import check_same_run
from pinsage_jax.runs.stored_task import load_task, read_structure, save_task
from pinsage_jax.tasks.task import Task
from pinsage_jax.training.division import check_mesh
from pinsage_jax.training.preparation import Meaning, Prepared, prepare
from pinsage_jax.training.reporter import Reporter, SilentReporter
from pinsage_jax.training.step import TrainState
from pinsage_jax.training.trainer import Progress, Trainer, TrainingDiverged

_PROGRAM = "pinsage-jax"


class Fit(NamedTuple):
    """A finished run in memory.

    Attributes:
        task: the pairs that the run was trained on, and those that were held out.
        config: the settings.
        prepared: features, neighbours and hard negatives.
        params: the encoder's parameters after the best epoch.
        items: vectors of all items, and the layers below them.
        summary: the figures.
        path: the run directory, if there is one.
    """

    task: Task
    config: PinSageConfig
    prepared: Prepared
    params: Any
    items: ItemVectors
    summary: dict[str, Any]
    path: Path | None


def fit(
    task: Task,
    config: PinSageConfig,
    *,
    out: Path | None = None,
    data: Mapping[str, Any] | None = None,
    reporter: Reporter | None = None,
    text_encoders: TextEncoders | None = None,
    prepared: Prepared | None = None,
    initial: Any = None,
    mesh: Mesh | str | None = None,
) -> Fit:
    """Train an encoder, embed all items, and evaluate them on test once.

    Args:
        task: the pairs that are trained on, and those that are held out.
        config: the settings.
        out: a new run directory; None keeps everything in memory.
        data: how the data was made, as a JSON value that the run keeps.
        reporter: receives progress; silent by default.
        text_encoders: by text column, what makes a sentence vector of its texts. Whoever adds items
            to the run has to give them again.
        prepared: what ``prepare`` returned for this task and these settings, if it was called
            before.
        initial: parameters to go on from, of an encoder that reads the same inputs; by default
            drawn from the seed.
        mesh: devices to divide batches among, ``data=2,model=4`` for instance or ``auto`` (see
            :func:`pinsage_jax.training.division.division_of`); None for one device, of several
            processes for ``auto``.

    Returns:
        The run.

    Raises:
        InputError: settings, features, task and mesh do not fit each other, or ``out`` is taken.
        TrainingDiverged: the loss became NaN or infinite; the last checkpoint stays.
        Interrupted: Ctrl-C; a run directory can be resumed.
    """
    reporter = reporter or SilentReporter()
    with telling():
        check_mesh(mesh, config)
        if out is not None and is_first():
            refuse_taken(out)
    check_same_run(task, config, mesh)
    with telling():
        if prepared is None:
            prepared = prepare(task, config, text_encoders, mesh=mesh)
        for note in prepared.notes:
            reporter.noted(note)
    trainer = Trainer(task, config, prepared, reporter, mesh)
    begun = trainer.start() if initial is None else trainer.go_on(initial)
    goes_on = initial is not None
    if out is None:
        return _finish(trainer, _train(trainer, begun, None, [], goes_on), None)
    run = PinSageRun(out)
    # Of several processes the first one writes, and the others wait for it.
    with telling():
        if is_first():
            with PinSageRun.creating(out) as made:
                made.write_config(config, data or {}, prepared.notes)
                save_task(made, task)
                made.write_schema(prepared.schema)
                if prepared.structure is not None:
                    made.write_arrays("structure", prepared.structure._asdict())
                if goes_on:  # Where it goes on from can't be drawn again from the seed.
                    _save(made, trainer, begun)
            run = PinSageRun.open(out)
    gathered()
    own = out if is_first() else None
    with gone_unless_begun(own, TrainingDiverged), _held(run), resumable(run, program=_PROGRAM):
        return _finish(trainer, _train(trainer, begun, run, [], goes_on), run)


def resume(
    path: Path,
    *,
    reporter: Reporter | None = None,
    text_encoders: TextEncoders | None = None,
    mesh: Mesh | str | None = None,
    train: bool = True,
) -> Fit:
    """Go on with a run that was broken off; it ends like one that was not.

    Args:
        path: the run directory.
        reporter: receives progress; silent by default.
        text_encoders: by text column, the functions that the run was started with.
        mesh: as :func:`fit` takes it; it need not be that of the run's start.
        train: False ends the run where it is: all items are embedded by the best epoch so far.

    Raises:
        InputError: the directory holds no run, a damaged one, or a finished one; or one that is to
            end before anything of it was evaluated.
    """
    run = PinSageRun.open(path)
    if run.is_finished:
        raise InputError(f"{path}: the run is finished already; there is nothing to resume")
    check_mesh(mesh, run.config)
    with telling(), _held(run), resumable(run, program=_PROGRAM):
        if is_first():
            run.begin_again()
            remove_unfinished(run.checkpoints)
        gathered()  # the others read what the first one has put in order
        task, config, records = load_task(run), run.config, run.read_metrics()
        meaning = Meaning(run.read_schema(), read_structure(run, config))
        check_same_run(task, config, mesh)
        prepared = prepare(task, config, text_encoders, meaning, mesh)
        trainer = Trainer(task, config, prepared, reporter, mesh)
        progress = trainer.start()
        checkpoint = load_together(run.checkpoints, _arrays(progress), None)
        if checkpoint is not None:
            where, count = checkpoint.path / "progress.json", len(trainer.tiers)
            kept = document(where, checkpoint.progress, PROGRESS)
            # Devices of another mesh have other parts of a batch, and other capacities.
            at = trainer.division.mesh
            is_same = kept.get("mesh") == (None if at is None else shown(at))
            if (got := len(kept["tiers"])) != count and is_same:
                raise InputError(f"{where}: tiers: expected {count} counts, got {got}")
            progress = _progress(checkpoint.arrays, kept)
            if len(progress.losses) > trainer.steps:
                raise InputError(
                    f"{where}: losses: expected those of at most {trainer.steps} steps, got "
                    f"{len(progress.losses)}"
                )
            if is_same:
                trainer.tiers = np.array(kept["tiers"])
        records = [one for one in records if one["epoch"] <= progress.epoch]
        # Only a run that goes on from another one keeps its start.
        goes_on = checkpoint is not None and not progress.has_begun
        records = records if progress.has_begun else []
        if not train:
            return _end_here(trainer, progress, run, records)
        if not trainer.finished(progress) and is_first():
            # Vectors of an end at an earlier epoch, which a kill broke off.
            shutil.rmtree(run.vectors, ignore_errors=True)
        return _finish(trainer, _train(trainer, progress, run, records, goes_on), run)


def _held(run: PinSageRun) -> contextlib.AbstractContextManager[None]:
    """Hold the run, if this process is the one that writes it."""
    return run.held() if is_first() else contextlib.nullcontext()


def _train(
    trainer: Trainer,
    progress: Progress,
    run: PinSageRun | None,
    records: list[dict[str, Any]],
    goes_on: bool,
) -> Progress:
    if not progress.has_begun and (trainer.config.structure or goes_on):
        progress, record = trainer.assess_start(progress)
        records.append(record)
    if not trainer.finished(progress):
        trainer.reporter.noted("compiling …")
    with contextlib.ExitStack() as block:
        requests: list[Request] = []
        number = 0

        def ending() -> bool:
            """Asked after steps; the first ones are compiled by then, which nobody waits for."""
            nonlocal number
            if not requests:
                requests.append(block.enter_context(deferred()))
            # A signal to any of several processes ends all.
            number = max(gathered(requests[0].signal_number))
            return bool(number)

        while not trainer.finished(progress):
            progress, record = trainer.advance(progress, ending)
            records += [] if record is None else [record]
            with telling():
                if run is not None and is_first():
                    run.append_metrics(records)
                    _save(run, trainer, progress)
            gathered()  # the others end where the first one could not write
            if ending():
                when = f"interrupted in epoch {progress.epoch + 1}"
                path = None if run is None else run.path
                line = way_on(when, "go on", path, _PROGRAM)
                # Whoever takes machines away from many processes starts them again.
                status = 0 if several() and number == signal.SIGTERM else None
                raise Interrupted(line, number, status=status)
    return progress


def _save(run: PinSageRun, trainer: Trainer, progress: Progress) -> None:
    kept = {
        "epoch": progress.epoch,
        "best_epoch": progress.best_epoch,
        "best_value": progress.best_value if np.isfinite(progress.best_value) else None,
        "tiers": trainer.tiers.tolist(),
        "losses": progress.losses.tolist(),
    }
    if trainer.division.mesh is not None:
        kept["mesh"] = shown(trainer.division.mesh)
    step = progress.epoch * trainer.steps + len(progress.losses)
    # As one device has them, so that any mesh can go on with them.
    arrays = _arrays(progress)
    arrays = arrays if trainer.division.mesh is None else jax.tree.map(on_host, arrays)
    save_checkpoint(run.checkpoints, step, arrays, kept)


def _arrays(progress: Progress) -> dict[str, Any]:
    return {"state": progress.state._asdict(), "best": progress.best}


def _progress(arrays: dict[str, Any], kept: dict[str, Any]) -> Progress:
    best = kept["best_value"]
    return Progress(
        TrainState(**arrays["state"]),
        arrays["best"],
        kept["epoch"],
        kept["best_epoch"],
        -np.inf if best is None else best,
        np.array(kept.get("losses", ()), np.float32),
    )


def _end_here(
    trainer: Trainer, progress: Progress, run: PinSageRun, records: list[dict[str, Any]]
) -> Fit:
    with telling():
        if not np.isfinite(progress.best_value):
            raise InputError(
                f"{run.path}: expected an epoch that was evaluated, the run was broken off before; "
                "go on with pinsage-jax train --resume"
            )
        if is_first():
            run.append_metrics(records)
    return _finish(trainer, progress, run)


def _finish(trainer: Trainer, progress: Progress, run: PinSageRun | None) -> Fit:
    """Embed all items, evaluate them, and write what serving needs."""
    task, config, prepared = trainer.task, trainer.config, trainer.prepared
    started = time.perf_counter()

    def advanced(share: float) -> None:
        trainer.reporter.embedded(share=share, items=task.train.num_items)

    items = embed_all(
        prepared.model,
        progress.best,
        prepared.features,
        prepared.table,
        out=None if run is None else run.vectors,
        advanced=advanced,
        mesh=trainer.division.mesh,
    )
    embedding = time.perf_counter() - started
    figures = evaluate_parts(
        prepared.model, progress.best, items.vectors, task, trainer.pool, config.ks
    )
    summary: dict[str, Any] = {
        "best_epoch": progress.best_epoch,
        "epochs": progress.epoch,
        "selected_by": f"valid {config.metric}",
        "ranked_items": len(trainer.pool),
        **figures,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(progress.best)),
        "nodes_note": trainer.tier_note(),
        "seconds": {**prepared.seconds, "all items embedded": embedding},
    }
    if trainer.division.mesh is not None:
        summary |= {"mesh": shown(trainer.division.mesh), "processes": jax.process_count()}
    if run is not None and is_first():
        run.write_params(progress.best)
        run.write_summary(summary)
    path = None if run is None else run.path
    return Fit(task, config, prepared, progress.best, items, summary, path)
