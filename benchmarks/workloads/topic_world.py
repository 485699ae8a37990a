"""A generated world of items and contexts, as large as the disk allows, where items of one topic
meet.

Sizes of contexts fall as a power. A context has a topic and draws most of its items from it, the
others from all; within a topic few items are drawn often. The features of an item are signs of its
topic under noise, which the features of one item hardly tell and those of its company do. Neither
rows of items nor those of contexts say anything of topics.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

WIDTH = 32
"""Numbers that describe an item."""

_ITEMS_A_TOPIC, _SIGNAL, _OWN_SHARE, _SKEW = 500, 0.5, 0.8, 2.0
_LEAST_SIZE, _MOST_SIZE, _SIZE_POWER = 5, 1_000, 1.2
_ITEMS_AT_ONCE, _CONTEXTS_AT_ONCE = 1_000_000, 200_000


def write_world(folder: Path, items: int, memberships: int, seed: int = 0) -> dict[str, int]:
    """Write ``item_rows.npy``, ``context_rows.npy`` (``int32[E]`` each) and ``features.npy``
    (``float32[I, WIDTH]``).

    Args:
        folder: where the files are written.
        items: I.
        memberships: E, places of items in contexts; an item may have several in one.
        seed: of the draws.

    Returns:
        How many ``contexts`` and ``topics`` there are, and the ``largest`` context's size.
    """
    rng = np.random.default_rng(seed)
    topics = max(2, items // _ITEMS_A_TOPIC)
    starts = np.linspace(0, items, topics + 1).astype(np.int32)
    # Items by topic, and in each the popular ones first.
    order = rng.permutation(items).astype(np.int32)
    _write_features(folder / "features.npy", rng, order, starts)
    ends = _ends_of_contexts(rng, memberships)
    contexts = rng.permutation(len(ends)).astype(np.int32)
    columns = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.int32, (memberships,))
        for name in ("item_rows", "context_rows")
    }
    sizes = np.diff(ends, prepend=0)
    for at in range(0, len(ends), _CONTEXTS_AT_ONCE):
        some = slice(at, at + _CONTEXTS_AT_ONCE)
        part = slice(int(ends[at] - sizes[at]), int(ends[some][-1]))
        columns["context_rows"][part] = np.repeat(contexts[some], sizes[some])
        of_context = rng.integers(0, topics, len(sizes[some]))
        columns["item_rows"][part] = order[_places(rng, np.repeat(of_context, sizes[some]), starts)]
    return {"contexts": len(ends), "topics": topics, "largest": int(sizes.max())}


def _places(rng: np.random.Generator, topics: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """A place of an item for each draw, most of them within its topic."""
    strange = rng.random(len(topics)) >= _OWN_SHARE
    topics = np.where(strange, rng.integers(0, len(starts) - 1, len(topics)), topics)
    lengths = starts[topics + 1] - starts[topics]
    return starts[topics] + (lengths * rng.random(len(topics)) ** _SKEW).astype(np.int32)


def _ends_of_contexts(rng: np.random.Generator, memberships: int) -> np.ndarray:
    """Where each context ends, ``int64[C]``: sizes of a Pareto law, until all places are taken."""
    luck = rng.random(-(-memberships // _LEAST_SIZE))
    sizes = np.minimum(_MOST_SIZE, _LEAST_SIZE * (1 - luck) ** (-1 / _SIZE_POWER))
    ends = np.cumsum(sizes.astype(np.int64))
    count = int(np.searchsorted(ends, memberships)) + 1
    return np.minimum(ends[:count], memberships)


def _write_features(
    path: Path, rng: np.random.Generator, order: np.ndarray, starts: np.ndarray
) -> None:
    features = np.lib.format.open_memmap(path, "w+", np.float32, (len(order), WIDTH))
    signs = rng.choice(np.array([-_SIGNAL, _SIGNAL], np.float32), (len(starts) - 1, WIDTH))
    for at in range(0, len(order), _ITEMS_AT_ONCE):
        rows = order[at : at + _ITEMS_AT_ONCE]
        topics = np.searchsorted(starts, np.arange(at, at + len(rows)), side="right") - 1
        noise = rng.standard_normal((len(rows), WIDTH), np.float32)
        features[rows] = signs[topics] + noise
