"""Going on with new data: ids grow, the encoder goes on from a run's best epoch.

What an input means stays as the run has it, or its weights would mean something else: the means and
deviations of features, vocabularies, and the vectors of known contexts in the structure. New
contexts are placed among these by the items that they hold.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from lightgcn_jax.data import Interactions
from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.data.spellings import UnknownIds, check_fit
from lightgcn_jax.errors import InputError
from pinsage_jax.config import PinSageConfig
from pinsage_jax.data.items import ItemData
from pinsage_jax.features.inputs import require
from pinsage_jax.features.schema import TextEncoders
from pinsage_jax.features.table import FeatureTable, check_known
from pinsage_jax.runs.directory import PinSageRun
from pinsage_jax.runs.finished import read_finished
from pinsage_jax.runs.fit import Fit, fit
from pinsage_jax.runs.memberships import read_memberships
from pinsage_jax.tasks.pairs import CooccurrencePairs, PairSource, UserHistories
from pinsage_jax.tasks.task import HeldOut, Task, graph_of
from pinsage_jax.training.preparation import Meaning, prepare
from pinsage_jax.training.reporter import Reporter, SilentReporter

# Settings that the encoder's parameters and what they mean rest on.
_KEPT = (
    *("columns", "log_degree", "id_embedding", "dim", "word_dim", "layers", "pooling", "structure"),
    *("query", "unit_length"),
)


def continue_from(
    path: Path | str,
    data: ItemData,
    config: PinSageConfig | None = None,
    *,
    out: Path | None = None,
    reporter: Reporter | None = None,
    record: Mapping[str, Any] | None = None,
    unknown_ids: UnknownIds = "refuse",
    text_encoders: TextEncoders | None = None,
    mesh: Mesh | str | None = None,
) -> Fit:
    """Train on from a run's best epoch, with its data and new data together.

    What the run held out stays held out, and nothing else is: figures before and after compare.
    The learning-rate schedule, Adam's moments and the count of epochs begin anew, and the
    parameters of the start stay the best where no epoch is better.

    Args:
        path: the run to go on from; it is only read.
        data: new items, contexts and memberships; known ones among them. The features of a known
            item that come with it take the place of the run's.
        config: the settings; by default the run's own. Those of the encoder must be the run's.
        out: a new directory for the new run; None keeps everything in memory.
        reporter: receives progress, and what is worth telling of the new data.
        record: JSON value stored with the new run.
        unknown_ids: whether to go on where most contexts and most items are unknown to the run, as
            they are where ids are written in another way.
        text_encoders: by text column, the functions that the run was started with.
        mesh: as :func:`pinsage_jax.runs.fit.fit` takes it.

    Returns:
        The new run.

    Raises:
        InputError: no finished run, settings that its encoder does not fit, or new data that do not
            fit its own.
    """
    run, reporter = read_finished(Path(path)), reporter or SilentReporter()
    config = config or run.config
    for name in _KEPT:
        before, after = getattr(run.config, name), getattr(config, name)
        if before != after:
            raise InputError(f"{name}: expected {before} as in {path}, got {after}")
    known = read_memberships(PinSageRun.open(Path(path)), run.task.train)
    task = merge_task(run.task, data, unknown_ids, known)
    for note in task.notes:
        reporter.noted(note)
    structure = run.structure
    if structure is not None:
        structure = structure.grown(graph_of(run.task), graph_of(task))
    prepared = prepare(task, config, text_encoders, Meaning(run.schema, structure))
    return fit(
        task,
        config,
        out=out,
        data=record,
        reporter=reporter,
        text_encoders=text_encoders,
        prepared=prepared,
        initial=run.params,
        mesh=mesh,
    )


def run_settings(path: Path | str) -> PinSageConfig:
    """The settings of a run that is gone on from.

    Args:
        path: the run directory.

    Raises:
        InputError: there is no run.
    """
    return PinSageRun.open(Path(path)).config


def merge_task(
    old: Task,
    new: ItemData,
    unknown_ids: UnknownIds = "refuse",
    memberships: Interactions | None = None,
) -> Task:
    """A task with new memberships, of new items and contexts too; known ones keep their rows.

    A membership that the task knows counts once. One that would give a held-out pair away is left
    out: of a held-out item, or of a held-out positive in a context that holds all of its query.

    Args:
        old: the task.
        new: the new data.
        unknown_ids: whether to go on where most contexts and most items are unknown.
        memberships: all that is known of the old items, in the rows of ``old``, what is held out
            included; None for those that are trained on.

    Raises:
        InputError: they are unknown and that is to be refused, or the new data lack times or
            features that the task has.
    """
    train, given = old.train, new.interactions
    # Of users' histories a membership counts once, as where the task was made.
    given = given.deduplicated() if isinstance(old.pairs, UserHistories) else given
    given = given.in_canonical_order()[0]
    names = "the run", "the new data"
    check = "allow"
    if _mostly_unknown(train.users, given.users) and _mostly_unknown(train.items, given.items):
        check = unknown_ids
    notes = (
        *check_fit("contexts", train.users.ids, given.users.ids, *names, check),
        *check_fit("items", train.items.ids, given.items.ids, *names, check),
    )
    contexts, items = _grown(train.users, given.users), _grown(train.items, given.items)
    context_rows = contexts.rows(given.users.ids)[given.user_rows]
    item_rows = items.rows(given.items.ids)[given.item_rows]

    def keys(contexts: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return contexts.astype(np.int64) * len(items) + rows

    train_items = np.append(old.train_items, np.ones(len(items) - len(train.items), bool))
    of_new = keys(context_rows, item_rows)
    known = np.isin(of_new, keys(train.user_rows, train.item_rows))
    held = ~train_items[item_rows]
    for part in (old.valid, old.test, old.fresh):
        if part is not None:
            held |= np.isin(of_new, keys(*_given_away(train, part)))
    fresh = ~known & ~held
    if train.timestamps is not None and given.timestamps is None:
        raise InputError("timestamps: expected a time for each new membership, as the run has")

    def joined(before: Interactions, chosen: np.ndarray) -> Interactions:
        times = None
        if before.timestamps is not None and given.timestamps is not None:
            times = np.concatenate([before.timestamps, given.timestamps[chosen]])
        return Interactions(
            users=contexts,
            items=items,
            user_rows=np.concatenate([before.user_rows, context_rows[chosen]]).astype(np.int32),
            item_rows=np.concatenate([before.item_rows, item_rows[chosen]]).astype(np.int32),
            timestamps=times,
        )

    merged = joined(train, fresh)
    everything = merged
    if memberships is not None:
        unknown = ~np.isin(of_new, keys(memberships.user_rows, memberships.item_rows))
        everything = joined(memberships, unknown)
    table, told = _merged_table(old.data.features, new, items)
    labels = {name: _padded(label, len(items)) for name, label in old.data.labels.items()}
    counts = (
        f"new data: {len(contexts) - len(train.users):,} new contexts, "
        f"{len(items) - len(train.items):,} new items, {int(fresh.sum()):,} new memberships to "
        f"train; {int((held & ~known).sum()):,} are held out by the run"
    )
    return dataclasses.replace(
        old,
        data=ItemData(old.data.name, everything, table, labels),
        train=merged,
        pairs=_pairs_of(old.pairs, merged),
        train_items=train_items,
        notes=(*new.notes, *notes, *told, counts),
    )


def _mostly_unknown(known: IdMap, given: IdMap) -> bool:
    return 2 * int((known.rows(given.ids) < 0).sum()) > len(given)


def _grown(known: IdMap, given: IdMap) -> IdMap:
    """All ids: known ones keep their rows, new ones follow in the order in which they are given,
    which no name has a say in."""
    grown = known.grow(given.ids)
    new = grown.ids.slice(len(known))
    order = np.argsort(given.rows(new), kind="stable")
    return IdMap(grown.ids.head(len(known)).append(new.gather(order)))


def _given_away(train: Interactions, part: HeldOut) -> tuple[np.ndarray, np.ndarray]:
    """The memberships that would tell held-out pairs: int[n] contexts and int[n] items."""
    order = np.argsort(train.item_rows, kind="stable")
    contexts = train.user_rows[order]
    offsets = np.searchsorted(train.item_rows[order], np.arange(train.num_items + 1))
    first = part.queries[:, 0]
    counts = np.where(first >= 0, offsets[first + 1] - offsets[first], 0)
    queries = np.repeat(np.arange(len(first)), counts)
    places = np.arange(len(queries)) - np.repeat(np.cumsum(counts) - counts, counts)
    asked = contexts[offsets[first[queries]] + places]
    keys = train.pair_keys
    for column in part.queries[:, 1:].T:
        others = column[queries]
        wanted = asked.astype(np.int64) * train.num_items + others
        inside = (others < 0) | np.isin(wanted, keys)
        queries, asked = queries[inside], asked[inside]
    starts, positives = np.asarray(part.relevant.offsets), np.asarray(part.relevant.columns)
    lengths = starts[queries + 1] - starts[queries]
    rows = np.repeat(np.arange(len(queries)), lengths)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return asked[rows], positives[starts[queries[rows]] + within]


def _merged_table(
    old: FeatureTable, new: ItemData, items: IdMap
) -> tuple[FeatureTable, tuple[str, ...]]:
    """The features of all items: new ones where they came, those of the run for the others."""
    blank = len(items) - old.num_rows
    order = np.append(np.arange(old.num_rows), np.full(blank, -1))
    if not new.features.columns:
        told = f"no features came: {blank:,} new items have none"
        return old.take(order), (told,) if old.columns and blank else ()
    check_known("features", old.columns, new.features.columns)
    came = new.features.select(old.columns)
    columns = {}
    for name, column in old.columns.items():
        given = came.columns[name]
        where = f"features: column {name!r}"
        require(given.kind == column.kind, where, f"kind {column.kind} as in the run", given.kind)
        if given.kind == "vector" and given.absent().all():
            given = column.take(np.full(came.num_rows, -1))
        if given.kind == "vector":
            width = column.values.shape[1]
            wanted = f"vectors of {width} entries as in the run"
            require(given.values.shape[1] == width, where, wanted, given.values.shape[1])
        columns[name] = given
    came = FeatureTable(columns, came.num_rows)
    with_features = np.zeros(came.num_rows, bool)
    for column in columns.values():
        with_features |= ~column.absent()
    rows = items.rows(new.interactions.items.ids)
    order[rows[with_features]] = old.num_rows + np.flatnonzero(with_features)
    return old.followed_by(came).take(order), ()


def _padded(label: np.ndarray, rows: int) -> np.ndarray:
    """A label with no class for new items."""
    none = False if label.dtype == bool else -1
    padding = np.full((rows - len(label), *label.shape[1:]), none, label.dtype)
    return np.concatenate([label, padding])


def _pairs_of(pairs: PairSource, train: Interactions) -> PairSource:
    """Pairs of the same kind; those that were given stay as they are."""
    if isinstance(pairs, CooccurrencePairs):
        return CooccurrencePairs(train.item_rows, train.user_rows, train.num_users)
    if isinstance(pairs, UserHistories):
        return UserHistories(train, last=pairs.last)
    return pairs
