"""What a run that was broken off says, and what it leaves."""

from __future__ import annotations

import contextlib
import shlex
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from lightgcn_jax.interrupts import Interrupted, explained
from lightgcn_jax.runs.directory import RunDirectory


def way_on(when: str, how: str, path: Path | None, program: str = "lightgcn-jax") -> str:
    """The line of a run that was broken off.

    Args:
        when: what was interrupted, and where.
        how: what resuming the run does: it goes on, or starts again.
        path: the run's directory, if it has one.
        program: whose run it is.
    """
    if path is None:
        return f"{when}; nothing was written, the run had no directory"
    return f"{when}; {how} with: {program} train --resume {shlex.quote(str(path))}"


def resumable(directory: RunDirectory | None, how: str = "go on") -> AbstractContextManager[None]:
    """Say how to go on, while the block runs, if it is broken off.

    Args:
        directory: the run's, if it has one.
        how: what resuming the run does: it goes on, or starts again.
    """
    path = None if directory is None else directory.path
    return explained(way_on("interrupted", how, path))


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
