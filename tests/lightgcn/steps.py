"""What tests of training share: strategies, inputs and states on one small graph."""

import dataclasses

import jax
import jax.numpy as jnp

from lightgcn_jax.diffusion import diffusion_operator
from lightgcn_jax.models import LightGCN
from lightgcn_jax.models.lightgcn import LightGCNParams
from lightgcn_jax.training import (
    Optimization,
    Params,
    SharedNegatives,
    StepInputs,
    Strategies,
    TrainState,
    batch_loss,
    draw_batch,
)
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of, random_pairs

USERS, ITEMS = random_pairs(0, density=0.4)
GRAPH = graph_of(USERS, ITEMS)
NODES, DIM = NUM_USERS + NUM_ITEMS, 3
STRATEGIES = Strategies(
    LightGCN(DIM, layers=2),
    negatives=SharedNegatives(4),
    optimization=Optimization(batch_size=5, l2=0.1),
)
# Compiled once for each strategies that a test file asks for.
draw = jax.jit(draw_batch, static_argnames="strategies")
loss_and_gradient = jax.jit(
    jax.value_and_grad(batch_loss, has_aux=True), static_argnames="strategies"
)


def changed(strategies=STRATEGIES, optimization=None, **fields):
    """Strategies with other values, and with other numbers of the optimisation."""
    numbers = dataclasses.replace(strategies.optimization, **optimization or {})
    return dataclasses.replace(strategies, optimization=numbers, **fields)


def inputs_of(strategies=STRATEGIES, dtype=jnp.float32):
    """What the steps of a LightGCN read."""
    operator = diffusion_operator(GRAPH, dtype=dtype)
    return StepInputs.of(GRAPH, strategies)._replace(operator=operator)


def start(optimizer, seed=0):
    """The state before the first step."""
    params = Params(LightGCNParams(jax.random.normal(jax.random.key(seed), (NODES, DIM))))
    return TrainState(params, optimizer.init(params), jnp.int32(0))
