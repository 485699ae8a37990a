"""Judging a finished run again, from what lies in its directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax

from lightgcn_jax.errors import InputError
from pinsage_jax.evaluation.linear_probe import linear_probe
from pinsage_jax.evaluation.metrics import directions, triplet_accuracy
from pinsage_jax.evaluation.sets import judge_parts
from pinsage_jax.features.schema import TextEncoders
from pinsage_jax.runs.finished import read_finished
from pinsage_jax.runs.fresh_judging import judge_fresh


def judge_run(
    path: Path, *, probe: bool = True, text_encoders: TextEncoders | None = None
) -> dict[str, Any]:
    """The figures of all parts, of the items held out where there are any (see
    :mod:`pinsage_jax.runs.fresh_judging`), triplet accuracy on test, and linear probes.

    Args:
        path: a finished run.
        probe: classify the vectors by each of the data set's labels.
        text_encoders: what the features were encoded by, where it was given.
    """
    run = read_finished(path)
    task, vectors, pool = run.task, run.vectors, run.pool
    parts = judge_parts(run.model, run.params, vectors, task, pool)
    triplets = triplet_accuracy(jax.random.key(0), directions(vectors), task.test, candidates=pool)
    figures = {"parts": parts, "triplets": triplets.accuracy, "probe": {}, "not_probed": {}}
    if task.fresh is not None:
        try:
            figures["added"] = judge_fresh(run, text_encoders)
        except InputError as error:  # texts that were encoded by a function that is not at hand
            figures["not_added"] = str(error)
    for name, labels in task.data.labels.items() if probe else ():
        try:
            result = linear_probe(vectors[pool], labels[pool])
        except InputError as error:  # a label of one class, say, is no reason to give up
            figures["not_probed"][name] = str(error)
        else:
            figures["probe"][name] = {"metrics": result.metrics, "baseline": result.baseline}
    return figures
