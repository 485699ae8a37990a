"""Seconds of training until LightGCN ranks as well as a thousand epochs of LightGCN-PyTorch do.

The preset ``fast`` is trained on Gowalla in a process of its own. Its schedule and its number of
epochs were settled on validation; here it is trained on all of train, and test is ranked once at
the end. The clock starts before the graph is built and stops after that ranking: ordering the
nodes, compiling and initialising all count. Beside it stand the figures of the initial
embeddings, and those of Gowalla's settings, unchanged, on smaller data sets, for which the preset
has others.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import jax
from rich.table import Table

from benchmarks.harness.process import told_by
from benchmarks.harness.report import Claim, Report, cores, note
from benchmarks.tables.models import load_split
from lightgcn_jax.evaluation.parts import rank_parts
from lightgcn_jax.runs import SilentReporter, fit
from lightgcn_jax.runs.trainer import Trainer
from lightgcn_jax.settings import PRESETS, flat

_TARGET_RECALL = 0.1824
_TARGET_SECONDS = 300.0
_OTHERS = ("lastfm", "ml-100k")
_METRICS = ("recall@20", "ndcg@20")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options.

    Args:
        parser: that of ``python -m benchmarks time_to_quality``.
    """
    parser.add_argument(
        "--skip-others", action="store_true", help=f"leave out {' and '.join(_OTHERS)}"
    )


def run(args: argparse.Namespace) -> Report:
    """Measure; see the module.

    Args:
        args: the parsed options.

    Returns:
        Seconds and recall on Gowalla, and what is claimed of them.
    """
    note("gowalla, preset fast: some minutes")
    gowalla = _child("gowalla", "fast", args.data_dir)
    others = {}
    for dataset in () if args.skip_others else _OTHERS:
        for preset in ("fast", "default"):
            note(f"{dataset}, preset {preset}")
            others[f"{dataset}, {preset}"] = _child(dataset, preset, args.data_dir)
    recall = gowalla["test"]["recall@20"]
    reached = recall >= _TARGET_RECALL
    return Report(
        name="time_to_quality",
        settings={"preset": flat(PRESETS["fast"]), "recall_to_reach": _TARGET_RECALL},
        samples={},
        claims=[
            Claim(
                "seconds_to_recall_0_1824",
                gowalla["seconds"] if reached else None,
                "s",
                "<=",
                _TARGET_SECONDS,
                reason=None if reached else f"recall@20 ended at {recall:.4f}",
            ),
            Claim("recall_at_20", recall, "", ">=", _TARGET_RECALL),
        ],
        details={"gowalla": gowalla, "others": others},
        threads={"jax": cores()},
        tables=[_table({"gowalla, fast": gowalla, **others})],
    )


def _child(dataset: str, preset: str, data_dir: Path | None) -> dict[str, Any]:
    folder = [] if data_dir is None else [data_dir.resolve()]
    return told_by("benchmarks.tables.time_to_quality", dataset, preset, *folder)


def train(dataset: str, preset: str, data_dir: Path | None) -> dict[str, Any]:
    """Train a preset and rank test once: what a fresh process tells its parent.

    Args:
        dataset: its name.
        preset: the name of the settings.
        data_dir: a folder with one folder for each data set; None for where GRAPHREC_DATA says.

    Returns:
        ``seconds`` in all and the part of them that was compilation, ``epochs``, ``test`` and
        ``step_0``: the figures at the end and of the initial embeddings.
    """
    split = load_split(dataset, data_dir)
    # Every test pair counts, as in papers.
    config = dataclasses.replace(PRESETS[preset], ks=(20,), cold="keep")
    start = time.perf_counter()
    result = fit(split, config)
    seconds = time.perf_counter() - start
    trainer = Trainer(result.split, config, None, None, SilentReporter())
    untrained = trainer.scorer(trainer.initial_states().params, 0)
    step_0 = rank_parts(untrained, trainer.sets, ("test",), config.ks)["test"]
    return {
        "seconds": seconds,
        "compile_seconds": result.summary["compile_seconds"],
        "epochs": result.summary["epochs"],
        "best_epoch": result.summary["best_epoch"],
        "protocol": result.summary["protocol_note"],
        "test": {name: result.summary["test"][name] for name in _METRICS},
        "step_0": {name: step_0[name] for name in _METRICS},
    }


def _table(runs: dict[str, dict[str, Any]]) -> Table:
    table = Table("data, preset", "seconds", "epochs", *_METRICS, "recall@20 at step 0")
    for name, one in runs.items():
        table.add_row(
            name,
            f"{one['seconds']:.0f}",
            str(one["epochs"]),
            *(f"{one['test'][metric]:.4f}" for metric in _METRICS),
            f"{one['step_0']['recall@20']:.4f}",
        )
    return table


def _main(dataset: str, preset: str, *data_dir: str) -> None:
    jax.config.update("jax_enable_compilation_cache", False)
    folder = Path(*data_dir) if data_dir else None
    print(json.dumps(train(dataset, preset, folder)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
