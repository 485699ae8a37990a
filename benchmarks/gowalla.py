"""The Gowalla split that the papers report on, as our code and the peers take it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from lightgcn_jax.data import Split, given_split, load_dataset
from lightgcn_jax.diffusion import diffusion_operator
from lightgcn_jax.diffusion.operator import Storage
from lightgcn_jax.graph import BipartiteGraph, CsrRows, csr_rows


class Workload(NamedTuple):
    """A split, ready to train and to rank on.

    Attributes:
        split: external ids and pairs.
        graph: of the training pairs.
        operator: Ã of the graph.
        relevant: row u holds user u's test items.
    """

    split: Split
    graph: BipartiteGraph
    operator: Storage
    relevant: CsrRows


def load_gowalla(data_dir: Path | None) -> Workload:
    """Load Gowalla from a folder, from where GRAPHREC_DATA says, or from its source.

    Raises:
        InputError: it is nowhere, or not what it should be.
    """
    split = given_split(load_dataset("gowalla", data_dir=data_dir))
    graph = BipartiteGraph.from_pairs(
        split.train.users,
        split.train.items,
        num_users=len(split.users),
        num_items=len(split.items),
    )
    relevant = csr_rows(split.test.users, split.test.items, len(split.users))
    return Workload(split, graph, diffusion_operator(graph), relevant)
