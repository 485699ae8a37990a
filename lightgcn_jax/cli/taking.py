"""The place of a new run: refused before data are read, or shared with the run that lies there
until the new one takes its name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from lightgcn_jax.errors import InputError
from lightgcn_jax.files import locked, refuse_taken, replaceable


def check_place(path: Path, *, overwrite: bool) -> None:
    """Refuse the place of a new run where something lies that must not be lost.

    Args:
        path: the new run directory.
        overwrite: whether a run that lies there may go.

    Raises:
        InputError: it is taken, or what is to be overwritten is no run.
    """
    if not overwrite:
        try:
            refuse_taken(path)
        except InputError as error:
            if _is_run(path):
                raise InputError(f"{error}; --overwrite replaces the run that lies there") from None
            raise
    elif _is_taken(path) and (path.is_symlink() or not _is_run(path)):
        raise InputError(f"--overwrite: expected a run in {path}, it holds something else")


@contextlib.contextmanager
def cleared(path: Path, *, overwrite: bool) -> Iterator[None]:
    """Let a new run take the place of the one that lies there, which stays until then.

    Args:
        path: the new run directory, which :func:`check_place` let pass.
        overwrite: whether a run may lie there.

    Raises:
        InputError: another process is at work on the run that lies there.
    """
    if not (overwrite and _is_taken(path)):
        yield
        return
    with locked(path / ".lock", f"{path}: another process is at work on this run"):
        pass
    with replaceable(path):
        yield


def _is_taken(path: Path) -> bool:
    return path.exists() and not (path.is_dir() and not any(path.iterdir()))


def _is_run(path: Path) -> bool:
    return (path / "config.json").is_file()
