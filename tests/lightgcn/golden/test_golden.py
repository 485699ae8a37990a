"""Thirty steps of training end at numbers that plain NumPy found on its own."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lightgcn_jax.diffusion import diffusion_operator
from lightgcn_jax.graph import BipartiteGraph
from lightgcn_jax.models import LightGCN
from lightgcn_jax.models.lightgcn import LightGCNParams
from lightgcn_jax.training import (
    Batch,
    Optimization,
    Params,
    StepInputs,
    Strategies,
    TrainState,
    train_step,
)
from lightgcn_jax.training.negatives import unseen_mask
from tests.lightgcn.golden import generate


def test_training_reaches_the_golden_numbers():
    golden = json.loads(generate.GOLDEN.read_text(encoding="utf-8"))
    strategies = Strategies(
        LightGCN(generate.DIM, layers=3, alphas=generate.ALPHAS),
        optimization=Optimization(l2=generate.L2),
    )
    users, items = np.nonzero(generate.world())
    graph = BipartiteGraph.from_pairs(
        users, items, num_users=generate.NUM_USERS, num_items=generate.NUM_ITEMS
    )
    optimizer = optax.adam(generate.RATE)
    with jax.enable_x64(True):
        inputs = StepInputs.of(graph, strategies)
        inputs = inputs._replace(operator=diffusion_operator(graph, dtype=jnp.float64))
        params = Params(LightGCNParams(jnp.asarray(generate.initial_table())))
        state = TrainState(params, optimizer.init(params), jnp.int32(0))
        step = jax.jit(lambda state, batch: train_step(state, batch, inputs, strategies, optimizer))
        unseen = jax.jit(unseen_mask)
        for index, expected in enumerate(golden["losses"]):
            users, positives, shared = map(jnp.asarray, generate.batch(index))
            valid = unseen(graph, users, shared)
            state, loss = step(state, Batch(users, positives, shared, valid, jnp.ones(len(users))))
            np.testing.assert_allclose(loss.total, expected, rtol=1e-9, err_msg=f"step {index}")
        np.testing.assert_allclose(state.params.model.table, golden["table"], rtol=1e-6, atol=1e-9)
