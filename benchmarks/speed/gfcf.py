"""GF-CF of Gowalla in closed form: seconds from the graph to the model, and its accuracy in full.

Each fit is a fresh process without a compilation cache, so that compilation is included; reading
the data and building the graph are not. The first of them ranks all items for every test user.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import jax

from benchmarks.harness.process import told_by
from benchmarks.harness.report import Claim, Report, cores, note, whole_number
from benchmarks.workloads.gowalla import load_gowalla
from lightgcn_jax.evaluation import evaluate
from lightgcn_jax.models import GfCf

_CUTOFF = 20


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options.

    Args:
        parser: that of ``python -m benchmarks gfcf``.
    """
    parser.add_argument("--rounds", type=whole_number, default=3, help="fits (default 3)")


def run(args: argparse.Namespace) -> Report:
    """Measure; see the module.

    Args:
        args: the parsed options.

    Returns:
        Seconds of the fits, the accuracy, and what is claimed of them.
    """
    fits = []
    for number in range(args.rounds):
        note(f"fit {number + 1} of {args.rounds}" + ("" if number else ", and its accuracy"))
        fits.append(_child(args.data_dir, accuracy=number == 0))
    seconds = [fit["fit_seconds"] for fit in fits]
    metrics = fits[0]["metrics"]
    return Report(
        name="gfcf",
        settings={
            "dataset": "gowalla",
            "config": dataclasses.asdict(GfCf()),
            "cutoff": _CUTOFF,
            "rounds": args.rounds,
        },
        samples={
            "fit, compilation included": seconds,
            "fit again, compiled": [fit["again_seconds"] for fit in fits],
            "evaluation, compilation included": [fits[0]["evaluation_seconds"]],
        },
        claims=[
            Claim("fit_seconds", statistics.median(seconds), "s", "<", 10.0),
            Claim("recall_at_20", metrics[f"recall@{_CUTOFF}"], "", ">=", 0.186),
        ],
        details={"metrics": metrics, "peak_gb": [fit["peak_gb"] for fit in fits]},
        threads={"jax": cores()},
    )


def _child(data_dir: Path | None, *, accuracy: bool) -> dict[str, Any]:
    part = "fit-and-evaluate" if accuracy else "fit"
    folder = [] if data_dir is None else [data_dir.resolve()]
    return told_by("benchmarks.speed.gfcf", part, *folder)


def fit_and_evaluate(data_dir: Path | None, *, accuracy: bool) -> dict[str, Any]:
    """Fit twice, and rank if asked to: what a fresh process tells its parent.

    Args:
        data_dir: a folder with one folder for each data set; None for where GRAPHREC_DATA says.
        accuracy: whether all items are ranked for every test user.

    Returns:
        ``fit_seconds`` and ``again_seconds``; with ``accuracy`` also ``evaluation_seconds`` and
        ``metrics``, means over the test users.
    """
    workload = load_gowalla(data_dir)
    graph, gfcf, key = workload.graph, GfCf(), jax.random.key(0)
    start = time.perf_counter()
    model = jax.block_until_ready(gfcf.fit(graph, key))
    fitted = time.perf_counter()
    jax.block_until_ready(gfcf.fit(graph, key))
    again = time.perf_counter()
    found: dict[str, Any] = {"fit_seconds": fitted - start, "again_seconds": again - fitted}
    if accuracy:
        evaluation = evaluate(model, workload.relevant, ks=(_CUTOFF,), seen=graph.items_of_user)
        found["evaluation_seconds"] = time.perf_counter() - again
        found["metrics"] = evaluation.metrics
    return found


def _main(part: str, *data_dir: str) -> None:
    jax.config.update("jax_enable_compilation_cache", False)
    folder = Path(*data_dir) if data_dir else None
    print(json.dumps(fit_and_evaluate(folder, accuracy=part == "fit-and-evaluate")))


if __name__ == "__main__":
    _main(*sys.argv[1:])
