"""Walks and importance neighbourhoods of a batch of items, ours against compiled samplers.

Each of 2,048 items sends out 50 walkers of up to 10 traversals and keeps the 50 items that they
visit most.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness.report import alternate
from benchmarks.peers.walk_samplers import dgl_peer, numba_peer
from benchmarks.workloads.pins_100k import BATCH, CONFIG, NEIGHBORS, Edges
from pinsage_jax.graph.neighborhoods import walked_neighbors
from pinsage_jax.graph.walks import walk


def measure(edges: Edges, rounds: int, seed: int = 0) -> dict[str, list[float]]:
    """Time each contender in alternation, DGL's only where it is installed.

    Args:
        edges: the graph to walk.
        rounds: samples of each.
        seed: seed of our draws, and of the choice of items that are walked from.

    Returns:
        Contender -> seconds for a batch of 2,048 seeds.
    """
    seeds = np.random.default_rng(seed).integers(0, edges.graph.num_items, BATCH, np.int32)
    on_device, key = jnp.asarray(seeds), jax.random.key(seed)
    contenders: dict[str, Callable[[], object]] = {
        "walks": lambda: jax.block_until_ready(walk(key, edges.graph, on_device, config=CONFIG)),
        "neighbourhoods": lambda: jax.block_until_ready(
            walked_neighbors(key, edges.graph, seeds, count=NEIGHBORS, config=CONFIG)
        ),
        "numba neighbourhoods": lambda: numba_peer(edges.graph, seeds),
    }
    if dgl := dgl_peer(edges, seeds):
        contenders["DGL neighbourhoods"] = dgl
    return alternate(contenders, rounds=rounds)


def seconds_a_visit(samples: dict[str, list[float]], peer: str) -> tuple[list[float], list[float]]:
    """Tell what a visit takes: the peer's walks end at random, ours start again.

    Args:
        samples: from :func:`measure`.
        peer: the contender that ours is held against.

    Returns:
        The peer's seconds and ours.
    """
    stays = 1 - CONFIG.restart
    length = (1 - stays**CONFIG.length) / CONFIG.restart
    theirs = [seconds / (BATCH * CONFIG.walks * length) for seconds in samples[peer]]
    return theirs, [seconds / (BATCH * CONFIG.visits) for seconds in samples["neighbourhoods"]]
