"""Ten million rows of CSV through our reader, de-duplication and a ratio split.

The file is generated (seeded) in a temporary folder. Each sample is a fresh process; beside it
polars reads the same file into a frame and does nothing more, of which nothing is claimed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.harness.process import Finished, run_measured
from benchmarks.harness.report import Claim, Report, alternate, note, whole_number
from lightgcn_jax.errors import InputError
from lightgcn_jax.files import scratch_folder

_ROWS = 10_000_000
_ROWS_PER_USER, _ROWS_PER_ITEM = 20, 100
_CHUNK = 1_000_000


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options.

    Args:
        parser: that of ``python -m benchmarks ingest``.
    """
    parser.add_argument(
        "--rounds", type=whole_number, default=3, help="samples of each (default 3)"
    )
    parser.add_argument(
        "--rows", type=whole_number, default=_ROWS, help="rows of the file (default 10⁷)"
    )


def run(args: argparse.Namespace) -> Report:
    """Measure; see the module.

    Args:
        args: the parsed options.

    Returns:
        Seconds and memory of reading, and what is claimed of them.
    """
    ours: list[Finished] = []
    peer: list[Finished] = []
    with scratch_folder() as folder:
        path = folder / "events.csv"
        note(f"writing {args.rows:,} rows")
        write_events(path, args.rows)
        size = path.stat().st_size
        note(f"{args.rounds} rounds")
        alternate(
            {
                "ours": lambda: ours.append(_child("ours", path)),
                "polars": lambda: peer.append(_child("polars", path)),
            },
            rounds=args.rounds,
            warmups=0,
        )
    numbers = [json.loads(ended.output) for ended in ours]
    seconds = [sum(number["seconds"].values()) for number in numbers]
    peaks = [ended.peak_gb for ended in ours]
    smaller = None if args.rows >= _ROWS else f"the file has {args.rows:,} rows, not {_ROWS:,}"
    return Report(
        name="ingest",
        settings={
            "rows": args.rows,
            "bytes": size,
            "rows_per_user": _ROWS_PER_USER,
            "rows_per_item": _ROWS_PER_ITEM,
            "seed": 0,
        },
        samples={
            "ours, from file to split": seconds,
            **{
                f"ours, {part}": [number["seconds"][part] for number in numbers]
                for part in numbers[0]["seconds"]
            },
            "polars, from file to frame": [
                json.loads(ended.output)["seconds"]["read"] for ended in peer
            ],
        },
        claims=[
            _claim("csv_10m_seconds", statistics.median(seconds), "s", 25.0, smaller),
            _claim("csv_10m_peak_gb", max(peaks), "GB", 4.0, smaller),
        ],
        details={
            "peak_gb": peaks,
            "polars_peak_gb": [ended.peak_gb for ended in peer],
            "process_seconds": [ended.seconds for ended in ours],
            "pairs": numbers[0]["pairs"],
        },
    )


def write_events(path: Path, rows: int, seed: int = 0) -> None:
    """Write ``user,item,rating,timestamp`` events, a few of them repeated pairs.

    The popularity of items falls with their rank, as in any catalogue; users are drawn uniformly.

    Args:
        path: the file to write.
        rows: how many events.
        seed: seed of the draws; the same seed gives the same file.
    """
    rng = np.random.default_rng(seed)
    users, items = max(1, rows // _ROWS_PER_USER), max(1, rows // _ROWS_PER_ITEM)
    with path.open("wb") as file:
        for start in range(0, rows, _CHUNK):
            count = min(_CHUNK, rows - start)
            pl.DataFrame(
                {
                    "user": rng.integers(0, users, count),
                    "item": (items * rng.random(count) ** 3).astype(np.int64),
                    "rating": rng.integers(1, 11, count) / 2,
                    "timestamp": rng.integers(1_200_000_000, 1_700_000_000, count),
                }
            ).write_csv(file, include_header=start == 0)


def _child(part: str, path: Path) -> Finished:
    ended = run_measured([sys.executable, "-m", "benchmarks.speed.ingest", part, path])
    if ended.status != 0:
        raise InputError(f"ingest, {part}: {ended.last_words()}")
    return ended


def _claim(name: str, value: float, unit: str, target: float, reason: str | None) -> Claim:
    return Claim(name, None if reason else value, unit, "<", target, reason=reason)


def _ours(path: Path) -> dict:
    from lightgcn_jax.data import PARTS, ratio_split, read_interactions

    start = time.perf_counter()
    events = read_interactions(path)
    read = time.perf_counter()
    interactions = events.deduplicated()
    deduplicated = time.perf_counter()
    split = ratio_split(interactions)
    done = time.perf_counter()
    parts = {
        "read": read - start,
        "de-duplicate": deduplicated - read,
        "split": done - deduplicated,
    }
    pairs = {name: len(getattr(split, name)) for name in PARTS}
    return {"seconds": parts, "pairs": pairs}


def _polars(path: Path) -> dict:
    start = time.perf_counter()
    frame = pl.read_csv(path)
    return {"seconds": {"read": time.perf_counter() - start}, "rows": frame.height}


if __name__ == "__main__":
    print(json.dumps({"ours": _ours, "polars": _polars}[sys.argv[1]](Path(sys.argv[2]))))
