"""Processes that a benchmark starts: they end with it, whatever ends it but ``kill -9``."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lightgcn_jax.interrupts import before_exit

ROOT = Path(__file__).resolve().parents[2]
"""Where ``benchmarks`` and the packages lie; children run here."""

_PATIENCE = 5.0

# With the seconds that each has.
_children: dict[subprocess.Popen[str], float] = {}
# Held while one is started, and for good once all of them are to end.
_starting = threading.Lock()


@contextlib.contextmanager
def child(
    command: Sequence[object], *, patience: float = _PATIENCE, **how: Any
) -> Iterator[subprocess.Popen[str]]:
    """Start a process from :data:`ROOT`, and end it with the block or by a signal to this one.

    Args:
        command: the program and its arguments; relative paths count from :data:`ROOT`.
        patience: seconds that it has to end by itself once it was asked to.
        how: as of :class:`subprocess.Popen`.

    Yields:
        The process, whose streams hold text.
    """
    with _starting:
        process = subprocess.Popen([*map(str, command)], cwd=ROOT, text=True, **how)
        _children[process] = patience
    try:
        yield process
    finally:
        _end(process, patience)
        del _children[process]


def output_of(command: Sequence[object]) -> str:
    """What a command prints that ends well.

    Args:
        command: as :func:`child` takes it.

    Raises:
        RuntimeError: it ended by another status than 0.
    """
    with child(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        output, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{command[0]}: status {process.returncode}: {errors.strip()[-2000:]}")
    return output


def _end(process: subprocess.Popen[str], patience: float) -> None:
    process.terminate()  # of one that has ended, nothing
    _wait(process, patience)


def _wait(process: subprocess.Popen[str], patience: float) -> None:
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@before_exit
def _end_all() -> None:
    _starting.acquire(timeout=_PATIENCE)
    running = [*_children.items()]
    for process, _ in running:
        process.terminate()
    for process, patience in running:
        _wait(process, patience)  # a second signal would break off how it ends
