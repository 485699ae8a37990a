"""A command's time and peak memory: ``python -m benchmarks.harness.process COMMAND …``.

The peak that a system reports of a child counts from the fork, when the child still is its parent:
a parent that holds gigabytes would be measured in its place. So a bare process stands between.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
"""Where ``benchmarks`` and the packages lie; children run here."""

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_MARK = "benchmarks.harness.process:"


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
    """Run a command from :data:`ROOT` and measure it.

    Args:
        command: the program and its arguments; relative paths count from :data:`ROOT`.

    Returns:
        What it printed, how long it took and how much memory it held.

    Raises:
        RuntimeError: the process in between told no measurement.
    """
    bare = [sys.executable, "-m", "benchmarks.harness.process", *(str(part) for part in command)]
    ended = subprocess.run(bare, cwd=ROOT, capture_output=True, text=True, check=False)
    errors, mark, numbers = ended.stderr.rpartition(_MARK)
    if not mark:
        raise RuntimeError(f"{bare}: expected a measurement, got {ended.stderr}")
    status, seconds, peak_gb = json.loads(numbers)
    return Finished(status, seconds, peak_gb, ended.stdout, errors)


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


def _main(command: Sequence[str]) -> None:
    start = time.perf_counter()
    status = subprocess.run(command, check=False).returncode
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024
    print(_MARK, json.dumps([status, seconds, peak * unit / 1e9]), file=sys.stderr)


if __name__ == "__main__":
    _main(sys.argv[1:])
