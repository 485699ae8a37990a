"""The compiled functions of a run, which other runs of the same settings in a process share."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lightgcn_jax.arrays import Array, PRNGKey, Scalar
from lightgcn_jax.evaluation.scorer import Scorer
from lightgcn_jax.runs.scorers import make_scorer
from lightgcn_jax.training.batch import epoch_shuffle
from lightgcn_jax.training.epoch import EpochPlan, compile_steps
from lightgcn_jax.training.optimizer import make_optimizer, of_program
from lightgcn_jax.training.step import Params, TrainState, initial_state
from lightgcn_jax.training.strategies import StepInputs, Strategies


class Programs(NamedTuple):
    """Jitted functions, each compiled when it is first used with arrays of some shape.

    Attributes:
        start: from the replicas' keys to their states before the first step.
        shuffle: from the replicas' keys and an epoch to their shuffled interactions
            ``int32[replicas, E]``.
        steps: what :func:`lightgcn_jax.training.compile_steps` says; the states are given up.
        score: from the parameters of one replica and what its steps read to what ranks.
        keep_best: the best parameters, where they improved the current ones; the best are given up.
    """

    start: Callable[[PRNGKey], TrainState]
    shuffle: Callable[[PRNGKey, Scalar], Array]
    steps: Any
    score: Callable[[Params, StepInputs], Scorer]
    keep_best: Callable[[Params, Params, Array], Params]


def programs_of(
    strategies: tuple[Strategies, ...],
    plan: EpochPlan,
    num_nodes: int,
    num_edges: int,
    optimizer: optax.GradientTransformation | None = None,
    *,
    shared: bool,
) -> Programs:
    """The functions of a run.

    Args:
        strategies: of each replica; their steps are those of the first.
        plan: how an epoch is cut.
        num_nodes: N.
        num_edges: E.
        optimizer: in place of Adam; None for Adam.
        shared: take those of an earlier run that differed at most in numbers. An object of one's
            own may have changed since though it is the same: its run has functions of its own.
    """
    strategies = tuple(
        dataclasses.replace(one, optimization=of_program(one.optimization)) for one in strategies
    )
    make = _programs if shared else _programs.__wrapped__
    return make(strategies, plan, num_nodes, num_edges, optimizer)


@functools.lru_cache(16)
def _programs(
    strategies: tuple[Strategies, ...],
    plan: EpochPlan,
    num_nodes: int,
    num_edges: int,
    optimizer: optax.GradientTransformation | None,
) -> Programs:
    of_all = strategies[0]

    def optimizer_of(rate: Scalar | float) -> optax.GradientTransformation:
        return optimizer or make_optimizer(of_all.optimization, plan.steps_per_epoch, rate)

    def start(keys: PRNGKey) -> TrainState:
        made = optimizer_of(of_all.optimization.learning_rate)
        states = [
            initial_state(key, num_nodes, own, made)
            for key, own in zip(keys, strategies, strict=True)
        ]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)

    def shuffle(key: PRNGKey, epoch: Scalar) -> Array:
        return epoch_shuffle(jax.random.fold_in(key, epoch), num_edges, of_all)

    def score(params: Params, inputs: StepInputs) -> Scorer:
        return make_scorer(params, inputs, of_all)

    return Programs(
        start=jax.jit(start),
        shuffle=jax.jit(jax.vmap(shuffle, in_axes=(0, None))),
        steps=jax.jit(compile_steps(of_all, optimizer_of, plan), donate_argnums=0),
        score=jax.jit(score),
        keep_best=jax.jit(jax.vmap(_keep_best), donate_argnums=0),
    )


def _keep_best(best: Params, current: Params, improved: Array) -> Params:
    return jax.tree.map(lambda old, new: jnp.where(improved, new, old), best, current)
