"""Thirty steps of training end at numbers that plain NumPy found on its own."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lightgcn_jax.diffusion import diffusion_operator
from lightgcn_jax.graph import BipartiteGraph
from lightgcn_jax.models.lightgcn import LightGCNParams
from lightgcn_jax.settings import TrainConfig
from lightgcn_jax.training.batch import Batch
from lightgcn_jax.training.negatives import unseen_mask
from lightgcn_jax.training.step import Params, Run, TrainState, train_step
from tests.lightgcn.golden import generate


def test_training_reaches_the_golden_numbers():
    golden = json.loads(generate.GOLDEN.read_text(encoding="utf-8"))
    config = TrainConfig(
        dim=generate.DIM, layers=3, alphas=generate.ALPHAS, l2=generate.L2, ks=(5,),
        select_by="recall@5",
    )  # fmt: skip
    users, items = np.nonzero(generate.world())
    graph = BipartiteGraph.from_pairs(
        users, items, num_users=generate.NUM_USERS, num_items=generate.NUM_ITEMS
    )
    optimizer = optax.adam(generate.RATE)
    with jax.enable_x64(True):
        run = Run.of(graph, diffusion_operator(graph, dtype=jnp.float64), config)
        params = Params(LightGCNParams(jnp.asarray(generate.initial_table())))
        state = TrainState(params, optimizer.init(params), jnp.int32(0))
        step = jax.jit(lambda state, batch: train_step(state, batch, run, config, optimizer))
        for index, expected in enumerate(golden["losses"]):
            users, positives, shared = map(jnp.asarray, generate.batch(index))
            valid = unseen_mask(graph, users, shared)
            state, loss = step(state, Batch(users, positives, shared, valid, jnp.ones(len(users))))
            np.testing.assert_allclose(loss.total, expected, rtol=1e-9, err_msg=f"step {index}")
        np.testing.assert_allclose(state.params.model.table, golden["table"], rtol=1e-6, atol=1e-9)
