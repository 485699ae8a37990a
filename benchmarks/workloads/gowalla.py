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
from lightgcn_jax.models import LightGCN
from lightgcn_jax.settings import TrainConfig
from lightgcn_jax.training import Batch, StepInputs, draw_batch, epoch_shuffle


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
        ordering: the order of the rows, see :func:`lightgcn_jax.graph.node_order`; ``auto`` for the
            one that training takes.

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


def lightgcn_of(config: TrainConfig) -> LightGCN:
    """The model of settings that are LightGCN's.

    Args:
        config: the settings of a run.

    Returns:
        The model.

    Raises:
        TypeError: the settings are those of another model.
    """
    if not isinstance(config.model, LightGCN):
        raise TypeError(f"model: expected a LightGCN, got {config.model!r}")
    return config.model


def draw_batches(inputs: StepInputs, config: TrainConfig, steps: int) -> list[Batch]:
    """Batches by our sampler, all rows of weight 1, for ours and a peer to train on.

    Args:
        inputs: what the steps read.
        config: the settings of the run.
        steps: how many batches.

    Returns:
        A batch for each step.
    """
    key, strategies = jax.random.key(config.seed), config.strategies
    shuffle = epoch_shuffle(key, inputs.graph.num_edges, strategies)
    draw = jax.jit(draw_batch, static_argnames="strategies")
    whole = jnp.ones(strategies.optimization.batch_size)
    batches = []
    for step in range(steps):
        own = jax.random.fold_in(key, step)
        batch = draw(own, inputs, shuffle, jnp.int32(0), strategies=strategies)
        batches.append(batch._replace(weights=whole))
    return batches
