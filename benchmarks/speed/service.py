"""The service under load: recommendations over HTTP on loopback, the server on one core and the
load generator, wrk, on another.

A run of Gowalla is served, LightGCN after one epoch unless ``--run`` gives another: the time of an
answer does not depend on what the vectors say. Rounds of recommend for random users alternate with
rounds of ``/health``, an empty handler of the same server. In the last round the run is loaded anew
at a third of the time. Memory is what the server holds before and after.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness.children import child, output_of
from benchmarks.harness.report import Claim, Report, note, whole_number
from lightgcn_jax.errors import InputError
from lightgcn_jax.files import scratch_folder

_CONNECTIONS, _K, _PATIENCE = 32, 20, 900
_LEAST_REQUESTS, _MOST_P99, _MOST_GROWTH = 1_000, 0.060, 1.1
_SCRIPT = """
math.randomseed(0)
local users = {USERS}
request = function()
  local path = "PATH"
  if users then path = path .. users[math.random(#users)] end
  return wrk.format("GET", path)
end
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\\n{"requests": %d, "microseconds": %d, "p50": %f, "p99": %f, "failed": %d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


class Round(NamedTuple):
    """What wrk measured.

    Attributes:
        rate: requests a second.
        p50: the median of seconds.
        p99: the 99th percentile of seconds.
        failed: how many requests were refused or lost.
        requests: how many there were.
    """

    rate: float
    p50: float
    p99: float
    failed: int
    requests: int


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options.

    Args:
        parser: that of ``python -m benchmarks service``.
    """
    parser.add_argument("--run", type=Path, metavar="RUN", help="a finished run to serve")
    parser.add_argument(
        "--seconds", type=whole_number, default=20, help="of a round of recommend (default 20)"
    )
    parser.add_argument("--rounds", type=whole_number, default=3, help="rounds of each (default 3)")
    parser.add_argument(
        "--memory-minutes",
        type=int,
        default=0,
        help="go on for so long and watch the memory (default 0; the claim is of 10)",
    )


def run(args: argparse.Namespace) -> Report:
    """Measure; see the module.

    Args:
        args: the parsed options.

    Raises:
        InputError: wrk or taskset is missing, or there are not two cores.
    """
    missing = [name for name in ("wrk", "taskset") if shutil.which(name) is None]
    if missing:
        raise InputError(f"service: needs {' and '.join(missing)}, from the system's packages")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise InputError("service: expected two cores, one for the server and one for wrk")
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        path = args.run or _trained(folder / "run", args.data_dir)
        server = stack.enter_context(_serving(path, cores[0]))
        users = server.users()
        empty, full = _script(folder / "empty.lua", "/health", None), _script(
            folder / "full.lua", f"/recommend?k={_K}&user=", users
        )  # fmt: skip
        before, rounds, others = server.memory(), [], []
        for number in range(args.rounds):
            note(f"round {number + 1} of {args.rounds}: the empty handler, then recommend")
            others.append(_load(server, empty, cores[1], max(3, args.seconds // 4)))
            if number < args.rounds - 1:
                rounds.append(_load(server, full, cores[1], args.seconds))
        timer = threading.Timer(args.seconds / 3, server.reload)
        timer.start()
        rounds.append(_load(server, full, cores[1], args.seconds))
        timer.join()
        memories = [before, server.memory()]
        for minute in range(args.memory_minutes):
            note(f"minute {minute + 1} of {args.memory_minutes}")
            rounds.append(_load(server, full, cores[1], 60))
            memories.append(server.memory())
        reloaded = server.reloaded
    return _report(args, rounds, others, memories, reloaded)


def _report(
    args: argparse.Namespace,
    rounds: list[Round],
    others: list[Round],
    memories: list[float],
    reloaded: dict[str, Any],
) -> Report:
    # That of the reload is judged for lost requests alone.
    steady = [one for at, one in enumerate(rounds) if at != args.rounds - 1] or rounds
    best = sorted(steady, key=lambda one: one.rate)[len(steady) // 2]
    empty = sorted(others, key=lambda one: one.rate)[len(others) // 2]
    failed = sum(one.failed for one in rounds)
    growth = memories[-1] / memories[1]
    no_growth = None if args.memory_minutes else "--memory-minutes was not asked for"
    claims = [
        Claim("requests_a_second", best.rate, "1/s", ">=", _LEAST_REQUESTS),
        Claim("p99_seconds", best.p99, "s", "<=", _MOST_P99),
        Claim("failed_requests_with_a_reload", failed, "", "<=", 0),
        Claim("reloads", reloaded.get("loaded", 0) - 1, "", ">=", 1),
        Claim(
            "memory_growth", None if no_growth else growth, "×", "<=", _MOST_GROWTH,
            reason=no_growth,
        ),
    ]  # fmt: skip
    return Report(
        name="service",
        settings={
            "run": str(args.run.name) if args.run else "gowalla, lightgcn, 1 epoch",
            "connections": _CONNECTIONS,
            "k": _K,
            "seconds": args.seconds,
            "rounds": args.rounds,
            "memory_minutes": args.memory_minutes,
        },
        samples={
            "a request of recommend": [1 / one.rate for one in rounds],
            "a request of the empty handler": [1 / one.rate for one in others],
        },
        claims=claims,
        details={
            "recommend": [one._asdict() for one in rounds],
            "empty_handler": [one._asdict() for one in others],
            "share_of_the_empty_handlers_rate": best.rate / empty.rate,
            "memory_mb": [round(one, 1) for one in memories],
            "reload": reloaded,
        },
        threads={"server": 1, "wrk": 1},
    )


def _trained(path: Path, data_dir: Path | None) -> Path:
    note("training a run of Gowalla for one epoch")
    # In a process of its own: what is left of one that trained takes time from the server's core.
    command = [
        *(sys.executable, "-m", "lightgcn_jax", "train", "--dataset", "gowalla", "--out", path),
        *("--epochs", 1, "--evaluate-every", 1, "--protocol", "fixed", "--ks", 20),
        *(("--data-dir", data_dir) if data_dir else ()),
    ]
    output_of(command)
    return path


class Server:
    """The server's process.

    Args:
        process: it.
        url: where it answers.
        token: for reloads.
    """

    def __init__(self, process: subprocess.Popen[str], url: str, token: str):
        self.url, self.reloaded = url, {}
        self._process, self._token = process, token

    def users(self) -> list[str]:
        """Ids to ask for, which the run knows."""
        with urllib.request.urlopen(f"{self.url}/about", timeout=_PATIENCE) as answer:
            about = json.load(answer)
        examples = about["example_users"]
        # Gowalla's users are numbered from 0 on.
        numbered = all(isinstance(one, int) for one in examples)
        return [str(one) for one in (range(about["users"]) if numbered else examples)]

    def memory(self) -> float:
        """What it holds, in megabytes."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) / 1024

    def reload(self) -> None:
        """Load the run anew."""
        headers = {"Authorization": f"Bearer {self._token}"}
        asked = urllib.request.Request(f"{self.url}/reload", method="POST", headers=headers)
        with urllib.request.urlopen(asked, timeout=_PATIENCE) as answer:
            self.reloaded = json.load(answer)


@contextlib.contextmanager
def _serving(path: Path, core: int) -> Iterator[Server]:
    note(f"starting the server on core {core}")
    token = secrets.token_urlsafe(32)
    command = ["taskset", "-c", str(core), sys.executable, "-m", "lightgcn_jax", "serve", path]
    environment = {**os.environ, "GRAPHREC_RELOAD_TOKEN": token}
    with child([*command, "--port", 0], stderr=subprocess.PIPE, env=environment) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r"ready after .*(http://[\d.]+:\d+)", line):
                break
        else:
            raise RuntimeError(f"the server ended: {''.join(lines)}")
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield Server(process, found[1], token)


def _script(path: Path, asked: str, users: list[str] | None) -> Path:
    listed = "nil" if users is None else "{" + ",".join(f'"{one}"' for one in users) + "}"
    path.write_text(_SCRIPT.replace("{USERS}", listed).replace("PATH", asked))
    return path


def _load(server: Server, script: Path, core: int, seconds: int) -> Round:
    command = [
        *("taskset", "-c", core, "wrk", "-t1", f"-c{_CONNECTIONS}", f"-d{seconds}s"),
        *("--timeout", "30s", "-s", script, server.url),
    ]
    told = json.loads(output_of(command).strip().splitlines()[-1])
    time.sleep(0.5)
    return Round(
        told["requests"] / told["microseconds"] * 1e6,
        told["p50"] / 1e6,
        told["p99"] / 1e6,
        told["failed"],
        told["requests"],
    )
