"""A language model's eyes: text against graph, and text as an input of a graph model.

Items are written out (title or name, year, genres; on hetrec-lastfm ten tags) and read by hashed
TF-IDF and by all-MiniLM-L6-v2; a user is the mean of what they took, items are ranked by cosine.
Tags of ml-latest-small were given at all times, those of the held-out future among them, and stay
out. PinSAGE reads nothing of an item but its place in the graph, or the sentence vectors too; a
query is the mean of a user's last ten items (hetrec-lastfm: ten at random in training, all of them
in test). ml-100k and ml-latest-small, all ratings, are cut in time, each user's history by itself;
hetrec-lastfm has no times and is cut at random. Models without users or epochs to choose know train
and validation; PinSAGE trains on train and chooses its epoch on validation. Every test item counts.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from benchmarks.harness.options import datasets_option
from benchmarks.harness.report import Report, cores, note, whole_number
from benchmarks.tables.budget import seconds_a_step, steps_within
from benchmarks.tables.two_stage import FIRST_STAGE
from lightgcn_jax.data import TEST, TRAIN, VALID, Split, ratio_split, temporal_split
from lightgcn_jax.data.pairs import pair_keys
from lightgcn_jax.data.protocol import apply_protocol
from lightgcn_jax.evaluation import evaluate
from lightgcn_jax.graph.bipartite import csr_rows
from lightgcn_jax.language import HashedTfIdf, MeanOfItems, MiniLM, written_out
from lightgcn_jax.models import ItemCf, Popular
from lightgcn_jax.runs import fit as fit_users
from lightgcn_jax.serving.reading import text_vectors
from lightgcn_jax.settings import ClosedFormConfig, Config
from pinsage_jax import PinSageConfig, fit, given_task, time_task
from pinsage_jax.data.items import ItemData
from pinsage_jax.data.sources import load_items
from pinsage_jax.evaluation.parts import query_scorer
from pinsage_jax.features.table import FeatureTable
from pinsage_jax.tasks.task import Task
from pinsage_jax.training.preparation import prepare

DATASETS = ("ml-latest-small", "ml-100k", "hetrec-lastfm")
ROWS = (
    "popularity",
    "item-based cosine",
    "text, TF-IDF",
    "text, MiniLM",
    "graph, LightGCN",
    "graph, PinSAGE",
    "graph and text, PinSAGE",
)
METRICS = ("map@12", "precision@12", "recall@12", "f1@12")
_K = 12
# An artist may have hundreds; a sentence of them all says less, and takes long to read.
_MOST_TAGS = 10
_NEVER_READ = {"ml-latest-small": {"tags"}}


class World(NamedTuple):
    """A data set, cut.

    Attributes:
        data: its items with their features.
        split: who took what.
        texts: what is written of each item.
        is_timed: whether the split goes by time.
    """

    data: ItemData
    split: Split
    texts: list[str]
    is_timed: bool


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options.

    Args:
        parser: that of ``python -m benchmarks language``.
    """
    datasets_option(parser, DATASETS)
    parser.add_argument(
        "--rows", nargs="+", choices=ROWS, default=list(ROWS), help="rows (default: all)"
    )
    parser.add_argument(
        "--seconds",
        type=whole_number,
        default=60,
        help="seconds of PinSAGE's training steps (default: 60)",
    )


def run(args: argparse.Namespace) -> Report:
    """Rank test by every row; see the module.

    Args:
        args: the parsed options.

    Returns:
        The rows' figures; nothing is claimed of them.
    """
    lines = []
    for dataset in args.datasets:
        world = world_of(dataset, args.data_dir)
        read: dict[str, np.ndarray] = {}
        for row in args.rows:
            note(f"{dataset}: {row}")
            start = time.perf_counter()
            figures = figures_of(row, world, args.seconds, read)
            seconds = time.perf_counter() - start
            lines.append({"dataset": dataset, "row": row, "seconds": seconds} | figures)
            note(", ".join(f"{name} {figures[name]:.4f}" for name in METRICS))
    return Report(
        name="language",
        settings={"datasets": args.datasets, "pinsage_seconds": args.seconds},
        samples={},
        claims=[],
        details={"rows": lines},
        threads={"jax": cores()},
        tables=[table_of(dataset, lines) for dataset in args.datasets],
    )


def world_of(dataset: str, data_dir: Path | None) -> World:
    """Load a data set, cut it, and write its items out.

    Args:
        dataset: one of :data:`DATASETS`.
        data_dir: a folder with one folder for each data set; None for where GRAPHREC_DATA says.
    """
    data = load_items(dataset, data_dir)
    is_timed = data.interactions.timestamps is not None
    split = (
        temporal_split(data.interactions, 0.8, 0.1, 0.1, per_user=True)
        if is_timed
        else ratio_split(data.interactions, 0.8, 0.1, 0.1)
    )
    unread = _NEVER_READ.get(dataset, set())
    columns = {
        name: column.values for name, column in data.features.columns.items() if name not in unread
    }
    return World(data, split, written_out(columns), is_timed)


def figures_of(
    row: str, world: World, seconds: float, read: dict[str, np.ndarray]
) -> dict[str, float]:
    """The metrics of one row on test.

    Args:
        row: one of :data:`ROWS`.
        world: the data set.
        seconds: the budget of PinSAGE's steps.
        read: sentence vectors that were made before, by the encoder's name; more are put in.
    """

    def vectors(name: str, make: Callable[[], Any]) -> np.ndarray:
        if name not in read:
            read[name] = text_vectors(world.texts, make(), len(world.texts))
        return read[name]

    if row == "graph, PinSAGE":
        return _pinsage(world, seconds, {})
    if row == "graph and text, PinSAGE":
        return _pinsage(world, seconds, {"text": vectors("MiniLM", MiniLM)})
    if row.startswith("text, "):
        name = row.removeprefix("text, ")
        return _text(world, vectors(name, MiniLM if name == "MiniLM" else HashedTfIdf))
    models: dict[str, Config] = {
        "popularity": ClosedFormConfig(Popular()),
        "item-based cosine": ClosedFormConfig(ItemCf()),
        "graph, LightGCN": FIRST_STAGE,
    }
    config = dataclasses.replace(models[row], protocol="fixed", cold="keep", ks=(_K,))
    summary = fit_users(world.split, config).summary
    return {name: summary["test"][name] for name in METRICS}


def _text(world: World, vectors: np.ndarray) -> dict[str, float]:
    split = apply_protocol(world.split, "fixed")
    known = csr_rows(split.train.users, split.train.items, len(split.users))
    scorer = MeanOfItems.of(vectors, known)
    found = evaluate(scorer, split.test, ks=(_K,), seen=known).metrics
    return {name: found[name] for name in METRICS}


def _pinsage(world: World, seconds: float, columns: Mapping[str, Any]) -> dict[str, float]:
    task = task_of(world, columns)
    config = PinSageConfig()
    prepared = prepare(task, config)
    config = steps_within(config, seconds, seconds_a_step(task, config, prepared))
    made = fit(task, config, prepared=prepared)
    scorer = query_scorer(made.prepared.model, made.params, made.items.vectors, task.test.queries)
    found = evaluate(scorer, task.test.relevant, ks=(_K,), seen=task.test.seen).metrics
    return {name: found[name] for name in METRICS}


def task_of(world: World, columns: Mapping[str, Any]) -> Task:
    """The same split as PinSAGE asks it.

    Args:
        world: the data set.
        columns: what PinSAGE reads of items, by name.
    """
    data = world.data
    table = FeatureTable.from_mapping(columns, num_rows=data.interactions.num_items)
    data = dataclasses.replace(data, features=table)
    if world.is_timed:
        return time_task(data, valid=0.1, test=0.1, max_queries=None)
    once = data.interactions
    once = once.deduplicated() if once.has_duplicates else once
    keys = pair_keys(once.user_rows, once.item_rows)
    parts = np.full(len(keys), TRAIN, np.uint8)
    for code, pairs in ((VALID, world.split.valid), (TEST, world.split.test)):
        parts[np.isin(keys, pairs.keys)] = code
    cut = dataclasses.replace(once, parts=parts)
    return given_task(dataclasses.replace(data, interactions=cut), max_queries=None)


def table_of(dataset: str, lines: Sequence[Mapping[str, Any]]) -> Table:
    """The lines of a data set for a reader.

    Args:
        dataset: its name.
        lines: of all data sets.
    """
    table = Table("row", *METRICS, "seconds", title=f"{dataset}: full ranking of test")
    for line in lines:
        if line["dataset"] == dataset:
            figures = (f"{line[name]:.4f}" for name in METRICS)
            table.add_row(line["row"], *figures, f"{line['seconds']:.1f}")
    return table
