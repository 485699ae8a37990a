"""A run's compiled steps of training, to be timed."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp

from lightgcn_jax.settings import TrainConfig
from lightgcn_jax.training import (
    StepInputs,
    TracedSettings,
    compile_steps,
    epoch_shuffle,
    initial_state,
    make_optimizer,
    plan_epoch,
)


class CompiledSteps:
    """The compiled steps of a training run; each call trains on from where the last one stopped.

    Args:
        config: the settings of the run.
        inputs: what the steps read.

    Attributes:
        steps: training steps of one call.
        compile_seconds: to trace, lower and compile them.
    """

    def __init__(self, config: TrainConfig, inputs: StepInputs):
        strategies, graph = config.strategies, inputs.graph
        plan = plan_epoch(graph, strategies)
        self.steps = plan.steps_per_call
        optimizer = make_optimizer(strategies.optimization, plan.steps_per_epoch)
        key = jax.random.key(config.seed)
        state = initial_state(key, graph.num_nodes, strategies, optimizer)
        self._states = jax.tree.map(lambda leaf: jnp.array(leaf)[None], state)
        shuffle = epoch_shuffle(key, graph.num_edges, strategies)
        traced = TracedSettings.stacked([strategies])
        self._rest = key[None], shuffle[None], traced, jnp.int32(0), inputs
        start = time.perf_counter()
        steps = jax.jit(compile_steps(strategies, lambda _: optimizer, plan), donate_argnums=0)
        self._compiled = steps.lower(self._states, *self._rest).compile()
        self.compile_seconds = time.perf_counter() - start

    def __call__(self) -> None:
        self._states, losses = self._compiled(self._states, *self._rest)
        jax.block_until_ready((self._states, losses))
