"""The command train, which starts runs and resumes them."""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import jax
import tyro

from lightgcn_jax.cli.console import messages, results, tell
from lightgcn_jax.cli.runs import Switch
from lightgcn_jax.cli.settings import flag, settings_type, shown
from lightgcn_jax.cli.source import columns_read
from lightgcn_jax.cli.taking import check_place, cleared
from lightgcn_jax.errors import InputError
from lightgcn_jax.processes.agreement import is_first, of_the_first, several
from lightgcn_jax.sharding import mesh_of
from pinsage_jax.cli.runs import parts_table, print_parts
from pinsage_jax.cli.source import ItemSource
from pinsage_jax.config import PRESETS, PinSageConfig, settings_from
from pinsage_jax.evaluation.baselines import (
    BASELINES,
    evaluate_baseline,
    lines_to_read_against,
)
from pinsage_jax.evaluation.metrics import check_ks
from pinsage_jax.features.columns import Kind
from pinsage_jax.runs.continuation import continue_from
from pinsage_jax.runs.directory import PinSageRun
from pinsage_jax.runs.fit import Fit, fit, resume
from pinsage_jax.runs.reporter import ConsoleReporter
from pinsage_jax.runs.stored_task import load_task
from pinsage_jax.tasks.task import Task

PINSAGE = "pinsage"
MODELS = (PINSAGE, *BASELINES)
_DEFAULTS = {field.name: field.default for field in dataclasses.fields(PinSageConfig)}


def _hint(name: str) -> str:
    default = _DEFAULTS[name]
    return "" if default is None else f"(default: {shown(default)})"


if TYPE_CHECKING:
    Settings = dict[str, Any]
else:
    hints = get_type_hints(PinSageConfig)
    kinds = {name: hints[name] for name in _DEFAULTS}
    Settings = settings_type(kinds, PinSageConfig.__doc__ or "", _hint)


@dataclasses.dataclass(frozen=True)
class Train:
    """Train an encoder and write a run directory, or rank by a baseline, which writes none.

    Without --dataset and --data a generated world of pins and boards is used.

    Attributes:
        source: the items and the task on them.
        settings: the settings of the run.
        preset: what settings that are not given are: the `default`, or those of the `paper`.
        model: the encoder, `pinsage`, or a baseline that has no settings, on the same items and
            task: the training graph by `popularity`, `cooccurrence`, `item-cosine`, `pagerank` or
            `structure`, or the cosine of all `features`. A baseline's figures are printed, it
            writes no run.
        out: the new run directory.
        overwrite: put the new run in the place of the one that lies in --out.
        resume: go on with a run that was broken off, with its own stored settings.
        finish: with --resume, train no further: embed all items by the best epoch so far.
        from_run: go on from this run's best epoch with new data, which join its own, in a new run.
            What the run held out stays held out; statistics and vocabularies of features stay the
            run's. Settings that are not given are the run's.
        mesh: train on several devices: each takes its rows of a batch; features and neighbours lie
            whole on each of them, or with `model=N` in N shares of their rows; `auto` takes all
            devices, and shares where tables would fill more than half of a device. A run goes on
            with any mesh.
        quiet: print only the run directory, or only the table of a baseline.
    """

    source: Annotated[ItemSource, tyro.conf.arg(name="")]
    settings: Annotated[Settings, tyro.conf.arg(name="")]
    preset: Annotated[str, flag("{" + ",".join(PRESETS) + "}", "(default: default)")] = "default"
    model: Annotated[str, flag("{" + ",".join(MODELS) + "}", f"(default: {PINSAGE})")] = PINSAGE
    out: Annotated[Path | None, flag("RUN", "(default: runs/<data>-<time>)")] = None
    overwrite: Switch = False
    resume: Annotated[Path | None, flag("RUN")] = None
    finish: Switch = False
    from_run: Annotated[Path | None, flag("RUN", name="from")] = None
    mesh: Annotated[
        str | None, flag("data=2,model=4|auto", "(default: one device; of several processes auto)")
    ] = None
    quiet: Switch = False

    def run(self) -> int:
        mesh_of(self.mesh)  # One that does not fit is refused before data are read.
        if self.finish and self.resume is None:
            raise InputError("--finish: expected --resume RUN beside it")
        if self.model != PINSAGE:
            return self._rank()
        if self.resume is not None:
            run = self._resume(self.resume)
        elif self.from_run is not None:
            run = self._go_on(self.from_run)
        else:
            run = self._train()
        if not is_first():
            return 0
        run = _run_of(run) if isinstance(run, Fit) else run
        if self.quiet:
            tell(run.path)
        else:
            print_outcome(run)
        return 0

    def _resume(self, path: Path) -> PinSageRun | Fit:
        given = self.settings or self.preset != "default" or self.out is not None or self.overwrite
        if given or self.from_run is not None or self.source != ItemSource():
            raise InputError(
                "--resume: goes on with the run's own stored data and settings; "
                "leave the other flags out"
            )
        run = PinSageRun.open(path)
        if run.is_finished:
            messages(quiet=self.quiet).print("This run had already finished; nothing was trained.")
            return run
        with self._reporter(run.config) as reporter:
            return resume(path, reporter=reporter, mesh=self.mesh, train=not self.finish)

    def _go_on(self, path: Path) -> Fit:
        """Go on from a run with new data."""
        if self.source.data is None and self.source.dataset is None:
            raise InputError("--from: expected the new data as well, by --data or --dataset")
        if self.preset != "default":
            raise InputError("--preset: settings that are not given are the run's; leave it out")
        self.source.refuse_task()
        run = PinSageRun.open(path)
        config = settings_from(run.config, **self.settings)
        out = self._place()
        schema = run.read_schema()
        kinds: dict[str, Kind] = {one.name: one.kind for one in schema.columns}
        data, notes = self.source.load(
            config.columns or [*kinds],
            quiet=self.quiet or not is_first(),
            kinds=kinds,
            remembered=columns_read(run.record["data"]),
        )
        console = messages(quiet=self.quiet)
        for line in (f"Data {self.source.name}: {data.describe()}", *(f"  {one}" for one in notes)):
            console.print(line)
        with self._cleared(out), self._reporter(config) as reporter:
            record = {**self.source.record(data.interactions), "from": str(path), "notes": notes}
            return continue_from(
                path,
                data,
                config,
                out=out,
                reporter=reporter,
                record=record,
                unknown_ids=self.source.unknown_ids,
                mesh=self.mesh,
            )

    def _place(self) -> Path:
        out = self.out or Path("runs") / f"{self.source.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        if is_first():
            check_place(out, overwrite=self.overwrite)
        return Path(of_the_first(str(out)))  # whose name may tell the time

    def _cleared(self, out: Path) -> AbstractContextManager[None]:
        return cleared(out, overwrite=self.overwrite and is_first())

    def _train(self) -> Fit:
        if self.preset not in PRESETS:
            raise InputError(f"--preset: expected {' or '.join(PRESETS)}, got {self.preset!r}")
        config = settings_from(PinSageConfig(), **{**PRESETS[self.preset], **self.settings})
        out = self._place()
        task, notes = self._task()
        idle = self.mesh is None and not several() and len(jax.devices()) > 1
        if idle and config.tables == "device":
            messages(quiet=self.quiet).print(
                f"One of {len(jax.devices())} devices is used; --mesh auto takes all."
            )
        with self._cleared(out), self._reporter(config) as reporter:
            record = self.source.record(task.data.interactions)
            data = {**record, "notes": notes}
            return fit(task, config, out=out, data=data, reporter=reporter, mesh=self.mesh)

    def _rank(self) -> int:
        """Rank by a baseline."""
        if self.model not in BASELINES:
            raise InputError(f"--model: expected one of {', '.join(MODELS)}, got {self.model!r}")
        if self.mesh is not None or several():
            raise InputError(f"mesh: expected a model that is trained to take it, got {self.model}")
        ks = settings_from(PinSageConfig(), **self._only("ks")).ks
        given = [f"--{name.replace('_', '-')}" for name in self.settings if name != "ks"]
        given += ["--preset"] if self.preset != "default" else []
        if given:
            raise InputError(
                f"{', '.join(given)}: settings of the encoder, which --model {self.model} has not"
            )
        places = {"--out": self.out, "--resume": self.resume, "--overwrite": self.overwrite or None}
        places["--from"] = self.from_run
        for name, place in places.items():
            if place is not None:
                raise InputError(f"{name}: --model {self.model} has no run directory")
        task, _ = self._task()
        check_ks(ks, int(task.train_items.sum()))
        started = time.perf_counter()
        parts = evaluate_baseline(task, self.model, ks)
        seconds = time.perf_counter() - started
        if self.quiet:
            results().print(parts_table(parts))
        else:
            print_ranked(parts, task, self.model, seconds)
        return 0

    def _task(self) -> tuple[Task, list[str]]:
        """The task, and what is told of it and of its data."""
        quiet = self.quiet or not is_first()
        data, notes = self.source.load(self.settings.get("columns"), quiet=quiet)
        console = messages(quiet=self.quiet)
        console.print(f"Data {self.source.name}: {data.describe()}")
        for note in notes:
            console.print(f"  {note}")
        task = self.source.held_out(data)
        of_pairs = [note for note in task.data.notes if note not in notes]
        for note in (*of_pairs, *task.notes):
            console.print(f"  {note}")
        return task, [*notes, *of_pairs, *task.notes]

    def _only(self, name: str) -> dict[str, Any]:
        return {name: self.settings[name]} if name in self.settings else {}

    def _reporter(self, config: PinSageConfig) -> ConsoleReporter:
        return ConsoleReporter(messages(quiet=self.quiet), config.epochs, config.metric)


def _run_of(result: Fit) -> PinSageRun:
    """The directory of a run that was just trained."""
    assert result.path is not None
    return PinSageRun.open(result.path)


def print_outcome(run: PinSageRun) -> None:
    """Print the figures, and commands that can follow.

    Args:
        run: a finished run.
    """
    summary, path, console = run.summary, run.path, results()
    config, task = run.config, load_task(run)
    console.print(
        f"Epoch {summary['best_epoch']}, chosen by {summary['selected_by']}; held-out positives "
        f"ranked among all {summary['ranked_items']:,} training items"
    )
    if not summary["best_epoch"]:
        console.print(
            "Epoch 0 is the start, before the first step: no epoch of training ranked validation "
            "better by more than chance"
            + (
                ". What ranks is where items stand in the graph (--structure)"
                if config.structure
                else ""
            )
        )
    parts = {part: summary[part] for part in ("valid", "test")}
    print_parts(console, parts, lines_to_read_against(task, config.ks))
    console.print(f"{summary['parameters']:,} parameters; {summary['nodes_note']}")
    console.print(f"The run lies in {path}. Next:")
    item = shlex.quote(str(task.data.interactions.items.ids[0]))
    written = shlex.quote(str(path))
    console.print(f"  pinsage-jax similar {written} --item {item}")
    console.print(f"  pinsage-jax evaluate {written}")


def print_ranked(
    parts: Mapping[str, Mapping[str, float]], task: Task, name: str, seconds: float
) -> None:
    """Print the figures of a baseline.

    Args:
        parts: its metrics by part.
        task: what was ranked.
        name: the baseline.
        seconds: how long it took.
    """
    console = results()
    console.print(
        f"{name}, without training: held-out positives ranked among all "
        f"{int(task.train_items.sum()):,} training items, in {seconds:.1f} s"
    )
    console.print(parts_table(parts))
    if "fresh" in parts:
        console.print(
            "fresh: held-out items, added with half of their contexts; known: the pairs of test; "
            f"both ranked among all {len(task.train_items):,} items"
        )
