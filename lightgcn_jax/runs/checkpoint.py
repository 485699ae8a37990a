"""Checkpoints that survive kill −9 and notice damage.

A checkpoint is a folder: the arrays as orbax writes them, or as the processes of a mesh do
(:mod:`lightgcn_jax.runs.shard_files`), ``progress.json``, and ``manifest.json`` with the SHA-256
sum of every other file, written last. The folder is made under a temporary name and renamed when
whole.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import shutil
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from lightgcn_jax.arrays import default_device
from lightgcn_jax.errors import InputError, first_line, naming_refused
from lightgcn_jax.files import sha256, whole_folder
from lightgcn_jax.json_files import read_json, write_json
from lightgcn_jax.memory import in_words
from lightgcn_jax.runs.shard_files import SHARDS, names_read, read
from lightgcn_jax.sharding.layout import Layout
from lightgcn_jax.sums import State, said, states

_ARRAYS, _PROGRESS, _MANIFEST = "arrays", "progress.json", "manifest.json"
# The newest and the one before, to fall back on.
_KEPT = 2
# Bytes, and some to spare, of orbax's files beside the arrays. Where a disk is full while orbax
# writes, its threads print a traceback each, which nobody can catch.
_BESIDE = 1 << 18


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
    with writing_checkpoint(folder, step, arrays) as temporary:
        write_arrays(temporary, arrays)
        seal(temporary, progress)
    return folder / _name(step)


@contextlib.contextmanager
def writing_checkpoint(folder: Path, step: int, arrays: Any) -> Iterator[Path]:
    """Make a checkpoint, and when the block ends drop all but the newest two.

    Args:
        folder: holds a run's checkpoints; made if missing.
        step: orders the checkpoints.
        arrays: what it is going to hold, for which there has to be room.

    Yields:
        A folder to write them into and to :func:`seal`.

    Raises:
        OSError: there is no room, or the disk refused.
    """
    target = folder / _name(step)
    with naming_refused(target), whole_folder(target) as temporary:
        needed = _BESIDE + sum(leaf.nbytes for leaf in jax.tree.leaves(arrays))
        free = shutil.disk_usage(temporary).free
        if free < needed:
            message = f"checkpoint needs {in_words(needed)}, the disk has {in_words(free)} left"
            raise OSError(errno.ENOSPC, message, str(target))
        yield temporary
        if target.exists():
            # The same step again, after a fallback past a damaged checkpoint of this name.
            shutil.rmtree(target)
    for old in checkpoint_folders(folder)[_KEPT:]:
        shutil.rmtree(old, ignore_errors=True)


def seal(temporary: Path, progress: dict[str, Any], sums: Mapping[str, str] | None = None) -> None:
    """Write what is beside the arrays, the manifest last.

    Args:
        temporary: the folder, which holds the arrays.
        progress: JSON value.
        sums: of the files of the arrays by their paths within; None to read them for it.
    """
    sums = _sums(temporary) if sums is None else sums
    write_json(temporary / _PROGRESS, progress)
    known = {**sums, _PROGRESS: sha256(temporary / _PROGRESS)}
    write_json(temporary / _MANIFEST, dict(sorted(known.items())))


def _name(step: int) -> str:
    return f"step-{step:012d}"


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
            return restored(path, template)
        warnings.warn(f"{path}: damaged checkpoint passed over ({damage})", stacklevel=2)
    if folders:
        raise InputError(f"{folder}: all {len(folders)} checkpoints are damaged")
    return None


def restored(path: Path, template: Any, layout: Layout | None = None) -> Checkpoint:
    """What a checkpoint that is not damaged holds.

    Args:
        path: its folder.
        template: as :func:`load_checkpoint` takes it.
        layout: where tables are going to lie, of which a process reads the rows of its own shards;
            None for one device. What one process wrote comes on one device.

    Raises:
        InputError: it holds other arrays.
    """
    if (path / SHARDS).is_dir():
        arrays = read(path / SHARDS, template, layout)
    else:
        arrays = _restore(path / _ARRAYS, template)
    return Checkpoint(arrays, read_json(path / _PROGRESS), path)


def find_damage(path: Path, layout: Layout | None = None) -> str | None:
    """What differs from the checkpoint's manifest of sums; None if nothing does.

    Args:
        path: the checkpoint's folder.
        layout: where tables are going to lie, to look at no more of them than this process reads;
            None to look at all files.
    """
    names = None
    if layout is not None and (path / SHARDS).is_dir():
        try:
            names = {f"{SHARDS}/{name}" for name in names_read(path / SHARDS, layout)}
        except (InputError, OSError) as error:
            return str(error)
    for name, state in checkpoint_states(path, names).items():
        if state != "ok":
            return f"{name} {said(state, _MANIFEST)}"
    return None


def checkpoint_states(path: Path, names: Collection[str] | None = None) -> dict[str, State]:
    """The state of each file of a checkpoint by its path within.

    Args:
        path: the checkpoint's folder.
        names: the files of the arrays to look at, beside all others; None for all.
    """
    try:
        expected = read_json(path / _MANIFEST)
    except (InputError, OSError):
        return {_MANIFEST: "unreadable"}
    if not isinstance(expected, dict):
        return {_MANIFEST: "unreadable"}
    if names is not None:
        expected = {name: sum for name, sum in expected.items() if _is_asked(name, names)}
    return states(expected, _sums(path, names))


def write_arrays(temporary: Path, arrays: Any) -> None:
    """Write the arrays of one process.

    Args:
        temporary: the folder of a checkpoint that is being made.
        arrays: pytree of arrays.

    Raises:
        OSError: the disk refused.
    """
    try:
        with _checkpointer() as checkpointer:
            checkpointer.save((temporary / _ARRAYS).absolute(), arrays)
    except Exception as error:
        # Orbax reports a failing disk as this or that exception with a page of text.
        message = f"checkpoint could not be written: {first_line(error)}"
        raise OSError(errno.EIO, message, str(temporary)) from error


def _not_of_orbax(record: logging.LogRecord) -> bool:
    """What orbax says of a failing disk, pages from several threads, beside what it raises."""
    return "orbax" not in Path(record.pathname).parts


def _checkpointer() -> Any:
    # Imported here: orbax doubles the time to print a help text.
    import orbax.checkpoint as ocp

    logging.getLogger("absl").addFilter(_not_of_orbax)  # which is kept once
    # Of several processes each reads for itself, and the first one writes for all.
    own = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process{own}"
    )
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _sums(folder: Path, names: Collection[str] | None = None) -> dict[str, str]:
    files = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / _MANIFEST
    }
    return {name: sha256(path) for name, path in files.items() if _is_asked(name, names)}


def _is_asked(name: str, names: Collection[str] | None) -> bool:
    return names is None or name in names or not name.startswith(f"{SHARDS}/")


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
            f"optimizer have: {first_line(error)}"
        ) from error
