"""Which trials train together: those that share a compiled program, as many as memory holds."""

from __future__ import annotations

import os
from collections.abc import Sequence

import jax

from lightgcn_jax.graph.bipartite import BipartiteGraph
from lightgcn_jax.runs.replicas import PER_REPLICA
from lightgcn_jax.settings.config import Config, TrainConfig
from lightgcn_jax.settings.names import flat
from lightgcn_jax.training.strategies import StepCost


def groups_of(configs: Sequence[Config], together: int, graph: BipartiteGraph) -> list[list[int]]:
    """Places of the trials that train together: they differ in nothing but what replicas may.

    Args:
        configs: the settings of each trial.
        together: runs at once, at most; a trial is as many runs as it has seeds, and stays whole.
        graph: the training interactions, for the memory that a run takes.
    """
    alike: dict[frozenset, list[int]] = {}
    for place, config in enumerate(configs):
        shared = {name: value for name, value in flat(config).items() if name not in PER_REPLICA}
        alike.setdefault(frozenset(shared.items()), []).append(place)
    groups = []
    for places in alike.values():
        config, size = configs[places[0]], 1
        if isinstance(config, TrainConfig):
            fitting = device_memory() // StepCost.of(graph, config.strategies).held_bytes
            size = max(1, min(together, fitting) // config.seeds)
        groups += [places[first : first + size] for first in range(0, len(places), size)]
    return groups


def device_memory() -> int:
    """Half of the bytes of the device that trains; without bounds where they are not known."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] // 2
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return 2**62
