"""``python -m benchmarks.workloads.grown_graph EDGES CALLS``: steps of training at one size of a
graph that grows alike in all its parts, timed in a process of its own; a line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np

from benchmarks.harness.process import cpu_seconds, own_peak_gb
from benchmarks.workloads.long_log import drawn_ranks, sizes_of
from lightgcn_jax.graph.bipartite import BipartiteGraph

DIM = 32
_AT_ONCE = 10_000_000


def grown_graph(edges: int, seed: int = 0) -> BipartiteGraph:
    """The graph of a log of :mod:`benchmarks.workloads.long_log`, popular rows first.

    Args:
        edges: rows of the log; a pair may be drawn twice and counts once.
        seed: of the draws.
    """
    users, items = sizes_of(edges)
    keys = []
    for at in range(0, edges, _AT_ONCE):
        rng = np.random.default_rng([seed, at])
        rows, columns = drawn_ranks(rng, min(_AT_ONCE, edges - at), users, items)
        keys.append(np.unique(rows << 32 | columns))
    distinct = np.unique(np.concatenate(keys))
    del keys
    pairs = (distinct >> 32).astype(np.int32), (distinct & 0xFFFFFFFF).astype(np.int32)
    del distinct
    return BipartiteGraph.from_pairs(*pairs, num_users=users, num_items=items)


def timed(edges: int, calls: int) -> dict[str, Any]:
    """Time calls of the compiled steps.

    Args:
        edges: rows of the log.
        calls: how many, beside an untimed one.

    Returns:
        Sizes, and for each call the seconds of a step on the clock and of CPU.
    """
    from benchmarks.workloads.compiled_steps import CompiledSteps
    from lightgcn_jax.settings import from_flat
    from lightgcn_jax.settings.config import TrainConfig
    from lightgcn_jax.training import StepInputs

    config = from_flat({"dim": DIM})
    assert isinstance(config, TrainConfig)
    graph = grown_graph(edges)
    sizes = {"edges": graph.num_edges, "nodes": graph.num_nodes, "rows": edges}
    steps = CompiledSteps(config, StepInputs.of(graph, config.strategies))
    steps()
    seconds, cpu = [], []
    for _ in range(calls):
        start, used = time.perf_counter(), cpu_seconds()
        steps()
        seconds.append((time.perf_counter() - start) / steps.steps)
        cpu.append((cpu_seconds() - used) / steps.steps)
    took = {"seconds": seconds, "cpu_seconds": cpu, "steps_a_call": steps.steps}
    return {**sizes, **took, "peak_gb": own_peak_gb()}


if __name__ == "__main__":
    print(json.dumps(timed(int(sys.argv[1]), int(sys.argv[2]))))
