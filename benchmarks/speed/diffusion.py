"""An application of Ã, and three forward and backward: our storages against everybody else's.

The graphs are Gowalla, lastfm and two generated ones whose items follow a power law; the contenders
stand in ``workloads/diffusion_contenders`` and ``peers/diffusion``. All run in alternation in this
process, each after a rest in which the others' threads fall asleep (OpenMP's spin for 5 ms, half an
application). A cell (graph, D, task, contender) that would not fit memory, or whose first call
takes longer than ``--cell-seconds``, is reported and not run; where ``--rounds`` would take longer,
there are fewer.

``native`` is held against the fastest gather-and-reduce of its own type, and against the strongest
PyTorch: MKL's product, and for K = 3 a symmetric function in layers or, beyond what anybody writes,
the polynomial as one function that is its own derivative, additions done by MKL
(``torch-csr-horner``). ``csr`` is jaxlib's kernel: Eigen's product of a row-major sparse and a
row-major dense matrix. The run with one thread (``details``) parts the kernels from their threads.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numba
import torch
from rich.table import Table

from benchmarks.harness.known_peers import doubt, peer_explained_option
from benchmarks.harness.process import run_measured
from benchmarks.harness.report import (
    Claim,
    Relation,
    Report,
    cores,
    note,
    ratio_claim,
    ratio_of_medians,
    seconds_text,
    whole_number,
)
from benchmarks.peers.diffusion import peers
from benchmarks.speed.diffusion_grid import Cell, Grid, Limits, run_graph
from benchmarks.speed.diffusion_plot import check_plot, plot
from benchmarks.workloads.diffusion_contenders import (
    LAYERS,
    NATIVE_BFLOAT16,
    STORAGE_NAMES,
    TASKS,
    storages,
)
from benchmarks.workloads.graphs import GRAPHS, load_graph
from lightgcn_jax.errors import InputError
from lightgcn_jax.files import scratch_folder

_GRAPH, _DIM, _THREADS = "gowalla", 64, 2
_CEILING = ("embedding-bag", "embedding-bag-weighted", "numba", "scipy")
_CEILING_BFLOAT16 = ("embedding-bag-bfloat16",)
_SYMMETRIC = ("torch-csr-symmetric", "torch-csr-horner")
_ALONE = ("native", NATIVE_BFLOAT16, "csr", "torch-csr", *_CEILING, *_CEILING_BFLOAT16)
_DIMS = (64, 256)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options.

    Args:
        parser: that of ``python -m benchmarks diffusion``.
    """
    names = [*STORAGE_NAMES, *peers()]
    lists: list[tuple[str, dict[str, Any], str]] = [
        ("graphs", {"choices": GRAPHS, "default": [_GRAPH]}, ", ".join(GRAPHS)),
        ("dims", {"type": whole_number, "default": [_DIM]}, "widths of the table"),
        ("contenders", {"choices": names, "default": names}, ", ".join(names)),
        ("tasks", {"choices": TASKS, "default": list(TASKS)}, ", ".join(TASKS)),
    ]
    for name, rest, about in lists:
        default = "all" if len(rest["default"]) > 1 else rest["default"][0]
        parser.add_argument(
            f"--{name}", nargs="+", metavar="X", help=f"{about} (default {default})", **rest
        )
    parser.add_argument(
        "--all",
        action="store_true",
        help=f"all graphs, D = {' and '.join(map(str, _DIMS))}",
    )
    parser.add_argument(
        "--rounds", type=whole_number, default=20, help="samples of each (default 20)"
    )
    parser.add_argument(
        "--cell-seconds",
        type=whole_number,
        default=20,
        help="most seconds for all samples of one cell (default 20)",
    )
    parser.add_argument(
        "--threads",
        type=whole_number,
        default=min(_THREADS, cores()),
        help=f"threads of every library (default {_THREADS})",
    )
    parser.add_argument(
        "--skip-one-thread", action="store_true", help="leave out the run with one thread"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the medians as PNG")
    peer_explained_option(parser)


def run(args: argparse.Namespace) -> Report:
    """Measure; see the module.

    Args:
        args: the parsed options.

    Returns:
        Seconds, errors and temporaries of every cell, and what is claimed of them.
    """
    _use_threads(args.threads)
    if jax.default_backend() != "cpu":
        raise InputError(
            f"platform: expected JAX on cpu, where the peers run, got {jax.default_backend()}; "
            "set JAX_PLATFORMS=cpu"
        )
    if args.plot is not None:
        check_plot(args.plot)
    contenders = {
        name: contender
        for name, contender in (storages() | peers()).items()
        if name in args.contenders
    }
    graphs, dims = (GRAPHS, _DIMS) if args.all else (args.graphs, args.dims)
    limits = Limits(args.rounds, args.cell_seconds)
    grid = Grid.empty()
    for name in graphs:
        note(f"{name}: loading")
        graph = load_graph(name, args.data_dir)
        for dim in dims:
            run_graph(grid, name, graph, dim, contenders, args.tasks, limits)
        del graph
    one_thread = None
    if args.threads > 1 and not args.skip_one_thread and _complete(grid):
        note("once more with one thread")
        one_thread = _one_thread(args)
    if args.plot is not None:
        plot(grid, args.plot)
    return Report(
        name="diffusion",
        settings={
            "graphs": list(graphs),
            "dims": list(dims),
            "contenders": list(contenders),
            "tasks": list(args.tasks),
            "layers": LAYERS,
            "rounds": args.rounds,
            "cell_seconds": args.cell_seconds,
            "peer_explained": args.peer_explained,
        },
        samples={cell.title: samples for cell, samples in grid.samples.items()},
        claims=_claims(grid, args.threads, args.peer_explained),
        details={
            "not_run": {cell.title: reason for cell, reason in grid.reasons.items()},
            "differences": {cell.title: value for cell, value in grid.differences.items()},
            "extra_arrays": {cell.title: value for cell, value in grid.extra_arrays.items()},
            "one_thread_seconds": one_thread,
            "huge_pages": _huge_pages(),
        },
        threads={
            "jax": cores(),
            "torch": torch.get_num_threads(),
            "numba": numba.get_num_threads(),
            "scipy": 1,
        },
        tables=[_table(grid, name) for name in graphs],
    )


def _use_threads(threads: int) -> None:
    """Bind this process to as many cores, by which JAX counts its threads when it starts."""
    if threads > cores():
        raise InputError(f"threads: expected at most {cores()}, the cores here, got {threads}")
    if threads < cores():
        # Before JAX's first array: threads of its pool are counted once.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    torch.set_num_threads(threads)
    numba.set_num_threads(threads)


def _complete(grid: Grid) -> bool:
    return all(Cell(_GRAPH, _DIM, "forward", name) in grid.samples for name in _ALONE)


def _one_thread(args: argparse.Namespace) -> dict[str, float] | str:
    """Medians of applications in a process bound to one core, or why there are none."""
    with scratch_folder() as folder:
        path = folder / "one.json"
        command: list[str | os.PathLike] = [sys.executable, "-m", "benchmarks", "diffusion"]
        command += ["--threads", "1", "--tasks", "forward", "--contenders", *_ALONE]
        command += ["--graphs", _GRAPH, "--dims", str(_DIM), "--rounds", str(args.rounds)]
        command += ["--json", path]
        if args.data_dir is not None:
            command += ["--data-dir", args.data_dir.resolve()]
        ended = run_measured(command)
        if ended.status != 0:
            return f"failed: {ended.last_words()}"
        samples = json.loads(path.read_text())["samples"]
    cells = {name: Cell(_GRAPH, _DIM, "forward", name).title for name in _ALONE}
    return {name: statistics.median(samples[title]) for name, title in cells.items()}


def _claims(grid: Grid, threads: int, explained: str | None) -> list[Claim]:
    """Claims about Gowalla with D = 64 and two threads of every library."""
    other_threads = None if threads == _THREADS else f"claimed of {_THREADS} threads, not {threads}"

    def ratio(
        name: str,
        task: str,
        over: Sequence[str],
        under: Sequence[str],
        relation: Relation,
        target: float,
        known: str,
    ) -> Claim:
        """Medians, of several contenders the fastest one's; what we are held against is known."""
        missing = other_threads or next(
            filter(None, map(_absence(grid, task), [*over, *under])), None
        )
        if missing is not None:
            return Claim(name, None, "×", relation, target, reason=missing)
        above, below = (_fastest(grid, task, names) for names in (over, under))
        ours, peer = (above, below) if relation == "<=" else (below, above)
        reason = doubt(known, peer, ours, explained)
        return ratio_claim(name, above, below, relation, target, reason)

    native, torch_csr, forward = ["native"], ["torch-csr"], "forward, torch-csr"
    ceiling, symmetric = "forward, gather-reduce", "k3, torch-csr-symmetric"
    return [
        _agreement(grid),
        ratio("native_vs_ceiling_f32", "forward", native, _CEILING, "<=", 1.0, ceiling),
        ratio(
            "native_vs_ceiling_bf16",
            "forward",
            [NATIVE_BFLOAT16],
            _CEILING_BFLOAT16,
            "<=",
            1.0,
            f"{ceiling} in bfloat16",
        ),
        ratio("native_vs_torch_csr", "forward", torch_csr, native, ">=", 2.5, forward),
        _elsewhere(grid, other_threads),
        ratio("k3_speedup_vs_torch_symmetric", "k3", _SYMMETRIC, native, ">=", 2.3, symmetric),
        ratio("k3_speedup_vs_torch_csr", "k3", torch_csr, native, ">=", 4.0, "k3, torch-csr"),
        ratio("k3_speedup_vs_torch_coo", "k3", ["torch-coo"], native, ">=", 15.0, "k3, torch-coo"),
        ratio(
            "bucketed_speedup_vs_segment",
            "forward",
            ["segment"],
            ["bucketed"],
            ">=",
            2.5,
            "forward, segment",
        ),
        _extra_arrays(grid),
    ]


def _elsewhere(grid: Grid, other_threads: str | None) -> Claim:
    """The least of torch CSR's times over ours on the other graphs and widths of this run."""
    name = "native_vs_torch_csr_elsewhere"
    ratios = [
        ratio_of_medians(grid.samples[peer], grid.samples[ours])
        for ours in grid.samples
        if ours.contender == "native" and ours.task == "forward"
        if (peer := ours._replace(contender="torch-csr")) in grid.samples
        if (ours.graph, ours.dim) != (_GRAPH, _DIM)
    ]
    reason = other_threads or (None if ratios else "no other graph or width: see --all")
    if reason is not None:
        return Claim(name, None, "×", ">=", 1.5, reason=reason)
    least = min(ratios, key=lambda ratio: ratio.value)
    return Claim(name, least.value, "×", ">=", 1.5, least.interval)


def _absence(grid: Grid, task: str) -> Callable[[str], str | None]:
    """A function that says why a contender has no time, or a wrong one, for Gowalla."""

    def reason(contender: str) -> str | None:
        cell = Cell(_GRAPH, _DIM, task, contender)
        if cell not in grid.samples:
            return f"{cell.title}: {grid.reasons.get(cell, 'left out')}"
        if grid.differences[cell] > 1:
            times = f"{grid.differences[cell]:.1g} times"
            return f"{contender}: its result is off by {times} the tolerance"
        return None

    return reason


def _fastest(grid: Grid, task: str, contenders: Sequence[str]) -> list[float]:
    cells = (Cell(_GRAPH, _DIM, task, contender) for contender in contenders)
    return min((grid.samples[cell] for cell in cells), key=statistics.median)


def _agreement(grid: Grid) -> Claim:
    """All results of this run against the product in float64, in units of their tolerance: 1e-4 of
    the largest value, 2^-7 in bfloat16."""
    if not grid.differences:
        return Claim("largest_difference", None, "", "<", 1.0, reason="nothing was run")
    return Claim("largest_difference", max(grid.differences.values()), "", "<", 1.0)


def _extra_arrays(grid: Grid) -> Claim:
    cell = Cell(_GRAPH, _DIM, "k3", "native")
    arrays = grid.extra_arrays.get(cell)
    reason = f"{cell.title}: {grid.reasons.get(cell, 'left out')}" if arrays is None else None
    return Claim("k3_extra_arrays", arrays, "N×D", "<=", 5.0, reason=reason)


def _table(grid: Grid, graph: str) -> Table:
    """Medians of a graph's cells, one contender a row."""
    cells = [cell for cell in (*grid.samples, *grid.reasons) if cell.graph == graph]
    columns = list(dict.fromkeys((cell.dim, cell.task) for cell in cells))
    heads = [f"D = {dim}, {task}" for dim, task in columns]
    table = Table("contender", *heads, title=f"{graph}: medians")
    for contender in dict.fromkeys(cell.contender for cell in cells):
        row = [_entry(grid, Cell(graph, dim, task, contender)) for dim, task in columns]
        table.add_row(contender, *row)
    return table


def _entry(grid: Grid, cell: Cell) -> str:
    if cell in grid.samples:
        return seconds_text(statistics.median(grid.samples[cell]))
    return grid.reasons.get(cell, "–")


def _huge_pages() -> str | None:
    """How Linux gives out huge pages; with ``madvise`` NumPy's arrays have them, others' not."""
    path = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return path.read_text().strip() if path.exists() else None
