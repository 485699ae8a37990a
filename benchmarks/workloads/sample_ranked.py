"""``python -m benchmarks.workloads.sample_ranked RUN PREPARED USERS``: some users of a run that was
broken off are ranked by its last checkpoint, in a process of its own; a line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.process import cpu_seconds, own_peak_gb
from lightgcn_jax.evaluation import rank
from lightgcn_jax.prepared import open_prepared
from lightgcn_jax.runs import RunDirectory, SilentReporter
from lightgcn_jax.runs.checkpoint import load_checkpoint
from lightgcn_jax.runs.trainer import Trainer
from lightgcn_jax.settings.config import TrainConfig

_K = 20


def ranked(run: Path, prepared: Path, users: int) -> dict[str, Any]:
    """Rank all items for users who have something in validation, without their training items.

    Args:
        run: the run's directory.
        prepared: the folder that it was trained from.
        users: how many.

    Returns:
        Steps that were trained, seconds on the clock and of CPU with compilation, and how many of
        the users have one of their validation items among the best 20.
    """
    directory, split = RunDirectory.open(run), open_prepared(prepared).split
    assert isinstance(directory.config, TrainConfig)
    trainer = Trainer(split, directory.config, None, None, SilentReporter())
    checkpoint = load_checkpoint(directory.checkpoints, trainer.array_template())
    assert checkpoint is not None
    scorer = trainer.scorer(checkpoint.arrays.states.params, 0)
    rows = split.valid.named("users")
    rows = np.random.default_rng(0).choice(rows, min(users, len(rows)), replace=False)
    rows.sort()
    start, used = time.perf_counter(), cpu_seconds()
    best = rank(scorer, rows, _K, seen=trainer.sets.left_out("valid")).items
    took = {"seconds": time.perf_counter() - start, "cpu_seconds": cpu_seconds() - used}
    offsets, columns = (
        np.asarray(one) for one in (trainer.sets.valid.offsets, trainer.sets.valid.columns)
    )
    hits = [
        bool(np.isin(columns[offsets[row] : offsets[row + 1]], list_).any())
        for row, list_ in zip(rows, best, strict=True)
    ]
    trained = checkpoint.progress["call"] * trainer.plan.steps_per_call
    about = {
        "users": len(rows),
        "steps_trained": trained,
        "steps_an_epoch": trainer.plan.steps_per_epoch,
    }
    return {**about, **took, f"hit_rate@{_K}": float(np.mean(hits)), "peak_gb": own_peak_gb()}


if __name__ == "__main__":
    print(json.dumps(ranked(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))))
