"""Importance neighbourhoods: the items that walks visit most, and how often (PinSAGE, section 3.2).

Walks run on the device; their visits are counted on the host, in threads, by a hash table in C++.
Where that was not compiled, counting is sorting: a row's visits are sorted by NumPy, the lengths of
its runs are the counts, and the smallest of (count, place) packed into one word are the most
visited. Both give the same neighbours.
"""

from __future__ import annotations

import ctypes
import functools
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import Array, Float, Ids, Int, PRNGKey, power_of_two
from lightgcn_jax.data.pairs import check_rows
from lightgcn_jax.diffusion.native.library import extension_path
from lightgcn_jax.errors import InputError
from pinsage_jax.graph.hashing import salts, scrambled, unscrambled
from pinsage_jax.graph.item_graph import ItemGraph
from pinsage_jax.graph.walks import WalkConfig, walk

_NOBODY = np.uint32(0xFFFFFFFF)
# A count and a place share a word of 32 bits.
_MOST_VISITS = 65_535
# Visits that a thread counts at a time, so that its arrays stay in the cache.
_COUNTED_AT_ONCE = 1 << 17
# Words of 4 bytes that live at the same time for each visit: random bits, ids, runs, ranks.
_WORDS_PER_VISIT = 8


@flax.struct.dataclass
class NeighborTable:
    """T neighbours of each of R items.

    Attributes:
        ids: ``int32[R, T]``, the most visited first; −1 pads.
        weights: ``float32[R, T]``, the visit counts of a row divided by their sum: a row sums to 1,
            or is all 0 for an item without neighbours.
    """

    ids: Int[Array, "rows neighbors"]
    weights: Float[Array, "rows neighbors"]

    @property
    def num_rows(self) -> int:
        """R."""
        return self.ids.shape[0]

    def take(self, rows: Ids) -> NeighborTable:
        """The neighbours of some items.

        Args:
            rows: ``int32[n]``.
        """
        return NeighborTable(ids=self.ids[rows], weights=self.weights[rows])


def importance_neighbors(
    key: PRNGKey, seeds: np.ndarray, visits: np.ndarray, count: int
) -> NeighborTable:
    """Keep the T most visited items of each row; of equally visited ones any, by a hash.

    The seed itself is left out: the encoder concatenates an item's own representation to that of
    its neighbourhood (Algorithm 1, line 2), so it is no neighbour. Weights are L1-normalised over
    the T that are kept.

    Many visits of a few hundred are the only one of their item, so a large part of a neighbourhood
    may be chosen among equals. They are ordered by a hash of the key, the seed and the item: every
    one of them is as likely to be kept as any other, wherever its row stands.

    Args:
        key: of the order of equals; consumed.
        seeds: ``int32[B]``.
        visits: ``int32[B, V]`` item rows, −1 where there is none; V ≤ 65,535.
        count: T; where fewer items were visited, the rest is padded.

    Returns:
        A table of B rows.

    Raises:
        InputError: there are more visits than count, or T is less than 1.
    """
    ids, weights = _counted(_tie_word(key), np.asarray(seeds), np.asarray(visits), count)
    return NeighborTable(ids=jax.device_put(ids), weights=jax.device_put(weights))


def _tie_word(key: PRNGKey) -> np.ndarray:
    """The 32 bits that settle, with a seed, the order of its equals."""
    return np.asarray(jax.random.bits(key, (), jnp.uint32))


def _counted(
    tie_word: np.ndarray, seeds: np.ndarray, visits: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """``int32[B, T]`` items and ``float32[B, T]`` weights; nothing of it runs on the device."""
    num_visits = visits.shape[1]
    if num_visits > _MOST_VISITS:
        raise InputError(f"visits: expected at most {_MOST_VISITS:,} a seed, got {num_visits:,}")
    _check_count(count)
    salt = salts(seeds.astype(np.uint32) ^ tie_word)
    ids = np.full((len(seeds), count), -1, np.int32)
    weights = np.zeros((len(seeds), count), np.float32)

    most_visited = _most_visited if _library() is None else _most_visited_by_hash

    def keep(part: slice) -> None:
        ids[part], counts = most_visited(seeds[part], visits[part], salt[part], count)
        weights[part] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    size = max(1, _COUNTED_AT_ONCE // num_visits)
    with ThreadPoolExecutor(os.cpu_count()) as counting:
        parts = (slice(start, start + size) for start in range(0, len(seeds), size))
        list(counting.map(keep, parts))
    return ids, weights


def _most_visited(
    seeds: np.ndarray, visits: np.ndarray, salt: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """``int32[B, T]`` items and how often each was visited, of a few rows."""
    num_visits = visits.shape[1]
    nobody = (visits < 0) | (visits == seeds[:, None])
    words = np.where(nobody, _NOBODY, scrambled(visits.astype(np.uint32), salt[:, None]))
    words.sort(axis=1)
    ends = np.ones(words.shape, bool)
    np.not_equal(words[:, 1:], words[:, :-1], out=ends[:, :-1])
    last = np.flatnonzero(ends)
    lengths = np.diff(last, prepend=-1).astype(np.uint32)
    # The most visits come first, then the lowest place, which is the lowest scrambled id.
    bits = num_visits.bit_length()
    ranks = np.full(words.shape, _NOBODY)
    places = (last % num_visits).astype(np.uint32)
    ranks.flat[last] = (num_visits - lengths << bits) | places
    ranks[words == _NOBODY] = _NOBODY
    kept = min(count, num_visits)
    best = np.sort(np.partition(ranks, kept - 1, axis=1)[:, :kept], axis=1)
    there = best != _NOBODY
    found = np.take_along_axis(words, np.where(there, best & ((1 << bits) - 1), 0), axis=1)
    counts = np.where(there, num_visits - (best >> bits), 0)
    room = ((0, 0), (0, count - kept))
    ids = np.where(there, unscrambled(found, salt[:, None]).astype(np.int32), -1)
    return np.pad(ids, room, constant_values=-1), np.pad(counts, room)


@functools.cache
def _library() -> ctypes.CDLL | None:
    """The compiled counter; None where there was no compiler when the package was installed."""
    path = extension_path(Path(__file__).parent, "_visits")
    return None if path is None else ctypes.CDLL(str(path))


def _most_visited_by_hash(
    seeds: np.ndarray, visits: np.ndarray, salt: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The same by the compiled counter, which lets other threads run meanwhile."""
    library = _library()
    assert library is not None
    ids = np.full((len(seeds), count), -1, np.int32)
    counts = np.zeros((len(seeds), count), np.int32)
    kinds = np.int32, np.int32, np.uint32
    given = [
        np.ascontiguousarray(array, kind)
        for array, kind in zip((seeds, visits, salt), kinds, strict=True)
    ]
    pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (*given, ids, counts)]
    sizes = [ctypes.c_int64(size) for size in (*visits.shape, count)]
    library.most_visited(*pointers[:3], *sizes, *pointers[3:])
    return ids, counts


def build_table(
    key: PRNGKey,
    graph: ItemGraph,
    *,
    neighbors: int,
    config: WalkConfig,
    rows: np.ndarray | None = None,
    memory_bytes: int = 2**27,
) -> NeighborTable:
    """Walk from every item, or from some, and keep each one's most visited.

    Rows are walked in chunks of one size, the last one padded, so one program serves all. A row's
    draws depend on the key and the row alone: however the rows are cut or chosen, a row's
    neighbours are the same for one key, and new for a new key.

    Args:
        key: consumed.
        graph: the graph that is walked.
        neighbors: T.
        config: how many walks, how long.
        rows: ``int[n]`` item rows; None for all R.
        memory_bytes: what walking and counting one chunk may take, beside the graph and the table;
            two are under way at once.

    Returns:
        A table of R rows, or of n in the order of ``rows``.

    Raises:
        InputError: a row is out of range, T is less than 1, there are more than 65,535 visits, or
            the memory does not hold a single row.
    """
    rows = np.arange(graph.num_items) if rows is None else np.asarray(rows)
    check_rows("rows", rows, graph.num_items)
    _check_count(neighbors)
    fitting = memory_bytes // (4 * _WORDS_PER_VISIT * config.visits)
    if fitting < 1:
        raise InputError(
            f"memory_bytes: expected at least {4 * _WORDS_PER_VISIT * config.visits:,}, which a "
            f"row of {config.visits:,} visits takes, got {memory_bytes:,}"
        )
    # A power of two for few rows: refreshing a changing number of them compiles a few programs.
    chunk = min(fitting, max(2, power_of_two(len(rows))))
    padded = np.full(-(-len(rows) // chunk) * chunk, -1, np.int32)
    padded[: len(rows)] = rows
    walk_key, tie_key = jax.random.split(key)
    tie_word = _tie_word(tie_key)
    ids = np.full((len(padded), neighbors), -1, np.int32)
    weights = np.zeros((len(padded), neighbors), np.float32)
    starts = range(0, len(padded), chunk)

    def walked(start: int) -> Array:
        seeds = jax.device_put(padded[start : start + chunk])
        return walk(walk_key, graph, seeds, config=config)

    # The device walks from the next chunk while the host counts this one.
    under_way = walked(0) if starts else None
    for start in starts:
        visits, part = under_way, slice(start, start + chunk)
        under_way = walked(part.stop) if part.stop < len(padded) else None
        ids[part], weights[part] = _counted(tie_word, padded[part], np.asarray(visits), neighbors)
    return NeighborTable(
        ids=jax.device_put(ids[: len(rows)]), weights=jax.device_put(weights[: len(rows)])
    )


def walked_neighbors(
    key: PRNGKey, graph: ItemGraph, seeds: np.ndarray, *, count: int, config: WalkConfig
) -> NeighborTable:
    """Walk from some items and keep each one's most visited.

    Args:
        key: consumed.
        graph: the graph that is walked.
        seeds: ``int32[B]`` item rows; −1 pads, and has no neighbours.
        count: T.
        config: how many walks, how long.

    Returns:
        A table of B rows.
    """
    walk_key, tie_key = jax.random.split(key)
    visits = walk(walk_key, graph, jax.device_put(seeds), config=config)
    return importance_neighbors(tie_key, seeds, np.asarray(visits), count)


def _check_count(count: int) -> None:
    if count < 1:
        raise InputError(f"neighbors: expected at least 1, got {count}")


def agreement(one: NeighborTable, other: NeighborTable) -> float:
    """Measure how much two draws of neighbourhoods agree: the weight that they share.

    Σ_v min(α_uv, α'_uv), a mean over the items that have neighbours in both.

    Args:
        one: a table of R items.
        other: of the same items, drawn with another key.

    Returns:
        From 0 to 1; NaN where no item has neighbours.
    """
    ids, weights = np.asarray(one.ids), np.asarray(one.weights)
    others, their_weights = np.asarray(other.ids), np.asarray(other.weights)
    shared = np.zeros(len(ids))
    for place in range(ids.shape[1]):
        same = (others == ids[:, place, None]) & (others >= 0)
        shared += np.minimum(weights[:, place], (same * their_weights).sum(axis=1))
    there = (ids[:, 0] >= 0) & (others[:, 0] >= 0)
    return float(shared[there].mean()) if there.any() else float("nan")
