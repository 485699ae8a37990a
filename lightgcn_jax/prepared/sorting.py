"""External sorting: sorted runs on disk, merged block by block.

A key holds a row in its upper 32 bits and another below. A block holds whole rows, so that whatever
is done row by row can be done block by block. A block is the slices of all runs between two keys,
put one after another and sorted in memory: where to cut is told by samples of the runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from lightgcn_jax.prepared.stored_columns import StoredColumn, write_column

KEY = "key"
"""The column by which runs are sorted, int64."""

Columns = Mapping[str, np.ndarray]
Run = Mapping[str, StoredColumn]

_SAMPLES = 8  # of a run within a block


def write_run(folder: Path, name: str, columns: Columns) -> Run:
    """Write a run.

    Args:
        folder: where to.
        name: of the run.
        columns: of one length, in ascending order of the key, which is written last: a run that has
            it is whole.
    """
    names = [*(one for one in columns if one != KEY), KEY]
    return {one: write_column(folder / f"{name}.{one}", columns[one]) for one in names}


def read_runs(folder: Path, names: Sequence[str], types: Mapping[str, np.dtype]) -> list[Run]:
    """The runs that :func:`write_run` wrote.

    Args:
        folder: where they lie.
        names: of the runs, in order.
        types: the type of each column.
    """
    return [
        {
            column: StoredColumn(folder / f"{name}.{column}", dtype)
            for column, dtype in types.items()
        }
        for name in names
    ]


def merged(runs: Sequence[Run], size: int) -> Iterator[dict[str, np.ndarray]]:
    """The rows of all runs in ascending order of their keys, a block at a time.

    Args:
        runs: sorted; of equal keys those of an earlier run come first.
        size: about how many rows a block has, though never a part of one upper half.

    Yields:
        The columns of a block, sorted, one row or more.
    """
    keys = [run[KEY].mapped() for run in runs]
    starts = [0] * len(runs)
    for cut in [*_cuts(keys, size), None]:
        ends = [
            len(one) if cut is None else int(np.searchsorted(one, cut, side="left")) for one in keys
        ]
        block = {
            column: np.concatenate(
                [
                    run[column].read(start, end)
                    for run, start, end in zip(runs, starts, ends, strict=True)
                ]
            )
            for column in (runs[0] if runs else ())
        }
        starts = ends
        if not block or not len(block[KEY]):
            continue
        if len(block) == 1:
            block[KEY].sort()
        else:
            order = np.argsort(block[KEY], kind="stable")
            block = {column: values[order] for column, values in block.items()}
        yield block


def _cuts(keys: Sequence[np.ndarray], size: int) -> list[int]:
    """Keys with an empty lower half between which about ``size`` rows lie."""
    step = max(1, size // (_SAMPLES * max(1, len(keys))))
    samples = np.sort(np.concatenate([np.zeros(0, np.int64), *(one[::step] for one in keys)]))
    cuts: list[int] = []
    for sample in samples[max(1, size // step) :: max(1, size // step)]:
        cut = int(sample) >> 32 << 32
        if cut > (cuts[-1] if cuts else 0):
            cuts.append(cut)
    return cuts
