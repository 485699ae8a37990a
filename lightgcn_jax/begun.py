"""Folders that are made in steps: what a killed command left, the same command goes on with.

``.state.json`` says how a folder is made, from the first step until the last. Input that does not
fit empties the folder again; a kill or a full disk leaves what there is.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightgcn_jax.errors import InputError
from lightgcn_jax.files import held, refuse_taken
from lightgcn_jax.json_files import read_json, write_json
from lightgcn_jax.paths import refuse_links, refuse_odd_name

STATE = ".state.json"
"""The file in a folder that is not finished."""


@contextlib.contextmanager
def begun(folder: Path, about: Mapping[str, Any], kind: str) -> Iterator[dict[str, Any]]:
    """Begin a folder, or go on with one.

    Args:
        folder: new, empty, or what a killed process left that made the same.
        about: what the folder's bytes depend on, a JSON value.
        kind: what the folder is to be, for messages.

    Yields:
        What ``.state.json`` holds: ``about``, and what was added to it before a kill. Whoever makes
        the folder removes the file at last.

    Raises:
        InputError: the folder holds anything else, another process makes it, or its name is one
            that cannot be written.
    """
    refuse_odd_name(folder)
    state = folder / STATE
    if state.is_file():
        refuse_links(folder)
        _check_same(folder, read_json(state), about, kind)
    elif not (folder.is_dir() and all(map(_is_trace, folder.iterdir()))):
        refuse_taken(folder, kind)
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder, f"{folder}: another process makes this {kind}; wait for it, or end it"):
        if not state.is_file():
            write_json(state, dict(about))
        try:
            yield read_json(state)
        except InputError:  # What does not fit leaves nothing, unlike a kill or a full disk.
            _empty(folder)
            raise


def _empty(folder: Path) -> None:
    """Remove what was made, the state first, so that a kill leaves no half of it to go on with."""
    (folder / STATE).unlink(missing_ok=True)
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != ".lock":
            path.unlink()


def _is_trace(path: Path) -> bool:
    """Whether a file is what a process leaves that is killed before it has begun."""
    return path.name == ".lock" or (path.name.startswith(f".{STATE}.") and path.suffix == ".tmp")


def _check_same(folder: Path, before: Any, about: Mapping[str, Any], kind: str) -> None:
    known = before if isinstance(before, dict) else {}
    for name, value in about.items():
        earlier = known.get(name)
        if earlier == value:
            continue
        if isinstance(earlier, dict) and isinstance(value, dict):
            within = next(one for one in (*value, *earlier) if earlier.get(one) != value.get(one))
            name = f"{name} ({within})"
        raise InputError(
            f"{folder}: a {kind} of other {name} was broken off here; repeat its command to go on "
            "with it, remove the folder, or choose another name"
        )
