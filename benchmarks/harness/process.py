"""A command's time and peak memory: ``python -m benchmarks.harness.process COMMAND …``.

The peak that a system reports of a child counts from the fork, when the child still is its parent:
a parent that holds gigabytes would be measured in its place. So a bare process stands between.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.harness.children import child

_MARK = "benchmarks.harness.process:"
_PATIENCE = 2.0
"""Seconds for the command to end by itself: less than the process in between has for both."""


class Finished(NamedTuple):
    """A command that has ended.

    Attributes:
        status: its exit status.
        seconds: how long it ran.
        peak_gb: the most memory that it, or the largest of its children, held at once; 10⁹ bytes.
        output: the text that it printed.
        errors: the text that it printed to the error stream.
    """

    status: int
    seconds: float
    peak_gb: float
    output: str
    errors: str

    def last_words(self) -> str:
        """The last line that it printed, as an error if it can be."""
        lines = (self.errors.strip() or self.output.strip()).splitlines()
        return lines[-1] if lines else f"exit status {self.status}"


def run_measured(command: Sequence[str | os.PathLike]) -> Finished:
    """Run a command and measure it.

    Args:
        command: as :func:`~benchmarks.harness.children.child` takes it.

    Returns:
        What it printed, how long it took and how much memory it held.

    Raises:
        RuntimeError: the process in between told no measurement.
    """
    bare = [sys.executable, "-m", "benchmarks.harness.process", *command]
    with child(bare, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        output, said = process.communicate()
    errors, mark, numbers = said.rpartition(_MARK)
    if not mark:
        raise RuntimeError(f"{bare}: expected a measurement, got {said}")
    status, seconds, peak_gb = json.loads(numbers)
    return Finished(status, seconds, peak_gb, output, errors)


def _main(command: Sequence[str]) -> None:
    import resource

    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    start = time.perf_counter()
    with child(command, patience=_PATIENCE) as process:
        status = process.wait()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024
    print(_MARK, json.dumps([status, seconds, peak * unit / 1e9]), file=sys.stderr)


if __name__ == "__main__":
    _main(sys.argv[1:])
