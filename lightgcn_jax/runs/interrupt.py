"""Ctrl-C that waits for the compiled steps under way."""

from __future__ import annotations

import contextlib
import shlex
import signal
import threading
from collections.abc import Iterator

from lightgcn_jax.runs.directory import RunDirectory


class Interrupted(Exception):
    """Training was broken off by the user; the message says how to go on."""


def interruption(when: str, how: str, directory: RunDirectory | None) -> Interrupted:
    """The error of a run that was broken off.

    Args:
        when: what was interrupted, and where.
        how: what resuming the run does: it goes on, or starts again.
        directory: the run's, if it has one.
    """
    if directory is None:
        return Interrupted(f"{when}; nothing was written, the run had no directory")
    path = shlex.quote(str(directory.path))
    return Interrupted(f"{when}; {how} with: lightgcn-jax train --resume {path}")


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event, so that the steps under way can be saved; a second one
    breaks off at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    previous = signal.getsignal(signal.SIGINT)

    def note(*_):
        event.set()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, note)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, previous)
