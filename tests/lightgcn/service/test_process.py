"""The command itself, as a process: it starts, answers, loads another run under load, and ends."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from lightgcn_jax.data import generate_world, ratio_split
from lightgcn_jax.models import Popular
from lightgcn_jax.runs import fit
from lightgcn_jax.service.server import listening_at
from tests.lightgcn.cli.test_cli import error_of

ROOT = Path(__file__).parents[3]
PATIENCE = 300


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs that need no training: of one world, split in two ways."""
    folder = tmp_path_factory.mktemp("runs")
    world = generate_world(users=30, items=20, mean_degree=5, groups=2, seed=1).interactions
    for seed in (0, 1):
        fit(ratio_split(world, seed=seed), model=Popular(), out=folder / str(seed))
    return folder / "0", folder / "1"


class Running:
    """The command, and what it has written."""

    def __init__(self, run, *flags, **variables):
        command = [sys.executable, "-m", "lightgcn_jax", "serve", str(run), "--port", "0"]
        self.process = subprocess.Popen(
            [*command, "--batch", "2", *flags], cwd=ROOT, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **variables, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        self.lines, self._come = [], threading.Condition()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()
        self.url = re.search(r"http://[\d.]+:\d+", self.line("ready after"))[0]

    def _read(self):
        for line in self.process.stderr:
            with self._come:
                self.lines.append(line)
                self._come.notify_all()

    def line(self, text):
        """The first line with a text, once it is there."""
        with self._come:
            found = self._come.wait_for(
                lambda: [one for one in self.lines if text in one] or self.process.poll(), PATIENCE
            )
        assert isinstance(found, list), self.lines
        return found[0]

    def end(self):
        """Leave nothing behind, whatever happened."""
        self.process.kill()
        self.process.wait()
        self._reading.join()
        self.process.stderr.close()

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=PATIENCE) as answer:
            return json.loads(answer.read())


def test_it_serves_loads_another_run_under_load_and_ends(runs, tmp_path):
    link = tmp_path / "run"
    link.symlink_to(runs[0])
    running = Running(link)
    try:
        users = running.get("/about")["example_users"]
        answers, ends = [], threading.Event()

        def load():
            while not ends.is_set():
                answers.append(running.get(f"/recommend?user={users[0]}&k=5")["answers"][0])

        threads = [threading.Thread(target=load) for _ in range(3)]
        for one in threads:
            one.start()
        link.unlink()
        link.symlink_to(runs[1])
        running.process.send_signal(signal.SIGHUP)
        running.line("loaded the run anew")
        before, deadline = len(answers), time.monotonic() + PATIENCE
        while len(answers) < before + 10 and time.monotonic() < deadline:
            time.sleep(0.01)
        # Another end: the link leads nowhere, so the run that is there goes on.
        link.unlink()
        running.process.send_signal(signal.SIGHUP)
        running.line("the old run goes on")
        ends.set()
        for one in threads:
            one.join()
        assert running.get("/about")["loaded"] == 2
        assert all(one["items"] for one in answers)
        assert answers[0] != answers[-1]
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(PATIENCE) == 0
    finally:
        running.end()


def test_answers_do_not_wait_for_acknowledgements():
    async def options():
        noted = asyncio.Queue()

        async def answer(_, writer):
            own = writer.get_extra_info("socket")
            await noted.put(own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with contextlib.closing(listening_at("127.0.0.1", 0)) as listening:
            async with await asyncio.start_server(answer, sock=listening):
                _, writer = await asyncio.open_connection(*listening.getsockname())
                writer.close()
                return await noted.get()

    assert asyncio.run(options())


def test_a_taken_port_and_wrong_flags_are_one_line(runs, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = error_of("serve", runs[0], "--port", taken.getsockname()[1])
        assert "expected an address that is free" in said
    assert "--batch: expected a power of two" in error_of("serve", runs[0], "--batch", 3)
    assert "--port: expected 0 to 65535" in error_of("serve", runs[0], "--port", 70_000)
    assert "--seconds: expected a number above 0" in error_of("serve", runs[0], "--seconds", 0)
    assert "--k: expected at least 1" in error_of("serve", runs[0], "--k", 0)
    said = error_of("serve", runs[0], "--host", "nowhere.invalid")
    assert "--host nowhere.invalid" in said
    monkeypatch.setenv("GRAPHREC_RELOAD_TOKEN", "short")
    assert "at least 16 characters" in error_of("serve", runs[0])


def test_no_run_is_one_line(tmp_path):
    command = [sys.executable, "-m", "lightgcn_jax", "serve", str(tmp_path), "--port", "0"]
    ended = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert ended.returncode == 2
    *_, last = ended.stderr.splitlines()
    assert last.startswith("error: ")
    assert "Traceback" not in ended.stderr
