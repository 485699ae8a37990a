"""The command sweep: many trials of a model's settings, and a run of the best."""

from __future__ import annotations

import dataclasses
import difflib
import time
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Union, cast, get_args, get_origin

import tyro
from rich.table import Table

from lightgcn_jax.cli.console import messages, metrics_table, results, table
from lightgcn_jax.cli.runs import Switch
from lightgcn_jax.cli.source import Source
from lightgcn_jax.cli.training import Settings, data_lines
from lightgcn_jax.data import PARTS
from lightgcn_jax.data.protocol import apply_protocol
from lightgcn_jax.errors import InputError
from lightgcn_jax.runs import ConsoleReporter, FitResult, SilentReporter
from lightgcn_jax.settings.names import KINDS
from lightgcn_jax.sweeps import Range, SweepConfig, SweepResult, resume_sweep, run_sweep
from lightgcn_jax.sweeps.directory import NOTES, SweepDirectory, Trial
from lightgcn_jax.sweeps.space import Sampler, Scale, named, shown

_SWITCH = {"true": True, "false": False}
Assignments = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Try settings of train, choose by the validation metric, and train the best as a run.

    Trials that differ in learning_rate, l2, temperature, margin or init_std alone are trained
    together, by one program. No trial ranks test; the run of the best one does, once. Settings
    that are not swept are those given here, as far as a trial's model reads them.

    Attributes:
        source: the data.
        settings: settings of all trials.
        values: settings and the values to try, in every combination: `dim=16,64 l2=1e-4,1e-3`;
            layer weights as in `alphas=0.5/0.25/0.25,none`.
        ranges: numeric settings to draw at random: `learning_rate=1e-4..1e-1 dim=8..64:log`;
            drawn log-uniformly where the ends are positive and more than a decade apart, else
            uniformly, unless `:log` or `:linear` says otherwise.
        trials: combinations to draw, from --range and --set.
        sampler: `grid` tries every combination of --set; `random` draws --trials of them and of
            --range; `tpe` draws where the trials before were good.
        draw_seed: of these draws.
        together: runs trained at once, at most.
        study: rank test too for every trial, for an experiment from which nothing is chosen; no
            run is trained then.
        train_best: train the best trial as a run under --study too.
        refit: train the best trial anew on train and validation as well, after its run.
        out: the new directory of the sweep.
        resume: go on with a sweep that was broken off, with its own stored data and settings.
        quiet: print nothing but the directory of the sweep.
    """

    source: Annotated[Source, tyro.conf.arg(name="")]
    settings: Annotated[Settings, tyro.conf.arg(name="")]
    values: Annotated[
        Assignments,
        tyro.conf.arg(name="set", metavar="NAME=VALUE,… [NAME=VALUE,… ...]", help_behavior_hint=""),
    ] = ()
    ranges: Annotated[
        Assignments,
        tyro.conf.arg(
            name="range", metavar="NAME=LOW..HIGH [NAME=LOW..HIGH ...]", help_behavior_hint=""
        ),
    ] = ()
    trials: Annotated[
        int | None,
        tyro.conf.arg(metavar="N", help_behavior_hint="(default: the whole grid)"),
    ] = None
    sampler: Annotated[
        Sampler | None,
        tyro.conf.arg(
            metavar="{grid,random,tpe}", help_behavior_hint="(default: random with --trials)"
        ),
    ] = None
    draw_seed: int = 0
    together: int = 8
    study: Switch = False
    train_best: Switch = False
    refit: Switch = False
    out: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(default: runs/<data>-sweep-<time>)"),
    ] = None
    resume: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")] = None
    quiet: Switch = False

    def run(self) -> int:
        result = self._sweep() if self.resume is None else self._resume(self.resume)
        if self.quiet:
            print(result.path)
        else:
            _print_outcome(result)
        return 0

    def _resume(self, path: Path) -> SweepResult:
        if dataclasses.replace(self, resume=None, quiet=False) != Sweep(Source(), cast(Any, {})):
            raise InputError(
                "--resume: goes on with the sweep's own stored data and settings; "
                "leave the other flags out"
            )
        config = SweepDirectory.open(path).config
        self._note(f"Protocol {NOTES[config.study]}")
        return resume_sweep(path, reporter=self._reporter(config.metric))

    def _sweep(self) -> SweepResult:
        config = self.config()
        interactions = self.source.interactions()
        split = apply_protocol(
            self.source.split_up(interactions), "strict", seed=self.source.split_seed
        )
        for line in data_lines(self.source, interactions, split):
            self._note(line)
        self._note(f"Protocol {NOTES[config.study]}")
        seeds = f" of {config.shared.seeds} seeds" if config.shared.seeds > 1 else ""
        self._note(f"{config.num_trials} trials{seeds}, judged by valid {config.metric}")
        out = (
            self.out or Path("runs") / f"{self.source.name}-sweep-{time.strftime('%Y%m%d-%H%M%S')}"
        )
        return run_sweep(
            split,
            config,
            out=out,
            reporter=self._reporter(config.metric),
            data=self.source.record(),
        )

    def config(self) -> SweepConfig:
        """The sweep that the flags describe.

        Raises:
            InputError: a flag can't be read, or settings do not fit together.
        """
        values = {name: _values(name, text) for name, text in _assigned("--set", self.values)}
        ranges = {name: _range(name, text) for name, text in _assigned("--range", self.ranges)}
        if not values and not ranges:
            raise InputError(
                "sweep: expected --set NAME=VALUE,VALUE or --range NAME=LOW..HIGH, got neither"
            )
        given: dict[str, Any] = dict(self.settings)
        try:
            return SweepConfig(
                given,
                values,
                ranges,
                trials=self.trials,
                sampler=self.sampler,
                seed=self.draw_seed,
                together=self.together,
                study=self.study,
                train_best=self.train_best,
                refit=self.refit,
            )
        except InputError as error:
            name, _, problem = str(error).partition(":")
            if name in given:
                raise InputError(f"--{name.replace('_', '-')}:{problem}") from None
            raise

    def _note(self, line: str) -> None:
        messages(quiet=self.quiet).print(line)

    def _reporter(self, metric: str) -> ConsoleReporter | SilentReporter:
        return SilentReporter() if self.quiet else ConsoleReporter(messages(), metric=metric)


def _assigned(flag: str, texts: Iterable[str]) -> list[tuple[str, str]]:
    """Names and what stands behind their equals signs."""
    pairs = []
    for text in texts:
        name, equals, rest = text.partition("=")
        name = name.strip().replace("-", "_")
        if not (equals and name and rest):
            raise InputError(f"{flag}: expected NAME=…, got {text!r}")
        if name not in KINDS:
            close = difflib.get_close_matches(name, KINDS, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise InputError(f"{flag} {name}: expected a setting of train, there is none{hint}")
        if name in (known for known, _ in pairs):
            raise InputError(f"{flag} {name}: expected once, got it twice")
        pairs.append((name, rest))
    return pairs


def _values(name: str, text: str) -> tuple[Any, ...]:
    """The values of ``--set NAME=TEXT``."""
    return tuple(_value(name, one.strip(), KINDS[name]) for one in text.split(","))


def _value(name: str, text: str, kind: Any) -> Any:
    """One value of a setting from its text, by the setting's type."""
    if get_origin(kind) in (Union, types.UnionType):
        [kind] = (one for one in get_args(kind) if one is not type(None))
        if text == "none":
            return None
    if get_origin(kind) is tuple:
        return tuple(_value(name, part, get_args(kind)[0]) for part in text.split("/"))
    if kind is bool:
        if text not in _SWITCH:
            raise InputError(f"--set {name}: expected true or false, got {text!r}")
        return _SWITCH[text]
    if kind not in (int, float):
        return text  # a name, which TrainConfig knows
    return _number(f"--set {name}", text, whole=kind is int)


def _number(what: str, text: str, *, whole: bool) -> float:
    try:
        return int(text) if whole else float(text)
    except ValueError:
        wanted = "a whole number" if whole else "a number"
        raise InputError(f"{what}: expected {wanted}, got {text!r}") from None


def _range(name: str, text: str) -> Range:
    """The range of ``--range NAME=TEXT``."""
    bounds, colon, scale = text.partition(":")
    low, dots, high = bounds.partition("..")
    if not dots or (colon and scale not in get_args(Scale)):
        raise InputError(
            f"--range {name}: expected LOW..HIGH, LOW..HIGH:log or LOW..HIGH:linear, got {text!r}"
        )
    what, whole = f"--range {name}", KINDS[name] is int
    ends = (_number(what, low, whole=whole), _number(what, high, whole=whole))
    try:
        return Range(*ends, cast(Scale, scale or "auto"))
    except InputError as error:
        raise InputError(f"{what}: {str(error).removeprefix('range: ')}") from None


def trials_table(result: SweepResult) -> Table:
    """A line a trial, the best first: what was tried and what came of it."""
    names = list(dict.fromkeys(name for trial in result.trials for name in trial.settings))
    metric, ranking = result.metric, result.ranking()
    parts = result.best.parts
    titles = [f"{part} {metric}" + (" (study)" if part == "test" else "") for part in parts]

    def row(trial: Trial) -> list[object]:
        mark = "▲" if trial.number == result.best.number else ""
        settings = [shown(trial.settings[name]) for name in names]
        if trial.diverged:
            return [f"{trial.number}", *settings, "diverged", *("–" for _ in parts), "–"]
        cells = [_cell(trial.spread(part, metric)) for part in parts]
        cells[parts.index("valid")] += mark
        return [f"{trial.number}", *settings, _epochs(trial), *cells, f"{trial.seconds:.1f}"]

    columns = ("trial", *names, "best epoch", *titles, "seconds")
    return table(columns, map(row, ranking), numbers=columns)


def _cell(spread: dict[str, float]) -> str:
    width = spread.get("ci95_half_width")
    return f"{spread['mean']:.4f}" + ("" if width is None else f" ±{width:.4f}")


def _epochs(trial: Trial) -> str:
    epochs = sorted({seed["best_epoch"] for seed in trial.seeds})
    return "–".join(map(str, dict.fromkeys((epochs[0], epochs[-1])))) if any(epochs) else "–"


def _print_outcome(result: SweepResult) -> None:
    """The trials, the best one, its run, and where all of it lies."""
    console, best = results(), result.best
    console.print(f"Protocol {result.protocol_note}")
    console.print(trials_table(result))
    seeds = len(best.seeds)
    if seeds > 1:
        console.print(f"Means over {seeds} seeds ± half width of the 95 % confidence interval")
    console.print(
        f"▲ best on validation: trial {best.number}, {named(best.settings)}, "
        f"{result.metric} {_cell(best.spread('valid', result.metric))}"
    )
    for title, run in (("Its run", result.run), ("Its run on all but test", result.refitted)):
        if run is not None:
            _print_run(title, run)
    where = f"The sweep lies in {result.path}"
    console.print(f"{where}, its picture in {result.plot}." if result.plot else f"{where}.")


def _print_run(title: str, run: FitResult) -> None:
    console, summary = results(), run.summary
    console.print(f"{title}, {run.directory}, protocol {summary['protocol_note']}")
    parts = {part: summary[part] for part in PARTS}
    console.print(metrics_table(parts, summary.get("statistics")))
