"""One optimisation step, and the compiled chunk of steps that an epoch is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from lightgcn_jax.arrays import Array, Ids, Int, NodeTable, PRNGKey, Scalar
from lightgcn_jax.diffusion.operator import Operator
from lightgcn_jax.graph.bipartite import BipartiteGraph
from lightgcn_jax.models import lightgcn
from lightgcn_jax.models.lightgcn import LightGCNParams
from lightgcn_jax.training.config import TrainConfig
from lightgcn_jax.training.losses import bpr_batch_loss, l2_penalty
from lightgcn_jax.training.sampling import (
    Batch,
    draw_shared,
    draw_unseen,
    draw_user_positives,
    edge_users,
)


@flax.struct.dataclass
class TrainState:
    """What a step changes.

    Attributes:
        params: the model's parameters.
        opt_state: the optax transformation's state.
        step: ``int32[]``, steps done since the start.
    """

    params: LightGCNParams
    opt_state: optax.OptState
    step: Int[Array, ""]


class StepLoss(NamedTuple):
    """``total`` = ``ranking`` + λ·``l2``; each a mean over the rows of the batch."""

    total: Scalar
    ranking: Scalar


class Run(NamedTuple):
    """What the steps of one run read and never change; a pytree, an argument of the chunk.

    Attributes:
        graph: the training interactions.
        operator: Ã of the same interactions.
        users_with_items: ``int32[≤U]``, for the sampling scheme ``users``.
    """

    graph: BipartiteGraph
    operator: Operator
    users_with_items: Ids

    @classmethod
    def of(cls, graph: BipartiteGraph, operator: Operator) -> Run:
        """Put together what the steps read of a graph."""
        with_items = np.flatnonzero(np.asarray(graph.items_of_user.lengths()))
        return cls(graph, operator, jnp.asarray(with_items.astype(np.int32)))


def draw_batch(
    key: PRNGKey, run: Run, order: Ids, step_in_epoch: Int[Array, ""], config: TrainConfig
) -> Batch:
    """Draw the mini-batch of one step.

    Args:
        key: of this step alone.
        order: ``int32[E]``, this epoch's shuffled interactions (scheme ``interactions``), or an
            empty array (scheme ``users``).
        step_in_epoch: ``int32[]``; rows past the E-th of the epoch are padding.
    """
    graph = run.graph
    positive_key, negative_key = jax.random.split(key)
    positions = step_in_epoch * config.batch_size + jnp.arange(config.batch_size, dtype=jnp.int32)
    weights = (positions < graph.num_edges).astype(jnp.float32)
    if config.sampling == "interactions":
        edges = order[jnp.minimum(positions, graph.num_edges - 1)]
        users, positives = edge_users(graph, edges), graph.items_of_user.columns[edges]
    else:
        users, positives = draw_user_positives(
            positive_key, graph, run.users_with_items, config.batch_size
        )
    draw = draw_shared if config.negative_sharing == "shared" else draw_unseen
    negatives, valid = draw(negative_key, graph, users, config.negatives)
    return Batch(users, positives, negatives, valid, weights)


def batch_loss(
    params: LightGCNParams, batch: Batch, run: Run, config: TrainConfig
) -> tuple[Scalar, StepLoss]:
    """BPR on the diffused embeddings plus λ·L2 on the layer-0 embeddings of the batch."""
    final = lightgcn.apply(params, run.operator, config.model)
    num_users = run.graph.num_users
    nodes = jnp.concatenate(
        [batch.users, num_users + batch.positives, num_users + batch.negatives.ravel()]
    )

    def look_up(table: NodeTable) -> tuple[Array, Array, Array]:
        # One gather a table, so that its gradient is one scatter.
        rows = table[nodes]
        users, positives, negatives = jnp.split(rows, [len(batch.users), 2 * len(batch.users)])
        return users, positives, negatives.reshape(*batch.negatives.shape, -1)

    users, positives, negatives = look_up(final)
    ranking = bpr_batch_loss(users, positives, negatives, batch.valid, batch.weights)
    total = ranking + config.l2 * l2_penalty(*look_up(params.table), batch.weights)
    return total, StepLoss(total, ranking)


def train_step(
    state: TrainState,
    batch: Batch,
    run: Run,
    config: TrainConfig,
    optimizer: optax.GradientTransformation,
) -> tuple[TrainState, StepLoss]:
    """One step of gradient descent on one mini-batch."""
    gradients, loss = jax.grad(batch_loss, has_aux=True)(state.params, batch, run, config)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = cast(LightGCNParams, optax.apply_updates(state.params, updates))
    return TrainState(params, opt_state, state.step + 1), loss


def epoch_order(key: PRNGKey, num_edges: int, config: TrainConfig) -> Ids:
    """The epoch's shuffled interactions, ``int32[E]``; empty for the scheme ``users``."""
    if config.sampling == "users":
        return jnp.zeros(0, jnp.int32)
    return jax.random.permutation(key, num_edges).astype(jnp.int32)


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


def plan_chunks(num_edges: int, num_nodes: int, config: TrainConfig) -> ChunkPlan:
    """Cut an epoch so that a chunk takes about a second: long enough to hide the call, short
    enough for progress, Ctrl-C and a NaN check.

    Among the chunk counts near that length, the one that skips the fewest steps is taken.
    """
    steps = -(-num_edges // config.batch_size)
    # Two directed passes over the edges a layer, forward and backward, and the dense optimizer
    # update; 20 GB/s is what two cores reach. Only the order of magnitude matters.
    row_bytes = 4 * config.dim * config.seeds
    bytes_per_step = (4 * config.layers * num_edges + 12 * num_nodes) * row_bytes
    wanted = min(steps, max(1, round(steps * bytes_per_step / 20e9)))
    candidates = range(wanted, min(steps, wanted + wanted // 2 + 1) + 1)
    chunks = min(candidates, key=lambda n: (n * -(-steps // n) - steps, n))
    length = -(-steps // chunks)
    # Rounding the length up may have left the last chunks without a step.
    return ChunkPlan(steps, -(-steps // length), length)


def make_chunk(
    config: TrainConfig, optimizer: optax.GradientTransformation, plan: ChunkPlan
) -> Callable:
    """The function that a run compiles once: L steps of every seed under ``lax.scan``.

    Returns:
        ``chunk(states, keys, orders, first_step, run) -> (states, losses)`` where the leading axis
        of states, keys and orders is the seed, ``first_step`` (within the epoch) is ``int32[]``,
        and losses is a :class:`StepLoss` of ``float32[S]`` means over the chunk's steps. A step's
        key is its seed's key folded with the count of steps since the start, which the state
        carries.
    """

    def one_seed(state, key, order, first_step, run):
        def step(state, step_in_epoch):
            step_key = jax.random.fold_in(key, state.step)
            batch = draw_batch(step_key, run, order, step_in_epoch, config)
            return train_step(state, batch, run, config, optimizer)

        def step_or_skip(state, step_in_epoch):
            if plan.is_exact:
                return step(state, step_in_epoch)
            zero = jnp.zeros((), jnp.float32)
            return jax.lax.cond(
                step_in_epoch < plan.steps_per_epoch,
                step,
                lambda state, _: (state, StepLoss(zero, zero)),
                state,
                step_in_epoch,
            )

        steps = first_step + jnp.arange(plan.steps_per_chunk, dtype=jnp.int32)
        state, losses = jax.lax.scan(step_or_skip, state, steps)
        done = (steps < plan.steps_per_epoch).sum()
        return state, jax.tree.map(lambda loss: loss.sum() / done, losses)

    def chunk(states, keys, orders, first_step, run):
        if config.seeds == 1:
            # A batch axis of one would widen every gather and scatter for nothing.
            state, key, order = jax.tree.map(lambda leaf: leaf[0], (states, keys, orders))
            result = one_seed(state, key, order, first_step, run)
            return jax.tree.map(lambda leaf: leaf[None], result)
        return jax.vmap(one_seed, in_axes=(0, 0, 0, None, None))(
            states, keys, orders, first_step, run
        )

    return chunk
