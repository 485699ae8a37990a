"""PinSAGE on ten million generated items in a hundred million places of contexts: held-out pairs,
graph, inputs, neighbours, some minutes of training, vectors of all items.

Each stage has a process of its own and reads what the one before it wrote. Training is broken off
halfway, and another process goes on from its checkpoint. The process that embeds all items kills
itself halfway; the next one goes on where it ended, and rows around that place are computed once
more, to compare their bytes. Held-out positives are ranked among a sample of the
items. Peaks are those of the whole process, the mapped pages that it read included.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.harness.process import run_measured
from benchmarks.harness.report import Claim, Report, note, seconds_text, whole_number
from benchmarks.speed.three_billion import PAPER, days_on_two_cores, on_accelerators
from benchmarks.workloads.topic_world import WIDTH
from lightgcn_jax.errors import InputError
from lightgcn_jax.files import scratch_folder

_MOST_GB, _MOST_MINUTES, _HALF = 16.0, 90.0, 0.5
_STAGES = "benchmarks.workloads.pinsage_scale_stages"
_ACCELERATORS = "k80", "h200", "v5p", "v6e"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options.

    Args:
        parser: that of ``python -m benchmarks pinsage_scale``.
    """
    parser.add_argument(
        "--items", type=whole_number, default=10_000_000, help="items (default 10⁷)"
    )
    parser.add_argument(
        "--memberships",
        type=whole_number,
        default=100_000_000,
        help="places of items in contexts (default 10⁸)",
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="of training (default 10)")
    parser.add_argument(
        "--neighbors", type=whole_number, default=20, help="neighbours of an item (default 20)"
    )
    parser.add_argument(
        "--pairs", type=whole_number, default=1_024, help="pairs of a step (default 1024)"
    )
    parser.add_argument(
        "--folder", type=Path, help="where a temporary folder is made (default: the system's)"
    )


def run(args: argparse.Namespace) -> Report:
    """Measure; see the module.

    Args:
        args: the parsed options.

    Returns:
        What each stage took, how positives are ranked, and what is claimed.
    """
    with scratch_folder(args.folder) as folder:
        stages = _run_stages(args, folder)
    by_name = {one["stage"]: one for one in stages}
    peak = max(one["peak_gb"] for one in stages)
    minutes = sum(one["seconds"] for one in stages) / 60
    ranking = by_name["rank"]["metrics"]
    peers = max(ranking[name]["mrr"] for name in ranking if name != "PinSAGE")
    ahead = ranking["PinSAGE"]["mrr"] / peers
    rated = [by_name[name] for name in ("graph", "neighbors", "train", "embed")]
    days = days_on_two_cores(rated)
    accelerators = on_accelerators(WIDTH + 1, args.neighbors, args.pairs, _ACCELERATORS)
    names = "items", "memberships", "minutes", "neighbors", "pairs"
    return Report(
        name="pinsage_scale",
        settings={name: getattr(args, name) for name in names} | {"seed": 0},
        samples={one["stage"]: [one["seconds"]] for one in stages},
        claims=[
            Claim("peak_gb", peak, "GB", "<=", _MOST_GB),
            Claim("minutes_in_all", minutes, "min", "<=", _MOST_MINUTES),
            Claim("resumed_bytes_agree", float(by_name["check"]["same_bytes"]), "", ">=", 1),
            Claim("mrr_over_the_best_baseline", ahead, "×", ">=", 1),
        ],
        details={
            "stages": stages,
            "three_billion": {
                "days_on_two_cores": days,
                "accelerators": accelerators,
                "paper": PAPER,
            },
        },
        tables=[
            _stage_table(stages),
            _ranking_table(by_name["rank"]),
            _table_of_billions(days, accelerators),
        ],
    )


def _run_stages(args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """All stages in their order; the two halves of the training are one, and of the embedding."""
    stages = [_measured("world", folder, args.items, args.memberships)]
    contexts = stages[0]["contexts"]
    stages += [_measured(name, folder, contexts) for name in ("hold_out", "graph")]
    stages.append(_measured("inputs", folder))
    stages.append(_measured("neighbors", folder, args.neighbors))
    halves = [_measured("train", folder, args.minutes / 2, args.pairs) for _ in range(2)]
    stages.append(_as_one(*halves))
    stages[-1]["count"] += halves[0]["count"]
    stages[-1]["seconds_of_work"] += halves[0]["seconds_of_work"]
    killed = _measured("embed", folder, _HALF, status=-signal.SIGKILL)
    resumed = _as_one(killed, _measured("embed", folder))
    # What the killed process did could not tell how long it took: its whole life counts.
    resumed["seconds_of_work"] += killed["seconds"]
    stages.append(resumed)
    layer, row = next(
        (k, row) for k, row in enumerate(resumed["begun_with_rows"]) if row < args.items
    )
    stages.append(_measured("check", folder, layer, row))
    stages.append(_measured("rank", folder))
    return stages


def _as_one(begun: dict[str, Any], resumed: dict[str, Any]) -> dict[str, Any]:
    """What two processes took that did a stage between them; told is what the second one tells."""
    took = {name: begun[name] + resumed[name] for name in ("seconds", "cpu_seconds")}
    return resumed | took | {"peak_gb": max(begun["peak_gb"], resumed["peak_gb"])}


def _measured(stage: str, folder: Path, *arguments: Any, status: int = 0) -> dict[str, Any]:
    """What a stage took and told, in a process of its own that ends by a status."""
    note(stage)
    ended = run_measured([sys.executable, "-m", _STAGES, stage, folder, *map(str, arguments)])
    if ended.status != status:
        raise InputError(f"{stage}: {ended.last_words()}")
    told = json.loads(ended.output.splitlines()[-1]) if not status else {}
    took = {"seconds": ended.seconds, "cpu_seconds": ended.cpu_seconds, "peak_gb": ended.peak_gb}
    return {"stage": stage, **took, **told}


def _stage_table(stages: list[dict[str, Any]]) -> Table:
    columns = "stage", "time", "CPU", "peak", "of", "a second"
    table = Table(*columns, title="stages, each in a process of its own")
    for one in stages:
        times = seconds_text(one["seconds"]), seconds_text(one["cpu_seconds"])
        rate = f"{one['count'] / one['seconds_of_work']:,.0f} {one['unit']}"
        table.add_row(
            one["stage"],
            *times,
            f"{one['peak_gb']:.2f} GB",
            f"{one['count']:,} {one['unit']}",
            rate,
        )
    return table


def _ranking_table(ranking: dict[str, Any]) -> Table:
    names = "hit_rate@10", "hit_rate@100", "mrr"  # recall of one positive is its hit-rate
    title = f"{ranking['count']:,} held-out positives among {ranking['candidates']:,} items"
    table = Table("ranked by", *names, title=title)
    for name, metrics in ranking["metrics"].items():
        table.add_row(name, *(f"{metrics[one]:.4f}" for one in names))
    return table


def _table_of_billions(days: dict[str, float], accelerators: list[dict[str, Any]]) -> Table:
    table = Table("on", "training", "all items", title="three billion items, not run")
    table.add_row("the paper's", PAPER["training"], PAPER["all items"])
    table.add_row("two cores", f"{days['train']:.2g} days", f"{days['embed']:.2g} days")
    for one in accelerators:
        least = (one[name] / 60 for name in ("training_seconds", "all_items_seconds"))
        devices = f"{one['devices']} × {one['accelerator']}"
        table.add_row(devices, *(f"at least {minutes:.2g} min" for minutes in least))
    others = f"{days['graph']:.2g} days for the graph, {days['neighbors']:.2g} for walks"
    table.caption = f"on two cores also {others}"
    return table
