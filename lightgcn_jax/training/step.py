"""One optimisation step, and the compiled chunk of steps that an epoch is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from lightgcn_jax.arrays import Array, Ids, Int, PRNGKey, Scalar, Vectors
from lightgcn_jax.diffusion.operator import Operator
from lightgcn_jax.diffusion.restricted import Restriction, restriction_of
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
        restriction: which applications read the edges of the batch alone; None for none.
        places: ``int32[N]``, the row of each node in the tables; None where node n is row n.
    """

    graph: BipartiteGraph
    operator: Operator
    users_with_items: Ids
    restriction: Restriction | None = None
    places: Ids | None = None

    @classmethod
    def of(cls, graph: BipartiteGraph, operator: Operator, config: TrainConfig) -> Run:
        """Put together what the steps read of a graph; the settings decide the restriction."""
        with_items = np.flatnonzero(np.asarray(graph.items_of_user.lengths()))
        restriction = None
        # Under vmap a condition runs both its branches.
        if config.seeds == 1 and config.layers:
            restriction = restriction_of(operator, expected_entries(graph, config))
        return cls(graph, operator, jnp.asarray(with_items.astype(np.int32)), restriction)


def expected_entries(graph: BipartiteGraph, config: TrainConfig) -> float:
    """Directed edges at the rows of a mini-batch, on average: what the restriction plans for."""
    of_users, of_items = (
        np.asarray(rows.lengths(), np.float64)
        for rows in (graph.items_of_user, graph.users_of_item)
    )
    edges = max(1, graph.num_edges)
    # A positive item is met in proportion to its degree, about so in the scheme of users too.
    positive = (of_items**2).sum() / edges
    by_edge = config.sampling == "interactions"
    user = (of_users**2).sum() / edges if by_edge else edges / max(1, (of_users > 0).sum())
    rows = 1 if config.negative_sharing == "shared" else config.batch_size
    negatives = rows * config.negatives * of_items.mean()
    return config.batch_size * (user + positive) + negatives


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


def batch_nodes(batch: Batch, num_users: int) -> Ids:
    """The nodes whose rows a step reads: users, positives, negatives; ``int32[Q]``."""
    return jnp.concatenate(
        [batch.users, num_users + batch.positives, num_users + batch.negatives.ravel()]
    )


def batch_loss(
    params: LightGCNParams, batch: Batch, run: Run, config: TrainConfig
) -> tuple[Scalar, StepLoss]:
    """BPR on the diffused embeddings plus λ·L2 on the layer-0 embeddings of the batch."""
    nodes = batch_nodes(batch, run.graph.num_users)
    if run.places is not None:
        nodes = run.places[nodes]

    def parts(rows: Vectors) -> tuple[Array, Array, Array]:
        users, positives, negatives = jnp.split(rows, [len(batch.users), 2 * len(batch.users)])
        return users, positives, negatives.reshape(*batch.negatives.shape, -1)

    final = lightgcn.apply_rows(params, run.operator, config.lightgcn, nodes, run.restriction)
    ranking = bpr_batch_loss(*parts(final), batch.valid, batch.weights)
    # One gather, so that its gradient is one scatter.
    total = ranking + config.l2 * l2_penalty(*parts(params.table[nodes]), batch.weights)
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


def _moved(state: TrainState, move: Callable[[Array], Array], num_nodes: int) -> TrainState:
    """The state with everything that has a row a node moved: embeddings and their moments."""
    return jax.tree.map(
        lambda leaf: move(leaf) if leaf.ndim and leaf.shape[0] == num_nodes else leaf, state
    )


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
        # The tables stand in the operator's order as long as the chunk runs: two moves a chunk in
        # place of two at every step, and nobody outside sees them.
        places = run.operator.order
        if places is not None:
            state = _moved(state, places.enter, run.graph.num_nodes)
            run = run._replace(operator=run.operator.inside(), places=places.places)
        state, losses = all_steps(state, key, order, first_step, run)
        if places is not None:
            state = _moved(state, places.leave, run.graph.num_nodes)
        return state, losses

    def all_steps(state, key, order, first_step, run):
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
