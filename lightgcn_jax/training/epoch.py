"""The compiled chunk of steps that an epoch is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lightgcn_jax.arrays import Array, Scalar
from lightgcn_jax.settings.config import TrainConfig
from lightgcn_jax.training.step import StepLoss, draw_batch, train_step


class ChunkPlan(NamedTuple):
    """An epoch as equal compiled pieces.

    Attributes:
        steps_per_epoch: ⌈E / B⌉.
        chunks: calls an epoch.
        steps_per_chunk: scan length L; chunks · L ≥ steps_per_epoch, the rest is skipped.
    """

    steps_per_epoch: int
    chunks: int
    steps_per_chunk: int

    @property
    def is_exact(self) -> bool:
        """Whether the chunks cover the epoch without a step to skip."""
        return self.chunks * self.steps_per_chunk == self.steps_per_epoch


def plan_chunks(num_edges: int, num_nodes: int, config: TrainConfig, lanes: int = 1) -> ChunkPlan:
    """Cut an epoch so that a chunk takes about a second: long enough to hide the call, short
    enough for progress, Ctrl-C and a NaN check.

    Among the chunk counts near that length, the one that skips the fewest steps is taken.
    """
    steps = -(-num_edges // config.batch_size)
    # Two directed passes over the edges a layer, forward and backward, and the dense optimizer
    # update; 20 GB/s is what two cores reach. Only the order of magnitude matters.
    row_bytes = 4 * config.dim * lanes
    bytes_per_step = (4 * config.layers * num_edges + 12 * num_nodes) * row_bytes
    wanted = min(steps, max(1, round(steps * bytes_per_step / 20e9)))
    candidates = range(wanted, min(steps, wanted + wanted // 2 + 1) + 1)
    chunks = min(candidates, key=lambda n: (n * -(-steps // n) - steps, n))
    length = -(-steps // chunks)
    # Rounding the length up may have left the last chunks without a step.
    return ChunkPlan(steps, -(-steps // length), length)


def map_tables(function: Callable[..., Array], tree: Any, *others: Any) -> Any:
    """Apply a function to every leaf that has a row a node: embeddings and their moments.

    They are known by their name, ``table``: a size alone might be met by chance.
    """

    def moved(path: tuple, leaf: Array, *rest: Array) -> Array:
        is_table = any(getattr(part, "name", None) == "table" for part in path)
        return function(leaf, *rest) if is_table else leaf

    return jax.tree_util.tree_map_with_path(moved, tree, *others)


OptimizerOf = Callable[[Scalar | float], optax.GradientTransformation]
"""From a learning rate to the transformation; one of one's own takes no notice of it."""


def make_chunk(config: TrainConfig, optimizer_of: OptimizerOf, plan: ChunkPlan) -> Callable:
    """The function that a run compiles once: L steps of every lane under ``lax.scan``.

    Returns:
        ``chunk(states, keys, orders, rates, first_step, run) -> (states, losses)`` where the
        leading axis of states, keys, orders and rates is the lane, ``first_step`` (within the
        epoch) is ``int32[]``, and losses is a :class:`StepLoss` of ``float32[lanes, L]``, 0 for
        steps past the end of the epoch. A step's key is its lane's key folded with the count of
        steps since the start, which the state carries.
    """
    drops = bool(config.edge_dropout or config.message_dropout or config.node_dropout)

    def one_lane(state, key, order, rates, first_step, run):
        optimizer = optimizer_of(rates.learning_rate)

        def step(state, step_in_epoch):
            step_key = jax.random.fold_in(key, state.step)
            batch_key, drop_key = jax.random.split(step_key) if drops else (step_key, None)
            batch = draw_batch(batch_key, run, order, step_in_epoch, config)
            return train_step(state, batch, run, config, optimizer, rates, drop_key)

        def step_or_skip(state, step_in_epoch):
            if plan.is_exact:
                return step(state, step_in_epoch)
            return jax.lax.cond(
                step_in_epoch < plan.steps_per_epoch,
                step,
                lambda state, _: (state, StepLoss(jnp.zeros(()), jnp.zeros(()))),
                state,
                step_in_epoch,
            )

        steps = first_step + jnp.arange(plan.steps_per_chunk, dtype=jnp.int32)
        return jax.lax.scan(step_or_skip, state, steps)

    def chunk(states, keys, orders, rates, first_step, run):
        if len(keys) == 1:
            # A batch axis of one would widen every gather and scatter for nothing.
            state, key, order, rate = jax.tree.map(
                lambda leaf: leaf[0], (states, keys, orders, rates)
            )
            result = one_lane(state, key, order, rate, first_step, run)
            return jax.tree.map(lambda leaf: leaf[None], result)
        return jax.vmap(one_lane, in_axes=(0, 0, 0, 0, None, None))(
            states, keys, orders, rates, first_step, run
        )

    return chunk
