"""What a command line asked for, which a run keeps as ``run.toml`` and a sweep as ``sweep.toml``.

A run is made many calls below the command that asks for it, by functions that Python calls as well,
where nothing was asked by flags. So the command says it around its work (:func:`asked_for`), and
whatever makes the run's directory writes it there (:func:`write_asked`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import tomli_w

from lightgcn_jax.files import write_text
from lightgcn_jax.paths import refuse_no_text

NAME = "run.toml"
"""The file in a run's directory."""
OF_SWEEP = "sweep.toml"
"""The file in a sweep's directory."""

_asked: ContextVar[Mapping[str, Any] | None] = ContextVar("asked", default=None)


@contextlib.contextmanager
def asked_for(flags: Mapping[str, Any] | None) -> Iterator[None]:
    """Have the runs that are made in the block keep the flags that asked for them.

    Args:
        flags: values by the flags' names; None where no run is to keep any.

    Raises:
        InputError: a value cannot be kept as text.
    """
    for name, value in (flags or {}).items():
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, str):
                refuse_no_text(one, f"--{name}: ")
    token = _asked.set(flags)
    try:
        yield
    finally:
        _asked.reset(token)


def write_asked(folder: Path, name: str = NAME) -> None:
    """Write what was asked for, if it was by flags.

    Args:
        folder: the new run's or sweep's directory.
        name: the file's name.
    """
    flags = _asked.get()
    if flags is not None:
        write_text(folder / name, tomli_w.dumps(flags))
