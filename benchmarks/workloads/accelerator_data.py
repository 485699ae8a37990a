"""What the stages of ``python -m benchmarks accelerator`` work on; nothing is imported before it is
needed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple


class Given(NamedTuple):
    """What a stage is asked for.

    Attributes:
        seconds: it has.
        rounds: samples of each at most.
        tiny: small sizes.
        data_dir: the folder of data sets; None for what GRAPHREC_DATA names.
    """

    seconds: float
    rounds: int
    tiny: bool
    data_dir: Path | None


def graph_of(given: Given) -> Any:
    """Gowalla where there are data sets, else a generated graph of a million edges.

    Args:
        given: what is asked for.
    """
    from benchmarks.workloads.graphs import load_graph
    from lightgcn_jax.graph.bipartite import training_graph

    if given.tiny:
        return training_graph(split_of(given)[0])
    return load_graph("gowalla" if _has_data(given) else "generated-1m", given.data_dir)


def split_of(given: Given) -> tuple[Any, str]:
    """Gowalla as the papers split it, or a generated world; and what it is.

    Args:
        given: what is asked for.
    """
    from lightgcn_jax.data import (
        default_world,
        generate_world,
        given_split,
        load_dataset,
        ratio_split,
    )

    if given.tiny:
        return ratio_split(default_world().interactions, seed=0), "the default world"
    if _has_data(given):
        return given_split(load_dataset("gowalla", data_dir=given.data_dir)), "gowalla"
    world = generate_world(users=30_000, items=40_000, mean_degree=27.0, groups=50)
    return ratio_split(world.interactions, seed=0), "generated, 30,000 users, 40,000 items"


def _has_data(given: Given) -> bool:
    return given.data_dir is not None or bool(os.environ.get("GRAPHREC_DATA"))
