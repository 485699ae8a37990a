"""A run that was kept in memory, written as a directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lightgcn_jax.evaluation.scorer import Tables
from lightgcn_jax.runs.directory import RunDirectory
from lightgcn_jax.runs.result import FitResult
from lightgcn_jax.runs.scorers import kept_params, tensors_of
from lightgcn_jax.settings.config import ClosedFormConfig


def write_result(
    result: FitResult, path: Path | str, *, data: Mapping[str, Any] | None = None, optimizer: str
) -> Path:
    """Write a finished run. It is served, evaluated and compared like one that was written while it
    trained; it has no checkpoint, so it cannot be gone on from.

    Args:
        result: the run.
        path: a new directory, or an empty one.
        data: JSON value stored with it: where the interactions came from.
        optimizer: ``adam``, ``custom`` or ``none``, as :attr:`RunDirectory.optimizer` gives it.

    Returns:
        The directory.

    Raises:
        InputError: the directory holds something, or the run was made with a lambda.
    """
    path, config, known = Path(path), result.config, result.also_seen
    with RunDirectory.creating(path, result.split, config, data or {}, optimizer, known) as run:
        run.write_metrics(result.history)
        if isinstance(config, ClosedFormConfig):
            names = config.model.tensors
            run.write_model({name: np.asarray(getattr(result.scorer, name)) for name in names})
        else:
            assert isinstance(result.scorer, Tables)
            run.write_embeddings(*map(np.asarray, result.scorer.embeddings()))
            run.write_model(tensors_of(getattr(result.scorer, "head", None)))
            run.write_params(kept_params(config.model, result.params))
        run.write_summary(result.summary)
    return path
