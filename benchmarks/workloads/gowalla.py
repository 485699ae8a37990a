"""What ours and the peers work on: the Gowalla split of the papers, and batches drawn from it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lightgcn_jax.data import Split, given_split, load_dataset
from lightgcn_jax.diffusion import choose_ordering, diffusion_operator
from lightgcn_jax.diffusion.operator import Operator
from lightgcn_jax.graph import BipartiteGraph, CsrRows, csr_rows, node_order
from lightgcn_jax.graph.bipartite import training_graph
from lightgcn_jax.settings.config import TrainConfig
from lightgcn_jax.training.batch import Batch
from lightgcn_jax.training.step import Run, draw_batch, epoch_order


class Workload(NamedTuple):
    """A split, ready to train and to rank on.

    Attributes:
        split: external ids and pairs.
        graph: the graph of the training pairs.
        operator: Ã of the graph, as training makes it.
        relevant: row u holds user u's test items.
    """

    split: Split
    graph: BipartiteGraph
    operator: Operator
    relevant: CsrRows


def load_gowalla(data_dir: Path | None, ordering: str = "none") -> Workload:
    """Load Gowalla from a folder, from where GRAPHREC_DATA says, or from its source.

    Args:
        data_dir: a folder; None for where GRAPHREC_DATA says.
        ordering: of the rows, see :func:`lightgcn_jax.graph.node_order`; ``auto`` for the one that
            training takes.

    Raises:
        InputError: it is nowhere, or not what it should be.
    """
    split = given_split(load_dataset("gowalla", data_dir=data_dir))
    graph = training_graph(split)
    order = node_order(graph, choose_ordering(ordering, graph.num_edges).name)
    if order is not None:
        split = split.reordered(*order)
        graph = training_graph(split)
    relevant = csr_rows(split.test.users, split.test.items, len(split.users))
    return Workload(split, graph, diffusion_operator(graph), relevant)


def draw_batches(run: Run, config: TrainConfig, steps: int) -> list[Batch]:
    """Batches by our sampler, all rows of weight 1, for ours and a peer to train on.

    Args:
        run: what the steps read.
        config: the settings of the run.
        steps: how many batches.

    Returns:
        A batch for each step.
    """
    key = jax.random.key(config.seed)
    order = epoch_order(key, run.graph.num_edges, config)
    draw = jax.jit(draw_batch, static_argnames="config")
    whole = jnp.ones(config.batch_size)
    batches = []
    for step in range(steps):
        batch = draw(jax.random.fold_in(key, step), run, order, jnp.int32(0), config=config)
        batches.append(batch._replace(weights=whole))
    return batches
