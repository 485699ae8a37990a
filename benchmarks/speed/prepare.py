"""A log of a hundred million rows, in partitioned Parquet, to a prepared folder: rows a second,
peak memory, bytes an edge.

The log is generated, and prepared once in a process of its own. Both are removed unless ``--keep``
says where they stay, for `python -m benchmarks scale`. The peaks are those of the whole process,
program included.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.harness.process import Finished, run_measured
from benchmarks.harness.report import Claim, Report, note, seconds_text, whole_number
from benchmarks.workloads.long_log import write_log
from lightgcn_jax.errors import InputError
from lightgcn_jax.files import scratch_folder
from lightgcn_jax.prepared import open_prepared
from lightgcn_jax.prepared.preparation import bytes_of

_EDGES = 100_000_000
_MOST_BYTES = 12.0
_STAGES = "benchmarks.workloads.prepare_stages"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options.

    Args:
        parser: that of ``python -m benchmarks prepare``.
    """
    parser.add_argument(
        "--edges", type=whole_number, default=_EDGES, help="rows of the log (default 10⁸)"
    )
    parser.add_argument("--memory", default="8GB", help="what prepare may take (default 8GB)")
    parser.add_argument(
        "--folder", type=Path, help="where log and folder are written (default: a temporary one)"
    )
    parser.add_argument(
        "--keep", action="store_true", help="leave FOLDER/log and FOLDER/prepared where they are"
    )


def run(args: argparse.Namespace) -> Report:
    """Measure; see the module.

    Args:
        args: the parsed options.

    Returns:
        Seconds of each stage, peak memory and bytes an edge, and what is claimed of them.
    """
    if args.keep and args.folder is None:
        raise InputError("--keep: expected --folder beside it, which says where")
    with _place(args) as folder:
        note(f"writing {args.edges:,} rows")
        log = write_log(folder / "log", args.edges)
        note("preparing")
        ended = prepared_apart(folder / "log", folder / "prepared", args.memory)
        if ended.status:
            raise RuntimeError(f"data prepare: {ended.last_words()}")
        made = open_prepared(folder / "prepared")
        size = sum(path.stat().st_size for path in (folder / "prepared").iterdir())
        manifest, an_edge = made.manifest, made.bytes_an_edge
    stages = json.loads(ended.output)
    cpu = sum(one["cpu_seconds"] for one in stages)
    # The system's own figure counts from the last reset, that of the last stage.
    peak = max(one["peak_gb"] for one in stages)
    held = {name: manifest[name] for name in ("users", "items", "pairs", "rows_read", "ordering")}
    most = bytes_of(args.memory) / 1e9
    return Report(
        name="prepare",
        settings={"edges": args.edges, "memory": args.memory, "log": log, "seed": 0},
        samples={one["stage"]: [one["seconds"]] for one in stages},
        claims=[
            Claim("peak_gb", peak, "GB", "<=", most),
            Claim("bytes_an_edge", an_edge, "bytes", "<=", _MOST_BYTES),
        ],
        details={
            "seconds": ended.seconds,
            "cpu_seconds": cpu,
            "rows_a_second": args.edges / ended.seconds,
            "rows_a_cpu_second": args.edges / cpu,
            "stages": stages,
            "held": held,
            "folder_bytes": size,
        },
        tables=[_table(stages, args.edges, peak, cpu)],
    )


def _place(args: argparse.Namespace) -> contextlib.AbstractContextManager[Path]:
    """Where log and folder are written."""
    if args.keep:
        return contextlib.nullcontext(args.folder)
    return scratch_folder(args.folder)


def prepared_apart(source: Path, out: Path, memory: str) -> Finished:
    """Prepare in a process of its own, which prints what its stages took.

    Args:
        source: the log.
        out: the folder that it makes.
        memory: what it may take.
    """
    return run_measured([sys.executable, "-m", _STAGES, source, out, memory])


def _table(stages: list[dict[str, Any]], rows: int, peak: float, cpu: float) -> Table:
    table = Table("stage", "time", "CPU", "peak", "rows a CPU second", title="data prepare, once")
    for one in stages:
        spent = one["cpu_seconds"]
        times = seconds_text(one["seconds"]), seconds_text(spent)
        rate = f"{rows / max(spent, 1e-9):,.0f}"
        table.add_row(one["stage"], *times, f"{one['peak_gb']:.2f} GB", rate)
    table.caption = f"peak {peak:.2f} GB; {cpu:.0f} s of CPU, {rows / cpu:,.0f} rows each"
    return table
