"""Feature files -> a table in the order of known items, or new items with their features.

========  ====================================================================================
.parquet  columns keep their types
.csv      comma-separated under a header; a column of numbers alone, and none written like 007,
          is a number, any other text
.tsv      the same, tab-separated
.txt      one id a line, for items that have nothing but vectors
.npy      vectors, ``float[n, w]``, one for each row of the file with the ids
========  ====================================================================================

In text files an empty field is a missing value, and a column declared ``categories`` is split at
``|``. Nothing in a file is trusted: NumPy files are read without pickled objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from lightgcn_jax.data.ids import IdMap, as_ids, canonical_integers
from lightgcn_jax.errors import InputError
from pinsage_jax.features.columns import Kind, Missing
from pinsage_jax.features.table import FeatureTable

_ID_COLUMNS = ("item", "id")
# What looks like a number and is a code: its zeros in front would be lost.
_CODE = r"^[+-]?0\d"
_SEPARATORS = {".csv": ",", ".tsv": "\t"}


class Items(NamedTuple):
    """Items and their features.

    Attributes:
        ids: Int64 or String ``[n]``, each once.
        table: a row of features for each.
    """

    ids: pl.Series
    table: FeatureTable


class Alignment(NamedTuple):
    """How a file of features fits the items.

    Attributes:
        items: I.
        without_features: items that the file does not hold; all their values are missing.
        unknown: rows of the file whose item is not among the items; they are left out.
        missing: items without a value, by column.
    """

    items: int
    without_features: int
    unknown: int
    missing: dict[str, int]

    def __str__(self) -> str:
        parts = [
            f"{self.without_features:,} of {self.items:,} items have no features",
            f"{self.unknown:,} rows of features belong to no item",
        ]
        parts += [f"{name} is missing for {n:,}" for name, n in self.missing.items() if n]
        return "; ".join(parts)


def read_features(
    path: str | Path,
    *,
    id_column: str | None = None,
    vectors: Mapping[str, str | Path] | None = None,
    kinds: Mapping[str, Kind] | None = None,
) -> pl.DataFrame:
    """Read the rows of a file, with ids and raw columns.

    Args:
        path: a .parquet, .csv, .tsv or .txt file.
        id_column: the column of ids; None takes ``item`` or ``id``, else the first.
        vectors: .npy files by the name of the column that each becomes.
        kinds: kinds by column; in text files, a column that is named here stays as it is written.

    Raises:
        InputError: a file is missing, damaged, of another format, or does not fit the ids.
    """
    source = Path(path)
    frame = _read_frame(source, id_column, kinds or {})
    for name, file in (vectors or {}).items():
        if name in frame.columns:
            raise InputError(f"vectors: {source} already has a column {name!r}")
        matrix = _read_matrix(Path(file))
        if len(matrix) != frame.height:
            raise InputError(
                f"{file}: expected a vector for each of the {frame.height} rows of {source}, "
                f"got {len(matrix)}"
            )
        frame = frame.with_columns(pl.Series(name, matrix))
    return frame


def align(
    frame: pl.DataFrame,
    items: IdMap,
    id_column: str | None = None,
    *,
    kinds: Mapping[str, Kind] | None = None,
    missing: Missing = "error",
) -> tuple[FeatureTable, Alignment]:
    """Bring the features of known items into the order of their rows.

    Args:
        frame: at most one row for an item.
        items: I ids.
        id_column: as ``read_features`` takes it.
        kinds: kinds by column, as ``FeatureTable.from_frame`` takes them.
        missing: what becomes of a broken vector, as ``FeatureTable.from_frame`` takes it.

    Returns:
        The table of I rows, and what did not fit.

    Raises:
        InputError: an id stands twice or is missing, a column does not fit its kind, or none of the
            items is in the frame.
    """
    given = items_of_frame(frame, id_column, kinds=kinds, missing=missing)
    row_of = items.rows(given.ids)
    known = row_of >= 0
    if len(items) and not known.any():
        raise InputError(
            f"features: expected ids of the {len(items)} items, such as {items.ids[0]!r}; none of "
            f"the {len(given.ids)} ids is one{f', such as {given.ids[0]!r}' if len(known) else ''}"
        )
    places = np.full(len(items), -1, np.int64)
    places[row_of[known]] = np.flatnonzero(known)
    table = given.table.take(places)
    report = Alignment(len(items), int((places < 0).sum()), int((~known).sum()), table.missing())
    return table, report


def read_items(
    path: str | Path,
    *,
    id_column: str | None = None,
    vectors: Mapping[str, str | Path] | None = None,
    kinds: Mapping[str, Kind] | None = None,
    missing: Missing = "error",
) -> Items:
    """Read new items: the ids of a file and their features.

    Args:
        path: a .parquet, .csv, .tsv or .txt file.
        id_column: the column of ids; None takes ``item`` or ``id``, else the first.
        vectors: .npy files by the name of the column that each becomes.
        kinds: kinds by column, as ``FeatureTable.from_frame`` takes them.
        missing: what becomes of a broken vector, as ``FeatureTable.from_frame`` takes it.

    Raises:
        InputError: as ``read_features`` and ``align``.
    """
    frame = read_features(path, id_column=id_column, vectors=vectors, kinds=kinds)
    return items_of_frame(frame, id_column, kinds=kinds, missing=missing)


def items_of_frame(
    frame: pl.DataFrame,
    id_column: str | None = None,
    *,
    kinds: Mapping[str, Kind] | None = None,
    missing: Missing = "error",
) -> Items:
    """Part a frame into ids and features; ids become integers where that loses nothing.

    Args:
        frame: a row for each item.
        id_column: the column of ids; None takes ``item`` or ``id``, else the first.
        kinds: kinds by column, as ``FeatureTable.from_frame`` takes them.
        missing: what becomes of a broken vector, as ``FeatureTable.from_frame`` takes it.

    Raises:
        InputError: an id is empty or stands twice, or a column does not fit its kind.
    """
    name = _id_column(frame.columns, id_column, "features")
    ids = as_ids(frame[name], name)
    if ids.dtype == pl.String:
        ids = ids.str.strip_chars()
        if (empty := ids == "").any():
            raise InputError(f"{name}[{empty.arg_max()}]: expected an id, got an empty string")
        numbers, is_integer = canonical_integers(ids)
        ids = numbers if is_integer.all() else ids
    if ids.n_unique() < len(ids):
        twice = ids.filter(ids.is_duplicated())[0]
        raise InputError(f"column {name!r}: expected each id once, but {twice!r} stands twice")
    return Items(ids, FeatureTable.from_frame(frame.drop(name), kinds, missing=missing))


def _read_frame(path: Path, id_column: str | None, kinds: Mapping[str, Kind]) -> pl.DataFrame:
    kind = path.suffix.lower()
    if kind not in (".parquet", ".txt", *_SEPARATORS):
        raise InputError(f"{path}: expected a .parquet, .csv, .tsv or .txt file")
    if not path.is_file():
        raise InputError(f"{path}: expected this file, it is missing")
    try:
        if kind == ".parquet":
            frame = pl.read_parquet(path, glob=False)
        elif kind == ".txt":
            lines = path.read_text(encoding="utf-8").splitlines()
            ids = [line.strip() for line in lines if line.strip()]
            frame = pl.DataFrame({id_column or "item": pl.Series(ids, dtype=pl.String)})
        else:
            frame = pl.read_csv(path, separator=_SEPARATORS[kind], infer_schema=False, glob=False)
    except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: cannot be read: {reason}") from error
    name = _id_column(frame.columns, id_column, str(path))
    return _with_numbers(frame, {name, *kinds}) if kind in _SEPARATORS else frame


def _id_column(columns: list[str], wanted: str | None, where: str) -> str:
    if wanted is not None and wanted not in columns:
        known = ", ".join(columns) or "none"
        raise InputError(f"{where}: expected a column {wanted!r} of ids, there are {known}")
    if not columns:
        raise InputError(f"{where}: expected a column of ids, there are no columns")
    usual = _ID_COLUMNS if wanted is None else (wanted,)
    return next((name for name in usual if name in columns), columns[0])


def _with_numbers(frame: pl.DataFrame, written: set[str]) -> pl.DataFrame:
    """Columns of strings as numbers, where each that is filled is one; not those ``written``."""
    changed = []
    for series in frame.iter_columns():
        cells = series.drop_nulls().str.strip_chars()
        if series.name in written or not len(cells) or cells.str.contains(_CODE).any():
            continue
        for dtype in (pl.Int64, pl.Float64):
            if cells.cast(dtype, strict=False).is_not_null().all():
                changed.append(series.str.strip_chars().cast(dtype))
                break
    return frame.with_columns(changed)


def _read_matrix(path: Path) -> np.ndarray:
    """The vectors of a .npy file, ``float32[n, w]`` or as they are stored."""
    if path.suffix.lower() != ".npy":
        raise InputError(f"{path}: expected a .npy file of vectors")
    if not path.is_file():
        raise InputError(f"{path}: expected this file, it is missing")
    try:
        # Mapped first: a header that promises more than the file holds is refused unread.
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: expected a NumPy array without objects: {error}") from None
    if not isinstance(mapped, np.ndarray) or mapped.ndim != 2 or mapped.dtype.kind not in "fiu":
        shape = getattr(mapped, "shape", type(mapped).__name__)
        raise InputError(f"{path}: expected numbers of shape [items, width], got {shape}")
    real = mapped.dtype in (np.float32, np.float64)
    return np.array(mapped, mapped.dtype if real else np.float64)
