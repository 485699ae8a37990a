"""What a run that was broken off says, and what it leaves."""

from __future__ import annotations

import contextlib
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

from lightgcn_jax.interrupts import Interrupted, explained
from lightgcn_jax.processes.joining import if_lost
from lightgcn_jax.runs.directory import RunDirectory


def way_on(when: str, how: str, directory: RunDirectory | None) -> str:
    """The line of a run that was broken off.

    Args:
        when: what was interrupted, and where.
        how: what resuming the run does: it goes on, or starts again.
        directory: the run's, if it has one.
    """
    return f"{when}; {_way(how, directory)}"


def _way(how: str, directory: RunDirectory | None) -> str:
    if directory is None:
        return "nothing was written, the run had no directory"
    path = shlex.quote(str(directory.path))
    return f"{how} with: lightgcn-jax train --resume {path}"


@contextlib.contextmanager
def resumable(directory: RunDirectory | None, how: str = "go on") -> Iterator[None]:
    """Say how to go on, while the block runs, if it is broken off or another process is lost.

    Args:
        directory: the run's, if it has one.
        how: what resuming the run does: it goes on, or starts again.
    """
    with explained(way_on("interrupted", how, directory)), if_lost(_way(how, directory)):
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
