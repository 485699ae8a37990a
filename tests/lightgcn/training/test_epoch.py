"""An epoch as equal compiled pieces."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lightgcn_jax.diffusion import Restriction
from lightgcn_jax.models import MF, LightGCN
from lightgcn_jax.training import (
    Optimization,
    Strategies,
    TracedSettings,
    compile_steps,
    epoch_shuffle,
    plan_epoch,
)
from lightgcn_jax.training.epoch import EpochPlan
from tests.lightgcn.steps import GRAPH, STRATEGIES, USERS, changed, inputs_of, start

ADAM = optax.adam(0.01)


def arguments_of(strategies, seeds=1):
    """States, keys, shuffles and traced settings of runs that differ in their seeds."""
    keys = jnp.stack([jax.random.key(seed) for seed in range(seeds)])
    states = [start(ADAM, seed) for seed in range(seeds)]
    return (
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *states),
        keys,
        jnp.stack([epoch_shuffle(key, GRAPH.num_edges, strategies) for key in keys]),
        TracedSettings.stacked([strategies] * seeds),
    )


def run_epoch(strategies, plan, inputs, seeds=1, traces=None):
    """States after an epoch, and the losses of all its steps."""
    function = compile_steps(strategies, lambda _: ADAM, plan)

    def counted(*args):
        if traces is not None:
            traces.append(1)
        return function(*args)

    steps = jax.jit(counted, donate_argnums=0)
    states, *rest = arguments_of(strategies, seeds)
    losses = []
    for call in range(plan.calls):
        states, loss = steps(states, *rest, jnp.int32(call * plan.steps_per_call), inputs)
        losses.append(loss.total)
    return states, np.concatenate(losses, axis=1)


@pytest.mark.parametrize("length", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_calls_of_any_length_train_alike_and_trace_once(length):
    strategies, inputs, traces = changed(optimization={"batch_size": 2}), inputs_of(), []
    steps = -(-len(USERS) // 2)
    whole, _ = run_epoch(strategies, EpochPlan(steps, 1, steps), inputs)
    plan = EpochPlan(steps, -(-steps // length), length)
    assert not plan.is_exact
    parts, _ = run_epoch(strategies, plan, inputs, traces=traces)
    assert len(traces) == 1
    for one, other in zip(jax.tree.leaves(parts), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert parts.step[0] == steps


def test_the_steps_call_no_host_and_close_over_no_graph():
    inputs = inputs_of()
    steps = compile_steps(STRATEGIES, lambda _: ADAM, EpochPlan(4, 2, 2))
    jaxpr = jax.make_jaxpr(steps)(*arguments_of(STRATEGIES), jnp.int32(0), inputs)
    assert "callback" not in str(jaxpr)
    assert all(np.size(constant) < GRAPH.num_edges for constant in jaxpr.consts)
    assert "scan" in str(jaxpr)


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.slow
def test_the_restriction_is_invisible(seeds):
    with jax.enable_x64(True):
        inputs, ends = inputs_of(dtype=jnp.float64), []
        for restriction in (None, Restriction(200, True)):
            operator = dataclasses.replace(inputs.operator, restriction=restriction)
            planned = inputs._replace(operator=operator)
            ends.append(run_epoch(STRATEGIES, EpochPlan(4, 1, 4), planned, seeds))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), *ends)


@pytest.mark.slow
def test_seeds_under_vmap_train_as_alone():
    plan, inputs = EpochPlan(4, 1, 4), inputs_of()
    together, losses = run_epoch(STRATEGIES, plan, inputs, seeds=3)
    single = jax.jit(compile_steps(STRATEGIES, lambda _: ADAM, plan))
    arguments = arguments_of(STRATEGIES, seeds=3)
    for seed in range(3):
        own = jax.tree.map(lambda leaf, seed=seed: leaf[seed : seed + 1], arguments)
        alone, loss = single(*own, jnp.int32(0), inputs)
        np.testing.assert_allclose(losses[seed], loss.total[0], rtol=1e-5)
        np.testing.assert_allclose(
            together.params.model.table[seed], alone.params.model.table[0], rtol=1e-4, atol=1e-5
        )


class Sizes:
    """What a plan looks at in a graph: its sizes."""

    num_items = 40_981
    num_nodes = 70_839
    items_of_user = users_of_item = SimpleNamespace(lengths=lambda: np.ones(3))

    def __init__(self, num_edges=810_128):
        self.num_edges = num_edges


@pytest.mark.parametrize("edges", [1, 100, 2048, 729_000, 810_128, 2_380_730, 10_000_000])
@pytest.mark.parametrize(
    ("batch_size", "dim", "replicas"),
    [(1, 64, 1), (37, 64, 1), (2048, 64, 1), (2048, 256, 1), (2048, 64, 4), (2048, 64, 8)],
)
def test_plans_cover_the_epoch_without_an_empty_call(edges, batch_size, dim, replicas):
    graph, strategies = (
        Sizes(edges),
        Strategies(LightGCN(dim), optimization=Optimization(batch_size=batch_size)),
    )
    plan = plan_epoch(graph, strategies, replicas)
    assert plan.steps_per_epoch == -(-edges // batch_size)
    covered = plan.calls * plan.steps_per_call
    assert plan.steps_per_epoch <= covered < plan.steps_per_epoch + plan.steps_per_call
    # Some two seconds at 20 GB/s, or a single step where that takes longer.
    bytes_per_step = (4 * 3 * edges + 12 * graph.num_nodes) * 4 * dim * replicas
    assert plan.steps_per_call == 1 or plan.steps_per_call * bytes_per_step < 40e9


def test_a_model_without_a_graph_pays_for_no_layers():
    """On Gowalla's sizes a step of matrix factorisation moves 12 tables: .22 GB, .011 s."""
    assert plan_epoch(Sizes(), Strategies(MF())) == EpochPlan(396, calls=4, steps_per_call=99)
    layered = plan_epoch(Sizes(), Strategies(LightGCN(layers=3)))
    assert layered.steps_per_call < 99
    assert plan_epoch(Sizes(), Strategies(LightGCN(layers=0))) == plan_epoch(
        Sizes(), Strategies(MF())
    )
