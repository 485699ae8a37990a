"""The command sweep: many trials of a model's settings, and a run of the best."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import time
from pathlib import Path
from typing import Annotated, Any, cast

import tyro

from lightgcn_jax.cli.console import WholeTable, messages, results, table, tell
from lightgcn_jax.cli.runs import Switch, print_run_figures
from lightgcn_jax.cli.settings import flag
from lightgcn_jax.cli.source import Source
from lightgcn_jax.cli.training import Settings, data_lines
from lightgcn_jax.data import PARTS
from lightgcn_jax.data.protocol import apply_protocol
from lightgcn_jax.errors import InputError
from lightgcn_jax.files import refuse_taken
from lightgcn_jax.runs import ConsoleReporter, FitResult, SilentReporter
from lightgcn_jax.settings.names import KINDS
from lightgcn_jax.sweeps import Range, SweepConfig, SweepResult, resume_sweep, run_sweep
from lightgcn_jax.sweeps.directory import SweepDirectory, Trial, spread
from lightgcn_jax.sweeps.space import Sampler, named, shown

_WORDS = {"none": None, "true": True, "false": False}
Texts = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Try settings of train, choose by the validation metric, and train the best as a run.

    Trials that differ in learning_rate, l2, temperature, margin or init_std alone are trained
    together, by one program. No trial ranks test; the run of the best one does, once. Settings
    that are not swept are those given here, as far as a trial's model reads them.

    Attributes:
        source: the data.
        settings: settings of all trials.
        values: settings and the values to try: `dim=16,64 l2=1e-4,1e-3`; layer weights as in
            `alphas=0.5/0.25/0.25,none`.
        ranges: numeric settings to draw: `learning_rate=1e-4..1e-1 dim=8..64:log`; drawn
            log-uniformly where the ends are positive and more than a decade apart, else
            uniformly, unless `:log` or `:linear` says otherwise.
        trials: combinations to draw, from --range and --set.
        sampler: `grid` tries every combination of --set; `random` draws each of the trials
            regardless of the others, `tpe` where the trials before were good.
        draw_seed: of the draws.
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
    values: Annotated[Texts, flag("NAME=VALUE,… [NAME=VALUE,… ...]", name="set")] = ()
    ranges: Annotated[Texts, flag("NAME=LOW..HIGH [NAME=LOW..HIGH ...]", name="range")] = ()
    trials: Annotated[int | None, flag("N", "(default: the whole grid)")] = None
    sampler: Annotated[
        Sampler | None, flag("{grid,random,tpe}", "(default: random with --trials, else grid)")
    ] = None
    draw_seed: int = 0
    together: int = 8
    study: Switch = False
    train_best: Switch = False
    refit: Switch = False
    out: Annotated[Path | None, flag("FOLDER", "(default: runs/<data>-sweep-<time>)")] = None
    resume: Annotated[Path | None, flag("FOLDER")] = None
    quiet: Switch = False

    def run(self) -> int:
        """Sweep, or go on with a sweep, and print what came of it; the exit status."""
        result = self._sweep() if self.resume is None else self._resume(self.resume)
        if self.quiet:
            tell(result.path)
        else:
            _print_outcome(result)
        return 0

    def _resume(self, path: Path) -> SweepResult:
        if dataclasses.replace(self, resume=None, quiet=False) != Sweep(Source(), cast(Any, {})):
            raise InputError(
                "--resume: goes on with the sweep's own stored data and settings; "
                "leave the other flags out"
            )
        return resume_sweep(path, reporter=self._reporter(SweepDirectory(path).config))

    def _sweep(self) -> SweepResult:
        config, name = self.config(), self.source.name
        out = self.out or Path("runs") / f"{name}-sweep-{time.strftime('%Y%m%d-%H%M%S')}"
        refuse_taken(out, "sweep")
        interactions = self.source.interactions(quiet=self.quiet)
        split = apply_protocol(
            self.source.split_up(interactions), "strict", seed=self.source.split_seed
        )
        for line in data_lines(self.source, interactions, split):
            messages(quiet=self.quiet).print(line)
        reporter, data = self._reporter(config), self.source.record(interactions)
        return run_sweep(split, config, out=out, reporter=reporter, data=data)

    def config(self) -> SweepConfig:
        """The sweep that the flags describe.

        Raises:
            InputError: a flag can't be read, or settings do not fit together.
        """
        search: dict[str, Any] = {}
        for text in self.values:
            name, values = _assigned("--set", text, search)
            search[name] = tuple(_value(value.strip()) for value in values.split(","))
        for text in self.ranges:
            name, ends = _assigned("--range", text, search)
            search[name] = _range(f"--range {name}", ends)
        same = ("trials", "sampler", "together", "study", "train_best", "refit")
        others = {name: getattr(self, name) for name in same}
        try:
            return SweepConfig(dict(self.settings), search, seed=self.draw_seed, **others)
        except InputError as error:
            name, _, problem = str(error).partition(":")
            if name in self.settings:
                raise InputError(f"--{name.replace('_', '-')}:{problem}") from None
            raise

    def _reporter(self, config: SweepConfig) -> ConsoleReporter | SilentReporter:
        """What reports on a sweep, of which it says at once what is tried and how it chooses."""
        if self.quiet:
            return SilentReporter()
        metric, seeds = config.shared.metric, config.shared.seeds
        each = f" of {seeds} seeds" if seeds > 1 else ""
        messages().print(f"Protocol {config.protocol_note}")
        messages().print(f"{config.num_trials} trials{each}, judged by valid {metric}")
        return ConsoleReporter(messages(), metric=metric)


def _assigned(flag: str, text: str, known: dict[str, Any]) -> tuple[str, str]:
    """The name of a setting and what stands behind its equals sign."""
    name, equals, rest = text.partition("=")
    name = name.strip().replace("-", "_")
    if not (equals and name and rest):
        raise InputError(f"{flag}: expected NAME=…, got {text!r}")
    if name not in KINDS:
        close = difflib.get_close_matches(name, KINDS, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise InputError(f"{flag} {name}: expected a setting of train, there is none{hint}")
    if name in known:
        raise InputError(f"{flag} {name}: expected once, got it twice")
    return name, rest


def _value(text: str) -> Any:
    """A value from its text; whether a setting takes such a value is for the setting to say."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if "/" in text:
        return tuple(map(_value, text.split("/")))
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _range(flag: str, text: str) -> Range:
    """A range from ``LOW..HIGH`` or ``LOW..HIGH:SCALE``."""
    bounds, _, scale = text.partition(":")
    low, dots, high = bounds.partition("..")
    try:
        if dots:
            return Range(_value(low), _value(high), cast(Any, scale or "auto"))
        problem = f"got {text!r}"
    except InputError as error:
        problem = str(error)
    wanted = "expected LOW..HIGH, LOW..HIGH:log or LOW..HIGH:linear"
    raise InputError(f"{flag}: {wanted}; {problem}")


def trials_table(result: SweepResult) -> WholeTable:
    """A line a trial, the best first: what was tried and what came of it.

    Args:
        result: a finished sweep.
    """
    best, metric = result.best, result.config.shared.metric
    parts = [*filter(best.user_attrs["seeds"][0].get, PARTS)]
    titles = [f"{part} {metric}" + (" (study)" if part == "test" else "") for part in parts]

    def row(trial: Trial) -> list[object]:
        tried = (trial.number, *map(shown, trial.params.values()))
        if trial.value is None:
            return [*tried, "diverged", *("–" for _ in parts), "–"]
        seeds, seconds = trial.user_attrs["seeds"], trial.user_attrs["seconds"]
        cells = [_cell(trial, part, metric) for part in parts]
        cells[parts.index("valid")] += "▲" if trial.number == best.number else ""
        epochs = sorted({seed["best_epoch"] for seed in seeds})
        epochs = "–".join(map(str, dict.fromkeys((epochs[0], epochs[-1])))) if epochs[-1] else "–"
        return [*tried, epochs, *cells, f"{seconds:.1f}"]

    columns = ("trial", *best.params, "best epoch", *titles, "seconds")
    return table(columns, map(row, result.ranking()), numbers=columns)


def _cell(trial: Trial, part: str, metric: str) -> str:
    figures = spread(trial.user_attrs["seeds"], part, metric)
    width = figures.get("ci95_half_width")
    return f"{figures['mean']:.4f}" + ("" if width is None else f" ±{width:.4f}")


def _print_outcome(result: SweepResult) -> None:
    """The trials, the best one, its run, and where all of it lies."""
    console, best, metric = results(), result.best, result.config.shared.metric
    console.print(f"Protocol {result.config.protocol_note}")
    console.print(trials_table(result))
    seeds = len(best.user_attrs["seeds"])
    if seeds > 1:
        console.print(f"Means over {seeds} seeds ± half width of the 95 % confidence interval")
    console.print(
        f"▲ best on validation: trial {best.number}, {named(best.params)}, "
        f"{metric} {_cell(best, 'valid', metric)}"
    )
    for title, run in (("Its run", result.run), ("Its run on all but test", result.refitted)):
        if run is not None:
            _print_run(title, run)
    where = f"The sweep lies in {result.path}"
    console.print(f"{where}, its picture in {result.plot}." if result.plot else f"{where}.")


def _print_run(title: str, run: FitResult) -> None:
    console = results()
    console.print(f"{title}, {run.directory}, protocol {run.summary['protocol_note']}")
    print_run_figures(console, run)
