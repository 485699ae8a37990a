"""A command's time and peak memory: ``python -m benchmarks.harness.process never COMMAND …``, with
seconds in the place of ``never`` for a command that is interrupted after them.

The peak that a system reports of a child counts from the fork, when the child still is its parent:
a parent that holds gigabytes would be measured in its place. So a bare process stands between.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness.children import child
from lightgcn_jax.errors import InputError

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_MARK = "benchmarks.harness.process:"
_PATIENCE = 2.0
"""Seconds for the command to end by itself: less than the process in between has for both."""


class Finished(NamedTuple):
    """A command that has ended.

    Attributes:
        status: its exit status.
        seconds: how long it ran.
        cpu_seconds: of CPU, that of its children included.
        peak_gb: the most memory that it, or the largest of its children, held at once; 10⁹ bytes.
        output: the text that it printed.
        errors: the text that it printed to the error stream.
    """

    status: int
    seconds: float
    cpu_seconds: float
    peak_gb: float
    output: str
    errors: str

    def last_words(self) -> str:
        """The last line that it printed, as an error if it can be."""
        lines = (self.errors.strip() or self.output.strip()).splitlines()
        return lines[-1] if lines else f"exit status {self.status}"


def run_measured(
    command: Sequence[str | os.PathLike], interrupted_after: float | None = None
) -> Finished:
    """Run a command and measure it.

    Args:
        command: as :func:`~benchmarks.harness.children.child` takes it.
        interrupted_after: seconds after which it gets the signal of Ctrl-C; None for never.

    Returns:
        What it printed, how long it took and how much memory it held.

    Raises:
        RuntimeError: the process in between told no measurement.
    """
    bare = [sys.executable, "-m", "benchmarks.harness.process", str(interrupted_after or "never")]
    with child([*bare, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        output, said = process.communicate()
    errors, mark, numbers = said.rpartition(_MARK)
    if not mark:
        raise RuntimeError(f"{bare}: expected a measurement, got {said}")
    status, seconds, cpu, peak_gb = json.loads(numbers)
    return Finished(status, seconds, cpu, peak_gb, output, errors)


def told_by(module: str, *arguments: Any) -> dict[str, Any]:
    """What a module of the benchmarks tells in its last line, a JSON object, run by itself.

    Args:
        module: its name; it is run as ``python -m``.
        arguments: its command line.

    Returns:
        The object, with ``peak_gb`` where it tells none.

    Raises:
        InputError: it ended by another status than 0.
    """
    ended = run_measured([sys.executable, "-m", module, *map(str, arguments)])
    if ended.status:
        raise InputError(f"{module.rpartition('.')[2]}: {ended.last_words()}")
    return {"peak_gb": ended.peak_gb, **json.loads(ended.output.splitlines()[-1])}


def cpu_seconds(whose: int = resource.RUSAGE_SELF) -> float:
    """Seconds of CPU of this process, all its threads; on a busy machine other times tell less.

    Args:
        whose: ``resource.RUSAGE_CHILDREN`` for the children that were waited for.
    """
    used = resource.getrusage(whose)
    return used.ru_utime + used.ru_stime


def own_peak_gb() -> float:
    """The most memory that this process held since :func:`reset_own_peak`, where the system tells
    it (Linux), else since it began; 10⁹ bytes."""
    with contextlib.suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def reset_own_peak() -> None:
    """Have the peak of this process count from now on, where the system can."""
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5")


def _exit(number: int, _: Any) -> None:
    signal.signal(number, signal.SIG_IGN)  # another one would break off how the command is ended
    sys.exit(128 + number)


def _main(interrupted_after: str, *command: str) -> None:
    signal.signal(signal.SIGTERM, _exit)
    start = time.perf_counter()
    with child(command, patience=_PATIENCE) as process:
        try:
            seconds = None if interrupted_after == "never" else float(interrupted_after)
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            status = process.wait()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024
    cpu = cpu_seconds(resource.RUSAGE_CHILDREN)
    print(_MARK, json.dumps([status, seconds, cpu, peak * unit / 1e9]), file=sys.stderr)


if __name__ == "__main__":
    _main(*sys.argv[1:])
