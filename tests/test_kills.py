"""SIGKILL before any file-system call of a command: whatever it leaves, the run is resumed or the
command repeated, and ends with the bytes of one that nothing happened to.

Each command runs once and is stopped before its file-system calls (:mod:`tests.stopped`), where
what lies on the disk is copied; a test goes on from each copy. That a kill leaves what a stop shows
is tested too. The fast suite goes on from a few moments of each command, others each time.
"""

import importlib
import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest

from lightgcn_jax.sums import NAME, verified
from lightgcn_jax.sweeps.directory import SweepDirectory
from tests.stopped import WARM, Stopping, contents, sampled

LOG = "\n".join(
    ["user,item", *(f"u{a},i{b}" for a, b in np.random.default_rng(0).integers(30, size=(300, 2)))]
)
NEWER = LOG + "\nu1,i99\nu99,i3\nu99,i4\n"
TRAINED = (
    *("--model", "mf", "--dim", "2", "--epochs", "2", "--evaluate-every", "1", "--ks", "5"),
    *("--batch-size", "128", "--negatives", "8"),
)
PINS = (
    *("--items", "300", "--dim", "16", "--word-dim", "8", "--layers", "1", "--neighbors", "5"),
    *("--walks", "10", "--walk-length", "5", "--fan", "2", "--batch-size", "64"),
    *("--negatives", "32", "--steps-per-epoch", "2", "--epochs", "2"),
)


class Command(NamedTuple):
    """A command in a folder where it finds ``run``, ``log.csv`` and the like.

    Attributes:
        package: whose program it is.
        arguments: the command line; ``{}`` stands for the folder.
        base: the run that it starts from.
        written: what it writes, in the folder.
        resume: the command that goes on with it; None where it is repeated.
        once: whether it is refused where it is done already; what a killed process left under a
            temporary name then stays until somebody writes there.
    """

    package: str
    arguments: tuple[str, ...]
    base: str | None
    written: str
    resume: tuple[str, ...] | None = None
    once: bool = False


LIGHTGCN, PINSAGE = "lightgcn_jax", "pinsage_jax"
COMMANDS = {
    "train": Command(
        LIGHTGCN,
        ("train", "--data", "{}/log.csv", *TRAINED, "--checkpoint-seconds", "0", "--out", "{}/new"),
        None,
        "new",
        ("train", "--resume", "{}/new"),
    ),
    "train --from": Command(
        LIGHTGCN,
        ("train", "--from", "{}/run", "--data", "{}/newer.csv", "--out", "{}/new"),
        "trained",
        "new",
        ("train", "--resume", "{}/new"),
    ),
    "train --overwrite": Command(
        LIGHTGCN,
        ("train", "--model", "itemcf", "--data", "{}/newer.csv", "--out", "{}/run", "--overwrite"),
        "trained",
        "run",
    ),
    "sweep": Command(
        LIGHTGCN,
        # One program for all trials, each trained by itself.
        (
            *("sweep", "--data", "{}/log.csv", *TRAINED, "--set", "learning_rate=0.01,0.02"),
            *("--together", "1", "--out", "{}/new"),
        ),
        None,
        "new",
        ("sweep", "--resume", "{}/new"),
    ),
    "recommend": Command(
        LIGHTGCN,
        ("recommend", "{}/run", "--all-users", "--k", "3", "--out", "{}/old.parquet"),
        "trained",
        "old.parquet",
    ),
    "recommend --partitioned": Command(
        LIGHTGCN,
        ("recommend", "{}/run", "--all-users", "--k", "3", "--out", "{}/new", "--partitioned"),
        "trained",
        "new",
        once=True,
    ),
    "data prepare": Command(
        LIGHTGCN,
        ("data", "prepare", "{}/log.csv", "--out", "{}/new", "--ordering", "degree"),
        None,
        "new",
        once=True,
    ),
    "export": Command(
        LIGHTGCN, ("export", "{}/run", "--to", "{}/old.parquet"), "trained", "old.parquet"
    ),
    "export --form folder": Command(
        LIGHTGCN,
        ("export", "{}/run", "--form", "folder", "--to", "{}/new"),
        "trained",
        "new",
        once=True,
    ),
    "pinsage train": Command(
        PINSAGE,
        ("train", *PINS, "--out", "{}/new"),
        None,
        "new",
        ("train", "--resume", "{}/new"),
    ),
    "pinsage embed": Command(
        PINSAGE,
        ("embed", "{}/run", "--items", "{}/new.parquet"),
        "pinned",
        "run",
        once=True,
    ),
    "pinsage export": Command(
        PINSAGE, ("export", "{}/run", "--to", "{}/old.npz"), "pinned", "old.npz"
    ),
    "pinsage export --partitioned": Command(
        PINSAGE,
        ("export", "{}/run", "--to", "{}/new", "--partitioned"),
        "pinned",
        "new",
        once=True,
    ),
}


FEW = {"pinsage train": 1, "pinsage embed": 1, "train --from": 1}
"""States of commands that take long; of others two are gone on from in the fast suite."""


def call(package, arguments, folder):
    """The exit status of a command line in this process."""
    main = importlib.import_module(f"{package}.cli").main
    return main([one.format(folder) for one in arguments])


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Folders that commands start from."""
    folder = tmp_path_factory.mktemp("bases")
    for name in ("trained", "pinned", "none"):
        place = folder / name
        place.mkdir()
        (place / "log.csv").write_text(LOG)
        (place / "newer.csv").write_text(NEWER)
        for old in ("old.parquet", "old.npz"):
            (place / old).write_text("of before")
    made = ("--quiet", "--out", "{}/run")
    log = ("--data", "{}/log.csv")
    assert call(LIGHTGCN, ("train", *log, *TRAINED, *made), folder / "trained") == 0
    assert call(PINSAGE, ("train", *PINS, *made), folder / "pinned") == 0
    features = pl.read_parquet(folder / "pinned" / "run" / "columns.parquet").drop(" row").head(2)
    new = features.insert_column(0, pl.Series("item", ["new-0", "new-1"]))
    new.write_parquet(folder / "pinned" / "new.parquet")
    return folder


class Stopped(NamedTuple):
    """A command that was stopped, and what it left at some stops."""

    command: Command
    base: Path
    folder: Path
    states: list[Path]
    whole: dict

    def restored(self, state):
        """The command's folder as a kill left it; what is temporary is no longer young."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(state, self.folder, symlinks=True)
        for path in self.folder.rglob(".*.tmp"):
            os.utime(path, (0, 0))

    def goes_on(self, state):
        """Do as a person would after a kill."""
        self.restored(state)
        again = self.command.resume
        if again is None or not (self.folder / self.command.written).exists():
            again = self.command.arguments
        return call(self.command.package, again, self.folder)


def command_in(place, request, bases):
    """A command, and a new folder where it finds what it starts from."""
    command = COMMANDS[request.param]
    base = bases / (command.base or "none")
    shutil.copytree(base, place / "folder")
    (place / "states").mkdir()
    return command, base, place / "folder", place / "states"


@pytest.fixture(scope="module")
def stopping():
    with Stopping(*WARM) as process:
        yield process


@pytest.fixture
def stopped(request, bases, stopping, tmp_path):
    command, base, folder, states = command_in(tmp_path, request, bases)
    arguments = [one.format(folder) for one in command.arguments]
    found = stopping.run(command.package, arguments, folder, states)
    assert found["status"] == 0, found["said"]
    assert found["stops"] > 3
    return Stopped(command, base, folder, sorted(states.iterdir()), final(folder))


@pytest.fixture
def looked_at(request, bases, tmp_path):
    command, base, folder, states = command_in(tmp_path, request, bases)
    rng = np.random.default_rng()
    with sampled(folder, states, FEW.get(request.param, 2), rng):
        assert call(command.package, command.arguments, folder) == 0
    return Stopped(command, base, folder, sorted(states.iterdir()), final(folder))


VOLATILE = re.compile(r"seconds|datetime|per_second")


def lasting(value):
    """JSON without what differs between two runs of a command: times."""
    if isinstance(value, list):
        return [*map(lasting, value)]
    if not isinstance(value, dict):
        return value
    return {key: lasting(one) for key, one in value.items() if not VOLATILE.search(key)}


def final(folder):
    """What is beneath a folder when all is done, apart from how long it took and what checkpoints
    hold; sums are right, or it is said what is wrong."""
    found = {}
    for path, value in contents(folder).items():
        if "/checkpoints/" in path and not re.search(r"/step-\d+$", path):
            continue
        if path.endswith(NAME):
            wrong = verified((folder / path).parent) or {}
            value = {name: state for name, state in wrong.items() if state != "ok"}
        elif path.endswith(".json"):
            value = lasting(json.loads((folder / path).read_text()))
        elif path.endswith(".jsonl"):
            lines = (folder / path).read_text().splitlines()
            value = [lasting(json.loads(line)) for line in lines]
        elif path.endswith("optuna.log"):  # a journal, of trials that were broken off too
            trials = SweepDirectory((folder / path).parent).trials
            value = sorted(json.dumps([one.params, one.value]) for one in trials)
        found[path] = value
    return found


def distinct(states):
    """States without those that hold what one before them holds, by other temporary names."""
    found = {}
    for state in states:
        named = contents(state).items()
        key = frozenset((re.sub(r"\.[0-9a-f]{8}\.tmp", ".tmp", path), one) for path, one in named)
        found.setdefault(key, state)
    return [*found.values()]


def check(stopped, states):
    for state in distinct(states):
        status = stopped.goes_on(state)
        assert status in ((0, 2) if stopped.command.once else (0,)), f"after {state}"
        now = final(stopped.folder)
        if status:
            now = {path: value for path, value in now.items() if not path.endswith(".tmp")}
        different = {
            path
            for path in now.keys() | stopped.whole.keys()
            if now.get(path, "-") != stopped.whole.get(path, "-")
        }
        assert not different, f"after {state}"


@pytest.mark.parametrize("looked_at", COMMANDS, indirect=True)
def test_a_sample_of_kills_leaves_nothing_undone(looked_at):
    assert looked_at.states
    check(looked_at, looked_at.states)


@pytest.mark.slow
@pytest.mark.parametrize("stopped", COMMANDS, indirect=True)
def test_no_kill_leaves_anything_undone(stopped):
    check(stopped, stopped.states)


def test_a_kill_leaves_what_a_stop_shows(bases, tmp_path):
    command, folder, states, at = COMMANDS["export"], tmp_path / "folder", tmp_path / "states", 3
    arguments = [one.format(folder) for one in command.arguments]
    states.mkdir()
    shutil.copytree(bases / "trained", folder)
    base = contents(folder)
    with Stopping("lightgcn_jax.cli.runs") as stopping:
        killed = stopping.run(command.package, arguments, folder, states, kill_at=at)
        left = contents(folder)
        shutil.rmtree(folder)
        shutil.copytree(bases / "trained", folder)
        stopping.run(command.package, arguments, folder, states)
    assert killed["status"] == -signal.SIGKILL
    assert left != base
    shown = contents(states / f"{at:05}")
    assert sorted(map(str, left.values())) == sorted(map(str, shown.values()))
