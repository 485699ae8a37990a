"""Users to items: PinSAGE beside what knows users, on one split and one ranking.

On ml-latest-small and ml-100k every user's history is cut in time. What knows users (item-based
cosine, GF-CF, LightGCN) ranks for a row of its own; PinSAGE has no users: a query is the mean of a
user's last ten items. Features are title, year and genres; tags were given at all times, those of
the held-out future among them. On gowalla, under the published split, there are no features; in one
row each item has a learnt vector of its own in their place, as in the NGCF paper's PinSAGE. Its
files tell no times, so a query of training is twenty of a user's items, at random, and one of test
all of them.

Every trained row has the same number of seconds for its training steps. What is fitted in one go
takes what it takes. All ranks are among the items that the user has not met in train or validation.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from benchmarks.harness.report import Report, cores, note, whole_number
from benchmarks.tables.budget import (
    StepClock,
    epochs_within,
    seconds_a_step,
    seconds_an_epoch,
    steps_within,
)
from lightgcn_jax.data import Split, carve_validation, given_split, temporal_split
from lightgcn_jax.evaluation import Scorer
from lightgcn_jax.models import GfCf, ItemCf, LightGCN, Popular
from lightgcn_jax.runs import fit as fit_users
from lightgcn_jax.runs.summary import seed_statistics
from lightgcn_jax.settings import ClosedFormConfig, Config, TrainConfig
from lightgcn_jax.training import Optimization, SharedNegatives
from pinsage_jax import PinSageConfig, fit, given_task, time_task
from pinsage_jax.config import PRESETS, settings_from
from pinsage_jax.data.sources import load_items
from pinsage_jax.evaluation.baselines import BASELINES
from pinsage_jax.evaluation.metrics import evaluate_items
from pinsage_jax.evaluation.parts import query_scorer
from pinsage_jax.tasks.task import Task
from pinsage_jax.training.preparation import prepare

SECONDS = {"ml-latest-small": 120, "ml-100k": 120, "gowalla": 600}
"""Budgets of a trained row's steps, by data set."""
DATASETS = tuple(SECONDS)
_METRICS = ("recall@20", "ndcg@20")
_LAST_GIVEN = 20  # items of a query where the order of a user's items is not known
# Wang et al. 2019 (NGCF), table 2.
_PUBLISHED = (0.1380, 0.1196)


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        name: the model's name.
        config: settings of ``lightgcn_jax`` or of ``pinsage_jax``, or the name of a baseline of
            ``pinsage_jax``.
        published: recall@20 and NDCG@20 of a paper on the same split; None where there are none.
    """

    name: str
    config: Config | PinSageConfig | str
    published: tuple[float, float] | None = None


# How long the trained ones are trained follows from the budget.
_LIGHTGCN = TrainConfig(
    model=LightGCN(layers=3),
    negatives=SharedNegatives(256),
    optimization=Optimization(batch_size=8192, learning_rate=0.02),
    ks=(20,),
)
_PINSAGE = PinSageConfig(columns=("title", "year", "genres"))
_WITH_USERS = (
    Row("popular", ClosedFormConfig(Popular(), ks=(20,))),
    Row("item-based cosine", ClosedFormConfig(ItemCf(), ks=(20,))),
    Row("GF-CF", ClosedFormConfig(GfCf(), ks=(20,))),
    Row("LightGCN, 3 layers", _LIGHTGCN),
)
_STRUCTURE = Row("structure, not trained", "structure")
MOVIELENS = (
    *_WITH_USERS,
    Row(
        "features alone",
        settings_from(_PINSAGE, pooling="none", structure=0, folds=0),
    ),
    _STRUCTURE,
    Row("PinSAGE", _PINSAGE),
    Row("PinSAGE without structure", settings_from(_PINSAGE, structure=0, folds=0)),
    Row("PinSAGE, tower", settings_from(_PINSAGE, query="tower")),
    Row("PinSAGE, as in the paper", settings_from(_PINSAGE, **PRESETS["paper"])),
)
# A batch of any size reads nearly all of Gowalla's items, so that a large one costs little more.
# The NGCF paper's PinSAGE has no hard negatives either.
_IDS = settings_from(
    _PINSAGE, columns=None, id_embedding=True, word_dim=64, neighbors=10, batch_size=8192
)
GOWALLA = (
    *_WITH_USERS,
    _STRUCTURE._replace(published=_PUBLISHED),
    Row("PinSAGE", PinSageConfig(), _PUBLISHED),
    Row("PinSAGE, ids", _IDS, _PUBLISHED),
    Row("PinSAGE, ids, without structure", settings_from(_IDS, structure=0, folds=0), _PUBLISHED),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options.

    Args:
        parser: that of ``python -m benchmarks users_to_items``.
    """
    parser.add_argument(
        "--dataset",
        choices=DATASETS,
        default=DATASETS[0],
        help=f"data set (default: {DATASETS[0]})",
    )
    parser.add_argument(
        "--seconds",
        type=whole_number,
        help="seconds that the training steps of a row take, with each seed (default: "
        + ", ".join(f"{seconds} on {name}" for name, seconds in SECONDS.items())
        + ")",
    )
    parser.add_argument("--seeds", type=whole_number, default=3, help="seeds of a row (default: 3)")


def run(args: argparse.Namespace) -> Report:
    """Train and rank every row; see the module.

    Args:
        args: the parsed options.

    Returns:
        The rows' figures; nothing is claimed of them.
    """
    task, split = load(args.dataset, args.data_dir)
    rows = GOWALLA if args.dataset == "gowalla" else MOVIELENS
    seconds = args.seconds or SECONDS[args.dataset]
    lines = []
    for place, row in enumerate(rows, 1):
        note(f"{place} of {len(rows)}: {row.name}")
        lines.append(line_of(row, task, split, args.seeds, seconds))
        note(", ".join(f"{name} {value:.4f}" for name, value in lines[-1]["test"].items()))
    return Report(
        name=f"users_to_items, {args.dataset}",
        settings={
            "dataset": args.dataset,
            "split": task.notes[0],
            "seeds": args.seeds,
            "train_seconds": seconds,
        },
        samples={},
        claims=[],
        details={"rows": lines},
        threads={"jax": cores()},
        tables=[table_of(args.dataset, lines)],
    )


def load(dataset: str, data_dir: Path | None) -> tuple[Task, Split]:
    """Load a data set and split it twice alike.

    Args:
        dataset: one of :data:`DATASETS`.
        data_dir: a folder with one folder for each data set; None for where GRAPHREC_DATA says.

    Returns:
        The task of PinSAGE, and the same split for what knows users.
    """
    data = load_items(dataset, data_dir)
    if dataset == "gowalla":
        split = carve_validation(given_split(data.interactions), 0.1, 0)
        return given_task(data, last=_LAST_GIVEN, valid=0.1, seed=0, max_queries=None), split
    split = temporal_split(data.interactions, 0.8, 0.1, 0.1, per_user=True)
    return time_task(data, valid=0.1, test=0.1, max_queries=None), split


class Run(NamedTuple):
    """A trained or fitted row with one seed.

    Attributes:
        test: its figures.
        train_seconds: what its training steps took; None for a model that is fitted in one go.
    """

    test: dict[str, float]
    train_seconds: float | None


def line_of(row: Row, task: Task, split: Split, seeds: int, seconds: float) -> dict[str, Any]:
    """Train or fit a row with several seeds, and rank test.

    Args:
        row: the model.
        task: for PinSAGE.
        split: the same for what knows users.
        seeds: how many; a model that draws nothing has one.
        seconds: the budget of a trained model's steps, for each seed.

    Returns:
        The figures in plain types: means over seeds, and the spread where there is one.
    """
    started = time.perf_counter()
    if isinstance(row.config, str):
        runs = [Run(_figures(BASELINES[row.config](task, task.test), task), None)]
    elif isinstance(row.config, TrainConfig | ClosedFormConfig):
        runs = _of_users(split, row.config, seeds, seconds)
    else:
        runs = _of_items(task, row.config, seeds, seconds)
    spread = {name: seed_statistics([one.test[name] for one in runs]) for name in _METRICS}
    trained = [one.train_seconds for one in runs if one.train_seconds is not None]
    line: dict[str, Any] = {
        "name": row.name,
        "seconds_a_seed": (time.perf_counter() - started) / len(runs),
        "train_seconds_a_seed": statistics.fmean(trained) if trained else None,
        "test": {name: one["mean"] for name, one in spread.items()},
        "runs": [one.test for one in runs],
    }
    widths = {name: one.get("ci95_half_width") for name, one in spread.items()}
    if all(width is not None for width in widths.values()):
        line["ci95_half_width"] = widths
    if row.published is not None:
        line["published"] = dict(zip(_METRICS, row.published, strict=True))
    return line


def _of_users(split: Split, config: Config, seeds: int, seconds: float) -> list[Run]:
    """One run for a model that draws nothing, for the others one with each seed."""
    if isinstance(config, TrainConfig):
        config = epochs_within(config, seconds, seconds_an_epoch(split, config))
    elif not config.model.uses_key:
        seeds = 1
    runs = []
    for number in range(seeds):
        # Every test pair counts, as in the figures of the other package.
        own = dataclasses.replace(config, seed=config.seed + number, cold="keep")
        summary = fit_users(split, own).summary
        test = {name: summary["test"][name] for name in _METRICS}
        runs.append(Run(test, summary["train_seconds"] if own.is_trained else None))
    return runs


def _of_items(task: Task, config: PinSageConfig, seeds: int, seconds: float) -> list[Run]:
    """A run of PinSAGE with each seed."""
    first = prepare(task, config)
    config = steps_within(config, seconds, seconds_a_step(task, config, first))
    runs = []
    for number in range(seeds):
        clock = StepClock(config.steps_per_epoch)
        result = fit(
            task,
            dataclasses.replace(config, seed=config.seed + number),
            reporter=clock,
            prepared=None if number else first,
        )
        scorer = query_scorer(
            result.prepared.model, result.params, result.items.vectors, task.test.queries
        )
        runs.append(Run(_figures(scorer, task), clock.train_seconds))
    return runs


def _figures(scorer: Scorer, task: Task) -> dict[str, float]:
    metrics = evaluate_items(scorer, task.test, ks=(20,)).metrics
    return {name: metrics[name] for name in _METRICS}


def table_of(dataset: str, lines: Sequence[Mapping[str, Any]]) -> Table:
    """The lines for a reader.

    Args:
        dataset: its name, for the title.
        lines: from :func:`line_of`.

    Returns:
        A row for each line.
    """
    has_published = any("published" in line for line in lines)
    columns = ["model", "seeds", "seconds a seed", "of which training", *_METRICS]
    columns += [f"published {name}" for name in _METRICS] if has_published else []
    table = Table(*columns, title=f"{dataset}, users to items: full ranking of the test items")
    for line in lines:
        spread, trained = line.get("ci95_half_width"), line["train_seconds_a_seed"]
        cells = [line["name"], str(len(line["runs"])), f"{line['seconds_a_seed']:.1f}"]
        cells.append("–" if trained is None else f"{trained:.1f}")
        for name in _METRICS:
            cells.append(f"{line['test'][name]:.4f}" + (f" ±{spread[name]:.4f}" if spread else ""))
        if has_published:
            published = line.get("published")
            cells += [f"{published[name]:.4f}" if published else "–" for name in _METRICS]
        table.add_row(*cells)
    return table
