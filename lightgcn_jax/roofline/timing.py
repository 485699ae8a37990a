"""Programs of a storage, compiled for a target and timed there in turn with a plain gather."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import jax

from lightgcn_jax.arrays import Array, Ids, NodeTable
from lightgcn_jax.diffusion.operator import Operator
from lightgcn_jax.graph.csr import CsrMatrix
from lightgcn_jax.roofline.ceilings import (
    WARM_UP,
    Ceilings,
    copy_bandwidth,
    elapsed_seconds,
    fastest_gather,
)
from lightgcn_jax.roofline.hlo import Executable, compile_executable
from lightgcn_jax.roofline.targets import ExceedsMemoryError, Target
from lightgcn_jax.roofline.work import Work

Samples = tuple[list[float], list[float]]
"""Seconds of a program's calls, and of the plain gather before each."""


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What a program took, beside the ceilings.

    Attributes:
        seconds: the median.
        samples: seconds of each call.
        compulsory_bandwidth: compulsory bytes a second.
        uncached_bandwidth: uncached bytes a second.
        gather_ratio: the seconds over those of as many plain gathers, measured in turn with it.
        copy_ratio: the seconds over those of copying the compulsory bytes.
    """

    seconds: float
    samples: tuple[float, ...]
    compulsory_bandwidth: float
    uncached_bandwidth: float
    gather_ratio: float
    copy_ratio: float


@dataclasses.dataclass(frozen=True)
class Program:
    """One program of one storage.

    Attributes:
        work: what it must move.
        executable: what was compiled; None where that exceeds the device's memory.
        measurement: None where it was only compiled.
        not_run: why there is no measurement; None where there is one.
    """

    work: Work
    executable: Executable | None
    measurement: Measurement | None
    not_run: str | None


@dataclasses.dataclass(frozen=True)
class Timer:
    """Measures programs in turn with a plain gather from the same table.

    Attributes:
        x: ``float[N, D]``, random.
        columns: ``int32[nnz]``, the row of the table that each entry names.
        gather: reads those rows and adds them up, as fast as this machine does.
        copy_bandwidth: bytes a second, see :class:`Ceilings`.
        repeats: samples of each program.
        gather_samples: seconds of every plain gather so far.
    """

    x: NodeTable
    columns: Ids
    gather: Callable[[NodeTable, Ids], Array]
    copy_bandwidth: float
    repeats: int
    gather_samples: list[float]

    @classmethod
    def of(
        cls, target: Target, matrix: CsrMatrix, table: jax.ShapeDtypeStruct, repeats: int
    ) -> Timer:
        """Prepare for applications of a matrix to random tables.

        Args:
            target: the device to measure, which is here.
            matrix: R×C.
            table: shape and type of the tables.
            repeats: samples of each program.

        Returns:
            A timer without samples.
        """
        x = jax.random.normal(jax.random.key(0), table.shape, table.dtype)
        columns = jax.device_put(matrix.columns)
        bandwidth = copy_bandwidth(target, repeats)
        return cls(x, columns, fastest_gather(x, columns), bandwidth, repeats, [])

    def measure(self, operator: Operator, runs: Sequence[Callable]) -> list[Samples]:
        """Run every program and take its samples, a plain gather before each.

        Args:
            operator: the programs' first argument.
            runs: compiled programs.

        Returns:
            For each program its seconds, and those of the gathers before it.
        """
        for run in runs:
            for _ in range(WARM_UP):
                elapsed_seconds(run, operator, self.x)
        samples: list[Samples] = [([], []) for _ in runs]
        for _ in range(self.repeats):
            for run, (taken, gathers) in zip(runs, samples, strict=True):
                gathers.append(elapsed_seconds(self.gather, self.x, self.columns))
                taken.append(elapsed_seconds(run, operator, self.x))
        self.gather_samples.extend(one for _, gathers in samples for one in gathers)
        return samples

    def measurement(self, work: Work, applications: int, samples: Samples) -> Measurement:
        """Sum a program's samples up.

        Args:
            work: what the program must move.
            applications: how many applications it is.
            samples: its seconds, and those of the gathers before it.

        Returns:
            The median, and its ratio to each ceiling.
        """
        taken, gathers = map(statistics.median, samples)
        return Measurement(
            seconds=taken,
            samples=tuple(samples[0]),
            compulsory_bandwidth=work.compulsory_bytes / taken,
            uncached_bandwidth=work.uncached_bytes / taken,
            gather_ratio=taken / (applications * gathers),
            copy_ratio=taken / (work.compulsory_bytes / self.copy_bandwidth),
        )

    def ceilings(self) -> Ceilings | None:
        """What was measured beside the programs; None before any was."""
        if not self.gather_samples:
            return None
        taken = statistics.median(self.gather_samples)
        row_bytes = self.x.shape[1] * self.x.dtype.itemsize
        return Ceilings(taken, len(self.columns) * row_bytes / taken, self.copy_bandwidth)


def time_programs(
    target: Target,
    operator: Operator,
    table: jax.ShapeDtypeStruct,
    work: Work,
    functions: Sequence[tuple[Callable, int]],
    timer: Timer | None,
) -> list[Program]:
    """Compile programs of one operator, and measure those that fit.

    Args:
        target: the device to compile for.
        operator: N×N.
        table: ``float[N, D]``, its shape and type.
        work: what one application must move and compute.
        functions: functions of operator and table, each with the number of its applications.
        timer: measures on the target; None only compiles.

    Returns:
        A program for each function.
    """

    def compiled_of(function: Callable) -> tuple[Callable | None, Executable | None, str | None]:
        """The program, what is known of it, and why it is not run."""

        # A new function each time, so that its compilation is timed and not found in a cache.
        def program(operator: Operator, x: NodeTable) -> Any:
            return function(operator, x)

        try:
            run, executable = compile_executable(target, program, operator, table)
        except ExceedsMemoryError as error:
            return None, None, str(error)
        if timer is None:
            return run, executable, "compiled only"
        # Its arguments are there already.
        needed = executable.temporary_bytes + executable.output_bytes
        available = target.available_bytes()
        fits = available is None or needed <= available
        not_run = None if fits else f"needs {needed:,} bytes, {available:,} are available"
        return run, executable, not_run

    compiled = [compiled_of(function) for function, _ in functions]
    runs = [run for run, _, not_run in compiled if run is not None and not_run is None]
    samples = iter(() if timer is None else timer.measure(operator, runs))
    programs = []
    for (_, applications), (_, executable, not_run) in zip(functions, compiled, strict=True):
        total, measurement = work.times(applications), None
        if timer is not None and not_run is None:
            measurement = timer.measurement(total, applications, next(samples))
        programs.append(Program(total, executable, measurement, not_run))
    return programs
