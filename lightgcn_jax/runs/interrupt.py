"""What a run that was broken off says, and what it leaves."""

from __future__ import annotations

import contextlib
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from lightgcn_jax.interrupts import Interrupted, explained
from lightgcn_jax.processes.joining import if_lost

_PROGRAM = "lightgcn-jax"


class _HasPath(Protocol):
    @property
    def path(self) -> Path: ...


def way_on(when: str, how: str, path: Path | None, program: str = _PROGRAM) -> str:
    """The line of a run that was broken off.

    Args:
        when: what was interrupted, and where.
        how: what resuming the run does: it goes on, or starts again.
        path: the run's directory, if it has one.
        program: whose run it is.
    """
    return f"{when}; {_way(how, path, program)}"


def _way(how: str, path: Path | None, program: str) -> str:
    if path is None:
        return "nothing was written, the run had no directory"
    return f"{how} with: {program} train --resume {shlex.quote(str(path))}"


@contextlib.contextmanager
def resumable(
    directory: _HasPath | None, how: str = "go on", program: str = _PROGRAM
) -> Iterator[None]:
    """Say how to go on, while the block runs, if it is broken off or another process is lost.

    Args:
        directory: the run's, if it has one.
        how: what resuming the run does: it goes on, or starts again.
        program: whose run it is.
    """
    path = None if directory is None else directory.path
    way = _way(how, path, program)
    with explained(way_on("interrupted", how, path, program)), if_lost(way):
        yield


@contextlib.contextmanager
def gone_unless_begun(path: Path | None, keep: type[Exception]) -> Iterator[None]:
    """Remove a new run that fails before its first step: nobody could go on with it.

    What was interrupted stays, and so does what has an epoch or a checkpoint behind it.

    Args:
        path: the run's directory; None if it has none.
        keep: what only a run that has begun raises.
    """
    try:
        yield
    except (Interrupted, keep):
        raise
    except Exception:
        begun = ("metrics.jsonl", "checkpoints")
        if path is not None and not any((path / name).exists() for name in begun):
            shutil.rmtree(path, ignore_errors=True)
        raise
