"""Which cells of graph × D × task × contender can run, and their times."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.harness.report import alternate, note, seconds_text
from benchmarks.workloads.diffusion_contenders import Contender, Problem, Sizes, Started
from lightgcn_jax.graph import BipartiteGraph
from lightgcn_jax.roofline.targets import available_host_bytes

# A sample is as many calls as take this long, so that waking up and cold caches weigh little.
_SAMPLE_SECONDS = 0.05
_USABLE_MEMORY = 0.9


class Cell(NamedTuple):
    """A contender's task on a graph.

    Attributes:
        graph: its name.
        dim: D.
        task: one of the tasks of ``workloads.diffusion_contenders``.
        contender: its name.
    """

    graph: str
    dim: int
    task: str
    contender: str

    @property
    def title(self) -> str:
        """For a reader and as a key."""
        return f"{self.graph}, D = {self.dim}, {self.task}: {self.contender}"


class Limits(NamedTuple):
    """How long a cell may run.

    Attributes:
        rounds: samples of a cell.
        cell_seconds: the most seconds that they may take in all.
    """

    rounds: int
    cell_seconds: float


class Grid(NamedTuple):
    """What was found, cell by cell; a cell has samples or a reason.

    Attributes:
        samples: seconds of each call.
        reasons: why the cell was not run.
        differences: the error of a cell's result, see :meth:`Problem.difference`, in units of
            what its contender may be off by.
        extra_arrays: XLA's temporaries in tables of N×D, residuals among them.
    """

    samples: dict[Cell, list[float]]
    reasons: dict[Cell, str]
    differences: dict[Cell, float]
    extra_arrays: dict[Cell, float]

    @classmethod
    def empty(cls) -> Grid:
        """A grid in which nothing was found yet."""
        return cls({}, {}, {}, {})


class _Runner(NamedTuple):
    """A cell's call, how many of them make a sample, and how many samples it gets."""

    call: Callable[[], Any]
    calls: int
    rounds: int

    def __call__(self) -> None:
        for _ in range(self.calls):
            self.call()


def run_graph(
    grid: Grid,
    name: str,
    graph: BipartiteGraph,
    dim: int,
    contenders: Mapping[str, Contender],
    tasks: Sequence[str],
    limits: Limits,
) -> None:
    """Run all cells of a graph and a D.

    Args:
        grid: takes what is found.
        name: the graph's name.
        graph: the interactions.
        dim: D.
        contenders: by name.
        tasks: names of tasks; a contender runs those that it has.
        limits: samples and seconds of a cell.
    """
    available = available_memory()
    problem = Problem(graph, dim)
    sizes = problem.sizes
    cells = [
        Cell(name, dim, task, contender)
        for task in tasks
        for contender in contenders
        if task in contenders[contender].tasks
    ]
    reasons = {
        cell: reason
        for cell in cells
        if (reason := _hindrance(cell, contenders, sizes, available)) is not None
    }
    grid.reasons.update(reasons)
    started: dict[str, Started] = {}
    for cell in cells:
        if cell not in reasons and cell.contender not in started:
            note(f"{name}, D = {dim}: {cell.contender}")
            started[cell.contender] = contenders[cell.contender].start(problem)
    for task in tasks:
        runners = {}
        for cell in cells:
            if cell.task != task or cell in reasons:
                continue
            ready = started[cell.contender]
            if task in ready.temporaries:
                grid.extra_arrays[cell] = ready.temporaries[task] / sizes.table
            runner = _warm_up(grid, cell, ready, problem, contenders, limits)
            if runner is not None:
                runners[cell] = runner
        note(f"{name}, D = {dim}: {task} in alternation")
        _race(grid, runners)


def need_to_run(cell_task: str, contender: Contender, sizes: Sizes) -> int:
    """Predict what a task takes beside matrices and tables.

    Args:
        cell_task: the task.
        contender: who runs it.
        sizes: sizes of the graph, and D.

    Returns:
        Bytes at most.
    """
    return getattr(contender.need(sizes), cell_task)


def available_memory() -> int:
    """Bytes that can be had without swapping; half of all memory where nobody knows."""
    available = available_host_bytes()
    if available is None:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return available


def _hindrance(
    cell: Cell, contenders: Mapping[str, Contender], sizes: Sizes, available: int
) -> str | None:
    """Why a cell can't run. x and t stand in three libraries; all matrices are held at once."""
    contender = contenders[cell.contender]
    if contender.obstacle is not None:
        return contender.obstacle
    held = 6 * sizes.table + sum(
        other.need(sizes).matrix for other in contenders.values() if other.obstacle is None
    )
    need = need_to_run(cell.task, contender, sizes)
    if held + need <= _USABLE_MEMORY * available:
        return None
    return (
        f"would not fit memory: predicted {need / 1e9:.1f} GB beside {held / 1e9:.1f} GB of "
        f"matrices and tables, {available / 1e9:.1f} GB available"
    )


def _warm_up(
    grid: Grid,
    cell: Cell,
    ready: Started,
    problem: Problem,
    contenders: Mapping[str, Contender],
    limits: Limits,
) -> _Runner | None:
    """Check the first call's result and time it; None for a cell that is too slow."""
    call = ready.calls[cell.task]
    start = time.perf_counter()
    result = call()
    seconds = time.perf_counter() - start
    weighted = contenders[cell.contender].weighted
    difference = problem.difference(cell.task, result, weighted=weighted, rows=ready.rows)
    grid.differences[cell] = difference / contenders[cell.contender].tolerance
    if seconds > limits.cell_seconds:
        grid.reasons[cell] = (
            f"too slow: the first call took {seconds_text(seconds)}, the limit is "
            f"{limits.cell_seconds:g} s for all of a cell"
        )
        return None
    del result
    start = time.perf_counter()
    call()
    seconds = max(time.perf_counter() - start, 1e-6)
    calls = max(1, round(_SAMPLE_SECONDS / seconds))
    affordable = int(limits.cell_seconds / (calls * seconds))
    return _Runner(call, calls, max(1, min(limits.rounds, affordable)))


def _race(grid: Grid, runners: Mapping[Cell, _Runner]) -> None:
    """Alternate those that get equally many rounds; the slow ones run apart from the quick."""
    for rounds in sorted({runner.rounds for runner in runners.values()}, reverse=True):
        group = {cell: runner for cell, runner in runners.items() if runner.rounds == rounds}
        samples = alternate(
            {cell.title: runner for cell, runner in group.items()},
            rounds=rounds,
            warmups=0,
        )
        for cell, runner in group.items():
            grid.samples[cell] = [seconds / runner.calls for seconds in samples[cell.title]]
    gc.collect()
