"""Weights of interactions in the loss: factors w / w̄ of the rows' losses, and nothing else."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lightgcn_jax.data import Interactions, undivided
from lightgcn_jax.graph import training_graph
from lightgcn_jax.models import MF, TableParams
from lightgcn_jax.models.lightgcn import LightGCNParams
from lightgcn_jax.training import (
    BPR,
    Binary,
    InBatchNegatives,
    MaxMargin,
    Params,
    PerUserNegatives,
    Softmax,
    StepInputs,
    train_step,
)
from lightgcn_jax.training.batch_terms import batch_mean
from tests.lightgcn.oracles import dense_multiscale, dense_normalized_adjacency
from tests.lightgcn.steps import (
    DIM,
    ITEMS,
    NODES,
    USERS,
    changed,
    draw,
    loss_and_gradient,
    start,
)
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of, random_weights

WEIGHTS = random_weights(len(USERS))
GRAPH = graph_of(USERS, ITEMS, weights=WEIGHTS)
WEIGHT_OF = {(u, i): w for u, i, w in zip(USERS, ITEMS, WEIGHTS.astype(float), strict=True)}


def sigma(x):
    return 1 / (1 + math.exp(-x))


# Each loss of a row from the positive's score and those of its valid negatives.
ROW_LOSSES = {
    BPR(): lambda p, n: np.mean([-math.log(sigma(p - one)) for one in n]),
    Binary(): lambda p, n: -math.log(sigma(p)) + np.mean([-math.log(sigma(-one)) for one in n]),
    Softmax(0.5): lambda p, n: math.log(1 + sum(math.exp((one - p) / 0.5) for one in n)),
    MaxMargin(0.5): lambda p, n: np.mean([max(0.0, one - p + 0.5) for one in n]),
}


def test_by_hand():
    """Two rows of losses log 2 and log 3, the first three times as heavy; a third is padding."""
    positives, negatives = jnp.zeros(3), jnp.zeros((3, 2))
    valid = jnp.array([[True, False], [True, True], [True, True]])
    real, importance = jnp.array([1.0, 1.0, 0.0]), jnp.array([1.5, 0.5, 99.0])
    found = batch_mean(Softmax(), positives, negatives, valid, real, None, importance)
    np.testing.assert_allclose(found, (1.5 * math.log(2) + 0.5 * math.log(3)) / 2, rtol=1e-6)


@pytest.mark.parametrize("sampling", ["interactions", "users"])
@pytest.mark.parametrize("loss", ROW_LOSSES, ids=lambda loss: type(loss).__name__)
def test_the_batch_loss_is_the_float64_oracle(loss, sampling):
    strategies = changed(
        loss=loss, negatives=PerUserNegatives(3), optimization={"sampling": sampling}
    )
    table = np.random.default_rng(0).normal(size=(NODES, DIM))
    with jax.enable_x64(True):
        inputs = StepInputs.of(GRAPH, strategies)
        # The last batch, which has rows of padding.
        step = jnp.int32(len(USERS) // 5)
        batch = draw(jax.random.key(1), inputs, jnp.arange(len(USERS)), step, strategies=strategies)
        params = Params(LightGCNParams(jnp.asarray(table)))
        (_, found), _ = loss_and_gradient(params, batch, inputs, strategies=strategies)
    matrix = dense_normalized_adjacency(USERS, ITEMS, NUM_USERS, NUM_ITEMS, weights=WEIGHTS)
    final = dense_multiscale(matrix, table, (1 / 3,) * 3)
    real = np.asarray(batch.weights) > 0
    assert 0 < real.sum() < len(real)
    terms = []
    for user, item, negatives, valid in zip(
        *(np.asarray(one)[real] for one in batch[:4]), strict=True
    ):
        scores = final[NUM_USERS:] @ final[user]
        term = ROW_LOSSES[loss](scores[item], scores[negatives[valid]])
        terms.append(WEIGHT_OF[user, item] / WEIGHTS.astype(float).mean() * term)
    np.testing.assert_allclose(found.ranking, np.mean(terms), rtol=1e-5)


def test_an_epoch_adds_up_to_the_weighted_mean():
    """Σ over steps of the sums of f ℓ is Σ w ℓ / w̄: E times the mean of ℓ weighted by w."""
    strategies = changed(model=MF(2), negatives=PerUserNegatives(1), optimization={"l2": 0.0})
    inputs = StepInputs.of(GRAPH, strategies)
    shuffle = jax.random.permutation(jax.random.key(3), len(USERS)).astype(jnp.int32)
    size, seen, total = strategies.optimization.batch_size, {}, 0.0
    for step in range(-(-len(USERS) // size)):
        batch = draw(jax.random.key(step), inputs, shuffle, jnp.int32(step), strategies=strategies)
        rows = zip(*map(np.asarray, (batch.users, batch.positives)), strict=True)
        for pair, real, factor in zip(rows, batch.weights, batch.importance, strict=True):
            if real:
                seen[pair] = float(factor)
                total += float(factor)
    assert seen == pytest.approx(
        {pair: weight / WEIGHTS.mean() for pair, weight in WEIGHT_OF.items()}, rel=1e-6
    )
    assert total == pytest.approx(len(USERS), rel=1e-5)


@pytest.mark.parametrize("sampling", ["interactions", "users"])
def test_weights_of_one_are_no_weights_bit_for_bit(sampling):
    strategies = changed(negatives=InBatchNegatives(), optimization={"sampling": sampling})
    optimizer = optax.adam(0.1)
    ends = []
    for weights in (None, np.ones(len(USERS), np.float32)):
        inputs = StepInputs.of(graph_of(USERS, ITEMS, weights=weights), strategies)
        assert (inputs.importance is None) == (weights is None)
        state, shuffle = start(optimizer), jnp.arange(len(USERS))
        step = jax.jit(
            lambda state, batch, inputs: train_step(state, batch, inputs, strategies, optimizer)
        )
        for at in range(3):
            batch = draw(jax.random.key(at), inputs, shuffle, jnp.int32(at), strategies=strategies)
            state, _ = step(state, batch, inputs)
        ends.append(state.params)
    jax.tree.map(np.testing.assert_array_equal, *ends)


def test_the_penalty_does_not_weigh():
    strategies = changed(model=MF(1), optimization={"l2": 1.0})
    params = Params(TableParams(jnp.ones((NODES, 1))))
    penalties = []
    for graph in (GRAPH, graph_of(USERS, ITEMS)):
        inputs = StepInputs.of(graph, strategies)
        batch = draw(
            jax.random.key(0), inputs, jnp.arange(len(USERS)), jnp.int32(0), strategies=strategies
        )
        (_, loss), _ = loss_and_gradient(params, batch, inputs, strategies=strategies)
        penalties.append(loss.total - loss.ranking)
    np.testing.assert_allclose(*penalties, rtol=1e-5)


def test_heavy_interactions_are_learnt_first():
    """One user, two items: matrix factorisation ranks the heavier one of two alike higher."""
    data = Interactions.from_arrays(["u", "u", "v"], ["a", "b", "c"], weights=[9, 1, 1])
    split = undivided(data)
    strategies = changed(
        model=MF(4), negatives=PerUserNegatives(1), optimization={"l2": 0.0, "batch_size": 3}
    )
    inputs = StepInputs.of(training_graph(split), strategies)
    table = jnp.full((5, 4), 0.1)
    optimizer = optax.sgd(0.1)
    state = start(optimizer)
    state = dataclasses.replace(state, params=Params(TableParams(table)))
    batch = draw(jax.random.key(0), inputs, jnp.arange(3), jnp.int32(0), strategies=strategies)
    after, _ = train_step(state, batch, inputs, strategies, optimizer)
    vectors = np.asarray(after.params.model.table)
    scores = vectors[2:] @ vectors[split.users.rows(["u"])[0]]
    heavy, light = split.items.rows(["a", "b"])
    assert scores[heavy] > scores[light]
