"""A finished run, from memory or from its directory: what judging it reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pinsage_jax.config import PinSageConfig
from pinsage_jax.encoder.all_items import ItemVectors
from pinsage_jax.encoder.pinsage import PinSage
from pinsage_jax.features.schema import FeatureSchema
from pinsage_jax.runs.directory import PinSageRun
from pinsage_jax.runs.lifecycle import Fit, read_model, read_vectors
from pinsage_jax.runs.stored_task import load_task
from pinsage_jax.tasks.holdout import Task


class FinishedRun(NamedTuple):
    """What is judged.

    Attributes:
        config, task, schema, model, params: what it was trained by and what came of it.
        items: vectors of all R items of its data, and the layers below them.
    """

    config: PinSageConfig
    task: Task
    schema: FeatureSchema
    model: PinSage
    params: Any
    items: ItemVectors

    @classmethod
    def of(cls, result: Fit) -> FinishedRun:
        """What ``fit`` gave."""
        prepared = result.prepared
        return cls(
            result.config,
            result.task,
            prepared.schema,
            prepared.model,
            result.params,
            result.items,
        )

    @property
    def vectors(self) -> np.ndarray:
        """``float32[R, D]``, z of all items."""
        return np.asarray(self.items.vectors)

    @property
    def pool(self) -> np.ndarray:
        """``int32[n]``, the training items, which are ranked."""
        return np.flatnonzero(self.task.train_items).astype(np.int32)


def read_finished(path: Path) -> FinishedRun:
    """Open a finished run.

    Raises:
        InputError: the directory holds no finished run or a damaged one.
    """
    run = PinSageRun.open(path)
    run.summary  # noqa: B018, refuses a run that is not finished
    config, schema = run.config, run.read_schema()
    items = read_vectors(run, config)
    model, params = read_model(run, config, schema, len(items.vectors))
    return FinishedRun(config, load_task(run), schema, model, params, items)
