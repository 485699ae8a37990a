"""What goes with all that a context holds: of a user, what may come next."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import polars as pl

from lightgcn_jax.data import Interactions
from lightgcn_jax.evaluation import InnerProduct, Ranking, ready_scorer
from lightgcn_jax.files import replacing
from lightgcn_jax.graph.bipartite import CsrRows, csr_rows
from lightgcn_jax.serving.answers import Ranked, best_of, cut_to, ranked_rows
from pinsage_jax.evaluation.parts import query_scorer
from pinsage_jax.features.raw_files import read_parquet
from pinsage_jax.runs.directory import PinSageRun
from pinsage_jax.runs.finished import FinishedRun
from pinsage_jax.runs.stored_task import load_task
from pinsage_jax.serving.live_items import LiveItems

_FILE = "memberships.parquet"


def write_memberships(path: Path, interactions: Interactions) -> None:
    """Keep all memberships beside a run, which itself keeps those that it trained on.

    Args:
        path: the run directory.
        interactions: in the rows of the run.
    """
    columns = {"context": interactions.user_rows, "item": interactions.item_rows}
    if interactions.timestamps is not None:
        columns["time"] = interactions.timestamps
    with replacing(path / _FILE) as temporary:
        pl.DataFrame(columns).write_parquet(temporary)


def read_memberships(path: Path, trained: Interactions) -> Interactions:
    """All memberships that are known of a run: where none were kept, those that it trained on.

    Args:
        path: the run directory.
        trained: the memberships that it trained on.
    """
    if not (path / _FILE).exists():
        return trained
    frame = read_parquet(path / _FILE)
    times = frame["time"].to_numpy() if "time" in frame.columns else None
    return dataclasses.replace(
        trained,
        user_rows=frame["context"].to_numpy(),
        item_rows=frame["item"].to_numpy(),
        timestamps=times,
    )


def memberships_after(before: Path, train: Interactions) -> Interactions:
    """All memberships that are known of a run that went on from another one.

    Args:
        before: the directory of the other run.
        train: the memberships that the new run trained on: first those of the other run.
    """
    trained = load_task(PinSageRun.open(before)).train
    known = read_memberships(before, trained)
    new = slice(len(trained), None)
    times = None
    if known.timestamps is not None and train.timestamps is not None:
        times = np.concatenate([known.timestamps, train.timestamps[new]])
    return dataclasses.replace(
        train,
        user_rows=np.concatenate([known.user_rows, train.user_rows[new]]),
        item_rows=np.concatenate([known.item_rows, train.item_rows[new]]),
        timestamps=times,
    )


class Memberships:
    """All that is known of what contexts hold.

    Args:
        interactions: in the rows of the run.
    """

    def __init__(self, interactions: Interactions):
        self.interactions = interactions

    @cached_property
    def rows(self) -> CsrRows:
        """Row c holds the items of context c, each once."""
        data = self.interactions
        users, items = np.divmod(np.unique(data.pair_keys), data.num_items)
        return csr_rows(users.astype(np.int32), items.astype(np.int32), data.num_users)


def context_vectors(run: FinishedRun, known: Interactions) -> np.ndarray:
    """A query for each context, made of its latest items, as the task makes queries.

    Args:
        run: the run.
        known: all memberships; those of a context without any have no meaning.

    Returns:
        ``float32[C, D]``.
    """
    most = max(1, run.task.valid.queries.shape[1])
    queries = latest(known, np.arange(known.num_users), most)
    vectors = np.asarray(run.items.vectors)
    return np.asarray(query_scorer(run.model, run.params, vectors, queries).queries)


def recommended(
    asking: np.ndarray,
    known: Memberships,
    rows: np.ndarray,
    live: LiveItems,
    k: int,
    exclude: Iterable[Any] | None,
    exclude_seen: bool,
) -> list[Ranked]:
    """The items that score highest for some contexts.

    Args:
        asking: ``float32[C, D]``, a query for each context.
        known: all memberships.
        rows: ``int[n]``, contexts.
        live: all items, those that were added included.
        k: items for each.
        exclude: ids of items to leave out.
        exclude_seen: leave out the items that a context holds.
    """
    ready = ready_scorer(InnerProduct(jnp.asarray(asking), jnp.asarray(live.vectors)))
    allowed = np.ones(len(live.items), bool)
    for one in exclude or ():
        allowed[live.items.row(one)] = False
    seen = known.rows if exclude_seen else None
    most = cut_to(k, int(allowed.sum()), "may be recommended")

    def best(rows: np.ndarray) -> Ranking:
        return best_of(ready, rows, most, seen, allowed)

    return ranked_rows(rows, live.items, best)


def latest(known: Interactions, rows: np.ndarray, most: int) -> np.ndarray:
    """The latest items of some contexts, ``int32[n, most]``, −1 pads; without times, any of them.

    Args:
        known: all memberships.
        rows: ``int[n]``, contexts.
        most: how many items at most.
    """
    times = np.zeros(len(known)) if known.timestamps is None else known.timestamps
    order = np.lexsort((known.item_rows, -times, known.user_rows))
    users, items = known.user_rows[order], known.item_rows[order]
    places = np.searchsorted(users, rows)[:, None] + np.arange(most)
    inside = places < np.searchsorted(users, rows, side="right")[:, None]
    return np.where(inside, items[np.minimum(places, len(items) - 1)], -1).astype(np.int32)
