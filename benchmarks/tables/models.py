"""Every model side by side on one data set, with the papers' figures beside ours.

Each row is a run directory below ``--out``: a row that is there is read, one that was broken off
goes on, so that the table can be made in parts. On gowalla the models of the papers are trained
under both protocols with one loss, one optimiser and about as much time each; on lastfm and ml-100k
every model is trained with several seeds at once.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from benchmarks.harness.report import Claim, Report, cores, note, whole_number
from lightgcn_jax.data import Split, given_split, load_dataset, ratio_split
from lightgcn_jax.errors import InputError
from lightgcn_jax.models import (
    GCN,
    GNN,
    MF,
    NGCF,
    SGC,
    ClosedForm,
    GfCf,
    ItemCf,
    LightGCN,
    Model,
    Popular,
    Random,
    Spectral,
)
from lightgcn_jax.runs import FitResult, fit, resume
from lightgcn_jax.settings import ClosedFormConfig, Config, Selection, TrainConfig, flat
from lightgcn_jax.settings.names import DEFAULTS
from lightgcn_jax.training import Optimization, SharedNegatives

_METRICS = ("recall@20", "ndcg@20")


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        name: the model's name; the run directory bears it too, after the protocol.
        config: the settings.
        published: recall@20 and NDCG@20 of a paper on the same split; None where there are none.
    """

    name: str
    config: Config
    published: tuple[float, float] | None = None


# BPR with large batches and shared negatives: an epoch costs few applications of Ã. Weight matrices
# ask for smaller steps than tables of embeddings.
_RATE, _RATE_WITH_WEIGHTS = 0.02, 0.005
_NEGATIVES = SharedNegatives(256)


class Trained(NamedTuple):
    """How a model of a table is trained.

    Attributes:
        model: the model.
        l2: weight of the L2 penalty.
        learning_rate: Adam's, at the start.
    """

    model: Model
    l2: float = 1e-4
    learning_rate: float = _RATE


# BARS for MF and GF-CF; He et al. 2020, table 3, for NGCF and LightGCN.
_GOWALLA: dict[str, tuple[Trained | ClosedForm, tuple[float, float]]] = {
    "MF": (Trained(MF(), l2=1e-3), (0.1627, 0.1378)),
    "NGCF, 3 layers": (
        Trained(NGCF(layers=3), learning_rate=_RATE_WITH_WEIGHTS),
        (0.1569, 0.1327),
    ),
    "LightGCN, 1 layer": (Trained(LightGCN(layers=1)), (0.1755, 0.1492)),
    "LightGCN, 2 layers": (Trained(LightGCN(layers=2)), (0.1777, 0.1524)),
    "LightGCN, 3 layers": (Trained(LightGCN(layers=3)), (0.1823, 0.1555)),
    "LightGCN, 4 layers": (Trained(LightGCN(layers=4)), (0.1830, 0.1550)),
    "GF-CF": (GfCf(), (0.1849, 0.1518)),
}
# Epochs that take about as long as one another.
_GOWALLA_EPOCHS = {
    "MF": 60,
    "NGCF, 3 layers": 8,
    "LightGCN, 1 layer": 36,
    "LightGCN, 2 layers": 24,
    "LightGCN, 3 layers": 18,
    "LightGCN, 4 layers": 14,
}
# The order of recall that the papers find.
_ORDER = ("MF", "NGCF, 3 layers", "LightGCN, 3 layers", "GF-CF")

# About twenty steps an epoch on lastfm, eight on ml-100k.
_SMALL_BATCH = {"lastfm": 2048, "ml-100k": 8192}
_SMALL: dict[str, Trained | ClosedForm] = {
    "random": Random(),
    "popular": Popular(),
    "item-based cosine": ItemCf(),
    "MF": Trained(MF(), l2=1e-2),
    "MF, biases": Trained(MF(biases=True), l2=1e-2),
    "GCN, 2 layers": Trained(GCN(layers=2), learning_rate=_RATE_WITH_WEIGHTS),
    "GCN without ReLU (SGC), 2 layers": Trained(SGC(layers=2), learning_rate=_RATE_WITH_WEIGHTS),
    "GNN, mean, 2 layers": Trained(GNN(layers=2), learning_rate=_RATE_WITH_WEIGHTS),
    "GNN, max, 2 layers": Trained(GNN(layers=2, aggregate="max"), learning_rate=_RATE_WITH_WEIGHTS),
    "NGCF, 3 layers": Trained(
        NGCF(layers=3, message_dropout=0.1), learning_rate=_RATE_WITH_WEIGHTS
    ),
    "LightGCN, 1 layer": Trained(LightGCN(layers=1)),
    "LightGCN, 2 layers": Trained(LightGCN(layers=2)),
    "LightGCN, 3 layers": Trained(LightGCN(layers=3)),
    "LightGCN, 4 layers": Trained(LightGCN(layers=4)),
    "LightGCN, 3 layers, learnt weights": Trained(LightGCN(learn_alphas=True)),
    "LightGCN, layer 3 alone": Trained(LightGCN(layer_combination="last")),
    "spectral": Spectral(),
    "GF-CF": GfCf(),
}

DATASETS = ("gowalla", "lastfm", "ml-100k")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options.

    Args:
        parser: that of ``python -m benchmarks models``.
    """
    parser.add_argument(
        "--dataset", choices=DATASETS, default="gowalla", help="data set (default: gowalla)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of the runs, to go on with (default: runs/models-DATASET)",
    )
    parser.add_argument(
        "--epochs-scale",
        type=float,
        default=1.0,
        metavar="X",
        help="multiply the epochs of trained rows of gowalla (default: 1, about an hour in all)",
    )
    parser.add_argument(
        "--seeds",
        type=whole_number,
        default=5,
        help="seeds of a row on lastfm and ml-100k (default: 5)",
    )


def run(args: argparse.Namespace) -> Report:
    """Train or read every row; see the module.

    Args:
        args: the parsed options.

    Returns:
        The figures of every row, and the minutes that all of them took.
    """
    if args.epochs_scale <= 0:
        raise InputError(f"--epochs-scale: expected more than 0, got {args.epochs_scale}")
    split = load_split(args.dataset, args.data_dir)
    out = args.out or Path("runs") / f"models-{args.dataset}"
    rows = (
        gowalla_rows(args.epochs_scale)
        if args.dataset == "gowalla"
        else small_rows(args.dataset, args.seeds)
    )
    lines = []
    for place, row in enumerate(rows, 1):
        protocol = row.config.protocol
        note(f"{place} of {len(rows)}: {row.name}, {protocol}")
        folder = out / f"{protocol} {row.name}".replace(", ", "-").replace(" ", "-")
        lines.append(line_of(row, train_or_read(split, row.config, folder)))
    minutes = sum(line["seconds"] for line in lines) / 60
    target = 75.0 if args.dataset == "gowalla" else 30.0
    details: dict[str, Any] = {"rows": lines}
    if args.dataset == "gowalla":
        details["order_of_recall"] = {
            protocol: order_of(lines, protocol) for protocol in ("strict", "legacy")
        }
    return Report(
        name=f"models, {args.dataset}",
        settings={"dataset": args.dataset, "split": split.description},
        samples={},
        claims=[Claim("total_minutes", minutes, "min", "<", target)],
        details=details,
        threads={"jax": cores()},
        tables=[table_of(args.dataset, lines)],
    )


def load_split(dataset: str, data_dir: Path | None) -> Split:
    """Load a data set with the split that came with it, or else 8:1:1 of each user.

    Args:
        dataset: its name.
        data_dir: a folder with one folder for each data set; None for where GRAPHREC_DATA says.

    Returns:
        The split.
    """
    interactions = load_dataset(dataset, data_dir=data_dir)
    if interactions.parts is not None:
        return given_split(interactions)
    return ratio_split(interactions, seed=0)


def gowalla_rows(scale: float) -> list[Row]:
    """The papers' models under both protocols.

    Args:
        scale: what the epochs of trained models are multiplied by; none has less than one.

    Returns:
        A row for each model and protocol.
    """
    rows = []
    for protocol in ("strict", "legacy"):
        for name, (made, published) in _GOWALLA.items():
            if isinstance(made, ClosedForm):
                config = ClosedFormConfig(made, protocol=protocol, ks=(20,))
            else:
                epochs = max(1, round(scale * _GOWALLA_EPOCHS[name]))
                config = TrainConfig(
                    model=made.model,
                    negatives=_NEGATIVES,
                    optimization=Optimization(
                        epochs=epochs,
                        batch_size=8192,
                        learning_rate=made.learning_rate,
                        schedule="cosine",
                        l2=made.l2,
                    ),
                    selection=Selection(evaluate_every=max(1, epochs // 4), patience=0),
                    protocol=protocol,
                    ks=(20,),
                )
            rows.append(Row(name, config, published))
    return rows


def small_rows(dataset: str, seeds: int) -> list[Row]:
    """Every model with several seeds, under strict.

    Args:
        dataset: ``lastfm`` or ``ml-100k``.
        seeds: how many; models that draw nothing have one.

    Returns:
        A row for each model.
    """
    rows = []
    for name, made in _SMALL.items():
        if isinstance(made, ClosedForm):
            config = ClosedFormConfig(made, ks=(20,), seeds=seeds if made.uses_key else 1)
        else:
            config = TrainConfig(
                model=made.model,
                negatives=_NEGATIVES,
                optimization=Optimization(
                    epochs=40,
                    batch_size=_SMALL_BATCH[dataset],
                    learning_rate=made.learning_rate,
                    l2=made.l2,
                ),
                selection=Selection(evaluate_every=5, patience=3),
                ks=(20,),
                seeds=seeds,
            )
        rows.append(Row(name, config))
    return rows


def train_or_read(split: Split, config: Config, folder: Path) -> FitResult:
    """A row's run: read where it is finished, gone on with where it was broken off.

    Args:
        split: what a new run is trained and judged on.
        config: the settings of the row.
        folder: the run directory.

    Returns:
        The finished run.

    Raises:
        InputError: the folder holds a run with other settings.
    """
    # Every test pair counts, as in papers.
    config = dataclasses.replace(config, cold="keep")
    if not folder.exists():
        return fit(split, config, out=folder)
    result = resume(folder)
    if result.config != config:
        raise InputError(f"{folder}: holds a run with other settings; choose another --out")
    return result


def line_of(row: Row, result: FitResult) -> dict[str, Any]:
    """A row's figures, in plain types.

    Args:
        row: the line of the table.
        result: its finished run.

    Returns:
        A JSON value.
    """
    summary = result.summary
    spread = summary.get("statistics", {}).get("test")
    stages = ("train_seconds", "fit_seconds", "compile_seconds", "evaluate_seconds")
    line: dict[str, Any] = {
        "name": row.name,
        "protocol": row.config.protocol,
        "settings": {
            name: value
            for name, value in flat(row.config).items()
            if name == "model" or value != DEFAULTS[name]
        },
        "epochs": summary["epochs"],
        "best_epoch": summary["best_epoch"],
        "parameters": summary["parameters"],
        "seconds": sum(summary.get(stage, 0.0) for stage in stages),
        "test": {name: summary["test"][name] for name in _METRICS},
    }
    if spread is not None:
        line["ci95_half_width"] = {name: spread[name]["ci95_half_width"] for name in _METRICS}
    if row.published is not None:
        line["published"] = dict(zip(_METRICS, row.published, strict=True))
    return line


def order_of(lines: Sequence[Mapping[str, Any]], protocol: str) -> list[str]:
    """The models that the papers order, by our recall.

    Args:
        lines: from :func:`line_of`.
        protocol: lines of another one are left out.

    Returns:
        Names, the lowest recall first.
    """
    recalls = {
        line["name"]: line["test"]["recall@20"]
        for line in lines
        if line["protocol"] == protocol and line["name"] in _ORDER
    }
    return sorted(recalls, key=lambda name: recalls[name])


def table_of(dataset: str, lines: Sequence[Mapping[str, Any]]) -> Table:
    """The lines for a reader.

    Args:
        dataset: its name, for the title.
        lines: from :func:`line_of`.

    Returns:
        A row for each line.
    """
    has_published = any("published" in line for line in lines)
    columns = ["model", "protocol", "epochs", "best", "minutes", *_METRICS]
    columns += [f"published {name}" for name in _METRICS] if has_published else []
    table = Table(*columns, title=f"{dataset}: full ranking of the test items")
    for line in lines:
        cells = [line["name"], line["protocol"], str(line["epochs"]), str(line["best_epoch"])]
        cells.append(f"{line['seconds'] / 60:.1f}")
        for name in _METRICS:
            spread = line.get("ci95_half_width")
            cells.append(f"{line['test'][name]:.4f}" + (f" ±{spread[name]:.4f}" if spread else ""))
        if has_published:
            cells += [f"{line['published'][name]:.4f}" for name in _METRICS]
        table.add_row(*cells)
    return table
