"""A step of training from one to a hundred million edges, and training from a prepared folder.

Steps are timed on graphs that grow alike in all their parts: twenty edges a node, the same law of
popularity. Each size has a process of its own. Of CPU time the median counts: other work on the
machine stretches it less than time on the clock. What is claimed is that a step takes as much for
an edge and its share of the nodes at the largest size as at the least one.

With ``--prepared`` the command `train` works on the folder that ``python -m benchmarks prepare
--keep`` left, until it is interrupted after ``--minutes``; its checkpoint ranks a sample of users.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.harness.process import run_measured, told_by
from benchmarks.harness.report import Claim, Report, note, whole_number
from benchmarks.workloads.grown_graph import DIM
from lightgcn_jax.files import scratch_folder

_SIZES = (1_000_000, 3_000_000, 10_000_000, 30_000_000, 100_000_000)
_FEWER, _MORE, _MOST_GB = 0.85, 1.15, 16.0
_BROKEN_OFF = 130


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options.

    Args:
        parser: that of ``python -m benchmarks scale``.
    """
    parser.add_argument(
        "--edges", type=whole_number, nargs="*", default=_SIZES, help="sizes (default: 10⁶ to 10⁸)"
    )
    parser.add_argument(
        "--calls", type=whole_number, default=3, help="timed calls of each size (default 3)"
    )
    parser.add_argument(
        "--prepared", type=Path, help="a prepared folder to train from (default: none)"
    )
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="of training from it (default 10)"
    )
    parser.add_argument(
        "--users",
        type=whole_number,
        default=1_000,
        help="users that are ranked then (default 1000)",
    )


def run(args: argparse.Namespace) -> Report:
    """Measure; see the module.

    Args:
        args: the parsed options.

    Returns:
        Seconds of a step at each size, what training from the folder took, and what is claimed.
    """
    sizes = []
    for edges in sorted(args.edges):
        note(f"steps at {edges:,} edges")
        sizes.append(told_by("benchmarks.workloads.grown_graph", edges, args.calls))
    claims = _linear(sizes) if len(sizes) > 1 else []
    details: dict[str, Any] = {"sizes": sizes}
    if args.prepared is not None:
        details |= _trained(args.prepared, args.minutes, args.users)
        peak = max(details[name]["peak_gb"] for name in ("training", "ranking"))
        claims.append(Claim("peak_gb", peak, "GB", "<=", _MOST_GB))
    return Report(
        name="scale",
        settings={"edges": list(args.edges), "calls": args.calls, "dim": DIM, "seed": 0},
        samples={f"{one['rows']:,} rows, CPU": one["cpu_seconds"] for one in sizes}
        | {f"{one['rows']:,} rows": one["seconds"] for one in sizes},
        claims=claims,
        details=details,
        tables=[_table(sizes)] if sizes else [],
    )


def _linear(sizes: list[dict[str, Any]]) -> list[Claim]:
    """What a step takes an edge at the largest size over what it takes at the least one: the batch
    weighs more on a small graph, the caches hold less of a large one."""
    grown = an_edge(sizes[-1]) / an_edge(sizes[0])
    return [
        Claim("grows_no_faster_than_the_edges", grown, "×", "<=", _MORE),
        Claim("grows_as_fast_as_the_edges", grown, "×", ">=", _FEWER),
    ]


def an_edge(size: dict[str, Any]) -> float:
    """Nanoseconds of CPU that a step takes for each edge, the median of all calls.

    Args:
        size: what was measured at a size.
    """
    return 1e9 * statistics.median(size["cpu_seconds"]) / size["edges"]


def _trained(prepared: Path, minutes: float, users: int) -> dict[str, Any]:
    """Training from a prepared folder, and the ranking of a sample by its checkpoint."""
    prepared = prepared.resolve()
    with scratch_folder(prepared.parent) as folder:
        run = folder / "run"
        command = [sys.executable, "-m", "lightgcn_jax", "train", "--data", prepared, "--out", run]
        command += ["--dim", str(DIM), "--epochs", "1"]
        note(f"training for {minutes:g} minutes")
        ended = run_measured(command, 60 * minutes)
        if ended.status not in (0, _BROKEN_OFF):
            raise RuntimeError(f"train: {ended.last_words()}")
        note("ranking")
        ranking = told_by("benchmarks.workloads.sample_ranked", run, prepared, users)
    training = {
        "seconds": ended.seconds,
        "cpu_seconds": ended.cpu_seconds,
        "peak_gb": ended.peak_gb,
        "steps": ranking.pop("steps_trained"),
        "steps_an_epoch": ranking.pop("steps_an_epoch"),
    }
    return {"training": training, "ranking": ranking}


def _table(sizes: list[dict[str, Any]]) -> Table:
    columns = "edges", "nodes", "CPU a step", "on the clock", "an edge", "peak"
    table = Table(*columns, title=f"steps of training, D = {DIM}, three layers")
    for one in sizes:
        cpu, seconds = (statistics.median(one[name]) for name in ("cpu_seconds", "seconds"))
        sizes_told = f"{one['edges']:,}", f"{one['nodes']:,}"
        took = f"{cpu:.3g} s", f"{seconds:.3g} s", f"{an_edge(one):.1f} ns"
        table.add_row(*sizes_told, *took, f"{one['peak_gb']:.1f} GB")
    return table
