"""Signals end a command by one line and a status of their own, at any moment."""

import importlib
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lightgcn_jax.files import remove_abandoned
from lightgcn_jax.interrupts import ALL_DONE, NOTHING_BEGUN, Interrupted, deferred, explained

# What the main thread does, as a command: it takes signals over and says when it is at work.
COMMAND = """
{terminal}
import sys, threading, time
from lightgcn_jax.interrupts import before_exit, deferred, explained, take_over
take_over()
def work():
    print("at work", flush=True)
    {work}
{run}
"""
AT_WORK = {
    "sleeping": "time.sleep(60)",
    "in a loop": "while True: pass",
    "swallowing": "\n    ".join(
        ("while True:", "    try: time.sleep(0.01)", "    except BaseException: pass")
    ),
}
EXPLAINED = "with explained('interrupted; go on with: x'), explained('within'): work()"
ENDINGS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


# A process that is started in the background ignores Ctrl-C, and so do those that it starts.
AS_FROM_A_TERMINAL = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"


def ended(process, seconds=30):
    """Stdout and stderr of a process that has ended, by itself or else by force."""
    try:
        return process.communicate(timeout=seconds)
    finally:
        process.kill()


def started(work, run):
    script = COMMAND.format(work=work, run=run, terminal=AS_FROM_A_TERMINAL)
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "at work\n"
    return process


@pytest.mark.parametrize("doing", AT_WORK)
@pytest.mark.parametrize(("number", "status"), ENDINGS)
def test_a_signal_ends_a_command_by_one_line(doing, number, status):
    process = started(AT_WORK[doing], EXPLAINED)
    process.send_signal(number)
    _, said = ended(process)
    assert process.returncode == status
    assert said == "interrupted; go on with: x\n"


def test_what_is_half_done_is_removed_first(tmp_path):
    run = f"""
from pathlib import Path
from lightgcn_jax.files import replacing, whole_folder
folder = Path({str(tmp_path)!r})
with whole_folder(folder / "run"), replacing(folder / "file"): work()
"""
    process = started("time.sleep(60)", run)
    assert len(os.listdir(tmp_path)) == 2
    process.send_signal(signal.SIGTERM)
    ended(process)
    assert not os.listdir(tmp_path)


def test_what_fails_beneath_the_main_thread_is_not_heard(tmp_path):
    run = f"""
from pathlib import Path
from lightgcn_jax.files import whole_folder
def work():
    for number in range(2_000): (folder / str(number)).touch()
    print("at work", flush=True)
    while True: (folder / "more").write_text("x"); (folder / "more").unlink()
with whole_folder(Path({str(tmp_path)!r}) / "run") as folder: work()
"""
    process = started("pass", run)
    process.send_signal(signal.SIGTERM)
    _, said = ended(process)
    assert (process.returncode, said) == (143, f"{NOTHING_BEGUN}\n")
    assert not os.listdir(tmp_path)


REPLACING = """
from pathlib import Path
from lightgcn_jax.files import replaceable, whole_folder
target = Path({target!r})
with replaceable(target):
    with whole_folder(target, "run") as folder:
        (folder / "new").touch()
        {within}
    {after}
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("where", ["within", "after"])
def test_a_folder_that_is_replaced_is_never_missing(where, number, tmp_path):
    target = tmp_path / "run"
    target.mkdir()
    (target / "old").touch()
    places = {"within": "pass", "after": "pass", where: "work()"}
    process = started("time.sleep(60)", REPLACING.format(target=str(target), **places))
    process.send_signal(number)
    ended(process)
    assert os.listdir(target) == ["old" if where == "within" else "new"]
    if number == signal.SIGKILL:
        assert len(os.listdir(tmp_path)) == 2
        for left in tmp_path.glob(".*"):
            os.utime(left, (0, 0))
        remove_abandoned(target)
    assert os.listdir(tmp_path) == ["run"]


DEFERRED = """
ending = None
with deferred() as ending:
    work()
    print("saved", flush=True)
    assert ending.signal_number == {number}
    sys.exit(7)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_work_that_can_be_saved_is_waited_for_once(number):
    waits = "while not ending: time.sleep(0.01)"
    process = started(waits, DEFERRED.format(number=int(number)))
    process.send_signal(number)
    out, said = ended(process)
    assert (process.returncode, out) == (7, "saved\n")
    assert said == "stopping after the steps under way; once more stops at once\n"
    process = started("time.sleep(60)", DEFERRED.format(number=int(number)))
    for _ in range(2):
        process.send_signal(number)
        time.sleep(0.2)
    ended(process)
    assert process.returncode == 128 + number


def test_in_other_processes_an_interrupt_is_an_exception():
    with pytest.raises(Interrupted, match=r"^go on$") as caught, explained("go on"):
        raise KeyboardInterrupt
    assert caught.value.status == 130
    assert caught.value.saying("other").status == 130
    previous = signal.getsignal(signal.SIGINT)
    with deferred() as ending:
        assert not ending
        os.kill(os.getpid(), signal.SIGINT)
        assert ending.signal_number == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is previous


# Small programs whose steps take about as long as what is imported and compiled before them.
TRAIN = {
    "lightgcn_jax": (
        "train --data {log} --dim 4 --layers 1 --batch-size 64 --negatives 8 --ks 5 --epochs 400 "
        "--evaluate-every 100 --checkpoint-seconds 0.2"
    ),
    "pinsage_jax": (
        "train --items 300 --dim 16 --word-dim 8 --layers 1 --neighbors 5 --walks 10 --fan 2 "
        "--walk-length 5 --batch-size 64 --negatives 32 --epochs 4 --steps-per-epoch 200"
    ),
}
SAME = {
    "lightgcn_jax": ("embeddings.safetensors", "parameters.safetensors"),
    "pinsage_jax": ("model.safetensors", "vectors/layer-0.npy"),
}
ONE_LINE = re.compile(r"(stopping after the steps [^\n]*\n)?(interrupted[^\n]*)\n")
MOMENTS = 20
PROC = Path("/proc/self/task")
needs_proc = pytest.mark.skipif(not PROC.exists(), reason="needs Linux's /proc")


def spent(pid):
    """Seconds of a processor that a process and those that it started took."""
    try:
        numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return 0.0
    return sum(map(int, numbers[11:15])) / os.sysconf("SC_CLK_TCK") + sum(map(spent, children))


def spent_by(command):
    """Those of a command from its beginning to its end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=False, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def at_twenty_moments(command, seed):
    """Send Ctrl-C and SIGTERM in turns, once in each twentieth of the work of a command, which is
    told by the processor's time: how busy the machine is has no say in it.

    Yields:
        The number of the moment, and what was said if the command was broken off.
    """
    begins = f"{AS_FROM_A_TERMINAL}; from lightgcn_jax.interrupts import take_over; take_over()"
    first = 1.5 * spent_by([sys.executable, "-c", begins])
    whole, moments = spent_by(command("whole")), random.Random(seed)
    broken_off = 0
    for place in range(MOMENTS):
        number, status = ENDINGS[place % 2]
        moment = first + (place + moments.random()) / MOMENTS * (whole - first)
        process = subprocess.Popen(
            command(place), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        while process.poll() is None and spent(process.pid) < moment:
            time.sleep(0.005)
        process.send_signal(number)
        _, said = ended(process, 3_600)
        if process.returncode == status:
            found = ONE_LINE.fullmatch(said)
            assert found, said
            broken_off += 1
            yield place, found[2]
        else:  # it took less this time; where a claim of a benchmark fails that is 1
            assert process.returncode in (0, 1)
            assert not said
    assert broken_off > 0.8 * MOMENTS


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize("package", TRAIN)
def test_training_ends_by_one_line_at_twenty_moments_and_goes_on(package, tmp_path):
    """Imports, compilation, steps and checkpoints."""
    pairs = np.random.default_rng(0).integers(30, size=(300, 2))
    (tmp_path / "log.csv").write_text("\n".join(["user,item", *(f"u{u},i{i}" for u, i in pairs)]))
    main = f"import sys; from {package}.__main__ import main; sys.exit(main())"
    arguments = TRAIN[package].format(log=tmp_path / "log.csv").split()
    # Each compiles what it runs.
    arguments += ["--no-compilation-cache", "--quiet", "--out"]
    command = [sys.executable, "-c", f"{AS_FROM_A_TERMINAL}; {main}", *arguments]
    resume = importlib.import_module(f"{package}.cli").main
    said_before, saved = 0, 0
    for place, said in at_twenty_moments(lambda name: [*command, tmp_path / f"{name}"], 0):
        run = tmp_path / f"{place}"
        if not run.exists():
            assert said == NOTHING_BEGUN
            said_before += 1
            continue
        has_begun = (run / "checkpoints").exists() and not (run / "summary.json").exists()
        assert said.endswith(f"train --resume {run}") or not has_begun
        if "in epoch" in said:
            saved += 1
            assert any((run / "checkpoints").iterdir())
        assert resume(["train", "--resume", str(run), "--quiet"]) == 0
        for name in SAME[package]:
            assert (run / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert said_before > 2
    assert saved > 2


@pytest.mark.slow
@needs_proc
def test_a_benchmark_ends_by_one_line_at_twenty_moments():
    script = (
        f"{AS_FROM_A_TERMINAL}; import runpy; runpy.run_module('benchmarks', run_name='__main__')"
    )
    command = [sys.executable, "-c", script, "ingest", "--rows", "20000", "--rounds", "1"]
    for _, said in at_twenty_moments(lambda _: command, 1):
        assert said in (NOTHING_BEGUN, ALL_DONE)
