"""Candidates of several sources merged: each says from where it came and at which place there.

A source scores all items for users and has a size, its share of the places. Sources take turns in
proportion to their sizes: item p (from 1) of a source of size n comes at the moment p / n, of equal
moments the earlier source first, and what has come before is passed over. With sizes that add up to
C, C places hold each source's first n items, and where sources agree they reach deeper.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.ranking import ItemsOfUsers, rank, ready_scorer, whole_number
from lightgcn_jax.evaluation.scorer import Scorer

# Users merged at once, which bounds what sorting holds.
_AT_ONCE = 1_024


class Source(NamedTuple):
    """What proposes items.

    Attributes:
        name: what candidates are labelled with.
        scorer: of U users and I items.
        size: its share of the places, at least 1.
    """

    name: str
    scorer: Scorer
    size: int


class Candidates(NamedTuple):
    """The items that a second stage may choose from.

    Attributes:
        items: ``int32[Q, C]``, distinct in a row, in the order in which sources proposed them; −1
            where there are fewer.
        places: ``int32[Q, C, S]``, the place (from 0) of each in each source's first C; −1 where
            the source has it further down.
    """

    items: np.ndarray
    places: np.ndarray


def candidates_of(
    sources: Sequence[Source],
    rows: np.ndarray,
    total: int,
    seen: ItemsOfUsers | None = None,
) -> Candidates:
    """Let sources propose items to users.

    Args:
        sources: S of them, of the same users and items.
        rows: ``int[Q]``, users.
        total: C; where there are fewer items, all of them.
        seen: items never proposed, row u for user u.

    Raises:
        InputError: there is no source, a size is below 1, or sources rank other items.
    """
    if not sources or min(source.size for source in sources) < 1:
        raise InputError("sources: expected at least one, each with a size of at least 1")
    counts = {source.scorer.num_items for source in sources}
    if len(counts) > 1:
        raise InputError(f"sources: expected the same items, got {sorted(counts)} of them")
    total = min(whole_number("total", total, 1, 2**31 - 1), counts.pop())
    sizes = [source.size for source in sources]
    ready = [ready_scorer(source.scorer) for source in sources]
    parts = []
    for start in range(0, max(1, len(rows)), _AT_ONCE):
        block = np.asarray(rows[start : start + _AT_ONCE])
        lists = [np.asarray(rank(one, block, total, seen=seen).items) for one in ready]
        parts.append(merged(lists, sizes, total))
    return Candidates(*map(np.concatenate, zip(*parts, strict=True)))


def merged(lists: Sequence[np.ndarray], sizes: Sequence[int], total: int) -> Candidates:
    """Merge ranked lists.

    Args:
        lists: ``int32[Q, n]`` of each source, best first, distinct in a row; −1 where a place is
            not filled.
        sizes: the share of each.
        total: C.
    """
    moments = [
        np.arange(1, one.shape[1] + 1) / size for one, size in zip(lists, sizes, strict=True)
    ]
    # The order of turns is that of all users alike.
    turns = np.argsort(np.concatenate(moments), kind="stable")
    proposed = np.concatenate(lists, axis=1)[:, turns]
    is_new = _first_of_each(proposed) & (proposed >= 0)
    chosen = np.argsort(~is_new, axis=1, kind="stable")[:, :total]
    items = np.where(
        np.take_along_axis(is_new, chosen, 1), np.take_along_axis(proposed, chosen, 1), -1
    ).astype(np.int32)
    places = [_places(items, one) for one in lists]
    return Candidates(items, np.stack(places, axis=2).astype(np.int32))


def _first_of_each(rows: np.ndarray) -> np.ndarray:
    """Whether an entry is the first of its value in its row."""
    order = np.argsort(rows, axis=1, kind="stable")
    ordered = np.take_along_axis(rows, order, 1)
    differs = np.ones(rows.shape, bool)
    differs[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = np.empty_like(differs)
    np.put_along_axis(first, order, differs, 1)
    return first


def _places(items: np.ndarray, ranked: np.ndarray) -> np.ndarray:
    """The place of each item in the same row of a ranking, −1 where it is not there."""
    if not items.size or not ranked.size:
        return np.full(items.shape, -1)
    width = np.int64(max(items.max(), ranked.max())) + 2
    base = (np.arange(len(items)) * width)[:, None]
    # Shifted by one, so that unfilled places (−1) stay within their row.
    keys, wanted = (base + ranked + 1).ravel(), base + items + 1
    order = np.argsort(keys, kind="stable")
    at = np.searchsorted(keys[order], wanted.ravel()).clip(max=len(keys) - 1)
    found = order[at]
    hit = (keys[found] == wanted.ravel()) & (items.ravel() >= 0)
    return np.where(hit, found % ranked.shape[1], -1).reshape(items.shape)
