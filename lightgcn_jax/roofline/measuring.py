"""Programs of a storage, compiled for a target and timed there in turn with a bare gather."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Ids, NodeTable
from lightgcn_jax.diffusion.operator import Operator
from lightgcn_jax.graph.csr import CsrMatrix
from lightgcn_jax.roofline.ceilings import WARM_UP, copy_rate, fastest_gather, seconds
from lightgcn_jax.roofline.executable import Executable, compile_and_read
from lightgcn_jax.roofline.targets import ExceedsMemoryError, Target


@dataclasses.dataclass(frozen=True)
class Work:
    """What a program must move and compute.

    Attributes:
        least_bytes: with every row of the table read once.
        gathered_bytes: with a row of the table read for every entry.
        operations: a multiplication and an addition an entry and dimension; padding not counted.
    """

    least_bytes: int
    gathered_bytes: int
    operations: int

    def times(self, count: int) -> Work:
        """The work of so many applications."""
        return Work(*(count * figure for figure in dataclasses.astuple(self)))


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What a program took, beside the ceilings.

    Attributes:
        seconds: the median.
        samples: seconds of each call.
        least_rate: bytes a second by the least model.
        gathered_rate: bytes a second by the gathered model.
        times_gather: seconds beside those of as many bare gathers, measured in turn with it.
        times_copy: seconds beside those of copying the least bytes at the copy's rate.
    """

    seconds: float
    samples: tuple[float, ...]
    least_rate: float
    gathered_rate: float
    times_gather: float
    times_copy: float


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
class Ceilings:
    """What this machine does at best, measured beside the storages.

    Attributes:
        gather_seconds: to read the row of the table that each entry names, and add them up.
        gather_rate: bytes of rows a second.
        copy_rate: bytes read and written a second, of a table of half a gigabyte negated in place.
    """

    gather_seconds: float
    gather_rate: float
    copy_rate: float


class _Prepared(NamedTuple):
    """A program before it is run; its samples, and those of the gathers between, come later."""

    run: Callable | None
    executable: Executable | None
    work: Work
    applications: int
    not_run: str | None
    samples: list[float]
    gathers: list[float]


@dataclasses.dataclass(frozen=True)
class Bench:
    """Measures programs in turn with a bare gather from the same table.

    Attributes:
        x: ``float[N, D]``, random.
        columns: ``int32[nnz]``, the row of the table that each entry names.
        gather: of the rows that they name, the fastest here.
        copy_rate: bytes a second, see :class:`Ceilings`.
        repeats: samples of each program.
        gather_samples: seconds, of every bare gather so far.
    """

    x: NodeTable
    columns: Ids
    gather: Callable[[NodeTable, Ids], Array]
    copy_rate: float
    repeats: int
    gather_samples: list[float]

    @classmethod
    def of(
        cls, target: Target, matrix: CsrMatrix, table: jax.ShapeDtypeStruct, repeats: int
    ) -> Bench:
        """For applications of the matrix to tables of that shape and type, on a device here."""
        x = jax.random.normal(jax.random.key(0), table.shape, table.dtype)
        columns = jnp.asarray(matrix.columns)
        rate = copy_rate(target, repeats)
        return cls(x, columns, fastest_gather(x, columns), rate, repeats, [])

    def measure(self, operator: Operator, programs: Sequence[_Prepared]) -> None:
        runs = [(each.run, each) for each in programs if each.run is not None]
        for run, _ in runs:
            for _ in range(WARM_UP):
                seconds(run, operator, self.x)
        for _ in range(self.repeats):
            for run, each in runs:
                gathered = seconds(self.gather, self.x, self.columns)
                self.gather_samples.append(gathered)
                each.gathers.append(gathered)
                each.samples.append(seconds(run, operator, self.x))

    def measurement(self, program: _Prepared) -> Measurement:
        work, taken = program.work, statistics.median(program.samples)
        gathers = program.applications * statistics.median(program.gathers)
        return Measurement(
            seconds=taken,
            samples=tuple(program.samples),
            least_rate=work.least_bytes / taken,
            gathered_rate=work.gathered_bytes / taken,
            times_gather=taken / gathers,
            times_copy=taken / (work.least_bytes / self.copy_rate),
        )

    def ceilings(self) -> Ceilings | None:
        """What stood beside the programs; None before any was measured."""
        if not self.gather_samples:
            return None
        taken = statistics.median(self.gather_samples)
        row_bytes = self.x.shape[1] * self.x.dtype.itemsize
        return Ceilings(taken, len(self.columns) * row_bytes / taken, self.copy_rate)


def examine(
    target: Target,
    operator: Operator,
    table: jax.ShapeDtypeStruct,
    work: Work,
    functions: Sequence[tuple[Callable, int]],
    bench: Bench | None,
) -> list[Program]:
    """Compile programs of one operator, and measure those that fit.

    Args:
        target: to compile for.
        operator: of N nodes.
        table: ``float[N, D]``.
        work: of one application.
        functions: of operator and table, each with the number of its applications.
        bench: on the target; None only compiles.
    """
    prepared = [
        _prepare(target, function, operator, table, work.times(applications), applications, bench)
        for function, applications in functions
    ]
    if bench is not None:
        bench.measure(operator, [each for each in prepared if each.not_run is None])
    return [
        Program(
            each.work,
            each.executable,
            bench.measurement(each) if bench is not None and each.samples else None,
            each.not_run,
        )
        for each in prepared
    ]


def _prepare(
    target: Target,
    function: Callable,
    operator: Operator,
    table: jax.ShapeDtypeStruct,
    work: Work,
    applications: int,
    bench: Bench | None,
) -> _Prepared:
    # A function of its own, so that nothing compiled before is found again and not timed.
    def program(operator: Operator, x: NodeTable) -> Any:
        return function(operator, x)

    try:
        compiled, executable = compile_and_read(target, program, operator, table)
    except ExceedsMemoryError as error:
        return _Prepared(None, None, work, applications, str(error), [], [])
    not_run = "compiled only"
    if bench is not None:
        # Its arguments are there already.
        needed = executable.temporary_bytes + executable.output_bytes
        available = target.available_bytes()
        fits = available is None or needed <= available
        not_run = None if fits else f"needs {needed:,} bytes, {available:,} are available"
    return _Prepared(compiled, executable, work, applications, not_run, [], [])
