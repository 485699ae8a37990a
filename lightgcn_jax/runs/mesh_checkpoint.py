"""Checkpoints that all processes of a mesh write and read together, each the rows of its shards.

Every function here has to be called by all of them at once; an error of one ends all.
"""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from lightgcn_jax.errors import InputError
from lightgcn_jax.processes.agreement import (
    check_agreement,
    gathered,
    is_first,
    of_the_first,
    telling,
)
from lightgcn_jax.runs.checkpoint import (
    Checkpoint,
    checkpoint_folders,
    find_damage,
    restored,
    seal,
    write_arrays,
    writing_checkpoint,
)
from lightgcn_jax.runs.shard_files import SHARDS, create, sums_within, write_own
from lightgcn_jax.sharding.layout import Layout


def save_together(
    folder: Path, step: int, arrays: Any, progress: dict[str, Any], layout: Layout
) -> None:
    """Write one checkpoint whole, then drop all but the newest two.

    Where all processes see the first one's disk, each writes the rows of its own shards; else the
    first one gathers and writes all.

    Args:
        folder: holds a run's checkpoints; made if missing.
        step: orders the checkpoints.
        arrays: pytree of arrays as the layout lays them out.
        progress: JSON value.
        layout: where tables lie.

    Raises:
        OSError: a disk refused.
    """
    writing = writing_checkpoint(folder, step, arrays) if is_first() else nullcontext(folder)
    with telling(), writing as temporary:
        place = Path(of_the_first(str(temporary.absolute())))
        # A name that nobody can have made but the first process, a moment ago.
        if all(gathered(place.is_dir())):
            _write(place / SHARDS, arrays, progress, layout)
        else:
            whole = layout.take(arrays)
            if is_first():
                write_arrays(temporary, whole)
                seal(temporary, progress)
    gathered()  # the others end where the first one could not publish it


def _write(shards: Path, arrays: Any, progress: dict[str, Any], layout: Layout) -> None:
    sums: dict[str, str] = {}
    if is_first():
        create(shards, arrays, layout)
        sums = sums_within(shards)
    gathered()
    sums |= write_own(shards, arrays, layout)
    everybodys = gathered(sums)
    if is_first():
        every = {f"{SHARDS}/{name}": sum for one in everybodys for name, sum in one.items()}
        seal(shards.parent, progress, every)


def load_together(folder: Path, template: Any, layout: Layout | None) -> Checkpoint | None:
    """Restore the newest checkpoint in which no process finds damage.

    The first process looks at all files, any other one at those that it reads.

    Args:
        folder: a run's checkpoints.
        template: pytree of arrays or ``jax.ShapeDtypeStruct`` as one device has them.
        layout: where tables are going to lie; None for one device.

    Returns:
        The checkpoint; None where there is none. A damaged one is passed over with a warning that
        names it. What one process wrote is on one device.

    Raises:
        InputError: there are checkpoints, and all of them are damaged, or they hold other arrays.
    """
    folders = checkpoint_folders(folder)
    check_agreement({"checkpoints": [path.name for path in folders]})
    for path in folders:
        with telling():
            damage = find_damage(path, None if is_first() else layout)
        damage = next((one for one in gathered(damage) if one is not None), None)
        if damage is None:
            with telling():
                checkpoint = restored(path, template, layout)
            gathered()
            return checkpoint
        if is_first():
            warnings.warn(f"{path}: damaged checkpoint passed over ({damage})", stacklevel=2)
    if folders:
        raise InputError(f"{folder}: all {len(folders)} checkpoints are damaged")
    return None
