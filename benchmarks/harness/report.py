"""What every benchmark shares: time in alternation, compare medians, claim, print, keep.

Nothing here knows what is measured, and nothing imports JAX or PyTorch.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
import os
import platform
import statistics
import time
from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Column, Table

PAUSE_SECONDS = 0.02
"""Rest before a measured call, four times as long as OpenMP's threads spin after their work."""

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy", "polars", "torch")
_RESAMPLES = 2000

Relation = Literal[">=", "<=", "<"]


class Ratio(NamedTuple):
    """A ratio of medians.

    Attributes:
        value: the ratio.
        interval: its bootstrap interval of 95 %; None with a single sample.
    """

    value: float
    interval: tuple[float, float] | None


@dataclasses.dataclass(frozen=True)
class Claim:
    """A statement about a measured number that holds or does not.

    Attributes:
        name: what is claimed.
        value: the measured number; None where the run cannot tell, for the ``reason``.
        unit: the unit of value and target; ``×`` for a ratio.
        relation: how the value must compare with the target.
        target: the bound.
        interval: the value's interval of 95 %, where there is one.
        reason: why there is no value.
    """

    name: str
    value: float | None
    unit: str
    relation: Relation
    target: float
    interval: tuple[float, float] | None = None
    reason: str | None = None

    def __post_init__(self):
        if (self.value is None) != (self.reason is not None):
            raise ValueError(f"{self.name}: expected a value or a reason, got {self}")

    @property
    def holds(self) -> bool | None:
        """Whether the value meets the target; None without a value."""
        if self.value is None:
            return None
        if self.relation == ">=":
            return self.value >= self.target
        return self.value <= self.target if self.relation == "<=" else self.value < self.target


@dataclasses.dataclass(frozen=True)
class Report:
    """What a benchmark found.

    Attributes:
        name: the name of the benchmark.
        settings: what was run, in plain types.
        samples: every measured time in seconds, by what took it.
        claims: what is claimed of them.
        details: numbers worth keeping of which nothing is claimed.
        threads: how many threads each library had.
        tables: further tables for the reader, printed after the claims.
    """

    name: str
    settings: Mapping[str, Any]
    samples: Mapping[str, Sequence[float]]
    claims: Sequence[Claim]
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    threads: Mapping[str, int] = dataclasses.field(default_factory=dict)
    tables: Sequence[Table] = ()


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def alternate(
    contenders: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warmups: int = 1,
    clock: Callable[[], float] = time.perf_counter,
    pause: float = PAUSE_SECONDS,
) -> dict[str, list[float]]:
    """Time the contenders in turn, A B C, B C A, …, so that a busy minute falls on all alike.

    Each round begins one place further on, so that no contender always comes first, or always
    after the same other one, whose data fill the caches.

    Args:
        contenders: name -> a call that returns when its work is done.
        rounds: samples of each contender.
        warmups: unmeasured rounds before them.
        clock: a function that tells the time in seconds.
        pause: seconds of rest before each measured call. OpenMP's threads (PyTorch's, numba's)
            spin on for 5 ms when their work is done and would take a core from the next contender.

    Returns:
        name -> ``rounds`` durations in seconds; places in the lists are rounds.
    """
    names = list(contenders)
    for _ in range(warmups):
        for call in contenders.values():
            call()
    samples = {name: [] for name in names}
    for number in range(rounds):
        first = number % max(1, len(names))
        for name in names[first:] + names[:first]:
            if pause:
                time.sleep(pause)
            start = clock()
            contenders[name]()
            samples[name].append(clock() - start)
    return samples


def ratio_of_medians(over: Sequence[float], under: Sequence[float], seed: int = 0) -> Ratio:
    """median(over) / median(under), with a bootstrap interval of 95 %.

    Lists of one length are rounds of one alternation: whole rounds are drawn, because both samples
    of a round met the same neighbours. Lists of different lengths are drawn independently.

    Args:
        over: samples of the numerator.
        under: samples of the denominator, in the same unit.
        seed: seed of the bootstrap.

    Returns:
        The ratio and its interval.
    """
    value = statistics.median(over) / statistics.median(under)
    if min(len(over), len(under)) < 2:
        return Ratio(value, None)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(over), (_RESAMPLES, len(over)))
    other = drawn
    if len(under) != len(over):
        other = rng.integers(0, len(under), (_RESAMPLES, len(under)))
    tops = np.median(np.asarray(over)[drawn], axis=1)
    low, high = np.quantile(tops / np.median(np.asarray(under)[other], axis=1), [0.025, 0.975])
    return Ratio(value, (float(low), float(high)))


def ratio_of_means(over: Sequence[float], under: Sequence[float], seed: int = 0) -> Ratio:
    """mean(over) / mean(under) of pairs, with a bootstrap interval of 95 % that draws whole pairs.

    Args:
        over: values of the numerator.
        under: values of the denominator, as many.
        seed: seed of the bootstrap.

    Returns:
        The ratio and its interval.
    """
    tops, bottoms = np.asarray(over), np.asarray(under)
    value = float(tops.mean() / bottoms.mean())
    if len(tops) < 2:
        return Ratio(value, None)
    drawn = np.random.default_rng(seed).integers(0, len(tops), (_RESAMPLES, len(tops)))
    ratios = tops[drawn].mean(axis=1) / bottoms[drawn].mean(axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return Ratio(value, (float(low), float(high)))


def ratio_claim(
    name: str,
    over: Sequence[float],
    under: Sequence[float],
    relation: Relation,
    target: float,
    reason: str | None = None,
) -> Claim:
    """Claim a ratio of medians, unless there is a ``reason`` not to.

    Args:
        name: what is claimed.
        over: samples of the numerator.
        under: samples of the denominator, in the same unit.
        relation: how the ratio must compare with the target.
        target: the bound.
        reason: why nothing can be claimed; None where something can.

    Returns:
        The claim.
    """
    if reason is not None:
        return Claim(name, None, "×", relation, target, reason=reason)
    ratio = ratio_of_medians(over, under)
    return Claim(name, ratio.value, "×", relation, target, ratio.interval)


def whole_number(text: str) -> int:
    """Read an option's value that must be a whole number of at least 1.

    Args:
        text: as the user gave it.

    Returns:
        The number.

    Raises:
        ArgumentTypeError: the number is less than 1.
        ValueError: the text is no whole number.
    """
    number = int(text)
    if number < 1:
        raise ArgumentTypeError(f"expected at least 1, got {number}")
    return number


def note(message: str) -> None:
    """Tell the reader of a long run where it is.

    Args:
        message: what begins now.
    """
    print(f"… {message}", flush=True)


def environment() -> dict[str, Any]:
    """Date, versions and machine, in plain types."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions,
        "hardware": {
            "cpu": _cpu_model(),
            "cores": cores(),
            "memory_gb": round(memory / 1e9, 1),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def as_json(report: Report) -> dict[str, Any]:
    """Put a report and its environment into plain types.

    Args:
        report: what was found.

    Returns:
        A JSON value; times are in seconds.
    """
    return {
        "name": report.name,
        **environment(),
        "threads": dict(report.threads),
        "settings": dict(report.settings),
        "claims": [_claim_as_json(claim) for claim in report.claims],
        "details": dict(report.details),
        "samples": {name: list(values) for name, values in report.samples.items()},
    }


def write_json(report: Report, path: Path) -> None:
    """Write a report; the file is complete or, on an error, what it was.

    Args:
        report: what was found.
        path: the file; its folder is made where it is missing.

    Raises:
        TypeError: the report holds a value that JSON does not know.
        OSError: the file cannot be written.
    """
    text = json.dumps(as_json(report), indent=2, ensure_ascii=False, allow_nan=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(text + "\n")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def print_report(report: Report, console: Console | None = None) -> None:
    """Print samples, claims and the benchmark's own tables.

    Args:
        report: what was found.
        console: where to print; None for the terminal.
    """
    console = console or Console()
    if report.samples:
        console.print(_samples_table(report))
    console.print(_claims_table(report.claims))
    for table in report.tables:
        console.print(table)


def seconds_text(seconds: float) -> str:
    """Write a duration for a reader: ``84.1 ms``, ``10.7 s``.

    Args:
        seconds: the duration.

    Returns:
        Three digits with their unit.
    """
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _samples_table(report: Report) -> Table:
    table = Table("what", "median", "least", "most", "samples", title=report.name)
    for name, values in report.samples.items():
        times = (statistics.median(values), min(values), max(values))
        table.add_row(name, *map(seconds_text, times), str(len(values)))
    return table


def _claims_table(claims: Sequence[Claim]) -> Table:
    name_column = Column("claim", min_width=max((len(claim.name) for claim in claims), default=0))
    table = Table(name_column, "value", "95 %", "target", "holds")
    for claim in claims:
        value = claim.reason if claim.value is None else f"{claim.value:.4g} {claim.unit}"
        interval = "" if claim.interval is None else "{:.4g} to {:.4g}".format(*claim.interval)
        holds = {True: "yes", False: "no", None: "–"}[claim.holds]
        table.add_row(claim.name, value, interval, f"{claim.relation} {claim.target:g}", holds)
    return table


def _claim_as_json(claim: Claim) -> dict[str, Any]:
    fields = {**dataclasses.asdict(claim), "holds": claim.holds}
    if claim.value is not None and not math.isfinite(claim.value):
        fields |= {"value": None, "reason": f"the value is {claim.value}"}
    return fields


def _cpu_model() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
