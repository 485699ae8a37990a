"""Columns of numbers in files, written piece by piece and read in slices.

What is read is copied, never mapped, so that nothing of it stays in memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from lightgcn_jax.files import replacing


class StoredColumn(NamedTuple):
    """A column of numbers, bare in a file.

    Attributes:
        path: the file.
        dtype: the type of its numbers.
    """

    path: Path
    dtype: np.dtype

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return self.path.stat().st_size // self.dtype.itemsize

    def read(self, start: int, end: int) -> np.ndarray:
        """Some of them.

        Args:
            start: the first.
            end: the first that is left out; no more than there are are read.
        """
        count = max(0, end - start)
        return np.fromfile(self.path, self.dtype, count, offset=start * self.dtype.itemsize)

    def mapped(self) -> np.ndarray:
        """All of them, mapped, for looking a few up."""
        if not self.size:
            return np.zeros(0, self.dtype)
        return np.memmap(self.path, self.dtype, mode="r")


class Sliced:
    """A column that gives an array where it is sliced, as :func:`canonical_order` takes it.

    Args:
        column: where it is stored.
    """

    def __init__(self, column: StoredColumn):
        self._column, self._count = column, column.size

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, here: slice) -> np.ndarray:
        start, end, _ = here.indices(self._count)
        return self._column.read(start, end)


class Writer:
    """Appends arrays to a file.

    Args:
        file: open for writing.
        dtype: of what is appended.
    """

    def __init__(self, file: BinaryIO, dtype: np.dtype):
        self._file, self._dtype, self.count = file, dtype, 0

    def add(self, values: np.ndarray) -> None:
        """Append some numbers.

        Args:
            values: one-dimensional; they are converted to the file's type.
        """
        np.ascontiguousarray(values, self._dtype).tofile(self._file)
        self.count += len(values)


@contextlib.contextmanager
def column_writer(path: Path, dtype: type | np.dtype, count: int | None = None) -> Iterator[Writer]:
    """Write a column whole or not at all.

    Args:
        path: the file.
        dtype: the type of its numbers.
        count: how many there will be, for a ``.npy`` file, whose header says so; None for a bare
            column.

    Yields:
        What appends to it.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        writer = Writer(file, np.dtype(dtype))
        if count is not None:
            header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": (count,)}
            np.lib.format.write_array_header_1_0(file, header)
        yield writer
        if count is not None and writer.count != count:
            raise AssertionError(f"{path}: expected {count} numbers, got {writer.count}")


def write_column(path: Path, values: np.ndarray) -> StoredColumn:
    """Write a bare column at once.

    Args:
        path: the file.
        values: one-dimensional.
    """
    with column_writer(path, values.dtype) as writer:
        writer.add(values)
    return StoredColumn(path, values.dtype)


def write_npy(path: Path, values: np.ndarray) -> None:
    """Write a ``.npy`` file at once.

    Args:
        path: the file.
        values: one-dimensional.
    """
    with column_writer(path, values.dtype, len(values)) as writer:
        writer.add(values)
