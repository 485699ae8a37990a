"""Importance neighbourhoods: the items that walks visit most, and how often (PinSAGE, section 3.2).

Counting is sorting: a row's visits are sorted, the lengths of its runs are the counts, and a second
sort of (count, place) packed into one word ranks them.
"""

from __future__ import annotations

import functools

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import Array, Float, Ids, Int, PRNGKey
from lightgcn_jax.data.pairs import check_rows
from lightgcn_jax.errors import InputError
from pinsage_jax.graph.hashing import salts, scrambled, unscrambled
from pinsage_jax.graph.item_graph import ItemGraph
from pinsage_jax.graph.sorted_rows import sorted_rows
from pinsage_jax.graph.walks import WalkConfig, walk

_NOBODY = np.uint32(0xFFFFFFFF)
# A count and a place share a word of 32 bits.
_MOST_VISITS = 65_535
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


@functools.partial(jax.jit, static_argnames="count")
def importance_neighbors(
    key: PRNGKey, seeds: Ids, visits: Int[Array, "batch visits"], count: int
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
        count: T, static; where fewer items were visited, the rest is padded.

    Returns:
        A table of B rows.

    Raises:
        InputError: there are more visits than count, or T is less than 1.
    """
    num_visits = visits.shape[1]
    if num_visits > _MOST_VISITS:
        raise InputError(f"visits: expected at most {_MOST_VISITS:,} a seed, got {num_visits:,}")
    _check_count(count)
    salt = salts(seeds.astype(jnp.uint32) ^ jax.random.bits(key, (), jnp.uint32))[:, None]
    nobody = (visits < 0) | (visits == seeds[:, None])
    words = jnp.where(nobody, _NOBODY, scrambled(visits.astype(jnp.uint32), salt))
    visited, lengths = _runs(words)
    # The most visits come first, then the lowest place, which is the lowest scrambled id.
    bits = num_visits.bit_length()
    places = jnp.arange(num_visits, dtype=jnp.uint32)[None, :]
    ranks = ((num_visits - lengths).astype(jnp.uint32) << bits) | places
    best = sorted_rows(jnp.where(lengths > 0, ranks, _NOBODY))[:, :count]
    best = jnp.pad(best, ((0, 0), (0, count - best.shape[1])), constant_values=_NOBODY)
    there = best != _NOBODY
    place = jnp.where(there, best & ((1 << bits) - 1), 0).astype(jnp.int32)
    ids = unscrambled(jnp.take_along_axis(visited, place, axis=1), salt).astype(jnp.int32)
    counts = jnp.where(there, num_visits - (best >> bits).astype(jnp.int32), 0)
    total = jnp.maximum(counts.sum(axis=1, keepdims=True), 1)
    return NeighborTable(ids=jnp.where(there, ids, -1), weights=counts / total)


def _runs(words: Int[Array, "batch visits"]) -> tuple[Array, Array]:
    """Each row sorted, and at the last place of a run of equal words its length, elsewhere 0.

    Returns:
        ``uint32[B, V]`` and ``int32[B, V]``; nobody is the largest word, comes last and has no run.
    """
    ordered = sorted_rows(words)
    edge = jnp.ones((len(words), 1), bool)
    changes = ordered[:, 1:] != ordered[:, :-1]
    places = jnp.arange(words.shape[1], dtype=jnp.int32)[None, :]
    opened = jnp.where(jnp.concatenate([edge, changes], axis=1), places, 0)
    ends = jnp.concatenate([changes, edge], axis=1) & (ordered != _NOBODY)
    return ordered, jnp.where(ends, places - jax.lax.cummax(opened, axis=1) + 1, 0)


def build_table(
    key: PRNGKey,
    graph: ItemGraph,
    *,
    neighbors: int,
    config: WalkConfig,
    rows: np.ndarray | None = None,
    memory_bytes: int = 2**26,
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
        memory_bytes: what walking and sorting one chunk may take, beside the graph and the table.

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
    chunk = min(fitting, 1 << max(1, len(rows) - 1).bit_length())
    padded = np.full(-(-len(rows) // chunk) * chunk, -1, np.int32)
    padded[: len(rows)] = rows
    parts = [
        walked_neighbors(key, graph, jnp.asarray(seeds), count=neighbors, config=config)
        for seeds in padded.reshape(-1, chunk)
    ]
    if not parts:
        empty = jnp.zeros((0, neighbors))
        return NeighborTable(ids=empty.astype(jnp.int32), weights=empty)
    return NeighborTable(
        ids=jnp.concatenate([part.ids for part in parts])[: len(rows)],
        weights=jnp.concatenate([part.weights for part in parts])[: len(rows)],
    )


@functools.partial(jax.jit, static_argnames=("count", "config"))
def walked_neighbors(
    key: PRNGKey, graph: ItemGraph, seeds: Ids, *, count: int, config: WalkConfig
) -> NeighborTable:
    """Walk from some items and keep each one's most visited.

    Args:
        key: consumed.
        graph: the graph that is walked.
        seeds: ``int32[B]`` item rows; −1 pads, and has no neighbours.
        count: T, static.
        config: how many walks, how long; static.

    Returns:
        A table of B rows.
    """
    walk_key, tie_key = jax.random.split(key)
    return importance_neighbors(tie_key, seeds, walk(walk_key, graph, seeds, config=config), count)


def _check_count(count: int) -> None:
    if count < 1:
        raise InputError(f"neighbors: expected at least 1, got {count}")
