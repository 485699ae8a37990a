"""What a run that was broken off says."""

from __future__ import annotations

import shlex
from contextlib import AbstractContextManager

from lightgcn_jax.interrupts import explained
from lightgcn_jax.runs.directory import RunDirectory


def way_on(when: str, how: str, directory: RunDirectory | None) -> str:
    """The line of a run that was broken off.

    Args:
        when: what was interrupted, and where.
        how: what resuming the run does: it goes on, or starts again.
        directory: the run's, if it has one.
    """
    if directory is None:
        return f"{when}; nothing was written, the run had no directory"
    path = shlex.quote(str(directory.path))
    return f"{when}; {how} with: lightgcn-jax train --resume {path}"


def resumable(directory: RunDirectory | None, how: str = "go on") -> AbstractContextManager[None]:
    """Say how to go on, while the block runs, if it is broken off.

    Args:
        directory: the run's, if it has one.
        how: what resuming the run does: it goes on, or starts again.
    """
    return explained(way_on("interrupted", how, directory))
