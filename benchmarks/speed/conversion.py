"""A checked CSR matrix of a hundred million entries to every storage: seconds, peak memory.

Row lengths follow a power law; columns are spread over all ids and increase within a row. Each
conversion is a fresh process, which generates the matrix first. The peak is that of the whole
process; beside it stands the peak of a process that generates and checks the matrix and converts
nothing. A storage is made even where the platform can't multiply with it. What is claimed is the
median of at least three samples, each of another process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

from benchmarks.harness.process import Finished, run_measured
from benchmarks.harness.report import Claim, Report, note, seconds_text, whole_number
from lightgcn_jax.diffusion import STORAGES
from lightgcn_jax.diffusion.bucketed import BucketedStorage
from lightgcn_jax.graph import CsrMatrix

_ENTRIES = 100_000_000
_ENTRIES_A_ROW = 100
# The law of row lengths, before they are scaled to their mean.
_EXPONENT, _LEAST, _MOST = 1.5, 34, 5_000
# Columns between two entries of a row, on average.
_STRIDE = 200
_MATRIX = "matrix alone"
_TARGET_SECONDS = 60.0
_TARGETS = {"native": 2.0}
# Fewer samples tell nothing of how they vary.
_LEAST_SAMPLES = 3


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options.

    Args:
        parser: that of ``python -m benchmarks conversion``.
    """
    parser.add_argument(
        "--entries", type=whole_number, default=_ENTRIES, help="entries of the matrix (default 10⁸)"
    )
    parser.add_argument(
        "--rounds",
        type=whole_number,
        default=_LEAST_SAMPLES,
        help=f"samples of each (default {_LEAST_SAMPLES}, the fewest of which anything is claimed)",
    )


def run(args: argparse.Namespace) -> Report:
    """Measure; see the module.

    Args:
        args: the parsed options.

    Returns:
        Seconds of each conversion, and what is claimed of them.
    """
    ended: dict[str, list[Finished]] = {name: [] for name in (_MATRIX, *STORAGES)}
    for number in range(args.rounds):
        for name, processes in ended.items():
            note(f"round {number + 1} of {args.rounds}: {name}")
            processes.append(_child(name, args.entries))
    failures = {
        name: failed.last_words()
        for name, processes in ended.items()
        for failed in processes
        if failed.status != 0
    }
    found = {
        name: [json.loads(process.output.splitlines()[-1]) for process in processes]
        for name, processes in ended.items()
        if name not in failures
    }
    peaks = {name: max(process.peak_gb for process in ended[name]) for name in found}
    samples = {
        name: [one["seconds"] for one in values]
        for name, values in found.items()
        if name != _MATRIX
    }
    slots = found["bucketed"][0]["slots_per_entry"] if "bucketed" in found else None
    return Report(
        name="conversion",
        settings={
            "entries": args.entries,
            "entries_a_row": _ENTRIES_A_ROW,
            "exponent": _EXPONENT,
            "rounds": args.rounds,
            "dtype": "float32",
            "seed": 0,
        },
        samples={f"from CSR to {name}": values for name, values in samples.items()},
        claims=[_claim(name, samples, failures, args.entries) for name in STORAGES],
        details={
            "matrix": found[_MATRIX][0] if _MATRIX in found else None,
            "peak_gb": peaks,
            "bucketed_slots_per_entry": slots,
            "failures": failures,
        },
        tables=[_table(samples, peaks, failures, slots)],
    )


def generate_matrix(entries: int, seed: int = 0) -> CsrMatrix:
    """Generate a checked matrix.

    Args:
        entries: how many at least; each row may have one more.
        seed: seed of row lengths and columns.

    Returns:
        The matrix, with weights of ½: some storage might leave out ones.
    """
    rng = np.random.default_rng(seed)
    rows = -(-entries // _ENTRIES_A_ROW)
    lengths = np.minimum((rng.pareto(_EXPONENT, rows) + 1) * _LEAST, _MOST)
    lengths = np.ceil(lengths * (entries / lengths.sum())).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    count = int(offsets[-1])
    # In place: what is generated shall not be the peak.
    columns = np.arange(count, dtype=np.int32)
    columns -= np.repeat(offsets[:-1], lengths)
    columns *= np.int32(_STRIDE)
    columns += rng.integers(0, _STRIDE, count, dtype=np.int32)
    return CsrMatrix(offsets, columns, np.full(count, 0.5), _STRIDE * int(lengths.max()))


def convert(name: str, entries: int) -> dict[str, Any]:
    """Generate the matrix and convert it: what a fresh process tells its parent.

    Args:
        name: the name of a storage, or ``matrix alone`` for no conversion.
        entries: entries of the matrix, at least.

    Returns:
        ``rows``, ``entries`` and ``longest_row`` of the matrix; ``seconds`` of the conversion until
        the storage is on the device; for ``bucketed`` its ``slots_per_entry``.
    """
    matrix = generate_matrix(entries)
    found: dict[str, Any] = {
        "rows": matrix.shape[0],
        "entries": matrix.num_entries,
        "longest_row": int(matrix.lengths.max()),
    }
    # JAX starts with its first array, whatever that is for.
    jnp.zeros(1).block_until_ready()
    if name == _MATRIX:
        return found
    start = time.perf_counter()
    storage = jax.block_until_ready(STORAGES[name].from_csr(matrix, jnp.float32))
    found["seconds"] = time.perf_counter() - start
    if isinstance(storage, BucketedStorage):
        found["slots_per_entry"] = storage.slots / matrix.num_entries
    return found


def _child(name: str, entries: int) -> Finished:
    return run_measured([sys.executable, "-m", "benchmarks.speed.conversion", name, str(entries)])


def _claim(
    name: str, samples: dict[str, list[float]], failures: dict[str, str], entries: int
) -> Claim:
    reason = failures.get(name)
    if reason is None and entries < _ENTRIES:
        reason = f"the matrix has {entries:,} entries, not {_ENTRIES:,}"
    if reason is None and len(samples[name]) < _LEAST_SAMPLES:
        reason = f"expected at least {_LEAST_SAMPLES} samples, got {len(samples[name])}"
    value = statistics.median(samples[name]) if reason is None else None
    target = _TARGETS.get(name, _TARGET_SECONDS)
    return Claim(f"{name}_seconds", value, "s", "<", target, reason=reason)


def _table(
    samples: dict[str, list[float]],
    peaks: dict[str, float],
    failures: dict[str, str],
    slots: float | None,
) -> Table:
    table = Table("storage", "conversion", "peak", title="from CSR, each in a process of its own")
    for name in (_MATRIX, *STORAGES):
        if name in failures:
            table.add_row(name, failures[name], "–")
        else:
            seconds = seconds_text(statistics.median(samples[name])) if name in samples else "–"
            table.add_row(name, seconds, f"{peaks[name]:.2f} GB")
    if slots is not None:
        table.caption = f"bucketed: {slots:.3f} slots per entry"
    return table


if __name__ == "__main__":
    print(json.dumps(convert(sys.argv[1], int(sys.argv[2]))))
