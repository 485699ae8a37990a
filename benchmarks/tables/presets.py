"""The presets beside what trains nothing, on data sets of several sizes, ranked on validation.

Nothing is chosen here and test is not touched: the table says on which data a preset ranks above
item-based cosine, and what it costs. Presets keep their settings but for the protocol, which is
strict, and ``fast``, which stops at its last epoch, ranks that one alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.harness.options import datasets_option
from benchmarks.harness.report import Claim, Report, cores, note
from benchmarks.tables.models import load_split
from lightgcn_jax.data import Split, generate_world, ratio_split
from lightgcn_jax.models import GfCf, ItemCf, Popular
from lightgcn_jax.runs import SilentReporter, fit
from lightgcn_jax.settings import (
    PRESETS,
    ClosedFormConfig,
    Config,
    Selection,
    TrainConfig,
    flat,
    for_catalogue,
)

_GENERATED: dict[str, dict[str, Any]] = {
    "generated shop": {"users": 2_000, "items": 500},
    "generated catalogue": {"users": 20_000, "items": 5_000, "groups": 50, "mean_degree": 30.0},
}
DATASETS = (
    *_GENERATED,
    "lastfm",
    "hetrec-lastfm",
    "ml-100k",
    "ml-latest-small",
    "gowalla",
)
ROWS: dict[str, Config] = {
    "popular": ClosedFormConfig(Popular()),
    "item-based cosine": ClosedFormConfig(ItemCf()),
    "GF-CF": ClosedFormConfig(GfCf()),
    "default": PRESETS["default"],
    "fast": PRESETS["fast"],
}
_METRICS = ("recall@20", "ndcg@20")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options.

    Args:
        parser: that of ``python -m benchmarks presets``.
    """
    datasets_option(parser, DATASETS)
    parser.add_argument(
        "--rows", nargs="+", choices=ROWS, default=list(ROWS), help="rows (default: all)"
    )


def run(args: argparse.Namespace) -> Report:
    """Fit every row on every data set; see the module.

    Args:
        args: the parsed options.

    Returns:
        Recall and NDCG at 20 on validation with the seconds of each fit; what is claimed is the
        least ratio of ``fast`` to item-based cosine.
    """
    lines = []
    for dataset in args.datasets:
        split = _split_of(dataset, args.data_dir)
        for name in args.rows:
            note(f"{dataset}: {name}")
            config, _ = for_catalogue(ROWS[name], name, len(split.items))
            lines.append({"dataset": dataset, "row": name, **judged(split, config)})
    return Report(
        name="presets",
        settings={name: flat(ROWS[name]) for name in args.rows},
        samples={},
        claims=claims_of(lines),
        details={"rows": lines},
        threads={"jax": cores()},
        tables=[_table(lines)],
    )


def judged(split: Split, config: Config) -> dict[str, Any]:
    """Fit one row and rank validation.

    Args:
        split: of the data set.
        config: the row's settings.

    Returns:
        ``recall@20`` and ``ndcg@20`` on validation, ``seconds`` of the whole fit with compilation,
        ``epochs`` and ``interactions``.
    """
    config = dataclasses.replace(config, protocol="strict", ks=(20,))
    if isinstance(config, TrainConfig) and config.selection.patience == 0:
        epochs = config.optimization.epochs
        config = dataclasses.replace(config, selection=Selection(evaluate_every=epochs, patience=0))
    start = time.perf_counter()
    summary = fit(split, config, reporter=SilentReporter()).summary
    return {
        **{name: summary["valid"][name] for name in _METRICS},
        "seconds": time.perf_counter() - start,
        "epochs": summary["epochs"],
        "interactions": len(split.train),
    }


def _split_of(dataset: str, data_dir: Path | None) -> Split:
    if dataset in _GENERATED:
        return ratio_split(generate_world(**_GENERATED[dataset]).interactions)
    return load_split(dataset, data_dir)


def claims_of(lines: list[dict[str, Any]]) -> list[Claim]:
    """What is claimed: ``fast`` ranks above item-based cosine on every data set.

    Args:
        lines: a JSON value for each data set and row.

    Returns:
        The claim; none where no data set has both rows.
    """
    recall = {(line["dataset"], line["row"]): line["recall@20"] for line in lines}
    ratios = [
        recall[dataset, "fast"] / recall[dataset, "item-based cosine"]
        for dataset in DATASETS
        if {(dataset, "fast"), (dataset, "item-based cosine")} <= recall.keys()
    ]
    if not ratios:
        return []
    return [Claim("least_recall_of_fast_to_item_cosine", min(ratios), "", ">=", 1)]


def _table(lines: list[dict[str, Any]]) -> Table:
    table = Table("data", "row", "epochs", "seconds", *_METRICS, title="validation, strict")
    for line in lines:
        table.add_row(
            line["dataset"],
            line["row"],
            str(line["epochs"]),
            f"{line['seconds']:.1f}",
            *(f"{line[name]:.4f}" for name in _METRICS),
        )
    return table
