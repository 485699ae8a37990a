"""Feature files -> a table in the order of known items, or new items with their features.

========  ====================================================================================
.parquet  columns keep their types
.csv      comma-separated under a header (:mod:`pinsage_jax.features.delimited`); which columns
          are numbers is told by their cells (:mod:`pinsage_jax.features.cells`)
.tsv      the same, tab-separated
.txt      one id a line, for items that have nothing but vectors
.npy      vectors, ``float[n, w]``, one for each row of the file with the ids
========  ====================================================================================

In text files a blank field is a missing value, a column declared ``categories`` is split at ``|``,
and one declared ``vector`` holds numbers such as ``[0.5, 1]``. An id keeps its spelling; it may not
be empty or hold control characters. Nothing in a file is trusted: NumPy files are read without
pickled objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from lightgcn_jax.data.ids import IdMap, as_ids, canonical_integers, clean_ids, id_fault, judged_ids
from lightgcn_jax.data.spellings import UnknownIds, check_fit
from lightgcn_jax.errors import InputError
from pinsage_jax.features.cells import judged, lines_of
from pinsage_jax.features.columns import Kind, Missing, column_of, kind_of
from pinsage_jax.features.delimited import Quoting
from pinsage_jax.features.raw_files import read_frame, read_vectors
from pinsage_jax.features.spelling import same_but_for_spelling
from pinsage_jax.features.table import FeatureTable, check_known

_ID_COLUMNS = ("item", "id", "item_id", "itemid")
_INDEX = "__index_level_0__"  # what pandas calls its index in Parquet


class Items(NamedTuple):
    """Items and their features.

    Attributes:
        ids: Int64 or String ``[n]``, each once.
        table: a row of features for each.
    """

    ids: pl.Series
    table: FeatureTable


class FeatureFile(NamedTuple):
    """The rows of a file, and how they were understood.

    Attributes:
        frame: ids and raw columns.
        id_column: the column of ids.
        notes: lines worth telling a user: what was guessed, and what counts as missing.
    """

    frame: pl.DataFrame
    id_column: str
    notes: tuple[str, ...]


class Alignment(NamedTuple):
    """How a file of features fits the items.

    Attributes:
        items: I.
        without_features: items that the file does not hold; all their values are missing.
        unknown: rows of the file whose item is not among the items; they are left out.
        missing: items without a value, by column.
        spelling: an id of such a row that differs from an item's in spelling alone, and that one;
            empty for none.
    """

    items: int
    without_features: int
    unknown: int
    missing: dict[str, int]
    spelling: str = ""

    def __str__(self) -> str:
        parts = [
            f"{self.without_features:,} of {self.items:,} items have no features",
            f"{self.unknown:,} rows of features belong to no item",
        ]
        if self.spelling:
            parts[-1] += f" ({self.spelling})"
        parts += [f"{name} is missing for {n:,}" for name, n in self.missing.items() if n]
        return "; ".join(parts)


def load_features(
    path: str | Path,
    *,
    id_column: str | None = None,
    vectors: Mapping[str, str | Path] | None = None,
    kinds: Mapping[str, Kind] | None = None,
    columns: Iterable[str] | None = None,
    skip: Iterable[str] = (),
    quoting: Quoting = "auto",
    encoding: str = "auto",
    null_ids: bool = False,
) -> FeatureFile:
    """Read the rows of a file, with ids and raw columns, and tell how they were understood.

    Args:
        path: a .parquet, .csv, .tsv or .txt file.
        id_column: the column of ids; None takes ``item`` or ``id``, else the first.
        vectors: .npy files by the name of the column that each becomes.
        kinds: kinds by column; the cells of others decide.
        columns: the columns that are wanted. Of the others those that cannot be read are left out.
            None wants all.
        skip: columns that are left out unread.
        quoting: what quotation marks are in a .csv or .tsv file.
        encoding: that of a text file; auto is UTF-8, or what a mark says.
        null_ids: whether spellings of a missing value, such as ``nan``, are ids.

    Raises:
        InputError: a file is missing, damaged, of another format, or does not fit the ids; a column
            has a type without a kind, or can be read in two ways.
    """
    source, declared = Path(path), kinds or {}
    notes: list[str] = []
    frame, lines = read_frame(source, id_column, quoting, encoding, notes)
    frame, name = _with_id_column(source, frame, id_column, notes)
    check_known(f"{source}: columns", declared, {one: one for one in frame.columns})
    left_out = list(skip)
    if name in left_out:
        raise InputError(f"{source}: column {name!r} holds the ids and cannot be skipped")
    check_known(f"{source}: columns to skip", left_out, {one: one for one in frame.columns})
    frame = frame.drop(left_out)
    for column, file in (vectors or {}).items():
        if column in frame.columns:
            raise InputError(f"vectors: {source} already has a column {column!r}")
        frame = frame.with_columns(
            pl.Series(column, read_vectors(Path(file), frame.height, source))
        )
    wanted = None if columns is None else set(columns)
    if lines is not None:
        _check_written_ids(source, frame[name], name, lines, null_ids)
    made, told = [frame[name]], []
    for series in frame.drop(name).iter_columns():
        try:
            kind = declared.get(series.name)
            one, about = _understood(series, kind, lines)
            if wanted is not None and series.name not in wanted:
                column_of(series.name, one, kind, "zero")  # whatever it is, it has to be readable
        except InputError as error:
            if wanted is None or series.name in wanted:
                raise InputError(f"{source}: {error}") from None
            notes.append(f"left out, for it is not among the columns asked for: {error}")
            continue
        made.append(one)
        told.append(about)
    if told:
        notes.append(f"features of {source.name}: {', '.join(told)} (--kind, --skip-columns)")
    return FeatureFile(pl.DataFrame({one.name: one for one in made}), name, tuple(notes))


def align(
    frame: pl.DataFrame,
    items: IdMap,
    id_column: str | None = None,
    *,
    kinds: Mapping[str, Kind] | None = None,
    missing: Missing = "error",
    unknown_ids: UnknownIds = "refuse",
    null_ids: bool = False,
) -> tuple[FeatureTable, Alignment]:
    """Bring the features of known items into the order of their rows.

    Args:
        frame: at most one row for an item.
        items: I ids.
        id_column: as :func:`load_features` takes it.
        kinds: kinds by column, as ``FeatureTable.from_frame`` takes them.
        missing: what becomes of a broken vector, as ``FeatureTable.from_frame`` takes it.
        unknown_ids: whether features may be of other items for the most part.
        null_ids: whether spellings of a missing value, such as ``nan``, are ids.

    Returns:
        The table of I rows, and what did not fit.

    Raises:
        InputError: an id stands twice or is missing, a column does not fit its kind, or most items
            have no features while most rows belong to no item.
    """
    given = items_of_frame(frame, id_column, kinds=kinds, missing=missing, null_ids=null_ids)
    row_of = items.rows(given.ids)
    known = row_of >= 0
    unknown = given.ids.filter(pl.Series(~known))
    if len(items) and not known.any():
        spelling = same_but_for_spelling(unknown, items)
        raise InputError(
            f"features: expected ids of the {len(items)} items, such as {items.ids[0]!r}; none of "
            f"the {len(given.ids)} ids is one{f', such as {given.ids[0]!r}' if len(known) else ''}"
            + (f" ({spelling})" if spelling else "")
            + _other_id_columns(frame, items, _id_column(frame.columns, id_column, "features"))
        )
    if known.sum() * 2 < len(items):
        check_fit("items", items.ids, given.ids, "the data", "the features", unknown_ids)
    places = np.full(len(items), -1, np.int64)
    places[row_of[known]] = np.flatnonzero(known)
    table = given.table.take(places)
    return table, Alignment(
        len(items),
        int((places < 0).sum()),
        len(unknown),
        table.missing(),
        same_but_for_spelling(unknown, items),
    )


def items_of_frame(
    frame: pl.DataFrame,
    id_column: str | None = None,
    *,
    kinds: Mapping[str, Kind] | None = None,
    missing: Missing = "error",
    null_ids: bool = False,
) -> Items:
    """Part a frame into ids and features; ids become integers where that loses nothing.

    Args:
        frame: a row for each item.
        id_column: the column of ids; None takes ``item`` or ``id``, else the first.
        kinds: kinds by column, as ``FeatureTable.from_frame`` takes them.
        missing: what becomes of a broken vector, as ``FeatureTable.from_frame`` takes it.
        null_ids: whether spellings of a missing value, such as ``nan``, are ids.

    Raises:
        InputError: an id is empty or stands twice, or a column does not fit its kind.
    """
    name = _id_column(frame.columns, id_column, "features")
    ids = _sound_ids(frame[name], name, null_ids)
    if ids.n_unique() < len(ids):
        twice = ids.filter(ids.is_duplicated())[0]
        raise InputError(f"column {name!r}: expected each id once, but {twice!r} stands twice")
    return Items(ids, FeatureTable.from_frame(frame.drop(name), kinds, missing=missing))


def _sound_ids(column: pl.Series, name: str, null_ids: bool) -> pl.Series:
    """Ids without blanks around them, as integers where that loses nothing."""
    ids = clean_ids(column, name, null_ids=null_ids)
    if ids.dtype != pl.String:
        return ids
    numbers, is_integer = canonical_integers(ids)
    return numbers if is_integer.all() else ids


def _with_id_column(
    path: Path, frame: pl.DataFrame, wanted: str | None, notes: list[str]
) -> tuple[pl.DataFrame, str]:
    """The columns that have names, and which of them holds the ids."""
    if frame.width > 1 and frame.columns[-1] == "" and not frame[""].count():
        frame = frame.drop("")
        notes.append(f"{path.name}: the last column has neither a name nor a cell: left out")
    nameless = next((name for name in frame.columns if name in ("", _INDEX)), None)
    if nameless is None or wanted == nameless:
        name = _id_column(frame.columns, wanted, str(path))
    else:
        named = [name for name in frame.columns if name != nameless]
        if wanted is None and not any(one in named for one in _ID_COLUMNS):
            first = named[0] if named else "NAME"
            raise InputError(
                f"{path}: a column has no name, as an index of pandas: it can hold the ids or be "
                f"left out; say --id-column {nameless!r} or, for instance, --id-column {first!r}"
            )
        name = _id_column(named, wanted, str(path))
        frame = frame.select(named)
        notes.append(f"{path.name}: the column without a name is pandas' index: left out")
    if wanted is None and name not in _ID_COLUMNS and (twice := frame[name].is_duplicated()).any():
        raise InputError(
            f"{path}: the first column, {name!r}, was taken for the ids, but "
            f"{frame[name].filter(twice)[0]!r} stands there twice: say --id-column NAME, one of "
            f"{', '.join(frame.columns)}"
        )
    told = "" if wanted is not None or len(frame.columns) == 1 else " (--id-column)"
    notes.append(f"{path.name}: {frame.height:,} rows, ids in column {name!r}{told}")
    return frame, name


def _id_column(columns: list[str], wanted: str | None, where: str) -> str:
    if wanted is not None and wanted not in columns:
        known = ", ".join(columns) or "none"
        raise InputError(f"{where}: expected a column {wanted!r} of ids, there are {known}")
    if not columns:
        raise InputError(f"{where}: expected a column of ids, there are no columns")
    usual = _ID_COLUMNS if wanted is None else (wanted,)
    return next((name for name in usual if name in columns), columns[0])


def _understood(
    series: pl.Series, kind: Kind | None, lines: np.ndarray | None
) -> tuple[pl.Series, str]:
    """A column in the type of its kind, and what to tell of it."""
    remark, name = "", series.name
    if series.dtype == pl.String and (lines is not None or kind in ("number", "vector")):
        place = lines_of(lines) if lines is not None else "row {}".format
        series, remark = judged(series, kind, place)
    elif series.dtype == pl.String and kind is None:
        text = series.drop_nulls().str.strip_chars()
        if len(text) and text.cast(pl.Float64, strict=False).is_not_null().all():
            remark = f"strings, all of which are numbers: --kind {name}=number reads them so"
    kind = kind or kind_of(series)
    if kind == "number" and series.dtype.is_temporal() and not remark:
        remark = "in days"
    return series, f"{name} {kind}" + (f" [{remark}]" if remark else "")


def _check_written_ids(
    path: Path, ids: pl.Series, name: str, lines: np.ndarray, null_ids: bool
) -> None:
    """Refuse what stands in the place of an id in a text file and is none."""
    text, bad = judged_ids(ids, null_ids=null_ids)
    header = (text == name).fill_null(False)
    if (bad | header).any():
        at = int((bad | header).arg_max() or 0)
        fault = "got the header again" if header[at] else id_fault(ids[at] or "")
        raise InputError(f"{path}:{lines[at]}: column {name!r}: expected an id, {fault}")
    again = ~text.is_first_distinct()
    if again.any():
        at = int(again.arg_max() or 0)
        first = int((text == text[at]).arg_max() or 0)
        raise InputError(
            f"{path}:{lines[at]}: column {name!r}: expected each id once, but {text[at]!r} stands "
            f"in line {lines[first]} too"
        )


def _other_id_columns(frame: pl.DataFrame, items: IdMap, name: str) -> str:
    """Which other column does hold ids of the items."""
    for series in frame.drop(name).iter_columns():
        if series.dtype.is_integer() or series.dtype == pl.String:
            filled = as_ids(series.drop_nulls(), series.name).unique()
            if len(filled) and (items.rows(filled) >= 0).mean() > 0.5:
                return f"; column {series.name!r} holds ids of items: --id-column {series.name}"
    return ""
