"""Readers: interaction files as people publish them -> Interactions.

A format is a function from one file to its columns; which files a path stands for, and which format
they have, is settled before. Files of one split are then put under common rows.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from lightgcn_jax.data.delimited import (
    Columns,
    Layout,
    collected,
    first_lines,
    read_lists,
    read_table,
)
from lightgcn_jax.data.folders import files_of
from lightgcn_jax.data.formats import (
    COLUMN_NAMES,
    FORMATS,
    plain_name,
    recognised_format,
    usual_column,
)
from lightgcn_jax.data.ids import as_ids, canonical_integers
from lightgcn_jax.data.interactions import Interactions
from lightgcn_jax.data.joining import ReadFile, joined
from lightgcn_jax.data.spellings import UnknownIds
from lightgcn_jax.data.times import epoch_seconds
from lightgcn_jax.data.unpacking import unpacked
from lightgcn_jax.errors import InputError


@dataclass(frozen=True)
class _Choice:
    """What the caller asked for by name: role -> column, and the separator."""

    columns: dict[str, str]
    separator: str | None


def read_interactions(
    path: str | Path,
    *,
    format: str = "auto",
    user_column: str | None = None,
    item_column: str | None = None,
    rating_column: str | None = None,
    timestamp_column: str | None = None,
    separator: str | None = None,
    unknown_ids: UnknownIds = "refuse",
) -> Interactions:
    """Reads interactions from a file or a folder.

    Ids become integers where every id of the column is a canonical integer, else strings without
    surrounding blanks. A folder with a train and a test file gives ``parts`` over common rows.
    Files that can be read in two ways are not read before ``format`` says which.

    Args:
        path: The file (.gz, .zst, .bz2, .xz and a .zip of one file are read as they are), or a
            folder: a split, or one log in several files of the same columns.
        format: A key of ``FORMATS``, or "auto" to go by name and first lines.
        user_column: The name of the column with user ids, in formats with a header; None looks
            for the usual names, here and below.
        item_column: The same for item ids.
        rating_column: The same for ratings.
        timestamp_column: The same for times: seconds, or ISO 8601 dates.
        separator: What stands between fields, where it is not the format's own.
        unknown_ids: Whether the files of a split may be read where most users or items of one part
            are unknown to train, `refuse` or `allow`.

    Raises:
        InputError: The path, the format or a line of the file does not fit, or the files do not
            fit each other.
    """
    source = Path(path)
    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    if format != "auto" and format not in FORMATS:
        raise InputError(f"format={format!r}: expected auto or one of {', '.join(FORMATS)}")
    if separator == "":
        raise InputError("separator: expected at least one character, got an empty string")
    named = {
        "user": user_column,
        "item": item_column,
        "rating": rating_column,
        "timestamp": timestamp_column,
    }
    choice = _Choice({role: name for role, name in named.items() if name is not None}, separator)
    found = files_of(source, format)
    with unpacked(found.all) as plain:
        if format == "auto":
            format = recognised_format(plain, source)
        columns = [_READERS[format](file, choice) for file in plain]
    files = [ReadFile(*file) for file in zip(found.all, found.part_of_each, columns, strict=True)]
    interactions = joined(files, source, unknown_ids)
    return replace(interactions, notes=(*found.notes, *interactions.notes))


def _places(path: Path, names: Sequence[str], choice: _Choice) -> dict[str, int]:
    """Where each role stands among the columns ``names``."""
    places: dict[str, int] = {}
    for role in COLUMN_NAMES:
        wanted = choice.columns.get(role)
        if wanted is not None and wanted not in names:
            raise InputError(
                f"{path}: {role}_column={wanted!r}: no such column; the columns are "
                f"{', '.join(names)}"
            )
        place = usual_column(role, names) if wanted is None else list(names).index(wanted)
        if place is not None:
            places[role] = place
        elif role in ("user", "item"):
            raise InputError(
                f"{path}: expected a header with a column of {role} ids (such as "
                f"{COLUMN_NAMES[role][0]}), got {', '.join(names)}; pass {role}_column, "
                "or format='triples' where there is no header"
            )
    if places["user"] == places["item"]:
        raise InputError(f"{path}: user and item are both column {names[places['user']]!r}")
    return places


def _read_header_table(path: Path, choice: _Choice, separator: str, quotes: bool) -> Columns:
    number, header = first_lines(path, 1)[0]
    separator = choice.separator or separator
    if quotes and choice.separator is None and separator not in header:
        separator = max((";", "\t", "|"), key=header.count)
    quotes = quotes and len(separator) == 1
    names = header.split(separator)
    if quotes:
        try:
            names = next(csv.reader([header], delimiter=separator))
        except csv.Error as error:
            raise InputError(f"{path}:{number}: expected a header: {error}") from error
    names = tuple(name.strip() for name in names)
    places = _places(path, names, choice)
    return read_table(path, Layout(separator, names, places, number, quotes))


def _read_csv(path: Path, choice: _Choice) -> Columns:
    return _read_header_table(path, choice, ",", quotes=True)


def _read_tsv(path: Path, choice: _Choice) -> Columns:
    # Quotation marks in tab-separated logs are text: HetRec and RecBole files hold lone ones.
    return _read_header_table(path, choice, "\t", quotes=False)


def _read_recbole(path: Path, choice: _Choice) -> Columns:
    number, header = first_lines(path, 1)[0]
    separator = choice.separator or "\t"
    typed = [cell.strip().partition(":") for cell in header.split(separator)]
    if not all(colon for _, colon, _ in typed):
        raise InputError(
            f"{path}:{number}: expected a header of name:type cells (user_id:token …), "
            f"got {header!r}"
        )
    names = tuple(name for name, _, _ in typed)
    return read_table(path, Layout(separator, names, _places(path, names, choice), number))


def _read_triples(path: Path, choice: _Choice) -> Columns:
    number, first = first_lines(path, 1)[0]
    usual = (mark for mark in ("::", "\t", ",", ";") if mark in first)
    separator = choice.separator or next(usual, " ")
    width = len(first.split(separator))
    if width not in (2, 3, 4):
        raise InputError(
            f"{path}:{number}: expected 'user item [rating [timestamp]]', got {first[:80]!r}"
        )
    _refuse_column_names(path, choice)
    places = {role: at for at, role in enumerate(COLUMN_NAMES) if at < width}
    return read_table(path, Layout(separator, tuple(places), places))


def _read_movielens(path: Path, choice: _Choice) -> Columns:
    is_csv = plain_name(path).endswith(".csv")
    return _read_csv(path, choice) if is_csv else _read_triples(path, choice)


def _refuse_column_names(path: Path, choice: _Choice) -> None:
    if choice.columns:
        raise InputError(
            f"{path}: {', '.join(f'{role}_column' for role in choice.columns)}: this format has "
            "no header, so columns cannot be named; leave the names out or pass another format"
        )


def _read_adjacency(path: Path, choice: _Choice) -> Columns:
    _refuse_column_names(path, choice)
    return read_lists(path, choice.separator)


def _read_parquet(path: Path, choice: _Choice) -> Columns:
    try:
        table = pl.scan_parquet(path, glob=False)
        names = table.collect_schema().names()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: expected a Parquet table: {error}") from error
    found = {
        role: collected(table.select(names[place]), path).to_series()
        for role, place in _places(path, names, choice).items()
    }
    ratings = timestamps = None
    if "rating" in found:
        ratings = found["rating"].cast(pl.Float32, strict=False)
        _check_numbers(path, found["rating"], ratings, "a finite number")
    if "timestamp" in found:
        timestamps = epoch_seconds(found["timestamp"])
        _check_numbers(path, found["timestamp"], timestamps, "seconds, a time or an ISO 8601 date")
    users, items = (_stored_ids(path, found[role]) for role in ("user", "item"))
    return Columns(users, items, ratings, timestamps)


def _check_numbers(path: Path, given: pl.Series, numbers: pl.Series, expected: str) -> None:
    bad = ~numbers.is_finite().fill_null(False)
    if bad.any():
        row = int(bad.arg_max() or 0)
        raise InputError(
            f"{path}: row {row + 1}: column {given.name!r}: expected {expected}, got {given[row]!r}"
        )


def _stored_ids(path: Path, column: pl.Series) -> pl.Series:
    ids = as_ids(column, f"{path}: column {column.name!r}")
    if ids.dtype == pl.Int64:
        return ids
    ids = ids.str.strip_chars()
    if (ids == "").any():
        row = int((ids == "").arg_max() or 0)
        raise InputError(
            f"{path}: row {row + 1}: column {column.name!r}: expected an id, got an empty string"
        )
    numbers, is_integer = canonical_integers(ids)
    return numbers if is_integer.all() else ids


_READERS: dict[str, Callable[[Path, _Choice], Columns]] = {
    "adjacency": _read_adjacency,
    "triples": _read_triples,
    "csv": _read_csv,
    "tsv": _read_tsv,
    "parquet": _read_parquet,
    "recbole": _read_recbole,
    "movielens": _read_movielens,
    "hetrec": _read_tsv,
}
