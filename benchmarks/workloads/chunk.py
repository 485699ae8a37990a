"""A run's compiled chunk of training, to be timed."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp

from lightgcn_jax.settings import TrainConfig
from lightgcn_jax.training.epoch import make_chunk, plan_chunks
from lightgcn_jax.training.optimizer import make_optimizer
from lightgcn_jax.training.step import Rates, Run, epoch_order, initial_state


class Chunk:
    """The compiled chunk of a training run; each call trains on from where the last one stopped.

    Args:
        config: the settings of the run.
        run: what the steps read.
    """

    def __init__(self, config: TrainConfig, run: Run):
        graph = run.graph
        plan = plan_chunks(graph.num_edges, graph.num_nodes, config)
        self.steps = plan.steps_per_chunk
        optimizer = make_optimizer(config, plan.steps_per_epoch)
        key = jax.random.key(config.seed)
        state = initial_state(key, graph.num_nodes, config, optimizer)
        self._states = jax.tree.map(lambda leaf: jnp.array(leaf)[None], state)
        order = epoch_order(key, graph.num_edges, config)
        self._rest = key[None], order[None], Rates.stacked([config]), jnp.int32(0), run
        start = time.perf_counter()
        chunk = jax.jit(make_chunk(config, lambda _: optimizer, plan), donate_argnums=0)
        self._compiled = chunk.lower(self._states, *self._rest).compile()
        self.compile_seconds = time.perf_counter() - start

    def __call__(self) -> None:
        self._states, losses = self._compiled(self._states, *self._rest)
        jax.block_until_ready((self._states, losses))
