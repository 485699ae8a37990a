"""A finished run evaluated again: held-out pairs, items that it never saw, triplets and probes.

The held-out items of a task are added to the run as if they came today: with their features, and
with those of their edges that the task gives back (``fresh_edges``). Then pairs with an added item
and pairs of ordinary items are ranked in the same catalogue of all items. Ying et al. 2018 say that
new items need no retraining; the ratio of the two hit-rates says what that costs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lightgcn_jax.data import IdMap
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph.bipartite import CsrRows, csr_rows
from pinsage_jax.config import stream
from pinsage_jax.encoder.all_items import ItemVectors
from pinsage_jax.evaluation.baselines import lines_to_read_against
from pinsage_jax.evaluation.linear_probe import linear_probe
from pinsage_jax.evaluation.metrics import directions, triplet_accuracy
from pinsage_jax.evaluation.parts import evaluate_part, evaluate_parts
from pinsage_jax.features.bags import TextEncoders
from pinsage_jax.runs.finished import FinishedRun, read_finished
from pinsage_jax.serving.live_items import LiveItems
from pinsage_jax.tasks.task import HeldOut, Task


def evaluate_run(
    path: Path, *, probe: bool = True, text_encoders: TextEncoders | None = None
) -> dict[str, Any]:
    """Evaluate a finished run from what lies in its directory.

    Args:
        path: the run directory.
        probe: classify the vectors by each of the data set's labels.
        text_encoders: by text column, the functions that the features were encoded with.

    Returns:
        ``parts``: the metrics of validation and test; ``baselines``: those of popularity and of the
        features alone on test; ``triplets``: the triplet accuracy on test;
        ``probe`` and ``not_probed`` by label; ``added``, the figures of :func:`evaluate_fresh`
        where the task held items out, or ``not_added``, why there are none.

    Raises:
        InputError: the directory holds no finished run or a damaged one.
    """
    run = read_finished(path)
    task, vectors, pool = run.task, run.vectors, run.pool
    parts = evaluate_parts(run.model, run.params, vectors, task, pool, run.config.ks)
    key = stream(run.config, "evaluation")
    triplets = triplet_accuracy(key, directions(vectors), task.test, candidates=pool)
    figures = {
        "parts": parts,
        "baselines": lines_to_read_against(task, run.config.ks),
        "triplets": triplets.accuracy,
        "probe": {},
        "not_probed": {},
    }
    if task.fresh is not None:
        try:
            figures["added"] = evaluate_fresh(run, text_encoders)
        except InputError as error:  # texts that were encoded by a function that is not at hand
            figures["not_added"] = str(error)
    for name, labels in task.data.labels.items() if probe else ():
        try:
            result = linear_probe(vectors[pool], labels[pool])
        except InputError as error:  # a label of one class, say, is no reason to give up
            figures["not_probed"][name] = str(error)
        else:
            figures["probe"][name] = {"metrics": result.metrics, "baseline": result.baseline}
    return figures


def evaluate_fresh(
    run: FinishedRun, text_encoders: TextEncoders | None = None, *, alone: bool = False
) -> dict[str, dict[str, float]]:
    """Rank the task's pairs among all known items, after the held-out ones were added.

    Args:
        run: a run of a task with held-out items.
        text_encoders: by text column, the functions that the features were encoded with.
        alone: add them without the contexts that the task gives back.

    Returns:
        ``fresh``: the metrics of the pairs whose positive was added; ``test``: those of the
        ordinary pairs, in the same catalogue.

    Raises:
        InputError: the task holds no items out, or a column's text encoder is not given.
    """
    task = run.task
    if task.fresh is None or task.fresh_edges is None:
        raise InputError("fresh: expected a task with held-out items, it has none")
    live = with_fresh_items(run, text_encoders, alone=alone)
    places = live.items.rows(task.data.interactions.items.ids)
    ranked = (run.model, run.params, live.vectors)
    return {
        part: evaluate_part(*ranked, renumbered(held_out, places), ks=run.config.ks)
        for part, held_out in (("fresh", task.fresh), ("test", task.test))
    }


def with_fresh_items(
    run: FinishedRun, text_encoders: TextEncoders | None = None, *, alone: bool = False
) -> LiveItems:
    """Serve the ordinary items of a run, and add the held-out ones to them.

    Args:
        run: a run of a task with held-out items.
        text_encoders: by text column, the functions that the features were encoded with.
        alone: add them without contexts.

    Returns:
        The items: ordinary ones first, held-out ones last.
    """
    task, embedded = run.task, run.items
    ordinary = np.flatnonzero(task.train_items)
    fresh = np.flatnonzero(~task.train_items)
    items = task.data.interactions.items
    known = IdMap(items.ids.gather(ordinary))
    places = known.rows(items.ids)
    live = LiveItems(
        model=run.model,
        params=run.params,
        config=run.config,
        schema=run.schema,
        items=known,
        contexts=task.train.users,
        edges=(places[task.train.item_rows], task.train.user_rows),
        embedded=ItemVectors(
            tuple(layer[ordinary] for layer in embedded.layers), embedded.vectors[ordinary]
        ),
        structure=run.structure,
        features=lambda: task.data.features.take(ordinary),
        slack=len(fresh),
        text_encoders=text_encoders,
    )
    contexts = None if alone else _contexts(task, fresh)
    live.add(items.external(fresh), task.data.features.take(fresh), contexts)
    return live


def renumbered(held_out: HeldOut, places: np.ndarray) -> HeldOut:
    """Name the items of held-out pairs by other rows.

    Args:
        held_out: the pairs.
        places: ``int[I]``, the new row of each item.
    """

    def moved(rows: CsrRows) -> CsrRows:
        owners = np.repeat(np.arange(rows.num_rows), np.asarray(rows.lengths()))
        return csr_rows(owners, places[np.asarray(rows.columns)], rows.num_rows)

    queries = held_out.queries
    queries = np.where(queries >= 0, places[queries], -1).astype(np.int32)
    return HeldOut(queries, moved(held_out.relevant), moved(held_out.seen))


def _contexts(task: Task, fresh: np.ndarray) -> list[list[int | str]]:
    """External ids of the contexts that each held-out item is given back."""
    assert task.fresh_edges is not None
    items, contexts = task.fresh_edges
    order = np.argsort(items, kind="stable")
    items, names = items[order], task.train.users.external(contexts[order])
    starts, ends = (np.searchsorted(items, fresh, side=side) for side in ("left", "right"))
    return [names[start:end] for start, end in zip(starts, ends, strict=True)]
