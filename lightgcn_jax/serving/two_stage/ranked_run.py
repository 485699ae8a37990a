"""A finished run with a second stage: trained, kept in its directory, judged, asked.

A run's split says what came later. Its model, as trained, is stage one. Of the users with
validation pairs four fifths train the second stage, the others choose its epoch; test enters
nothing. In the run's directory it adds one file, so that a kill leaves the old second stage or the
new one: ``ranker.safetensors`` holds the network's weights and, where they are known, the times of
the training pairs; and, as the JSON document ``about`` of its metadata, settings, sizes of the
sources, and how validation went.

What sources are made of is fitted again from the run's pairs when the run is opened.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from lightgcn_jax.arrays import check_array
from lightgcn_jax.data import Interactions, Pairs
from lightgcn_jax.data.pairs import pair_keys
from lightgcn_jax.data.splits import Split
from lightgcn_jax.errors import InputError, naming
from lightgcn_jax.evaluation.parts import EvaluationSets, evaluation_sets
from lightgcn_jax.evaluation.popularity import popularity_figures
from lightgcn_jax.evaluation.significance import PairedComparison, compare_paired
from lightgcn_jax.fields import ANYTHING, SWITCH, document, list_of, number, record, table_of, whole
from lightgcn_jax.graph.bipartite import CsrRows
from lightgcn_jax.json_files import json_text, parsed_json
from lightgcn_jax.runs import RunDirectory, load_scorer
from lightgcn_jax.runs.scorers import from_tensors, tensor_names, tensors_of
from lightgcn_jax.runs.stored_split import reading
from lightgcn_jax.serving.two_stage.ranker import RankerConfig
from lightgcn_jax.serving.two_stage.stage_one import SIZES, History, StageOne, stage_one
from lightgcn_jax.serving.two_stage.training import (
    SELECT_BY,
    Examples,
    Trained,
    judged,
    shapes_of,
    train_ranker,
)
from lightgcn_jax.sums import Sums, replace_listed

NAME = "ranker.safetensors"
"""The file in the run's directory."""

_FORMAT = 2
_ABOUT = "about"
_TIMES = "times"
# Of the users with validation pairs: they choose the epoch.
_CHOOSING_SHARE = 0.2
_EPOCH = record({"epoch": whole(0), SELECT_BY: number()}, {"loss": number()})
_TOLD = record(
    {
        "format": whole(1),
        "config": ANYTHING,
        "sizes": table_of(whole(1)),
        "best_epoch": whole(0),
        "history": list_of(_EPOCH),
        "has_times": SWITCH,
    },
    closed=True,
)


class RankedRun(NamedTuple):
    """A run's stage one with its trained second stage.

    Attributes:
        stage: stage one, of the run's training pairs.
        trained: the second stage.
        sets: the run's split, and what each part's ranking leaves out.
    """

    stage: StageOne
    trained: Trained
    sets: EvaluationSets


class Figures(NamedTuple):
    """The pipeline on a part, beside what it is to beat.

    Attributes:
        candidates: mean share of a user's items that are among the candidates.
        total: candidates for each user.
        before: figures of the run's model alone.
        after: of its candidates in the second stage's order.
        popularity: of a ranking by training users.
        paired: before and after by user, by metric.
    """

    candidates: float
    total: int
    before: dict[str, float]
    after: dict[str, float]
    popularity: dict[str, float]
    paired: dict[str, PairedComparison]


def train_run(
    path: Path | str,
    config: RankerConfig | None = None,
    *,
    sizes: Mapping[str, int] | None = None,
    events: Interactions | None = None,
) -> RankedRun:
    """Train a second stage for a finished run, and write it into its directory.

    Args:
        path: the run's directory.
        config: the settings.
        sizes: candidates of each source; by default :data:`SIZES`.
        events: the run's interactions with their times, if there are any: of each training pair the
            latest counts.

    Raises:
        InputError: no finished run, one without validation pairs, or events that lack the time of
            a training pair.
    """
    run = RunDirectory.open(Path(path))
    run.finished_summary()
    split, sizes = run.split, dict(SIZES if sizes is None else sizes)
    if not len(split.valid):
        raise InputError(
            f"{path}: expected validation pairs to train the second stage on, the run has none; "
            "train it under the protocol strict"
        )
    times = None if events is None else times_of(split, events)
    stage, sets = _stage_of(run, sizes, times)
    config = config or RankerConfig()
    random = np.random.default_rng(config.seed)
    users = np.unique(split.valid.users)
    chosen = random.permutation(users)[: max(1, round(_CHOOSING_SHARE * len(users)))]
    choosing = np.isin(split.valid.users, chosen)
    trained = train_ranker(
        Examples(stage, split.valid.at(~choosing)),
        Examples(stage, split.valid.at(choosing)),
        config,
    )
    about = {
        "format": _FORMAT,
        "config": dataclasses.asdict(config),
        "sizes": sizes,
        "best_epoch": trained.best_epoch,
        "history": trained.history,
        "has_times": times is not None,
    }
    tensors = tensors_of(trained.params) | ({} if times is None else {_TIMES: times})
    content = safetensors.numpy.save(tensors, {_ABOUT: json_text(about)})
    with run.locked():
        replace_listed(run.path, NAME, content)
    return RankedRun(stage, trained, sets)


def open_ranked(path: Path | str, seen: CsrRows | None = None) -> RankedRun:
    """A run that has a second stage.

    Args:
        path: the run's directory.
        seen: what is never proposed, row u for user u; by default the training items.

    Raises:
        InputError: the run has none, or a file of it is damaged.
    """
    run = RunDirectory.open(Path(path))
    where = Sums(run.path).checked(NAME)
    if not where.exists():
        raise InputError(f"{path}: has no second stage: lightgcn-jax rank train {path}")
    with reading(where, "a second stage"), safetensors.safe_open(where, "np") as stored:
        names = stored.keys()  # it cannot be iterated over itself
        tensors = {name: stored.get_tensor(name) for name in names}
        told = (stored.metadata() or {}).get(_ABOUT, "null")
    about = document(where, parsed_json(where, told), _TOLD)
    if about["format"] != _FORMAT:
        raise InputError(f"{where}: expected format {_FORMAT}, got {about['format']}")
    with naming(where):
        config = _config_of(about["config"])
    times = None
    with naming(where):
        if about["has_times"]:
            times = tensors.pop(_TIMES, None)
            count = len(run.split.train)
            check_array(_TIMES, np.zeros(0) if times is None else times, (count,), np.float64)
        stage, sets = _stage_of(run, about["sizes"], times, seen)
        shapes = shapes_of(config, stage)
        if set(tensors) != set(tensor_names(shapes)):
            raise InputError(f"expected {tensor_names(shapes)}, got {sorted(tensors)}")
        params = from_tensors(shapes, tensors)
    trained = Trained(config, params, about["best_epoch"], about["history"])
    return RankedRun(stage, trained, sets)


def evaluate_ranked_run(path: Path | str, ks: tuple[int, ...] = (10,)) -> Figures:
    """Rank the test pairs of a run by its model alone, and by its candidates in the second order.

    Both leave out training and validation items, and pairs that the run's ``cold`` policy skips.

    Args:
        path: the run's directory.
        ks: cut-offs.

    Raises:
        InputError: the run has no second stage, or no test pairs.
    """
    ranked = open_ranked(path)
    sets, stage = ranked.sets, ranked.stage
    if not sets.test.columns.shape[0]:
        raise InputError(f"{path}: expected test pairs to judge the second stage by, it has none")
    stage = dataclasses.replace(stage, seen=sets.known)
    found = judged(ranked.trained, Examples(stage, _pairs_of(sets.test)), ks)
    paired = {
        name: compare_paired(found.before.per_user[name], found.after.per_user[name])
        for name in found.before.per_user
    }
    popularity = popularity_figures(sets, "test", ks)
    mean = float(found.candidates.mean(dtype=np.float64))
    metrics = found.before.metrics, found.after.metrics
    return Figures(mean, stage.total, *metrics, popularity, paired)


def times_of(split: Split, events: Interactions) -> np.ndarray:
    """The time of each training pair.

    Args:
        split: the run's.
        events: with times; of a pair's several the latest counts.

    Returns:
        ``float64[E]``, in the order of ``split.train``.

    Raises:
        InputError: the events have no times, or lack a pair.
    """
    if events.timestamps is None:
        raise InputError("events: expected times, they have none")
    users, items = split.users.rows(events.users.ids), split.items.rows(events.items.ids)
    users, items = users[events.user_rows], items[events.item_rows]
    inside = (users >= 0) & (items >= 0)
    keys, when = pair_keys(users[inside], items[inside]), events.timestamps[inside]
    order = np.lexsort((when, keys))
    keys, when = keys[order], when[order]
    wanted = split.train.keys
    at = np.searchsorted(keys, wanted, side="right") - 1
    lacking = (at < 0) | (keys[at] != wanted) if len(keys) else np.ones(len(wanted), bool)
    if lacking.any():
        raise InputError(
            f"events: expected the time of each training pair, {lacking.sum():,} of "
            f"{len(wanted):,} are not among them"
        )
    return when[at].astype(np.float64)


def _stage_of(
    run: RunDirectory,
    sizes: Mapping[str, int],
    times: np.ndarray | None,
    seen: CsrRows | None = None,
) -> tuple[StageOne, EvaluationSets]:
    split = run.split
    history = History(split.train, len(split.users), len(split.items), times)
    stage = stage_one(
        load_scorer(run), history, offset_columns=run.offset_columns, sizes=sizes, seen=seen
    )
    return stage, evaluation_sets(split, run.config.cold)


def _pairs_of(rows: CsrRows) -> Pairs:
    users = np.repeat(np.arange(rows.num_rows, dtype=np.int32), np.asarray(rows.lengths()))
    return Pairs(users, np.asarray(rows.columns)[: len(users)])


def _config_of(stored: Mapping[str, Any]) -> RankerConfig:
    names = {field.name for field in dataclasses.fields(RankerConfig)}
    if set(stored) != names:
        raise InputError(f"config: expected {sorted(names)}, got {sorted(stored)}")
    hidden = stored["hidden"]
    return RankerConfig(
        **{**stored, "hidden": tuple(hidden) if isinstance(hidden, list) else hidden}
    )
