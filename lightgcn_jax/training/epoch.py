"""The compiled steps that an epoch is made of."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lightgcn_jax.arrays import Ids, Int, PRNGKey, Scalar
from lightgcn_jax.graph.bipartite import BipartiteGraph
from lightgcn_jax.training.batch import Batch, draw_batch
from lightgcn_jax.training.step import StepLoss, TrainState, train_step
from lightgcn_jax.training.strategies import StepCost, StepInputs, Strategies, TracedSettings


class EpochPlan(NamedTuple):
    """An epoch as equal compiled pieces.

    Attributes:
        steps_per_epoch: ⌈E / B⌉.
        calls: calls of the compiled steps an epoch.
        steps_per_call: scan length L; calls · L ≥ steps_per_epoch, the rest is skipped.
    """

    steps_per_epoch: int
    calls: int
    steps_per_call: int

    @property
    def is_exact(self) -> bool:
        """Whether the calls cover the epoch without a step to skip."""
        return self.calls * self.steps_per_call == self.steps_per_epoch


def plan_epoch(graph: BipartiteGraph, strategies: Strategies, replicas: int = 1) -> EpochPlan:
    """Cut an epoch so that a call takes about a second: long enough to hide its overhead, short
    enough for progress, Ctrl-C and a check for NaN.

    Among the numbers of calls near that length, the one that skips the fewest steps is taken.

    Args:
        graph: the training interactions.
        strategies: the run's.
        replicas: runs that are trained at once.
    """
    steps = -(-graph.num_edges // strategies.optimization.batch_size)
    # Two cores move 20 GB/s; only the order of magnitude matters.
    seconds_per_step = StepCost.of(graph, strategies).moved_bytes * replicas / 20e9
    wanted = min(steps, max(1, round(steps * seconds_per_step)))
    candidates = range(wanted, min(steps, wanted + wanted // 2 + 1) + 1)
    calls = min(candidates, key=lambda n: (n * -(-steps // n) - steps, n))
    length = -(-steps // calls)
    # Rounding the length up may have left the last calls without a step.
    return EpochPlan(steps, -(-steps // length), length)


OptimizerOf = Callable[[Scalar | float], optax.GradientTransformation]
"""From a learning rate to the transformation; a given transformation ignores the rate."""


def compile_steps(strategies: Strategies, optimizer_of: OptimizerOf, plan: EpochPlan) -> Callable:
    """The function that a run compiles once: L steps of every replica in a loop.

    Args:
        strategies: what replicas share.
        optimizer_of: from a learning rate to the transformation.
        plan: how an epoch is cut.

    Returns:
        ``steps(states, keys, shuffles, traced, first_step, inputs) -> (states, losses)`` where the
        leading axis of states, keys, shuffles and traced is the replica, ``first_step`` (within the
        epoch) is ``int32[]``, and losses is a :class:`StepLoss` of ``float32[replicas, L]``, 0 for
        steps past the end of the epoch. A step's key is its replica's key folded with the count of
        steps since the start, which the state carries.
    """

    def of_one_replica(
        state: TrainState, key: PRNGKey, shuffle: Ids, traced: TracedSettings, first_step, inputs
    ) -> tuple[TrainState, StepLoss]:
        optimizer = optimizer_of(traced.learning_rate)

        def step(state: TrainState, step_in_epoch: Int[Any, ""]) -> tuple[TrainState, StepLoss]:
            step_key = jax.random.fold_in(key, state.step)
            drop_key = None
            if strategies.model.draws_in_training:
                step_key, drop_key = jax.random.split(step_key)
            batch = _drawn(step_key, inputs, shuffle, step_in_epoch, strategies)
            return train_step(state, batch, inputs, strategies, optimizer, traced, drop_key)

        def step_at(number: Int[Any, ""], carried: tuple[TrainState, StepLoss]):
            state, losses = carried
            state, loss = step(state, first_step + number)
            return state, jax.tree.map(lambda of, one: of.at[number].set(one), losses, loss)

        # The loop of a call that passes the epoch's last step ends there.
        count = plan.steps_per_call
        if not plan.is_exact:
            count = jnp.minimum(count, plan.steps_per_epoch - first_step)
        losses = StepLoss(jnp.zeros(plan.steps_per_call), jnp.zeros(plan.steps_per_call))
        return jax.lax.fori_loop(0, count, step_at, (state, losses))

    def steps(states, keys, shuffles, traced, first_step, inputs):
        if len(keys) == 1:
            # A batch axis of one would widen every gather and scatter for nothing.
            only = states, keys, shuffles, traced
            state, key, shuffle, own = jax.tree.map(lambda leaf: leaf[0], only)
            result = of_one_replica(state, key, shuffle, own, first_step, inputs)
            states, losses = jax.tree.map(lambda leaf: leaf[None], result)
        else:
            of_each = jax.vmap(of_one_replica, in_axes=(0, 0, 0, 0, None, None))
            states, losses = of_each(states, keys, shuffles, traced, first_step, inputs)
        if inputs.layout is not None:  # so that every process has them
            losses = jax.lax.with_sharding_constraint(losses, inputs.layout.everywhere)
        return states, losses

    return steps


def _drawn(
    key: PRNGKey,
    inputs: StepInputs,
    shuffle: Ids,
    step_in_epoch: Int[Any, ""],
    strategies: Strategies,
) -> Batch:
    """A batch; on a mesh every device draws all of it.

    XLA would share the drawing out over the axis of data too, and have the devices wait for each
    other in every block of the walk over the negatives' users.
    """
    layout = inputs.layout
    if layout is None:
        return draw_batch(key, inputs, shuffle, step_in_epoch, strategies)
    # The operator is not read, and lies on the mesh.
    inputs = inputs._replace(operator=None, layout=None)

    draw = functools.partial(draw_batch, strategies=strategies)
    return layout.made_by_each_device(draw, key, inputs, shuffle, step_in_epoch)
