"""One optimisation step: score a batch, take the gradient of its loss, descend."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import flax.struct
import jax
import jax.numpy as jnp
import optax

from lightgcn_jax.arrays import Array, Int, PRNGKey, Scalar, Vectors
from lightgcn_jax.fields import with_traced
from lightgcn_jax.models.model import table_of
from lightgcn_jax.training.batch import Batch
from lightgcn_jax.training.batch_rows import BatchRows
from lightgcn_jax.training.batch_terms import batch_mean, l2_penalty, row_factors
from lightgcn_jax.training.losses import Loss
from lightgcn_jax.training.samplers import NegativeSampler
from lightgcn_jax.training.shared_softmax import SharedProducts, has_kernel, shared_softmax
from lightgcn_jax.training.strategies import StepInputs, Strategies, TracedSettings


class Params(NamedTuple):
    """All that is learnt.

    Attributes:
        model: the model's parameters; their leaf ``table`` holds the layer-0 embeddings.
        head: the parameters of the score; None for a score without any.
    """

    model: Any
    head: Any = None


@flax.struct.dataclass
class TrainState:
    """What a step changes.

    Attributes:
        params: parameters of the model and its score.
        opt_state: the optax transformation's state.
        step: ``int32[]``, steps done since the start.
    """

    params: Params
    opt_state: optax.OptState
    step: Int[Array, ""]


class StepLoss(NamedTuple):
    """The loss of a step, a mean over the rows of its batch.

    Attributes:
        total: ranking + λ·L2.
        ranking: the loss on the scores.
    """

    total: Scalar
    ranking: Scalar


def train_step(
    state: TrainState,
    batch: Batch,
    inputs: StepInputs,
    strategies: Strategies,
    optimizer: optax.GradientTransformation,
    traced: TracedSettings | None = None,
    key: PRNGKey | None = None,
) -> tuple[TrainState, StepLoss]:
    """One step of gradient descent on one mini-batch.

    With ``lazy_adam`` it is a step on tables of the distinct rows of the batch, parameters and
    moments, which are then written back: O(B·D) whatever N is, no table of gradients.

    Args:
        state: before the step.
        batch: the mini-batch.
        inputs: what the run's steps read.
        strategies: the run's; static.
        optimizer: the optax transformation; static.
        traced: numbers in place of the strategies' own.
        key: randomness of what the model drops; without one nothing is dropped.

    Returns:
        The state after the step, and the loss before it.
    """
    layout, whole, rows = inputs.layout, state, None
    if strategies.optimization.lazy_adam:
        num_rows = inputs.graph.num_nodes if layout is None else layout.num_rows
        rows = BatchRows.of(inputs.rows(batch.nodes(inputs.graph.num_users)), num_rows)
        state = rows.taken(state)
    if layout is not None:
        batch = layout.shared_out(batch, len(batch.users))

    def loss_of(params: Params) -> tuple[Scalar, StepLoss]:
        params = params if rows is None else rows.as_tables(params)
        return batch_loss(params, batch, inputs, strategies, traced, key)

    gradients, loss = jax.grad(loss_of, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = cast(Params, optax.apply_updates(state.params, updates))
    state = TrainState(params, opt_state, state.step + 1)
    if rows is not None:
        state = rows.written(whole, state)
    return state if layout is None else layout.constrained(state), loss


def batch_loss(
    params: Params,
    batch: Batch,
    inputs: StepInputs,
    strategies: Strategies,
    traced: TracedSettings | None = None,
    key: PRNGKey | None = None,
) -> tuple[Scalar, StepLoss]:
    """The loss on the scores of the batch plus λ·L2 on its layer-0 embeddings.

    Weights of interactions are factors of the losses of their rows, not of the L2 penalty.

    Products of vectors have JAX's default precision; ranking multiplies at the highest.

    Args:
        params: all that is learnt.
        batch: the mini-batch.
        inputs: what the run's steps read.
        strategies: the run's; static.
        traced: numbers in place of the strategies' own.
        key: randomness of what the model drops; without one nothing is dropped.
    """
    traced = traced or TracedSettings.of(strategies)
    nodes = inputs.rows(batch.nodes(inputs.graph.num_users))
    rows = strategies.model.apply_rows(params.model, inputs.operator, nodes, key)
    loss = with_traced(strategies.loss, temperature=traced.temperature, margin=traced.margin)
    ranking = _ranking_loss(params.head, loss, batch, inputs, strategies, rows)
    table = table_of(params.model)
    if table is None:
        return ranking, StepLoss(ranking, ranking)
    # One gather, so that its gradient is one scatter.
    parts = _parts(batch, table[nodes])
    total = ranking + traced.l2 * l2_penalty(*parts, batch.weights, batch.negative_weights)
    return total, StepLoss(total, ranking)


def _ranking_loss(
    head: Any, loss: Loss, batch: Batch, inputs: StepInputs, strategies: Strategies, rows: Vectors
) -> Scalar:
    """The mean over the batch of the loss on its scores, popularity offset included."""
    score, sampler, offsets = strategies.score, strategies.sampler, inputs.offsets
    added = None if offsets is None else (offsets[batch.positives], offsets[batch.negatives])
    takes_all = type(sampler).chosen is NegativeSampler.chosen
    shared = takes_all and batch.negatives.ndim == 1 and rows.dtype in (jnp.float32, jnp.float64)
    # A mesh would not share out a kernel: every device would do all of it.
    if shared and inputs.layout is None and has_kernel(score, loss):
        users, positives, negatives = _parts(batch, score.multiplied(rows))
        of_positives = (users * positives).sum(axis=1)
        on_negatives = jnp.zeros(len(negatives), rows.dtype)
        if added is not None:
            of_positives, on_negatives = of_positives + added[0], added[1]
        factors = row_factors(batch.valid, batch.weights, batch.importance)
        products = SharedProducts(users, negatives, on_negatives)
        return shared_softmax(
            loss, of_positives, products, batch.valid, factors, batch.log_expected
        )
    users, positives, negatives = _parts(batch, rows)
    of_positives = score(head, users, positives[:, None])[:, 0]
    of_negatives = score(head, users, negatives)
    if added is not None:
        of_positives = of_positives + added[0]
        of_negatives = of_negatives + (added[1] if added[1].ndim == 2 else added[1][None])
    of_negatives, valid = sampler.chosen(of_negatives, batch.valid)
    return batch_mean(
        loss, of_positives, of_negatives, valid, batch.weights, batch.log_expected, batch.importance
    )


def _parts(batch: Batch, rows: Vectors) -> tuple[Vectors, Vectors, Array]:
    """Rows of the batch's nodes, apart: users, positives, negatives."""
    size = len(batch.users)
    users, positives, negatives = jnp.split(rows, [size, 2 * size])
    return users, positives, negatives.reshape(*batch.negatives.shape, -1)


def initial_params(key: PRNGKey, num_nodes: int, strategies: Strategies) -> Params:
    """Parameters before the first step.

    Args:
        key: randomness of all initial values.
        num_nodes: N.
        strategies: the run's.
    """
    width = strategies.model.width
    head = jax.eval_shape(lambda: strategies.score.init(jax.random.key(0), width))
    if not jax.tree.leaves(head):
        return Params(strategies.model.init(key, num_nodes))
    model_key, head_key = jax.random.split(key)
    model = strategies.model.init(model_key, num_nodes)
    return Params(model, strategies.score.init(head_key, width))


def initial_state(
    key: PRNGKey, num_nodes: int, strategies: Strategies, optimizer: optax.GradientTransformation
) -> TrainState:
    """The state before the first step.

    Args:
        key: randomness of all initial values.
        num_nodes: N.
        strategies: the run's.
        optimizer: the optax transformation.
    """
    params = initial_params(key, num_nodes, strategies)
    return TrainState(params, optimizer.init(params), jnp.zeros((), jnp.int32))
