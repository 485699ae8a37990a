"""Files of features as they are stored: text, Parquet and NumPy, none of which is trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lightgcn_jax.data.formats import plain_name
from lightgcn_jax.data.parquet_files import read_parquet
from lightgcn_jax.errors import InputError
from pinsage_jax.features.delimited import Quoting, read_delimited, read_text

_SEPARATORS = {".csv": ",", ".tsv": "\t"}


def read_frame(
    path: Path, id_column: str | None, quoting: Quoting, encoding: str, notes: list[str]
) -> tuple[pl.DataFrame, np.ndarray | None]:
    """Read the columns of a file.

    Args:
        path: a .parquet, .csv, .tsv or .txt file.
        id_column: what the column of a .txt file is called; None calls it ``item``.
        quoting: what quotation marks are in a .csv or .tsv file.
        encoding: that of a text file; auto is UTF-8, or what a mark says.
        notes: gets a line on what they were taken for.

    Returns:
        The columns; those of a text file are of strings, as they are written. And of a text file
        the line of each row, ``int64[n]``.

    Raises:
        InputError: the file is missing, damaged or of another format.
    """
    kind = Path(plain_name(path)).suffix.lower()
    if kind not in (".parquet", ".txt", *_SEPARATORS):
        raise InputError(f"{path}: expected a .parquet, .csv, .tsv or .txt file")
    if not path.is_file():
        raise InputError(f"{path}: expected this file, it is missing")
    if kind == ".parquet":
        return _bare_names(path, read_parquet(path)), None
    if kind == ".txt":
        rows = [
            (at, line.strip()) for at, line in enumerate(read_text(path, encoding).split("\n"), 1)
        ]
        ids = [line for _, line in rows if line]
        frame = pl.DataFrame({id_column or "item": pl.Series(ids, dtype=pl.String)})
        return frame, np.array([at for at, line in rows if line])
    cells, lines, quoted = read_delimited(path, _SEPARATORS[kind], quoting, encoding)
    if quoted is not None:
        reading = "enclose fields" if quoted else "are text"
        notes.append(f"{path.name}: quotation marks {reading} (--feature-quoting)")
    return cells, lines


def _bare_names(path: Path, frame: pl.DataFrame) -> pl.DataFrame:
    """Columns whose names have no blanks around them, as those of text files have none."""
    names = [name.strip() for name in frame.columns]
    if len({*names}) < len(names):
        twice = next(name for at, name in enumerate(names) if name in names[:at])
        raise InputError(f"{path}: expected each column once, got {twice!r} twice")
    frame.columns = names
    return frame


def read_vectors(path: Path, rows: int, source: Path) -> np.ndarray:
    """Read the vectors of a .npy file, ``float32[rows, w]`` or float64.

    Args:
        path: the file.
        rows: how many there have to be.
        source: the file whose rows these are.

    Raises:
        InputError: the file is missing, damaged, of another format, or has other rows.
    """
    matrix = _read_matrix(path)
    if len(matrix) != rows:
        raise InputError(
            f"{path}: expected a vector for each of the {rows} rows of {source}, got {len(matrix)}"
        )
    return matrix


def _read_matrix(path: Path) -> np.ndarray:
    """The vectors of a .npy file, ``float32[n, w]`` or as they are stored."""
    if path.suffix.lower() != ".npy":
        raise InputError(f"{path}: expected a .npy file of vectors")
    if not path.is_file():
        raise InputError(f"{path}: expected this file, it is missing")
    try:
        # Mapped first: a header that promises more than the file holds is refused unread.
        mapped: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception:  # the header is parsed as Python, which can fail in any way
        raise InputError(
            f"{path}: expected a NumPy array without objects, got a file that is damaged, cut off "
            "or of another format"
        ) from None
    if not isinstance(mapped, np.ndarray) or mapped.ndim != 2 or mapped.dtype.kind not in "fiu":
        shape = getattr(mapped, "shape", type(mapped).__name__)
        raise InputError(f"{path}: expected numbers of shape [items, width], got {shape}")
    real = mapped.dtype in (np.float32, np.float64)
    return np.array(mapped, mapped.dtype if real else np.float64)
