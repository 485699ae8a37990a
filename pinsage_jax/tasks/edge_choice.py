"""The choice of the items and edges that are held out, and of the pairs that are asked for.

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
    """Choose the items that stay; a share of those with two edges or more does not.

    Args:
        rng: the generator that is drawn from.
        items: ``int[E]``, the item of each distinct edge.
        num_items: I.
        share: how many of the items with two edges or more are held out, from 0 to 1.

    Returns:
        ``bool[I]``, False for an item that is held out.

    Raises:
        InputError: the share is above 0 and so small that it is no item.
    """
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
    """Part the edges of held-out items: the smaller half is asked for, the larger given back.

    Args:
        rng: the generator that is drawn from.
        items: ``int[E]``, the item of each edge.

    Returns:
        ``uint8[E]``, ASKED or GIVEN_BACK.
    """
    order = np.lexsort((rng.random(len(items)), items))
    counts = np.bincount(items)
    place = np.arange(len(items)) - (np.cumsum(counts) - counts)[items[order]]
    codes = np.empty(len(items), np.uint8)
    codes[order] = np.where(place < counts[items[order]] // 2, ASKED, GIVEN_BACK)
    return codes


def held_out_edges(
    rng: np.random.Generator, items: np.ndarray, contexts: np.ndarray, valid: float, test: float
) -> np.ndarray:
    """Part edges into train, valid and test; every item and every context keeps one in train.

    The shares are of the edges of contexts that hold several items, for the only edge of a context
    has to stay. Where few of these edges may leave, at most half of them do, or the sum of the
    shares, if that is more: what is left has to make pairs as well.

    Args:
        rng: the generator that is drawn from.
        items: ``int[E]``, the item of each distinct edge.
        contexts: ``int[E]``, its context.
        valid: the share that is held out for validation, from 0 to 1.
        test: the share that is held out for test.

    Returns:
        ``uint8[E]``, TRAIN, VALID or TEST.
    """
    edges = len(items)
    if not edges:
        raise InputError("interactions: expected edges to train on, got none")
    base = int(shared_edges(contexts).sum())
    priority = rng.permutation(edges)
    kept = _first_of_each(contexts, priority)
    # An edge that its context keeps is as good for its item: fewer have to stay.
    kept |= _first_of_each(items, np.where(kept, priority - edges, priority))
    free = np.flatnonzero(~kept)
    free = free[np.argsort(priority[free])]
    asked = np.array([test, valid]) * base
    most = max(0.5, valid + test) * len(free)
    counts = np.floor(asked * min(1, most / max(asked.sum(), 1e-9)) + 1e-9).astype(int)
    if len(free) > 1:
        counts = np.maximum(counts, asked >= 1)
    ends = np.cumsum(counts)
    codes = np.full(edges, TRAIN, np.uint8)
    codes[free[: ends[0]]] = TEST
    codes[free[ends[0] : ends[1]]] = VALID
    return codes


def shared_edges(contexts: np.ndarray) -> np.ndarray:
    """Tell which edges are of contexts that hold several items, ``bool[E]``.

    Args:
        contexts: ``int[E]``, the context of each distinct edge.
    """
    return np.bincount(contexts)[contexts] > 1 if len(contexts) else np.zeros(0, bool)


def asked_pairs(
    rng: np.random.Generator,
    items: np.ndarray,
    contexts: np.ndarray,
    trained: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray, int]:
    """Turn held-out edges (p, c) into pairs of a training item q of c, drawn uniformly, and p.

    Args:
        rng: the generator that is drawn from.
        items: ``int[E]``, p.
        contexts: ``int[E]``, c.
        trained: distinct training edges, items and contexts, sorted by context.

    Returns:
        ``int32[n]`` queries, ``int32[n]`` positives, and how many contexts have no training item.
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
