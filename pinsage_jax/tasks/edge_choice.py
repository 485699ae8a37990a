"""Which items and edges are held out, and what is asked in their place.

All of it is random, but every item that stays, and every context of such items, keeps an edge.
"""

from __future__ import annotations

import numpy as np

from lightgcn_jax.data import TEST, TRAIN, VALID
from lightgcn_jax.errors import InputError

GIVEN_BACK, ASKED = 3, 4
"""The halves of a held-out item's edges, beside TRAIN, VALID and TEST."""


def ordinary_items(
    rng: np.random.Generator, items: np.ndarray, num_items: int, share: float
) -> np.ndarray:
    """``bool[I]``, False for a share of the items that have two edges or more."""
    eligible = np.flatnonzero(np.bincount(items, minlength=num_items) > 1)
    count = round(share * len(eligible))
    if share and not count:
        raise InputError(
            f"held_out_items: {share:g} of {len(eligible):,} items in two contexts or more is none"
        )
    ordinary = np.ones(num_items, bool)
    ordinary[rng.permutation(eligible)[:count]] = False
    return ordinary


def halved(rng: np.random.Generator, items: np.ndarray) -> np.ndarray:
    """The smaller half of each item's edges, at random, is asked for; the other is given back."""
    order = np.lexsort((rng.random(len(items)), items))
    counts = np.bincount(items)
    place = np.arange(len(items)) - (np.cumsum(counts) - counts)[items[order]]
    codes = np.empty(len(items), np.uint8)
    codes[order] = np.where(place < counts[items[order]] // 2, ASKED, GIVEN_BACK)
    return codes


def held_out_edges(
    rng: np.random.Generator, items: np.ndarray, contexts: np.ndarray, valid: float, test: float
) -> np.ndarray:
    """TRAIN, VALID or TEST of each distinct edge; every item and context keeps one in train."""
    edges = len(items)
    if not edges:
        raise InputError("interactions: expected edges to train on, got none")
    priority = rng.permutation(edges)
    kept = _first_of_each(contexts, priority)
    # An edge that its context keeps is as good for its item: fewer have to stay.
    kept |= _first_of_each(items, np.where(kept, priority - edges, priority))
    free = np.flatnonzero(~kept)
    free = free[np.argsort(priority[free])]
    asked = np.array([test, valid]) * edges
    ends = np.cumsum(np.floor(asked * min(1, len(free) / asked.sum()) + 1e-9).astype(int))
    codes = np.full(edges, TRAIN, np.uint8)
    codes[free[: ends[0]]] = TEST
    codes[free[ends[0] : ends[1]]] = VALID
    return codes


def asked_pairs(
    rng: np.random.Generator,
    items: np.ndarray,
    contexts: np.ndarray,
    trained: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray, int]:
    """For held-out edges (p, c) a training item q of c, and p; and how many have no such item.

    Args:
        trained: distinct training edges, items and contexts, sorted by context.
    """
    starts = np.searchsorted(trained[1], contexts)
    counts = np.searchsorted(trained[1], contexts, side="right") - starts
    asked = counts > 0
    places = starts[asked] + rng.integers(0, counts[asked])
    queries, positives = trained[0][places], items[asked]
    return queries.astype(np.int32), positives.astype(np.int32), int((~asked).sum())


def _first_of_each(groups: np.ndarray, priority: np.ndarray) -> np.ndarray:
    """``bool[E]``, the edge of lowest priority in each group."""
    lowest = np.full(groups.max() + 1, len(groups))
    np.minimum.at(lowest, groups, priority)
    return priority == lowest[groups]
