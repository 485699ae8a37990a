"""Processes that a benchmark starts end with it."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.harness.children import ROOT, child, output_of

# It says that it is at work in a file, and ends only by force or as it likes.
WORK = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, {answer})
with open(sys.argv[1] + ".new", "w") as file: file.write(str(os.getpid()))
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(100)
"""
BENCHMARK = """
import sys
from lightgcn_jax.interrupts import take_over
take_over()
from benchmarks.harness.process import run_measured
run_measured([sys.executable, "-c", {work!r}, {file!r}])
"""


def is_running(pid):
    """Whether a process is at work: one that ended is a zombie until somebody asks for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def awaited(file):
    while not file.exists():
        time.sleep(0.02)
    return int(file.read_text())


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("answer", ["signal.SIG_DFL", "signal.SIG_IGN"])
def test_a_signal_ends_what_a_benchmark_measures(answer, tmp_path):
    script = BENCHMARK.format(work=WORK.format(answer=answer), file=str(tmp_path / "pid"))
    benchmark = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    pid = awaited(tmp_path / "pid")
    assert is_running(pid)
    benchmark.send_signal(signal.SIGTERM)
    _, said = benchmark.communicate()
    assert benchmark.returncode == 143
    assert said.startswith("interrupted")
    assert said.count("\n") == 1
    assert not is_running(pid)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
def test_a_second_signal_breaks_nothing_off(tmp_path):
    command = [sys.executable, "-c", WORK.format(answer="signal.SIG_IGN"), str(tmp_path / "pid")]
    measuring = [sys.executable, "-m", "benchmarks.harness.process", "never"]
    with subprocess.Popen([*measuring, *command], cwd=ROOT) as process:
        pid = awaited(tmp_path / "pid")
        for _ in range(2):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)  # it waits for what ignores the signal
    assert process.returncode == 143
    assert not is_running(pid)


def test_an_error_ends_what_was_started(tmp_path):
    command = [sys.executable, "-c", WORK.format(answer="signal.SIG_DFL"), tmp_path / "pid"]

    def fails():
        awaited(tmp_path / "pid")
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"), child(command) as process:
        fails()
    assert process.returncode == -signal.SIGTERM


def test_output_is_of_commands_that_end_well():
    assert output_of([sys.executable, "-c", "print(1)"]) == "1\n"
    with pytest.raises(RuntimeError, match=r"status 3: no$"):
        output_of([sys.executable, "-c", "import sys; print('no', file=sys.stderr); sys.exit(3)"])
