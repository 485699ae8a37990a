"""How well items are found that training did not see, beside those that it did.

The held-out items of a task are added to the finished run as if they came today: their features,
and of their edges those that the task gives back (``fresh_edges``). Then both kinds of pairs are
ranked in the same catalogue: all items, ordinary and added. Ying et al. 2018 say that new items
need no retraining; the ratio of the two hit-rates says what that costs.
"""

from __future__ import annotations

import numpy as np

from lightgcn_jax.data import IdMap
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph.bipartite import CsrRows, csr_rows
from pinsage_jax.encoder.all_items import ItemVectors
from pinsage_jax.evaluation.sets import judge
from pinsage_jax.features.schema import TextEncoders
from pinsage_jax.runs.finished import FinishedRun
from pinsage_jax.serving.live_items import LiveItems
from pinsage_jax.tasks.holdout import HeldOut, Task


def judge_fresh(
    run: FinishedRun, text_encoders: TextEncoders | None = None
) -> dict[str, dict[str, float]]:
    """Figures of the task's pairs among all known items, after the held-out ones were added.

    Args:
        run: of a task with held-out items.
        text_encoders: what its features were encoded by, where it was given.

    Returns:
        ``fresh``: of the pairs whose positive was added; ``test``: of the ordinary pairs, in the
        same catalogue.

    Raises:
        InputError: the task holds no items out, or a column's encoder of texts is not given.
    """
    task = run.task
    if task.fresh is None or task.fresh_edges is None:
        raise InputError("fresh: expected a task with held-out items, it has none")
    live = with_fresh_items(run, text_encoders)
    places = live.items.rows(task.data.interactions.items.ids)
    return {
        part: judge(run.model, run.params, live.vectors, renumbered(held_out, places))
        for part, held_out in (("fresh", task.fresh), ("test", task.test))
    }


def with_fresh_items(run: FinishedRun, text_encoders: TextEncoders | None = None) -> LiveItems:
    """The ordinary items of a run, and the held-out ones added to them."""
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
        slack=len(fresh),
        text_encoders=text_encoders,
    )
    live.add(items.external(fresh), task.data.features.take(fresh), _contexts(task, fresh))
    return live


def renumbered(held_out: HeldOut, places: np.ndarray) -> HeldOut:
    """The pairs by other rows of their items.

    Args:
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
