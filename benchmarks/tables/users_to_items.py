"""Users to items: PinSAGE beside what knows users, on one split and one ranking.

On ml-latest-small every user's history is cut in time. What knows users (item-based cosine, GF-CF,
LightGCN) ranks for a row of its own; PinSAGE has no users: a query is the mean of a user's last ten
items. Features are title, year and genres; tags were given at all times, those of the held-out
future among them. On gowalla, under the published split, there are no features: each item has a
learnt vector of its own in their place, as in the NGCF paper's PinSAGE. Its files tell no times, so
a query is twenty of a user's items, at random.

All ranks are among the items that the user has not met in train or validation.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from benchmarks.harness.report import Report, cores, note, whole_number
from benchmarks.tables.models import UNSEEDED
from lightgcn_jax.data import Split, temporal_split
from lightgcn_jax.runs import fit as fit_users
from lightgcn_jax.runs.summary import seed_statistics
from lightgcn_jax.settings import TrainConfig
from pinsage_jax import PinSageConfig, fit, given_task, time_task
from pinsage_jax.data.sources import load_items
from pinsage_jax.evaluation.metrics import evaluate_items
from pinsage_jax.evaluation.parts import query_scorer
from pinsage_jax.tasks.task import Task

DATASETS = ("ml-latest-small", "gowalla")
_METRICS = ("recall@20", "ndcg@20")
_LAST_GIVEN = 20  # items of a query where the order of a user's items is not known
# Wang et al. 2019 (NGCF), table 2.
_PUBLISHED = (0.1380, 0.1196)


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        name: of the model.
        config: of ``lightgcn_jax``, or of ``pinsage_jax``.
        published: recall@20 and NDCG@20 on the same split; None where there are none.
    """

    name: str
    config: TrainConfig | PinSageConfig
    published: tuple[float, float] | None = None


_LIGHTGCN = TrainConfig(
    model="lightgcn",
    batch_size=8192,
    negatives=256,
    learning_rate=0.02,
    epochs=40,
    evaluate_every=5,
    patience=3,
    ks=(20,),
)
_PINSAGE = PinSageConfig(
    columns=("title", "year", "genres"),
    dim=64,
    neighbors=50,
    batch_size=1024,
    steps_per_epoch=60,
    epochs=20,
    patience=4,
)
MOVIELENS = (
    Row("popular", TrainConfig(model="popular", ks=(20,))),
    Row("item-based cosine", TrainConfig(model="itemcf", ks=(20,))),
    Row("GF-CF", TrainConfig(model="gfcf", ks=(20,))),
    Row("LightGCN, 3 layers", _LIGHTGCN),
    Row(
        "features alone",
        dataclasses.replace(_PINSAGE, pooling="none", layers=0, curriculum="none"),
    ),
    Row("PinSAGE", _PINSAGE),
    Row("PinSAGE, softmax", dataclasses.replace(_PINSAGE, loss="softmax")),
    Row("PinSAGE, softmax, tower", dataclasses.replace(_PINSAGE, loss="softmax", query="tower")),
)
# A batch of any size reads nearly all of Gowalla's items, so that a large one costs little more.
# The NGCF paper's PinSAGE has no hard negatives either.
_IDS = dataclasses.replace(
    _PINSAGE,
    columns=None,
    id_embedding=True,
    word_dim=64,
    neighbors=10,
    curriculum="none",
    batch_size=8192,
    steps_per_epoch=30,
    evaluate_every=5,
    patience=0,
)
GOWALLA = (
    Row("PinSAGE, ids", _IDS, _PUBLISHED),
    Row("PinSAGE, ids, softmax", dataclasses.replace(_IDS, loss="softmax"), _PUBLISHED),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dataset", choices=DATASETS, default=DATASETS[0], help=f"(default: {DATASETS[0]})"
    )
    parser.add_argument("--seeds", type=whole_number, default=3, help="(default: 3)")


def run(args: argparse.Namespace) -> Report:
    """Train and rank every row; see the module."""
    task, split = load(args.dataset, args.data_dir)
    rows = MOVIELENS if args.dataset == "ml-latest-small" else GOWALLA
    lines = []
    for place, row in enumerate(rows, 1):
        note(f"{place} of {len(rows)}: {row.name}")
        lines.append(line_of(row, task, split, args.seeds))
    return Report(
        name=f"users_to_items, {args.dataset}",
        settings={"dataset": args.dataset, "split": task.notes[0], "seeds": args.seeds},
        samples={},
        claims=[],
        details={"rows": lines},
        threads={"jax": cores()},
        tables=[table_of(args.dataset, lines)],
    )


def load(dataset: str, data_dir: Path | None) -> tuple[Task, Split | None]:
    """The task of PinSAGE, and the same split for what knows users, where such rows are trained."""
    data = load_items(dataset, data_dir)
    if dataset == "gowalla":
        return given_task(data, last=_LAST_GIVEN, max_queries=None), None
    split = temporal_split(data.interactions, 0.8, 0.1, 0.1, per_user=True)
    return time_task(data, valid=0.1, test=0.1, max_queries=None), split


def line_of(row: Row, task: Task, split: Split | None, seeds: int) -> dict[str, Any]:
    """A row's figures, in plain types: means over seeds, and the spread where there is one."""
    started = time.perf_counter()
    config = row.config
    if isinstance(config, TrainConfig):
        assert split is not None
        found = _of_users(split, config, seeds)
    else:
        found = [_of_items(task, dataclasses.replace(config, seed=seed)) for seed in range(seeds)]
    statistics = {name: seed_statistics([one[name] for one in found]) for name in _METRICS}
    line: dict[str, Any] = {
        "name": row.name,
        "seconds_a_seed": (time.perf_counter() - started) / len(found),
        "test": {name: one["mean"] for name, one in statistics.items()},
        "runs": found,
    }
    widths = {name: one.get("ci95_half_width") for name, one in statistics.items()}
    if all(width is not None for width in widths.values()):
        line["ci95_half_width"] = widths
    if row.published is not None:
        line["published"] = dict(zip(_METRICS, row.published, strict=True))
    return line


def _of_users(split: Split, config: TrainConfig, seeds: int) -> list[dict[str, float]]:
    """Test figures of each seed; one for a model that draws nothing."""
    runs = [
        fit_users(split, dataclasses.replace(config, seed=seed)).summary["test"]
        for seed in range(1 if config.model in UNSEEDED else seeds)
    ]
    return [{name: one[name] for name in _METRICS} for one in runs]


def _of_items(task: Task, config: PinSageConfig) -> dict[str, float]:
    """Test figures of a PinSAGE run."""
    result = fit(task, config)
    scorer = query_scorer(
        result.prepared.model, result.params, result.items.vectors, task.test.queries
    )
    metrics = evaluate_items(scorer, task.test, ks=(20,)).metrics
    return {name: metrics[name] for name in _METRICS}


def table_of(dataset: str, lines: Sequence[Mapping[str, Any]]) -> Table:
    """The lines for a reader."""
    has_published = any("published" in line for line in lines)
    columns = ["model", "seeds", "seconds a seed", *_METRICS]
    columns += [f"published {name}" for name in _METRICS] if has_published else []
    table = Table(*columns, title=f"{dataset}, users to items: full ranking of the test items")
    for line in lines:
        spread = line.get("ci95_half_width")
        cells = [line["name"], str(len(line["runs"])), f"{line['seconds_a_seed']:.1f}"]
        for name in _METRICS:
            cells.append(f"{line['test'][name]:.4f}" + (f" ±{spread[name]:.4f}" if spread else ""))
        if has_published:
            cells += [f"{line['published'][name]:.4f}" for name in _METRICS]
        table.add_row(*cells)
    return table
