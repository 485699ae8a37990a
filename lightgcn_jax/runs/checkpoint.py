"""Checkpoints that survive kill −9 and notice damage.

A checkpoint is a folder: the arrays as orbax writes them, ``progress.json``, and ``manifest.json``
with the SHA-256 sum of every other file, written last. The folder is made under a temporary name
and renamed when whole.
"""

from __future__ import annotations

import errno
import shutil
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax

from lightgcn_jax.arrays import default_device
from lightgcn_jax.errors import InputError
from lightgcn_jax.files import sha256, whole_folder
from lightgcn_jax.json_files import read_json, write_json
from lightgcn_jax.sums import State, said, states

_ARRAYS, _PROGRESS, _MANIFEST = "arrays", "progress.json", "manifest.json"
# The newest and the one before, to fall back on.
_KEPT = 2
# Characters of what orbax says.
_LONGEST_SAID = 300


class Checkpoint(NamedTuple):
    """A restored checkpoint.

    Attributes:
        arrays: the pytree that was saved.
        progress: the JSON value that was saved beside it.
        path: the folder it came from.
    """

    arrays: Any
    progress: dict[str, Any]
    path: Path


def save_checkpoint(folder: Path, step: int, arrays: Any, progress: dict[str, Any]) -> Path:
    """Write one checkpoint whole, then drop all but the newest two.

    Args:
        folder: holds a run's checkpoints; made if missing.
        step: orders the checkpoints.
        arrays: pytree of arrays.
        progress: JSON value.

    Returns:
        The checkpoint's folder.
    """
    target = folder / f"step-{step:012d}"
    with whole_folder(target) as temporary:
        _write_arrays(temporary / _ARRAYS, arrays, target)
        write_json(temporary / _PROGRESS, progress)
        write_json(temporary / _MANIFEST, _sums(temporary))
        if target.exists():
            # The same step again, after a fallback past a damaged checkpoint of this name.
            shutil.rmtree(target)
    for old in checkpoint_folders(folder)[_KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def checkpoint_folders(folder: Path) -> list[Path]:
    """The checkpoints' folders, newest first.

    Args:
        folder: holds a run's checkpoints.
    """
    if not folder.is_dir():
        return []
    return sorted((one for one in folder.iterdir() if one.name.startswith("step-")), reverse=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what a kill in the middle of a save left behind.

    Args:
        folder: holds the checkpoints of a run that this process has locked.
    """
    for unfinished in folder.iterdir() if folder.is_dir() else ():
        if unfinished.name.startswith(".step-") and unfinished.name.endswith(".tmp"):
            shutil.rmtree(unfinished, ignore_errors=True)


def load_checkpoint(folder: Path, template: Any) -> Checkpoint | None:
    """Restore the newest undamaged checkpoint.

    Args:
        folder: a run's checkpoints.
        template: pytree of arrays or ``jax.ShapeDtypeStruct`` with the saved structure.

    Returns:
        The checkpoint; None where there is none. A damaged one is passed over with a warning that
        names it.

    Raises:
        InputError: there are checkpoints, and all of them are damaged.
    """
    folders = checkpoint_folders(folder)
    for path in folders:
        damage = find_damage(path)
        if damage is None:
            return Checkpoint(_restore(path / _ARRAYS, template), read_json(path / _PROGRESS), path)
        warnings.warn(f"{path}: damaged checkpoint passed over ({damage})", stacklevel=2)
    if folders:
        raise InputError(f"{folder}: all {len(folders)} checkpoints are damaged")
    return None


def find_damage(path: Path) -> str | None:
    """What differs from the checkpoint's manifest of sums; None if nothing does.

    Args:
        path: the checkpoint's folder.
    """
    for name, state in checkpoint_states(path).items():
        if state != "ok":
            return f"{name} {said(state, _MANIFEST)}"
    return None


def checkpoint_states(path: Path) -> dict[str, State]:
    """The state of each file of a checkpoint by its path within.

    Args:
        path: the checkpoint's folder.
    """
    try:
        expected = read_json(path / _MANIFEST)
    except (InputError, OSError):
        return {_MANIFEST: "unreadable"}
    if not isinstance(expected, dict):
        return {_MANIFEST: "unreadable"}
    return states(expected, _sums(path))


def _write_arrays(path: Path, arrays: Any, target: Path) -> None:
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(arrays))
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        message = f"checkpoint needs {needed / 1e6:.0f} MB, the disk has {free / 1e6:.0f} MB left"
        raise OSError(errno.ENOSPC, message, str(target))
    try:
        with _checkpointer() as checkpointer:
            checkpointer.save(path.absolute(), arrays)
    except Exception as error:
        # Orbax reports a failing disk as this or that exception with a page of text.
        said = [*str(error).splitlines(), type(error).__name__][0][:_LONGEST_SAID]
        message = f"checkpoint could not be written: {said}"
        raise OSError(errno.EIO, message, str(target)) from error


def _checkpointer() -> Any:
    # Imported here: orbax doubles the time to print a help text.
    import orbax.checkpoint as ocp

    # Of several processes each reads for itself, and the first one writes for all.
    own = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process{own}"
    )
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _sums(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(folder)): sha256(path) for path in files if path != folder / _MANIFEST
    }


def _restore(path: Path, template: Any) -> Any:
    device = jax.sharding.SingleDeviceSharding(default_device())
    wanted = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), template
    )
    try:
        with _checkpointer() as checkpointer:
            return checkpointer.restore(path.absolute(), wanted)
    except Exception as error:  # orbax raises this or that
        # The bytes are whole, so it is the structure: another optimizer's state, for instance.
        raise InputError(
            f"{path.parent}: the checkpoint holds other arrays than this run's settings and "
            f"optimizer have: {[*str(error).splitlines(), type(error).__name__][0]}"
        ) from error
