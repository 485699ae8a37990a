"""What a run carries from step to step and what it ends with."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.scorer import Scorer
from lightgcn_jax.training.step import Params, TrainState


class TrainingDiverged(InputError):
    """The loss is no longer a finite number."""


class TrainArrays(NamedTuple):
    """The arrays of a checkpoint; the leading axis is the lane: a seed, or a variant's seed.

    Attributes:
        states: parameters, optimizer state and step count.
        best: parameters of each lane's best epoch so far.
    """

    states: TrainState
    best: Params

    @classmethod
    def start(cls, states: TrainState) -> TrainArrays:
        """States before the first step; the chunk donates their buffers, so the best parameters
        get their own."""
        return cls(states, jax.tree.map(jnp.copy, states.params))


class Trained(NamedTuple):
    """What training gives: the figures, the history, and what ranks by the final embeddings of the
    best epoch."""

    summary: dict[str, Any]
    history: list[dict[str, Any]]
    scorer: Scorer


@dataclasses.dataclass
class Progress:
    """The host's side of a checkpoint: where training stands and what it has seen.

    Attributes:
        epoch: epochs done.
        chunk: chunks of the next epoch that are done.
        loss_sums: per lane, the sum of the losses of this epoch's steps so far.
        best_epochs: per lane, 0 before the first evaluation.
        best_values: per lane, of the selection metric.
        misses: per lane, evaluations since the best one.
        history: the records of metrics.jsonl.
        train_seconds, compile_seconds, evaluate_seconds: time spent, over all resumes.
    """

    loss_sums: list[float]
    best_epochs: list[int]
    best_values: list[float]
    misses: list[int]
    epoch: int = 0
    chunk: int = 0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    train_seconds: float = 0.0
    compile_seconds: float = 0.0
    evaluate_seconds: float = 0.0

    @classmethod
    def start(cls, lanes: int) -> Progress:
        # Metrics are at least 0, so any first evaluation improves on −1.
        return cls([0.0] * lanes, [0] * lanes, [-1.0] * lanes, [0] * lanes)
