"""Readers: interaction files as people publish them -> Interactions.

Which files a path stands for and which format they have is settled first. Then each file is read
by its format, and files of one split are put under common rows. Whatever was guessed of a file is
kept with the interactions, as the options that would have said it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from lightgcn_jax.data.cells import Columns
from lightgcn_jax.data.folders import PREPARED, files_of
from lightgcn_jax.data.formats import FORMATS, recognised_format
from lightgcn_jax.data.interactions import Interactions
from lightgcn_jax.data.joining import ReadFile, joined
from lightgcn_jax.data.json_lines import read_json_lines
from lightgcn_jax.data.layouts import read_adjacency, read_recbole, read_separated
from lightgcn_jax.data.reading import (
    AUTO,
    HEADERS,
    ID_TYPES,
    MISSING,
    NULL_IDS,
    QUOTINGS,
    Options,
    Reading,
    separator_of,
)
from lightgcn_jax.data.spellings import UnknownIds
from lightgcn_jax.data.stored import read_parquet
from lightgcn_jax.data.text import PlainText, plain_text
from lightgcn_jax.data.times import TIME_UNITS
from lightgcn_jax.data.unpacking import unpacked
from lightgcn_jax.errors import InputError, printable

_ROLES = ("user", "item", "rating", "timestamp", "weight")
_CHOICES: dict[str, tuple[str, ...]] = {
    "header": HEADERS,
    "quoting": QUOTINGS,
    "time_unit": (AUTO, *TIME_UNITS),
    "missing": MISSING,
    "null_ids": NULL_IDS,
    "user_ids": ID_TYPES,
    "item_ids": ID_TYPES,
}


class Asked(NamedTuple):
    """What the caller of :func:`read_interactions` says of files.

    Attributes:
        format: A key of ``FORMATS``, or "auto".
        options: The other options.
        said: The names of the options that were given.
    """

    format: str
    options: Options
    said: frozenset[str]

    @classmethod
    def of(cls, *, format: str = AUTO, **given: Any) -> "Asked":
        """Options by the names that :func:`read_interactions` has for them.

        Args:
            format: A key of ``FORMATS``, or "auto".
            given: The others; what is not given is guessed.

        Raises:
            InputError: One of them has another value than it may have.
        """
        columns = {
            role: _wanted(role, name)
            for role in _ROLES
            if (name := given.pop(f"{role}_column", None)) is not None
        }
        options = Options(columns, **given)
        values = {"format": format} | {name: getattr(options, name) for name in _CHOICES}
        for name, known in ({"format": (AUTO, *FORMATS)} | _CHOICES).items():
            if values[name] not in known:
                listed = f"{', '.join(known[:-1])} or {known[-1]}"
                raise InputError(f"{name}={values[name]!r}: expected {listed}")
        said = {name for name, value in values.items() if value != AUTO}
        said |= {f"{role}_column" for role in columns}
        for name in ("separator", "encoding"):
            said |= {name} if getattr(options, name) not in (None, AUTO) else set()
        options = replace(options, separator=separator_of(options.separator))
        return cls(format, options, frozenset(said))


def check_source(source: Path) -> None:
    """Refuse what is neither a file nor a folder.

    Args:
        source: what the user named.

    Raises:
        InputError: it is none, or not there.
    """
    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    if not (source.is_file() or source.is_dir()):
        raise InputError(
            f"{source}: expected a file or a folder, got a pipe or a device; write it to a file "
            "first, for a file is read more than once"
        )
    if (source / PREPARED).is_file():
        raise InputError(
            f"{source}: expected files of interactions, got a prepared folder, which "
            "train --data and open_prepared take"
        )


def read_interactions(
    path: str | Path,
    *,
    format: str = AUTO,
    user_column: str | int | None = None,
    item_column: str | int | None = None,
    rating_column: str | int | None = None,
    timestamp_column: str | int | None = None,
    weight_column: str | int | None = None,
    separator: str | None = None,
    header: str = AUTO,
    quoting: str = AUTO,
    time_unit: str = AUTO,
    encoding: str = AUTO,
    skip_bad_rows: bool = False,
    missing: str = "skip",
    null_ids: str = "refuse",
    user_ids: str = AUTO,
    item_ids: str = AUTO,
    unknown_ids: UnknownIds = "refuse",
) -> Interactions:
    """Reads interactions from a file or a folder.

    Ids become integers where every id of the column is a canonical integer, else strings without
    surrounding blanks. A folder with a train and a test file gives ``parts`` over common rows.
    What can be read in two ways is not read before an option says which; ``readings`` of the result
    says what was guessed.

    Args:
        path: The file (.gz, .zst, .bz2, .xz and a .zip of one file are read as they are), or a
            folder: a split, or one log in several files of the same columns.
        format: A key of ``FORMATS``, or "auto" to go by name and lines.
        user_column: The column with user ids: its name, or its place from 1 on; None looks for the
            usual names, here and below.
        item_column: The same for item ids.
        rating_column: The same for ratings; "none" leaves them out.
        timestamp_column: The same for times: numbers, or dates.
        weight_column: The column with weights, finite numbers above 0; None or "none" for none.
        separator: What stands between fields, where it is not the format's own.
        header: Whether the first line names the columns: "yes", "no", or "auto".
        quoting: Whether "…" may enclose a field: "csv", "backslash" (\\" within), "none", "auto".
        time_unit: A unit of ``TIME_UNITS``, or "auto" to go by the size of the numbers.
        encoding: A text encoding, or "auto" for UTF-8 and what a byte-order mark says.
        skip_bad_rows: Whether rows that do not fit are left out and counted.
        missing: What becomes of rows without a user or an item, guest checkouts for instance:
            "skip" leaves them out and counts them, "error" refuses them.
        null_ids: Whether ids such as "nan" and "NULL" are ids ("keep") or faults ("refuse").
        user_ids: Of which type user ids are: "integers", which makes others faults, "text", or
            "auto" for integers where all are.
        item_ids: The same of item ids.
        unknown_ids: Whether the files of a split may be read where most users or items of one part
            are unknown to train, `refuse` or `allow`.

    Raises:
        InputError: The path, the format or a line of the file does not fit, or the files do not
            fit each other.
    """
    source = Path(path)
    check_source(source)
    _, options, said = Asked.of(
        format=format,
        user_column=user_column,
        item_column=item_column,
        rating_column=rating_column,
        timestamp_column=timestamp_column,
        weight_column=weight_column,
        separator=separator,
        header=header,
        quoting=quoting,
        time_unit=time_unit,
        encoding=encoding,
        skip_bad_rows=skip_bad_rows,
        missing=missing,
        null_ids=null_ids,
        user_ids=user_ids,
        item_ids=item_ids,
    )
    found = files_of(source, format, options.columns.values())
    with unpacked(found.all, found.columns) as plain, ExitStack() as stack:
        texts: dict[Path, PlainText] = {}

        def opened(file: Path) -> PlainText:
            if file not in texts:
                texts[file] = stack.enter_context(plain_text(file, encoding))
            return texts[file]

        kind = format
        if kind == AUTO:
            kind = recognised_format(plain, source, options, opened)
        read = [_read(file, kind, options, opened) for file in plain]
    files = [ReadFile(*file) for file in zip(found.all, found.part_of_each, read, strict=True)]
    interactions = joined(files, source, unknown_ids)
    types = {
        kind: "integers" if ids.ids.dtype == pl.Int64 else "text"
        for kind, ids in (("user_ids", interactions.users), ("item_ids", interactions.items))
    }
    readings = []
    for file in files:
        settings = {**file.columns.reading.settings, **types}
        guessed = tuple(name for name in settings if name not in said)
        reading = replace(file.columns.reading, file=file.path.name, settings=settings)
        readings.append(replace(reading, guessed=guessed))
    return replace(
        interactions,
        readings=tuple(_alike(readings)),
        notes=tuple(map(printable, (*found.notes, *interactions.notes))),
    )


def _alike(readings: Sequence[Reading]) -> Iterator[Reading]:
    """Readings, those beside each other that differ in nothing but the file put together."""
    for _, group in groupby(readings, lambda one: replace(one, file="")):
        first, *others = group
        if others:
            first = replace(first, file=f"{first.file} … {others[-1].file} ({len(others) + 1})")
        yield first


def _wanted(role: str, name: str | int) -> str:
    """What was asked for as the column of a role, as text."""
    if isinstance(name, bool) or not isinstance(name, (str, int)):
        raise InputError(f"{role}_column: expected a name or a place from 1 on, got {name!r}")
    if isinstance(name, int):
        if name < 1:
            raise InputError(f"{role}_column: expected a place from 1 on, got {name}")
        return f"#{name}"
    return name


def _read(
    file: Path, format: str, options: Options, opened: Callable[[Path], PlainText]
) -> Columns:
    """One file by its format."""
    if format == "parquet":
        return read_parquet(file, options)
    return _READERS[format](opened(file), format, options)


_READERS: dict[str, Callable[[PlainText, str, Options], Columns]] = {
    "adjacency": read_adjacency,
    "jsonl": read_json_lines,
    "recbole": read_recbole,
    **dict.fromkeys(("triples", "csv", "tsv", "movielens", "hetrec"), read_separated),
}
