"""Judging a finished run again, from what lies in its directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from lightgcn_jax.errors import InputError
from pinsage_jax.config import PinSageConfig
from pinsage_jax.encoder import PinSage
from pinsage_jax.evaluation import directions, triplet_accuracy
from pinsage_jax.holdout import Task
from pinsage_jax.judging import judge_parts
from pinsage_jax.linear_probe import linear_probe
from pinsage_jax.run_directory import PinSageRun
from pinsage_jax.runs import read_model, read_vectors
from pinsage_jax.task_files import load_task


class FinishedRun(NamedTuple):
    """What is read of a run to judge it.

    Attributes:
        config, task, model, params: what it was trained by and what came of it.
        vectors: ``float32[R, D]``, z of all items of its data.
        pool: ``int32[n]``, its training items, which are ranked.
    """

    config: PinSageConfig
    task: Task
    model: PinSage
    params: Any
    vectors: np.ndarray
    pool: np.ndarray


def read_finished(path: Path) -> FinishedRun:
    """Open a finished run.

    Raises:
        InputError: the directory holds no finished run or a damaged one.
    """
    run = PinSageRun.open(path)
    run.summary  # noqa: B018, refuses a run that is not finished
    config, task = run.config, load_task(run)
    vectors = np.asarray(read_vectors(run, config).vectors)
    model, params = read_model(run, config, run.read_schema(), len(vectors))
    pool = np.flatnonzero(task.train_items).astype(np.int32)
    return FinishedRun(config, task, model, params, vectors, pool)


def judge_run(path: Path, *, probe: bool = True) -> dict[str, Any]:
    """The figures of all parts, triplet accuracy on test, and linear probes.

    Args:
        path: a finished run.
        probe: classify the vectors by each of the data set's labels.
    """
    _, task, model, params, vectors, pool = read_finished(path)
    parts = judge_parts(model, params, vectors, task, pool)
    triplets = triplet_accuracy(jax.random.key(0), directions(vectors), task.test, candidates=pool)
    figures = {"parts": parts, "triplets": triplets.accuracy, "probe": {}, "not_probed": {}}
    for name, labels in task.data.labels.items() if probe else ():
        try:
            result = linear_probe(vectors[pool], labels[pool])
        except InputError as error:  # a label of one class, say, is no reason to give up
            figures["not_probed"][name] = str(error)
        else:
            figures["probe"][name] = {"metrics": result.metrics, "baseline": result.baseline}
    return figures
