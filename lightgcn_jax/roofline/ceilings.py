"""The ceilings of a machine: how fast it reads rows of a table, and copies a large one."""

from __future__ import annotations

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Float, Ids, NodeTable
from lightgcn_jax.diffusion.storage import added_up
from lightgcn_jax.roofline.targets import Target

WARM_UP = 2

# Large beside any cache.
_COPY_BYTES = 2**29
# Sums of gathered rows kept at once while the ceiling is measured, and gathers added up before a
# sum is stored again. On two cores (Gowalla, D = 64) one gather a turn took 29 ms, eight 13 ms, the
# gathered table as a whole 480 ms.
_GATHER_ROWS = (1024, 16384)
_GATHERS_A_TURN = 8


@dataclasses.dataclass(frozen=True)
class Ceilings:
    """What this machine does at best, measured beside the storages.

    Attributes:
        gather_seconds: to read the row of the table that each entry names, and add them up.
        gather_bandwidth: bytes of rows a second.
        copy_bandwidth: bytes read and written a second, of a table of half a gigabyte that is
            negated in place.
    """

    gather_seconds: float
    gather_bandwidth: float
    copy_bandwidth: float


def elapsed_seconds(function: Callable, *arguments: Any) -> float:
    """The time that one call takes until its results are there.

    Args:
        function: takes the arguments and returns arrays.
        arguments: pytrees of arrays.

    Returns:
        Seconds.
    """
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - start


def fastest_gather(x: NodeTable, columns: Ids) -> Callable[[NodeTable, Ids], Array]:
    """The fastest of several ways to read x[columns] and to add up what was read.

    Args:
        x: ``float[N, D]``, on the device that is measured.
        columns: ``int32[entries]``, rows of x.

    Returns:
        A compiled function of x and columns.
    """
    entries = len(columns)
    # The last way is one turn without a loop: what a device with many threads wants.
    ways = sorted({*_GATHER_ROWS, max(1, -(-entries // _GATHERS_A_TURN))})
    programs = [jax.jit(functools.partial(_gather_and_add, rows=rows)) for rows in ways]

    def seconds(program: Callable) -> float:
        return min([elapsed_seconds(program, x, columns) for _ in range(WARM_UP + 3)][WARM_UP:])

    return min(programs, key=seconds)


def _gather_and_add(x: NodeTable, columns: Ids, rows: int) -> Float[Array, "rows dim"]:
    """Sums of the rows x[columns], ``rows`` of them side by side; each row is read once."""
    entries, dim = len(columns), x.shape[1]
    if not entries:
        return jnp.zeros((1, dim), jnp.float32)
    turn = min(rows * _GATHERS_A_TURN, entries)
    rows = max(1, turn // _GATHERS_A_TURN)

    def add_turn(first: Any, count: int, total: Array) -> Array:
        for start in range(0, count, rows):
            size = min(rows, count - start)
            chosen = jax.lax.dynamic_slice_in_dim(columns, first + start, size)
            read = x.at[chosen].get(mode="promise_in_bounds").astype(total.dtype)
            total = total.at[:size].add(read) if size < rows else total + read
        return total

    blank = jnp.zeros((rows, dim), jnp.float32)
    return added_up(add_turn, blank, entries, rows * _GATHERS_A_TURN)


def copy_bandwidth(target: Target, repeats: int) -> float:
    """Bytes a second, read and written, of a large table negated in place.

    In place, because a fresh result of this size is paid for in page faults on a CPU: measured
    four times slower.

    Args:
        target: a device that is here.
        repeats: samples, of which the median counts.

    Returns:
        Bytes a second.
    """
    available = target.available_bytes() or _COPY_BYTES * 4
    numbers = min(_COPY_BYTES, available // 4) // 4
    negate = jax.jit(jnp.negative, donate_argnums=0)
    x = jax.block_until_ready(jnp.ones(numbers, jnp.float32))
    samples = []
    for _ in range(repeats + WARM_UP):
        start = time.perf_counter()
        x = jax.block_until_ready(negate(x))
        samples.append(time.perf_counter() - start)
    return 2 * x.nbytes / statistics.median(samples[WARM_UP:])
