"""What a run carries from step to step and what it ends with."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.scorer import Scorer
from lightgcn_jax.fields import document
from lightgcn_jax.runs.metadata import PROGRESS
from lightgcn_jax.training.step import Params, TrainState


class TrainingDiverged(InputError):
    """The loss is no longer a finite number."""


class TrainArrays(NamedTuple):
    """The arrays of a checkpoint; the leading axis is the replica: a seed, or a variant's seed.

    Attributes:
        states: parameters, optimizer state and step count.
        best: parameters of each replica's best epoch so far.
    """

    states: TrainState
    best: Params

    @classmethod
    def start(cls, states: TrainState) -> TrainArrays:
        """States before the first step; the compiled steps donate their buffers, so the best
        parameters get their own.

        Args:
            states: the states of all replicas.
        """
        return cls(states, jax.tree.map(jnp.copy, states.params))


class Trained(NamedTuple):
    """What training gives.

    Attributes:
        summary: the figures.
        history: a record an epoch and replica.
        scorer: what ranks by the final embeddings of the best epoch.
        params: the model's parameters of the best epoch, host arrays; None for a closed form.
    """

    summary: dict[str, Any]
    history: list[dict[str, Any]]
    scorer: Scorer
    params: Any = None


@dataclasses.dataclass
class Progress:
    """The host's side of a checkpoint: where training stands and what it has seen.

    Attributes:
        epoch: epochs done.
        call: calls of the compiled steps done in the next epoch.
        loss_sums: per replica, the sum of the losses of this epoch's steps so far.
        best_epochs: per replica, 0 before the first evaluation.
        best_values: per replica, of the selection metric.
        misses: per replica, evaluations since the best one.
        history: the records of metrics.jsonl.
        train_seconds: seconds in the compiled steps, over all resumes.
        compile_seconds: seconds that compiling them took.
        evaluate_seconds: seconds of ranking and its compilation.
    """

    loss_sums: list[float]
    best_epochs: list[int]
    best_values: list[float]
    misses: list[int]
    epoch: int = 0
    call: int = 0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    train_seconds: float = 0.0
    compile_seconds: float = 0.0
    evaluate_seconds: float = 0.0

    @classmethod
    def start(cls, replicas: int) -> Progress:
        """Before the first step.

        Args:
            replicas: runs that train together.
        """
        # Metrics are at least 0, so any first evaluation improves on −1.
        return cls([0.0] * replicas, [0] * replicas, [-1.0] * replicas, [0] * replicas)

    @classmethod
    def stored(cls, fields: Any, where: Any, replicas: int) -> Progress:
        """What a checkpoint holds.

        Args:
            fields: a JSON value.
            where: its place, for the message.
            replicas: runs that train together.

        Raises:
            InputError: it has other fields, as another version writes, or is of other runs.
        """
        found = cls(**document(where, fields, PROGRESS))
        each = found.loss_sums, found.best_epochs, found.best_values, found.misses
        if {*map(len, each)} != {replicas}:
            raise InputError(f"{where}: expected {replicas} runs, got {[*map(len, each)]}")
        return found
