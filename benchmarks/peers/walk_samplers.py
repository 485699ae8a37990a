"""Compiled samplers of importance neighbourhoods: one in numba, and DGL's where it is installed.

Both end a walk at random before a traversal, as DGL's ``PinSAGESampler`` does, and so make fewer
traversals than ours, which goes back to its seed in that case: 50 · 10 for each seed against about
50 · 5.4 at the benchmark's settings.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from benchmarks.workloads.pins_100k import CONFIG, NEIGHBORS, Edges
from pinsage_jax.graph.item_graph import ItemGraph
from pinsage_jax.graph.walks import WalkConfig

# Blocks of seeds for each thread: enough that no thread waits long for another.
_BLOCKS_PER_THREAD = 16


def numba_peer(
    graph: ItemGraph,
    seeds: np.ndarray,
    *,
    neighbors: int = NEIGHBORS,
    config: WalkConfig = CONFIG,
    key: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """A compiled sampler on all threads: each seed's walks, a hash table of counts, a sort.

    Args:
        graph: the graph, whose edges all weigh the same.
        seeds: ``int32[B]``.
        neighbors: T.
        config: ``restart`` is the probability that a walk ends before a traversal but the first.
        key: seed of the draws.

    Returns:
        ``int32[B, T]`` items, the most visited first, −1 pads, and ``int32[B, T]`` counts.
    """
    ids = np.full((len(seeds), neighbors), -1, np.int32)
    counts = np.zeros((len(seeds), neighbors), np.int32)
    own, other = (
        tuple(np.asarray(array) for array in (side.starts, side.lengths, side.columns))
        for side in (graph.contexts_of_item, graph.items_of_context)
    )
    blocks = min(len(seeds), _BLOCKS_PER_THREAD * numba.get_num_threads())
    bounds = np.linspace(0, len(seeds), blocks + 1).astype(np.int64)
    ends = np.uint32(round(config.restart * 2**32))
    _sample(
        own, other, seeds, bounds, config.walks, config.length, ends, np.uint64(key), ids, counts
    )
    return ids, counts


@numba.njit(inline="always")
def _mixed(word):
    """SplitMix64's output for a counter."""
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


@numba.njit(parallel=True)
def _sample(own, other, seeds, bounds, walks, length, ends, key, ids, counts):
    starts, lengths, columns = own
    of_starts, of_lengths, of_columns = other
    low, shift, golden = np.uint64(0xFFFFFFFF), np.uint64(32), np.uint64(0x9E3779B97F4A7C15)
    slots = 16
    while slots < 2 * walks * length:
        slots *= 2
    for block in numba.prange(len(bounds) - 1):
        table = np.full(slots, -1, np.int32)
        tallies = np.zeros(slots, np.int64)
        touched = np.empty(walks * length, np.int64)
        at = np.empty(walks, np.int32)
        for place in range(bounds[block], bounds[block + 1]):
            seed = seeds[place]
            state = _mixed(key + np.uint64(place + 1) * golden)
            distinct = 0
            at[:] = seed
            # All walkers of a seed move together, so that their reads of memory overlap.
            for step in range(length):
                for walker in range(walks):
                    item = at[walker]
                    state += golden
                    word = _mixed(state)
                    if item < 0 or lengths[item] == 0 or (step and (word & low) < ends):
                        at[walker] = -1
                        continue
                    drawn = ((word >> shift) * np.uint64(lengths[item])) >> shift
                    context = columns[starts[item] + np.int64(drawn)]
                    state += golden
                    drawn = ((_mixed(state) >> shift) * np.uint64(of_lengths[context])) >> shift
                    at[walker] = of_columns[of_starts[context] + np.int64(drawn)]
                for walker in range(walks):
                    item = at[walker]
                    if item < 0 or item == seed:
                        continue
                    slot = (item * 0x9E3779B1 >> 7) & (slots - 1)
                    while table[slot] != -1 and table[slot] != item:
                        slot = (slot + 1) & (slots - 1)
                    if table[slot] == -1:
                        table[slot] = item
                        touched[distinct] = slot
                        distinct += 1
                    tallies[slot] += 1
            ranks = np.empty(distinct, np.int64)
            for found in range(distinct):
                slot = touched[found]
                ranks[found] = (-tallies[slot] << 32) | table[slot]
                table[slot] = -1
                tallies[slot] = 0
            ranks.sort()
            for found in range(min(distinct, ids.shape[1])):
                ids[place, found] = ranks[found] & 0xFFFFFFFF
                counts[place, found] = -(ranks[found] >> 32)


def dgl_peer(
    edges: Edges,
    seeds: np.ndarray,
    *,
    neighbors: int = NEIGHBORS,
    config: WalkConfig = CONFIG,
) -> Callable[[], Any] | None:
    """DGL's sampler with the same settings.

    Args:
        edges: the graph and the pairs that it is made of.
        seeds: ``int32[B]``.
        neighbors: T.
        config: as for :func:`numba_peer`.

    Returns:
        A call that gives a DGL graph whose edges lead from neighbours to seeds, with the visits as
        ``weights``; None where DGL is not installed.
    """
    if importlib.util.find_spec("dgl") is None:
        return None
    # Its library for PyTorch of old versions is loaded on import, and no sampler here needs it.
    sys.modules.setdefault("dgl.graphbolt", types.ModuleType("dgl.graphbolt"))
    dgl: Any = importlib.import_module("dgl")
    torch: Any = importlib.import_module("torch")
    items, contexts = torch.from_numpy(edges.items), torch.from_numpy(edges.contexts)
    graph = dgl.heterograph(
        {
            ("item", "in", "context"): (items, contexts),
            ("context", "of", "item"): (contexts, items),
        },
        num_nodes_dict={"item": edges.graph.num_items, "context": edges.graph.num_contexts},
    )
    sampler = dgl.sampling.PinSAGESampler(
        graph, "item", "context", config.length, config.restart, config.walks, neighbors
    )
    wanted = torch.from_numpy(seeds)
    return lambda: sampler(wanted)
