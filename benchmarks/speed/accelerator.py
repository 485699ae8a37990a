"""Everything that an accelerator should be measured by, in one call that needs nobody beside it.

Each stage is a process of its own, so that one that fails, hangs or takes the machine's memory
leaves the others as they are. What a stage has measured is in the file at once; a call that is cut
off leaves what it had. The minutes are shared out among the stages by their weight, what one leaves
over goes to those after it, and a stage that finds too little left is listed as skipped.

On a GPU or a TPU the sizes are those of the papers' data; on a CPU, or with ``--tiny``, they are
small ones, which show that the call works and say nothing of speed.
"""

from __future__ import annotations

import argparse
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness.children import child
from benchmarks.harness.report import Claim, Report, environment, note, whole_number
from lightgcn_jax.json_files import write_json

MARK = "measured:"
"""What a line of a stage begins with that holds figures: JSON, by name."""


class Stage(NamedTuple):
    """One process.

    Attributes:
        name: as ``accelerator_stages`` takes it.
        weight: its share of the minutes.
        least: seconds below which it is not begun.
        about: what it measures.
    """

    name: str
    weight: float
    least: float
    about: str


STAGES = (
    Stage("device", 1, 15, "the device, and what it copies a second"),
    Stage("storages", 4, 25, "every storage against the dense oracle, auto's choice, bandwidth"),
    Stage("torch", 2, 20, "the same graph in PyTorch's COO and CSR on the GPU"),
    Stage("epoch", 1.5, 20, "LightGCN's epoch"),
    Stage("ranking", 1, 20, "ranking all items for the test's users"),
    Stage("pinsage", 2, 25, "PinSAGE's training step"),
    Stage("quality", 4, 30, "training to quality, against the clock"),
)
# What is left for writing, and for a stage's process to end.
_GRACE = 3.0

Start = Callable[[Stage, float], Sequence[str]]
"""From a stage and its seconds to the command that runs it."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options.

    Args:
        parser: that of ``python -m benchmarks accelerator``.
    """
    parser.add_argument(
        "--minutes", type=_minutes, default=8.0, help="minutes in all (default 8)", metavar="M"
    )
    parser.add_argument("--tiny", action="store_true", help="small sizes, as on a CPU")
    parser.add_argument(
        "--stages",
        nargs="+",
        choices=[stage.name for stage in STAGES],
        default=[stage.name for stage in STAGES],
        metavar="X",
        help=f"some of {', '.join(stage.name for stage in STAGES)} (default all)",
    )
    parser.add_argument(
        "--rounds", type=whole_number, default=10, help="samples of each, at most (default 10)"
    )


def _minutes(text: str) -> float:
    minutes = float(text)
    if not 0 < minutes < 24 * 60:
        raise argparse.ArgumentTypeError(f"expected minutes above 0, got {text}")
    return minutes


def run(args: argparse.Namespace) -> Report:
    """Measure; see the module.

    Args:
        args: the parsed options.

    Returns:
        What every stage said.
    """
    path = Path("accelerator.json") if args.json is None else args.json

    def start(stage: Stage, seconds: float) -> list[str]:
        command = [sys.executable, "-m", "benchmarks.speed.accelerator_stages", stage.name]
        command += ["--seconds", f"{seconds:.1f}", "--rounds", str(args.rounds)]
        command += ["--tiny"] if args.tiny else []
        return command + ([] if args.data_dir is None else ["--data-dir", str(args.data_dir)])

    stages = [stage for stage in STAGES if stage.name in args.stages]
    found = measure(stages, 60 * args.minutes, path, start)
    note(f"kept in {path}")
    ended = [one["status"] for one in found.values()]
    return Report(
        name="accelerator",
        settings={"minutes": args.minutes, "tiny": args.tiny, "rounds": args.rounds},
        samples={},
        claims=[
            Claim("stages_measured", ended.count("measured"), "stages", ">=", len(stages)),
            *_claims(found),
        ],
        details=found,
    )


def measure(
    stages: Sequence[Stage], seconds: float, path: Path, start: Start
) -> dict[str, dict[str, Any]]:
    """Run the stages one after another, and keep what is known in a file all the while.

    Args:
        stages: in their order.
        seconds: in all.
        path: the file; it is replaced whole each time.
        start: gives the command of a stage.

    Returns:
        By stage its ``status`` (``measured``, ``failed``, ``cut off`` or ``skipped``), ``seconds``,
        what it measured, and for another status than ``measured`` the ``reason``.
    """
    end = time.monotonic() + seconds
    found: dict[str, dict[str, Any]] = {
        stage.name: {"status": "skipped", "about": stage.about, "reason": "not reached"}
        for stage in stages
    }
    base = {"name": "accelerator", **environment(), "settings": {"seconds": seconds}}

    def keep() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, base | {"details": found})

    keep()
    for place, stage in enumerate(stages):
        left = end - time.monotonic() - _GRACE
        share = left * stage.weight / sum(one.weight for one in stages[place:])
        # Half as much again where the others can spare it.
        limit = max(min(left, 1.5 * share), min(left, stage.least))
        if limit < stage.least:
            reason = f"{max(0.0, limit):.0f} s were left, it takes {stage.least:.0f} s"
            found[stage.name] |= {"reason": reason}
            keep()
            continue
        note(f"{stage.name}: {stage.about}, at most {limit:.0f} s")
        found[stage.name] |= {"status": "cut off", "reason": "the call was cut off"}
        keep()
        for known in _figures(start(stage, limit), limit):
            found[stage.name] |= known
            keep()
    return found


def _figures(command: Sequence[str], limit: float) -> Iterator[dict[str, Any]]:
    """What a process says, as it says it, and at last how it ended."""
    began, lines = time.monotonic(), queue.Queue()
    with child(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as running:

        def listen() -> None:
            assert running.stdout is not None
            for line in running.stdout:
                lines.put(line)
            lines.put(None)

        listening = threading.Thread(target=listen, daemon=True)
        listening.start()
        last, in_time = "", True
        try:
            while True:
                try:
                    line = lines.get(timeout=max(0.0, began + limit - time.monotonic()))
                except queue.Empty:
                    in_time = False
                    break
                if line is None:
                    break
                # What the error stream left without an end may stand before it.
                before, mark, figures = line.partition(MARK)
                last = before.strip() or last
                if mark:
                    yield json.loads(figures)
        finally:
            if not in_time or running.poll() is None:
                # It had its time, or closed its output and does not end.
                with suppress(subprocess.TimeoutExpired):
                    running.wait(_GRACE if in_time else 0)
                running.kill()
            status = running.wait()
            listening.join(_GRACE)
            if running.stdout is not None and not listening.is_alive():
                running.stdout.close()
    taken = {"seconds": round(time.monotonic() - began, 1)}
    if not in_time:
        yield taken | {"status": "cut off", "reason": f"it had {limit:.0f} s"}
    elif status:
        yield taken | {"status": "failed", "reason": last or f"exit status {status}"}
    else:
        yield taken | {"status": "measured", "reason": None}


def _claims(found: dict[str, dict[str, Any]]) -> list[Claim]:
    """What is claimed of a device: right results, and a choice that is the fastest one."""
    storages = found.get("storages", {})
    claims = []
    measured = storages.get("storages", {}).values()
    errors = [error for one in measured for error in one.get("errors", {}).values()]
    reason = None if errors else "no storage was measured"
    worst = max(errors) if errors else None
    claims.append(Claim("largest_error", worst, "", "<", 1e-4, reason=reason))
    choice = storages.get("auto_over_fastest")
    reason = None if choice is not None else "no storage was measured"
    claims.append(Claim("auto_over_fastest", choice, "×", "<=", 1.1, reason=reason))
    torch = found.get("torch", {}).get("torch_csr_over_auto")
    reason = None if torch is not None else found.get("torch", {}).get("reason") or "not measured"
    claims.append(Claim("auto_speedup_vs_torch_csr", torch, "×", ">=", 1.0, reason=reason))
    return claims
