"""Commands that are several processes on this machine."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple


class Ended(NamedTuple):
    """How a process ended, and what it wrote."""

    status: int
    out: str
    err: str


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextlib.contextmanager
def companions(folder, count, *arguments, own=None, devices=1, program="lightgcn_jax"):
    """Processes of ``train`` that do it together; those left are killed in the end.

    Args:
        folder: for what they write.
        count: how many.
        arguments: those of all.
        own: more arguments by process.
        devices: devices that each pretends to have.
        program: whose ``train`` it is.
    """
    port, flags = free_port(), f" --xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": os.environ.get("XLA_FLAGS", "") + flags}
    processes = []
    with contextlib.ExitStack() as files:
        for number in range(count):
            joined = "--coordinator", f"127.0.0.1:{port}", "--processes", str(count)
            streams = [
                files.enter_context((folder / f"{number}.{name}").open("w"))
                for name in ("out", "err")
            ]
            command = [sys.executable, "-m", program, "train", *arguments, *joined]
            command += ["--process-id", str(number), *(own or {}).get(number, ())]
            processes.append(
                subprocess.Popen(command, stdout=streams[0], stderr=streams[1], env=environment)
            )
        try:
            yield processes
        finally:
            for process in processes:
                process.kill()
                process.wait()


def endings(folder, processes, seconds=600):
    """How processes end, by themselves.

    Args:
        folder: as :func:`companions` got it.
        processes: what it gave.
        seconds: for all of them together; a busy machine takes long.
    """
    over = time.monotonic() + seconds
    statuses = [process.wait(max(1.0, over - time.monotonic())) for process in processes]
    time.sleep(0.5)  # what speaks for a process that is gone may still be speaking
    texts = [[(folder / f"{at}.{name}").read_text() for name in ("out", "err")] for at, _ in
             enumerate(processes)]  # fmt: skip
    return [Ended(status, *text) for status, text in zip(statuses, texts, strict=True)]


def together(folder, count, *arguments, **how):
    """How processes end that nothing disturbs; ``how`` is that of :func:`companions`."""
    with companions(folder, count, *arguments, **how) as processes:
        return endings(folder, processes)


def assert_first_speaks(ended, status, said):
    """All end by the status; the first one says why, and nobody else a word."""
    assert [one.status for one in ended] == [status] * len(ended), ended
    assert said in ended[0].err
    assert len([line for line in ended[0].err.splitlines() if line.startswith("error")]) <= 1
    for one in ended[1:]:
        assert one.out == one.err == ""


def wait_for(happened, what, seconds=600):
    """Wait until something has happened."""
    over = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < over, what
        time.sleep(0.05)


def written_log(path: Path, likes=12):
    """A log in which all users have as many items and all items as many users, so that rows stay
    where they are on any mesh, and start from the same values.

    Args:
        path: the file.
        likes: items of a user.
    """
    users, items = 240, 160
    pairs = [(u, (u + 7 * j + j * j) % items) for u in range(users) for j in range(likes)]
    lines = [f"u{u},i{i}" for u, i in dict.fromkeys(pairs)]
    path.write_text("\n".join(["user,item", *lines]) + "\n")
    return path
