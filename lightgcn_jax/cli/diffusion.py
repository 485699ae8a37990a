"""The command diffusion: which storages there are, and what was compiled of each."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from lightgcn_jax.cli.console import facts, results, say, table
from lightgcn_jax.cli.runs import Names, Switch
from lightgcn_jax.cli.settings import flag
from lightgcn_jax.cli.source import Source
from lightgcn_jax.diffusion.choice import (
    PLATFORMS,
    STORAGES,
    OrderingChoice,
    choose_backend,
    obstacles,
)
from lightgcn_jax.errors import InputError
from lightgcn_jax.files import replacing
from lightgcn_jax.graph.bipartite import training_graph
from lightgcn_jax.roofline.report import DiffusionReport, diffusion_report
from lightgcn_jax.roofline.targets import find_target
from lightgcn_jax.roofline.timing import Program


@dataclass(frozen=True)
class Storages:
    """List the operator's storages, which platform has which, and what `auto` takes there."""

    def run(self) -> int:
        lacking = {platform: obstacles(platform) for platform in PLATFORMS}
        rows = [
            (name, *("no" if lacking[platform][name] else "yes" for platform in PLATFORMS))
            for name in STORAGES
        ]
        console = results()
        console.print(table(("storage", *PLATFORMS), rows))
        for platform in PLATFORMS:
            choice = choose_backend("auto", platform)
            console.print(f"auto takes {choice.name} on {platform}: {choice.reason}")
        for platform, reasons in lacking.items():
            _print_obstacles(console, reasons, f" on {platform}")
        return 0


@dataclass(frozen=True)
class Report:
    """Compile the diffusion of a data set in every storage, and measure it beside the machine.

    The graph is that of the training part. Without --target, programs are timed on the device that
    JAX runs on; with it they are only compiled, also for a TPU that is not here.

    Attributes:
        source: the data.
        dim: dimensions D of the table.
        layers: applications K, forward and backward.
        dtype: type of the table and of the edge weights.
        ordering: order of the users and of the items; `auto` is what training takes by default.
        backend: storages to report on; by default all. `pallas` is experimental: it was never
            timed on hardware.
        target: compile for `cpu`, `gpu`, `tpu` or a topology such as `tpu:v6e:2x2`, run nothing.
        repeats: samples of each program.
        json: print JSON.
        plot: write a picture to this file (PNG, PDF or SVG).
    """

    source: Annotated[Source, tyro.conf.arg(name="")]
    dim: int = 64
    layers: int = 3
    dtype: Literal["float32", "bfloat16"] = "float32"
    ordering: OrderingChoice = "none"
    backend: Names = ()
    target: Annotated[str | None, flag("PLATFORM[:TOPOLOGY]")] = None
    repeats: int = 7
    json: Switch = False
    plot: Annotated[Path | None, flag("FILE")] = None

    def run(self) -> int:
        # Before reading the data takes time, and libtpu before JAX looks for devices.
        find_target(self.target)
        if self.plot is not None:
            _check_picture(self.plot)
        interactions = self.source.interactions()
        split = self.source.split_up(interactions, allow_empty=True)
        for note in split.notes:
            if note not in interactions.notes:
                say(note)
        found = diffusion_report(
            training_graph(split),
            dim=self.dim,
            layers=self.layers,
            dtype=self.dtype,
            backends=self.backend,
            ordering=self.ordering,
            target=self.target,
            repeats=self.repeats,
        )
        if self.json:
            print(json.dumps({"data": self.source.record()} | found.as_dict(), indent=2))
        else:
            print_report(results(), found)
        if self.plot is not None:
            plot_report(self.plot, found)
            say(f"wrote {self.plot}")
        return 0


@dataclass(frozen=True)
class Diffusion:
    """See how the diffusion is stored, and what was compiled of it.

    Attributes:
        command: what to see.
    """

    command: tyro.conf.OmitSubcommandPrefixes[
        Annotated[Report, tyro.conf.subcommand("report")]
        | Annotated[Storages, tyro.conf.subcommand("storages")]
    ]

    def run(self) -> int:
        return self.command.run()


def print_report(console: Console, found: DiffusionReport) -> None:
    """Print the facts, then for each program a table with a column for each storage.

    Args:
        console: where to.
        found: what is printed.
    """
    console.print(
        facts(
            [
                ("target", f"{found.target} ({found.device}), JAX {found.jax_version}"),
                (
                    "graph",
                    f"{found.num_users:,} users, {found.num_items:,} items, "
                    f"{found.num_entries:,} entries of Ã",
                ),
                ("table", f"D = {found.dim}, {found.dtype}, {_millions(found.table_bytes)} MB"),
                ("ordering", found.ordering),
                ("auto stores", f"{found.choice.name}: {found.choice.reason}"),
                ("auto orders", f"{found.ordering_choice.name}: {found.ordering_choice.reason}"),
                *_ceilings(found),
            ]
        )
    )
    _print_programs(console, "One application", found, "application")
    title = f"{found.num_layers} layers, forward and backward"
    _print_programs(console, title, found, "layers")
    _print_obstacles(console, {name: one.obstacle for name, one in found.storages.items()})


def _ceilings(found: DiffusionReport) -> list[tuple[str, str]]:
    if found.ceilings is None:
        return []
    return [
        (
            "row gather",
            f"{1e3 * found.ceilings.gather_seconds:.3g} ms, "
            f"{found.ceilings.gather_bandwidth / 1e9:.3g} GB/s of rows",
        ),
        ("large copy", f"{found.ceilings.copy_bandwidth / 1e9:.3g} GB/s read and written"),
    ]


def _programs(found: DiffusionReport, kind: str) -> dict[str, Program]:
    """The programs of a kind, ``application`` or ``layers``, of the storages there are."""
    kept = {name: one for name, one in found.storages.items() if one.obstacle is None}
    return {name: getattr(one, kind) for name, one in kept.items()}


def _print_programs(console: Console, title: str, found: DiffusionReport, kind: str) -> None:
    programs = _programs(found, kind)
    columns = {name: _cells(found, name, program) for name, program in programs.items()}
    names = list(dict.fromkeys(quantity for cells in columns.values() for quantity in cells))
    rows = [(name, *(cells.get(name, "") for cells in columns.values())) for name in names]
    console.print()
    console.print(table((title, *columns), rows, numbers=tuple(columns)))


def _cells(found: DiffusionReport, storage: str, program: Program) -> dict[str, str]:
    """The quantities of one column, by name."""
    cells = {}
    measured, made = program.measurement, program.executable
    if measured is not None:
        cells |= {
            "time, ms": f"{1e3 * measured.seconds:.4g}",
            "GB/s, compulsory": f"{measured.compulsory_bandwidth / 1e9:.3g}",
            "GB/s, uncached": f"{measured.uncached_bandwidth / 1e9:.3g}",
            "× row gather": f"{measured.gather_ratio:.2f}",
            "× large copy": f"{measured.copy_ratio:.2f}",
        }
    elif found.ceilings is not None or made is None:
        cells["not run"] = program.not_run or ""
    cells |= {
        "compulsory, MB": _millions(program.work.compulsory_bytes),
        "uncached, MB": _millions(program.work.uncached_bytes),
        "operations, M": _millions(program.work.operations),
        "storage, MB": _millions(found.storages[storage].storage_bytes),
    }
    if made is not None:
        cells |= {
            "XLA: accessed, MB": _millions(made.bytes_accessed),
            "XLA: operations, M": _millions(made.operations),
            "peak, MB": _millions(made.peak_bytes),
            "temporaries, N×D": f"{made.temporary_bytes / found.table_bytes:.2f}",
            "scatters": str(len(made.scatters) or "no"),
            "host callbacks": str(made.host_callbacks or "no"),
            "custom calls": "\n".join(f"{n} {name}" for name, n in made.custom_calls.items()),
            "compiled in, s": f"{made.compile_seconds:.2f}",
        }
    return cells


def _print_obstacles(console: Console, reasons: Mapping[str, str | None], where: str = "") -> None:
    for name, reason in reasons.items():
        if reason is not None:
            console.print(f"not available: {name}{where}: {reason}")


def _millions(number: float | None) -> str:
    return "?" if number is None else f"{number / 1e6:,.1f}"


def _check_picture(path: Path) -> None:
    """Refuse what cannot be drawn before time is spent on measuring."""
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError("--plot: needs matplotlib; install the extra plot")
    if path.suffix not in ("", ".png", ".pdf", ".svg"):
        raise InputError(f"--plot: expected a file that ends in .png, .pdf or .svg, got {path}")


def plot_report(path: Path, found: DiffusionReport) -> None:
    """Draw each storage's time, or where nothing was run its memory, in a file of path's kind.

    Args:
        path: a PNG, PDF or SVG file.
        found: what is drawn.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = (
        ("one application", "application", 1),
        (f"{found.num_layers} layers, forward and backward", "layers", 2 * found.num_layers),
    )
    for axes, (title, kind, count) in zip(figure.subplots(1, 2), panels, strict=True):
        programs = _programs(found, kind).items()
        if found.ceilings is None:
            compiled = {name: one.executable for name, one in programs if one.executable}
            axes.bar(list(compiled), [made.peak_bytes / 1e6 for made in compiled.values()])
            axes.set_ylabel("arguments, temporaries and results, MB")
        else:
            timed = {name: one.measurement for name, one in programs if one.measurement}
            axes.bar(list(timed), [1e3 * measured.seconds for measured in timed.values()])
            gather = 1e3 * count * found.ceilings.gather_seconds
            axes.axhline(gather, color="black", linestyle="--", label="row gather")
            axes.set_ylabel("ms")
            axes.legend()
        axes.set_title(title)
        axes.grid(axis="y", alpha=0.3)
    figure.suptitle(
        f"{found.target}, {found.num_entries:,} entries, D = {found.dim}, {found.dtype}"
    )
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lstrip(".") or "png", dpi=120)
