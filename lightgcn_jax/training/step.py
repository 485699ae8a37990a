"""One optimisation step: draw a batch, score it, descend."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from lightgcn_jax.arrays import Array, Float, Ids, Int, PRNGKey, Scalar, Vectors
from lightgcn_jax.diffusion.dropout import drop_edges
from lightgcn_jax.diffusion.operator import Operator
from lightgcn_jax.graph.bipartite import BipartiteGraph
from lightgcn_jax.models.gnn import Edges, edges_of
from lightgcn_jax.models.heads import init_head, negative_scores, positive_scores
from lightgcn_jax.settings.config import TrainConfig
from lightgcn_jax.training.batch import Batch, draw_user_positives, edge_users
from lightgcn_jax.training.losses import (
    batch_mean,
    binary_loss,
    bpr_loss,
    hardest,
    l2_penalty,
    max_margin_loss,
    softmax_loss,
)
from lightgcn_jax.training.negatives import draw_negatives
from lightgcn_jax.training.weighted_draws import ItemWeights, item_weights


class Params(NamedTuple):
    """All that is learnt.

    Attributes:
        model: the model's parameters; its field ``table`` holds the layer-0 embeddings.
        head: the variables of the score ``mlp``; None for the others.
    """

    model: Any
    head: Any = None


@flax.struct.dataclass
class TrainState:
    """What a step changes.

    Attributes:
        params: of the model and its score.
        opt_state: the optax transformation's state.
        step: ``int32[]``, steps done since the start.
    """

    params: Params
    opt_state: optax.OptState
    step: Int[Array, ""]


class StepLoss(NamedTuple):
    """``total`` = ``ranking`` + λ·``l2``; each a mean over the rows of the batch."""

    total: Scalar
    ranking: Scalar


class Rates(NamedTuple):
    """The settings that enter the compiled program as numbers, so that one program trains runs that
    differ in them."""

    learning_rate: Scalar | float
    l2: Scalar | float
    temperature: Scalar | float
    margin: Scalar | float

    @classmethod
    def of(cls, config: TrainConfig) -> Rates:
        """Those of a run."""
        return cls(*(getattr(config, name) for name in cls._fields))

    @classmethod
    def stacked(cls, configs: Sequence[TrainConfig]) -> Rates:
        """Those of several runs, ``float[lanes]`` each."""
        return jax.tree.map(lambda *values: jnp.array(values, float), *map(cls.of, configs))


class Run(NamedTuple):
    """What the steps of one run read and never change; a pytree, an argument of the chunk.

    Attributes:
        graph: the training interactions.
        operator: of the same interactions, as the model wants it; None for a model without one.
        users_with_items: ``int32[≤U]``, for the sampling scheme ``users``.
        item_weights: for the negative sampler ``popularity``, else None.
        edges: for a model that takes maxima over neighbours, else None.
        offsets: ``float[I]``, what the popularity offset adds to each item's scores, else None.
    """

    graph: BipartiteGraph
    operator: Operator | None
    users_with_items: Ids
    item_weights: ItemWeights | None = None
    edges: Edges | None = None
    offsets: Float[Array, " items"] | None = None

    @classmethod
    def of(
        cls, graph: BipartiteGraph, operator: Operator | None, config: TrainConfig, lanes: int = 1
    ) -> Run:
        """Put together what the steps read of a graph; the settings decide the rest.

        Args:
            lanes: runs that are trained at once.
        """
        with_items = np.flatnonzero(np.asarray(graph.items_of_user.lengths()))
        # Under vmap a condition runs both its branches.
        if lanes == 1 and operator is not None and config.layers:
            operator = operator.planned_for(expected_entries(graph, config))
        weights = None
        if config.negative_sampler == "popularity":
            weights = item_weights(graph, config.popularity_power)
        return cls(
            graph=graph,
            operator=operator,
            users_with_items=jnp.asarray(with_items.astype(np.int32)),
            item_weights=weights,
            edges=edges_of(graph) if config.aggregate == "max" else None,
            offsets=popularity_offsets(graph, config) if config.popularity_offset else None,
        )


def popularity_offsets(graph: BipartiteGraph, config: TrainConfig) -> Float[Array, " items"]:
    """γ·log(1 + an item's training users), ``float[I]``."""
    users = graph.users_of_item.lengths()
    return config.popularity_offset * jnp.log1p(users.astype(float))


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
    negatives = {
        "uniform": config.negatives * of_items.mean(),
        "popularity": config.negatives * positive,
        "hard": config.hard_pool * of_items.mean(),
        "in-batch": config.batch_size * positive,
        "all": of_items.sum(),
    }[config.negative_sampler]
    if config.negative_sharing == "per-user":
        negatives *= config.batch_size
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
    drawn = draw_negatives(
        negative_key,
        graph,
        users,
        positives,
        sampler=config.negative_sampler,
        count=config.hard_pool if config.negative_sampler == "hard" else config.negatives,
        shared=config.negative_sharing == "shared",
        reject_seen=config.reject_seen,
        weights=run.item_weights,
        row_weights=weights,
    )
    log_expected = drawn.log_expected if config.sampling_correction else None
    return Batch(users, positives, drawn.items, drawn.valid, weights, log_expected)


def batch_nodes(batch: Batch, num_users: int) -> Ids:
    """The nodes whose rows a step reads: users, positives, negatives; ``int32[Q]``."""
    return jnp.concatenate(
        [batch.users, num_users + batch.positives, num_users + batch.negatives.ravel()]
    )


def batch_loss(
    params: Params,
    batch: Batch,
    run: Run,
    config: TrainConfig,
    rates: Rates | None = None,
    key: PRNGKey | None = None,
) -> tuple[Scalar, StepLoss]:
    """The configured loss on the scores of the batch plus λ·L2 on its layer-0 embeddings.

    Args:
        rates: in place of the settings of these names.
        key: of what the model drops; without it nothing is dropped.
    """
    rates = rates or Rates.of(config)
    nodes = batch_nodes(batch, run.graph.num_users)
    if config.edge_dropout and key is not None:
        assert run.operator is not None
        run = run._replace(operator=drop_edges(key, run.operator, config.edge_dropout))

    def parts(rows: Vectors) -> tuple[Array, Array, Array]:
        users, positives, negatives = jnp.split(rows, [len(batch.users), 2 * len(batch.users)])
        return users, positives, negatives.reshape(*batch.negatives.shape, -1)

    form, shape = config.form, config.shape
    users, positives, negatives = parts(form.rows(params.model, run, shape, nodes, key))
    positives = positive_scores(config.score, users, positives, head=params.head)
    negatives = negative_scores(config.score, users, negatives, head=params.head)
    if run.offsets is not None:
        positives = positives + run.offsets[batch.positives]
        offsets = run.offsets[batch.negatives]
        negatives = negatives + (offsets if offsets.ndim == 2 else offsets[None])
    ranking = ranking_loss(positives, negatives, batch, config, rates)
    # One gather, so that its gradient is one scatter.
    penalty = l2_penalty(*parts(params.model.table[nodes]), batch.weights)
    total = ranking + rates.l2 * penalty
    return total, StepLoss(total, ranking)


def ranking_loss(
    positives: Float[Array, " batch"],
    negatives: Float[Array, "batch negatives"],
    batch: Batch,
    config: TrainConfig,
    rates: Rates,
) -> Scalar:
    """The configured loss of a batch's scores: a mean over its rows."""
    valid = batch.valid
    if config.negative_sampler == "hard":
        negatives, valid = hardest(negatives, valid, config.negatives)
    if config.loss == "max-margin":
        loss = partial(max_margin_loss, margin=rates.margin)
    else:
        loss = {"bpr": bpr_loss, "binary": binary_loss, "softmax": softmax_loss}[config.loss]
        positives, negatives = positives / rates.temperature, negatives / rates.temperature
    return batch_mean(loss, positives, negatives, valid, batch.weights, batch.log_expected)


def train_step(
    state: TrainState,
    batch: Batch,
    run: Run,
    config: TrainConfig,
    optimizer: optax.GradientTransformation,
    rates: Rates | None = None,
    key: PRNGKey | None = None,
) -> tuple[TrainState, StepLoss]:
    """One step of gradient descent on one mini-batch; arguments as of :func:`batch_loss`."""
    gradient = jax.grad(batch_loss, has_aux=True)
    gradients, loss = gradient(state.params, batch, run, config, rates, key)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = cast(Params, optax.apply_updates(state.params, updates))
    return TrainState(params, opt_state, state.step + 1), loss


def initial_params(key: PRNGKey, num_nodes: int, config: TrainConfig) -> Params:
    """Parameters before the first step, drawn from a key."""
    if config.score != "mlp":
        return Params(config.form.init(key, num_nodes, config.shape))
    model_key, head_key = jax.random.split(key)
    model = config.form.init(model_key, num_nodes, config.shape)
    return Params(model, init_head(head_key, config.form.width(config), config.hidden))


def initial_state(
    key: PRNGKey, num_nodes: int, config: TrainConfig, optimizer: optax.GradientTransformation
) -> TrainState:
    """The state before the first step, drawn from a key."""
    params = initial_params(key, num_nodes, config)
    return TrainState(params, optimizer.init(params), jnp.zeros((), jnp.int32))


def epoch_order(key: PRNGKey, num_edges: int, config: TrainConfig) -> Ids:
    """The epoch's shuffled interactions, ``int32[E]``; empty for the scheme ``users``."""
    if config.sampling == "users":
        return jnp.zeros(0, jnp.int32)
    return jax.random.permutation(key, num_edges).astype(jnp.int32)
