"""A log of a hundred million rows, in partitioned Parquet, to a prepared folder: rows a second,
peak memory, bytes an edge.

The log is generated into a temporary folder, `lightgcn-jax data prepare` is run once in a process
of its own, and both are removed. The peak is that of the whole process, program included.
"""

from __future__ import annotations

import argparse
import re
import resource
import sys
import tempfile
from pathlib import Path

from rich.table import Table

from benchmarks.harness.process import Finished, run_measured
from benchmarks.harness.report import Claim, Report, note, seconds_text, whole_number
from benchmarks.workloads.long_log import write_log
from lightgcn_jax.prepared import open_prepared
from lightgcn_jax.prepared.preparation import bytes_of

_EDGES = 100_000_000
_MOST_BYTES = 12.0
_STAGE = re.compile(r"(.+): ([\d,]+) (\w+) in ([\d.]+) s, ")


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


def run(args: argparse.Namespace) -> Report:
    """Measure; see the module.

    Args:
        args: the parsed options.

    Returns:
        Seconds of each stage, peak memory and bytes an edge, and what is claimed of them.
    """
    with tempfile.TemporaryDirectory(prefix="prepare-", dir=args.folder) as name:
        folder = Path(name)
        note(f"writing {args.edges:,} rows")
        log = write_log(folder / "log", args.edges)
        note("preparing")
        before = _cpu_seconds()
        ended = prepared_by_command(folder / "log", folder / "prepared", args.memory)
        cpu = _cpu_seconds() - before
        if ended.status:
            raise RuntimeError(f"data prepare: {ended.last_words()}")
        made = open_prepared(folder / "prepared")
        size = sum(path.stat().st_size for path in (folder / "prepared").iterdir())
        manifest, an_edge = made.manifest, made.bytes_an_edge
    stages = {
        found[1]: float(found[4])
        for line in ended.errors.splitlines()
        if (found := _STAGE.match(line)) is not None
    }
    held = {name: manifest[name] for name in ("users", "items", "pairs", "rows_read", "ordering")}
    most = bytes_of(args.memory) / 1e9
    return Report(
        name="prepare",
        settings={"edges": args.edges, "memory": args.memory, "log": log, "seed": 0},
        samples={stage: [seconds] for stage, seconds in stages.items()},
        claims=[
            Claim("peak_gb", ended.peak_gb, "GB", "<=", most),
            Claim("bytes_an_edge", an_edge, "bytes", "<=", _MOST_BYTES),
        ],
        details={
            "seconds": ended.seconds,
            "cpu_seconds": cpu,
            "rows_a_second": args.edges / ended.seconds,
            "rows_a_cpu_second": args.edges / cpu,
            "held": held,
            "folder_bytes": size,
        },
        tables=[_table(stages, args.edges, ended, cpu)],
    )


def prepared_by_command(source: Path, out: Path, memory: str) -> Finished:
    """Run the command in a process of its own.

    Args:
        source: the log.
        out: the folder that it makes.
        memory: what it may take.
    """
    command = ("-m", "lightgcn_jax", "data", "prepare", source, "--out", out, "--memory", memory)
    return run_measured([sys.executable, *command])


def _cpu_seconds() -> float:
    """Of all processes that were waited for; on a busy machine other times tell less."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _table(stages: dict[str, float], rows: int, ended: Finished, cpu: float) -> Table:
    table = Table("stage", "time", "rows a second", title="data prepare, once")
    for stage, seconds in stages.items():
        table.add_row(stage, seconds_text(seconds), f"{rows / max(seconds, 1e-9):,.0f}")
    table.add_row("all", seconds_text(ended.seconds), f"{rows / ended.seconds:,.0f}")
    table.caption = f"peak {ended.peak_gb:.2f} GB; {cpu:.0f} s of CPU, {rows / cpu:,.0f} rows each"
    return table
