"""What a kill leaves: a command is stopped before each of its file-system calls that follows a
change, and what lies on the disk then is copied. It is what SIGKILL would leave there, for a
process has no say in either.

``python -m tests.stopped`` reads requests, a line of JSON each, and answers each by a line of JSON.
It imports what the commands need once, and forks a process for each of them. :func:`sampled` stops
nothing and copies a few moments in this process, which is cheap.
"""

import contextlib
import hashlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

MODULES = ("open", "os.", "shutil.", "fcntl.", "ctypes.dlsym", "mmap.")
"""Audit events of calls to the file system, those that only read included, begin so."""

WARM = (
    *("lightgcn_jax.cli.training", "lightgcn_jax.cli.recommend", "lightgcn_jax.cli.runs"),
    *("lightgcn_jax.cli.sweep", "pinsage_jax.cli.train", "pinsage_jax.cli.embed"),
    *("pinsage_jax.cli.runs", "orbax.checkpoint", "matplotlib.pyplot", "optuna"),
)
"""What the commands import; nothing of it starts a thread, which a fork would lose."""


class Stopping:
    """A process that runs commands on request, each stopped before its file-system calls.

    Args:
        modules: what it imports before.
    """

    def __init__(self, *modules):
        self._modules = modules

    def __enter__(self):
        command = [sys.executable, "-m", "tests.stopped", *self._modules]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def run(self, package, arguments, folder, states, *, kill_at=None):
        """Run a command line.

        Args:
            package: whose program it is.
            arguments: the command line.
            folder: calls for what lies beneath are stopped at.
            states: an empty folder for a copy of ``folder`` at each stop.
            kill_at: the number of a stop at which the process is killed, and nothing copied.

        Returns:
            ``stops``, how many there were; ``status``, the exit status; ``said``, all output.
        """
        request = {
            "package": package,
            "arguments": [str(one) for one in arguments],
            "folder": str(folder),
            "states": str(states),
            "kill_at": kill_at,
        }
        self._process.stdin.write(json.dumps(request) + "\n")
        return json.loads(self._process.stdout.readline())


def contents(folder):
    """Whatever is beneath a folder, by its path: a file's sum, None for a folder."""
    return {
        path.relative_to(folder).as_posix(): (
            None if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
        )
        for path in sorted(folder.rglob("*"))
    }


def _outline(folder):
    """Names, sizes and times beneath a folder: what tells cheaply that something changed."""
    found, places = [], [folder]
    while places:
        with contextlib.suppress(FileNotFoundError), os.scandir(places.pop()) as entries:
            for entry in entries:
                about = entry.stat(follow_symlinks=False)
                found.append((entry.path, about.st_ino, about.st_size, about.st_mtime_ns))
                if entry.is_dir(follow_symlinks=False):
                    places.append(entry.path)
    return sorted(found)


def _before_calls(folder, changed):
    """Call something before file-system calls, where what lies beneath a folder has changed since
    it was called last; until ``folder`` is None in what is returned."""
    here, last, watched = threading.local(), None, {"folder": folder}

    def hook(event, _):
        nonlocal last
        if getattr(here, "within", False) or not event.startswith(MODULES) or not watched["folder"]:
            return
        here.within = True
        try:
            if last != (now := _outline(watched["folder"])):
                last = now
                changed()
        finally:
            here.within = False

    sys.addaudithook(hook)
    return watched


def _stop():
    """Stop this process, all threads of it."""
    # To this thread, so that it does not go one step further.
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


@contextlib.contextmanager
def sampled(folder, states, count, rng):
    """Copy a folder before some of the calls that follow a change while the block runs; each of
    these is as likely as another to be among the chosen. Other threads go on meanwhile.

    Args:
        folder: the folder.
        states: an empty folder for the copies.
        count: how many are kept.
        rng: what chooses.
    """
    seen = 0

    def changed():
        nonlocal seen
        place = seen if seen < count else rng.integers(seen + 1)
        seen += 1
        if place < count:
            shutil.rmtree(states / str(place), ignore_errors=True)
            # What another thread removes meanwhile is not there.
            with contextlib.suppress(shutil.Error, FileNotFoundError):
                shutil.copytree(folder, states / str(place), symlinks=True)

    watched = _before_calls(folder, changed)
    try:
        yield
    finally:
        watched["folder"] = None


def _called(request):
    """The command's exit status, in a process of its own."""
    output = os.open(request["states"] + ".txt", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    main = importlib.import_module(f"{request['package']}.cli").main
    _before_calls(request["folder"], _stop)
    return main(request["arguments"])


def _served(request):
    child = os.fork()
    if not child:
        status = 70
        try:
            status = _called(request)
        finally:
            sys.stdout.flush()
            os._exit(status)
    folder, states = Path(request["folder"]), Path(request["states"])
    stops = 0
    while True:
        _, ended = os.waitpid(child, os.WUNTRACED)
        if not os.WIFSTOPPED(ended):
            break
        if request["kill_at"] is None:
            shutil.copytree(folder, states / f"{stops:05}", symlinks=True)
        stops += 1
        os.kill(child, signal.SIGKILL if stops - 1 == request["kill_at"] else signal.SIGCONT)
    said = states.with_name(states.name + ".txt").read_text(errors="replace")
    return {"stops": stops, "status": os.waitstatus_to_exitcode(ended), "said": said}


if __name__ == "__main__":
    for module in sys.argv[1:]:
        importlib.import_module(module)
    for line in sys.stdin:
        print(json.dumps(_served(json.loads(line))), flush=True)
