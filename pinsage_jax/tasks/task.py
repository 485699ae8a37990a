"""A task: the pairs that a model trains on, and the held-out pairs that it is evaluated by."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lightgcn_jax.data import Interactions
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph.bipartite import CsrRows
from pinsage_jax.data.items import ItemData
from pinsage_jax.graph.item_graph import ItemGraph
from pinsage_jax.tasks.pairs import PairSource


class HeldOut(NamedTuple):
    """Q queries and the items that are to be found from them.

    Attributes:
        queries: ``int32[Q, n]`` item rows, −1 pads.
        relevant: the held-out positives of each query.
        seen: the items of each query that are left out of the ranking; its own are among them.
    """

    queries: np.ndarray
    relevant: CsrRows
    seen: CsrRows


@dataclass(frozen=True, eq=False)
class Task:
    """Training pairs and held-out pairs; nothing of valid, test or fresh is in train.

    Attributes:
        data: the items with all their edges.
        train: the edges that are walked, and from which statistics and training pairs come; all
            items and contexts of the data have a row.
        pairs: the source of the training pairs.
        valid: the pairs by which the epoch is chosen.
        test: the pairs by which the model is evaluated, once.
        train_items: ``bool[I]``; False for an item that was held out with all its edges.
        fresh: pairs whose positive is such a held-out item.
        fresh_edges: ``int32[F]`` item rows and ``int32[F]`` context rows, the edges that held-out
            items get when they are added. None of the pairs of ``fresh`` is among them.
        notes: counts worth telling a user.
    """

    data: ItemData
    train: Interactions
    pairs: PairSource
    valid: HeldOut
    test: HeldOut
    train_items: np.ndarray
    fresh: HeldOut | None = None
    fresh_edges: tuple[np.ndarray, np.ndarray] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        items, known = self.train.num_items, self.train_items
        if known.shape != (items,) or known.dtype != bool:
            raise InputError(
                f"train_items: expected bool[{items}], got {known.dtype}{list(known.shape)}"
            )
        if not known[self.train.item_rows].all():
            raise InputError("train: expected no edge of a held-out item, got one")


def graph_of(task: Task) -> ItemGraph:
    """Build the graph that is walked, from the training interactions alone.

    Args:
        task: the task.
    """
    train = task.train
    return ItemGraph.from_pairs(
        train.item_rows, train.user_rows, num_items=train.num_items, num_contexts=train.num_users
    )


def with_fresh_edges(task: Task) -> Task:
    """Add the held-out items, with the edges that the task gives them back.

    Args:
        task: a task with held-out items.

    Returns:
        The task with all items and these edges in train; its held-out pairs are the same.

    Raises:
        InputError: the task holds no items out.
    """
    if task.fresh_edges is None:
        raise InputError("fresh_edges: expected a task with held-out items, it has none")
    items, contexts = task.fresh_edges
    train = dataclasses.replace(
        task.train,
        user_rows=np.concatenate([task.train.user_rows, contexts]),
        item_rows=np.concatenate([task.train.item_rows, items]),
        ratings=None,
        timestamps=None,
    )
    return dataclasses.replace(task, train=train, train_items=np.ones_like(task.train_items))
