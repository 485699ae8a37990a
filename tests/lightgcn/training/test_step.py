"""The loss of a batch with its gradient, and the step that descends it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lightgcn_jax.models import MF, TableParams
from lightgcn_jax.models.lightgcn import LightGCNParams
from lightgcn_jax.training import (
    Batch,
    InBatchNegatives,
    Params,
    StepInputs,
    train_step,
)
from tests.lightgcn.oracles import bpr_gradient_step_loss, dense_normalized_adjacency
from tests.lightgcn.steps import (
    DIM,
    GRAPH,
    ITEMS,
    NODES,
    STRATEGIES,
    USERS,
    changed,
    draw,
    inputs_of,
    loss_and_gradient,
    start,
)
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of


@pytest.mark.parametrize("sharing", ["shared", "per-user"])
def test_loss_and_gradient_are_the_float64_oracle(sharing):
    rng = np.random.default_rng(0)
    users, positives = rng.integers(0, NUM_USERS, 5), rng.integers(0, NUM_ITEMS, 5)
    negatives = rng.integers(0, NUM_ITEMS, 4 if sharing == "shared" else (5, 4))
    valid = rng.random((5, 4)) < 0.7
    table = rng.normal(size=(NODES, DIM))
    matrix = dense_normalized_adjacency(USERS, ITEMS, NUM_USERS, NUM_ITEMS)

    def oracle(table):
        return bpr_gradient_step_loss(
            table, users, positives, np.broadcast_to(negatives, (5, 4)), valid,
            NUM_USERS, matrix, (1 / 3,) * 3, STRATEGIES.optimization.l2,
        )  # fmt: skip

    with jax.enable_x64(True):
        batch = Batch(*map(jnp.asarray, (users, positives, negatives, valid)), jnp.ones(5))
        params = Params(LightGCNParams(jnp.asarray(table)))
        (value, _), gradient = loss_and_gradient(
            params, batch, inputs_of(dtype=jnp.float64), strategies=STRATEGIES
        )
        np.testing.assert_allclose(value, oracle(table), rtol=1e-10)
        numerical = np.zeros_like(table)
        for index in np.ndindex(*table.shape):
            step = np.zeros_like(table)
            step[index] = 1e-6
            numerical[index] = (oracle(table + step) - oracle(table - step)) / 2e-6
        np.testing.assert_allclose(gradient.model.table, numerical, atol=1e-8)


def test_the_step_is_gradient_descent():
    optimizer = optax.sgd(0.5)
    state, inputs = start(optimizer), inputs_of()
    shuffle = jnp.arange(len(USERS))
    batch = draw(jax.random.key(0), inputs, shuffle, jnp.int32(0), strategies=STRATEGIES)
    _, gradient = loss_and_gradient(state.params, batch, inputs, strategies=STRATEGIES)
    step = jax.jit(lambda state, batch: train_step(state, batch, inputs, STRATEGIES, optimizer))
    after, loss = step(state, batch)
    np.testing.assert_allclose(
        after.params.model.table,
        state.params.model.table - 0.5 * gradient.model.table,
        rtol=1e-6,
        atol=1e-7,
    )
    assert after.step == 1
    assert loss.total > loss.ranking


@pytest.mark.parametrize("batch_size", [3, 4, 6, 12])
def test_padding_is_left_out_of_the_penalty_of_negatives_in_the_batch(batch_size):
    """Three interactions whose items are 1, 2 and 3, whose users are 0: ½ (14/3 + 14/3)."""
    strategies = changed(
        model=MF(1),
        negatives=InBatchNegatives(),
        optimization={"batch_size": batch_size, "l2": 1.0},
    )
    inputs = StepInputs.of(graph_of([0, 1, 2], [0, 1, 2], 3, 3), strategies)
    params = Params(TableParams(jnp.array([[0.0], [0], [0], [1], [2], [3]])))
    key, shuffle = jax.random.key(0), jnp.arange(3)
    batch = draw(key, inputs, shuffle, jnp.int32(0), strategies=strategies)
    (_, loss), _ = loss_and_gradient(params, batch, inputs, strategies=strategies)
    assert float(loss.total - loss.ranking) == pytest.approx(14 / 3, rel=1e-6)


@pytest.mark.parametrize("kind", ["shared", "own", "in-batch"])
def test_padding_changes_neither_loss_nor_gradient(kind):
    """Three rows, and the same three with two that repeat the last and weigh nothing."""
    strategies = changed(model=MF(DIM), optimization={"l2": 0.3})
    inputs = StepInputs.of(GRAPH, strategies)
    rng = np.random.default_rng(0)
    params = Params(TableParams(jnp.asarray(rng.normal(size=(NODES, DIM)), jnp.float32)))
    users, positives = np.array([0, 3, 6]), ITEMS[:3]
    results = []
    for padding in (0, 2):
        rows = np.minimum(np.arange(3 + padding), 2)
        weights = np.float32(np.arange(3 + padding) < 3)
        items = {"shared": ITEMS[3:7], "own": ITEMS[3:9].reshape(3, 2)[rows]}.get(kind)
        of_items = None
        if kind == "in-batch":
            items, of_items = positives[rows], jnp.asarray(weights)
        valid = np.ones((3 + padding, items.shape[-1]), bool)
        valid[:, 0] = False
        valid &= True if of_items is None else weights[None] > 0
        batch = Batch(*map(jnp.asarray, (users[rows], positives[rows], items, valid, weights)))
        batch = batch._replace(negative_weights=of_items)
        results.append(loss_and_gradient(params, batch, inputs, strategies=strategies))
    for one, other in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
