"""What several processes that train one encoder compare before anything runs on all devices."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jax.sharding import Mesh

from lightgcn_jax.processes.agreement import several
from lightgcn_jax.runs.processes import check_facts, digest_of
from pinsage_jax.config import PinSageConfig
from pinsage_jax.tasks.pairs import ExplicitPairs
from pinsage_jax.tasks.task import Task


def check_same_run(task: Task, config: PinSageConfig, mesh: Mesh | str | None) -> None:
    """Make sure that all processes train the same encoder on the same items, if there are several.

    Args:
        task: what is trained on.
        config: the settings.
        mesh: as it was asked for.

    Raises:
        InputError: a setting, a version or the data differ; the message says which.
    """
    if not several():
        return
    train = task.train
    facts: dict[str, Any] = dataclasses.asdict(config)
    facts |= {"items": train.num_items, "contexts": train.num_users}
    facts |= {"memberships that train": len(train.item_rows)}
    check_facts(facts, _digests(task), mesh)


def _digests(task: Task) -> dict[str, str]:
    train = task.train
    found = {
        "memberships that train": _digest(train.item_rows, train.user_rows),
        "items that train": _digest(task.train_items),
    }
    for name in ("valid", "test"):
        part = getattr(task, name)
        found[f"{name} pairs"] = _digest(part.queries, part.relevant.offsets, part.relevant.columns)
    for name, ids in (("items", train.items), ("contexts", train.users)):
        found[f"ids of {name}"] = digest_of("\n".join(map(str, ids.ids)).encode())
    for name, column in task.data.features.columns.items():
        values = column.values
        numbers = isinstance(values, np.ndarray) and values.dtype.kind in "biuf"
        found[f"feature {name}"] = _digest(values) if numbers else digest_of(repr(values).encode())
    if train.timestamps is not None:
        found["times that train"] = _digest(train.timestamps)
    if isinstance(task.pairs, ExplicitPairs):
        found["pairs that train"] = _digest(task.pairs.queries, task.pairs.positives)
    return found


def _digest(*arrays: Any) -> str:
    return digest_of(*(np.ascontiguousarray(one) for one in arrays))
