"""Delimited text with a header -> columns of strings, by strict rules.

A quotation mark within a field is text. A field that begins with one has to end with one, right
before a separator or the end of the line; in between two stand for one, and separators and line
breaks are text. Every row has as many fields as the header. What does not fit is refused with its
line.

In tab-separated files quotation marks may be plain text (as IMDb and MovieLens write them) or
enclose fields (as R and pandas write them). Where only one reading fits the file, or what is
quoted shows the writer's habit, that one is taken and said; else the file is refused.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import polars as pl

from lightgcn_jax.errors import InputError
from pinsage_jax.features.inputs import require

Quotes = Literal["auto", "enclose", "text"]
"""What quotation marks are: whatever the file shows, what encloses fields, or plain text."""

_NAMES = {",": "comma", "\t": "tab"}
_FOREIGN = {";": "a semicolon", "\t": "a tab", ",": "a comma", "|": "a bar"}


class Delimited(NamedTuple):
    """What a file holds below its header.

    Attributes:
        cells: a String column for each name of the header; null where a field is blank.
        lines: ``int64[n]``, the line on which each row begins.
        quoted: whether quotation marks enclose fields; None where there are none.
    """

    cells: pl.DataFrame
    lines: np.ndarray
    quoted: bool | None


class _Record(NamedTuple):
    line: int
    fields: list[str]


class _Malformed(Exception):
    """The line, and what was expected and found there."""


def read_delimited(path: Path, separator: str, quotes: Quotes = "auto") -> Delimited:
    """Read all cells of a file.

    Args:
        path: a UTF-8 file.
        separator: what stands between fields, one character.
        quotes: what quotation marks are.

    Raises:
        InputError: the file cannot be read or is empty, two columns have one name, or a line does
            not fit.
    """
    require(quotes in get_args(Quotes), "quotes", " or ".join(get_args(Quotes)), quotes)
    return parse_delimited(path, read_text(path), separator, quotes)


def parse_delimited(path: Path, text: str, separator: str, quotes: Quotes = "auto") -> Delimited:
    """Part the cells of a text that was read before.

    Args:
        path: the file that it comes from, for messages.
        text: a header and rows.
        separator: as :func:`read_delimited` takes it.
        quotes: as :func:`read_delimited` takes it.

    Raises:
        InputError: as :func:`read_delimited`.
    """
    if not text.strip():
        raise InputError(f"{path}: expected a header and rows, but the file is empty")
    try:
        if '"' not in text:
            return _plain(path, text, separator, None)
        if quotes == "text":
            return _plain(path, text, separator, False)
        if quotes == "enclose" or separator == ",":
            return _enclosed(path, text, separator)
        return _either(path, text, separator)
    except _Malformed as error:
        raise InputError(f"{path}:{error}") from None


def read_text(path: Path) -> str:
    """Read a file as UTF-8 text, without a byte-order mark.

    Args:
        path: the file.

    Raises:
        InputError: it cannot be read, is empty, or is other than text.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{path}: cannot be read: expected UTF-8 text, got UTF-16; convert it")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}:{line}: cannot be read: expected UTF-8 text, got the byte "
            f"{raw[error.start : error.start + 1]!r}; save the file as UTF-8"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{path}:{line}: cannot be read: expected text, got the byte '\\x00'")
    if not text.strip():
        raise InputError(f"{path}: expected a header and rows, but the file is empty")
    return text


def _plain(path: Path, text: str, separator: str, quoted: bool | None) -> Delimited:
    """Each line a row, quotation marks being text; polars parts the fields."""
    lines = pl.Series(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    blank = (lines.str.strip_chars() == "") & ~lines.str.contains(separator, literal=True)
    numbers = np.flatnonzero(~blank.to_numpy()) + 1
    lines = lines.filter(~blank)
    names = _header(path, _Record(int(numbers[0]), lines[0].split(separator)), separator)
    rows, width = lines.slice(1), len(names)
    odd = (rows.str.count_matches(separator, literal=True) != width - 1).arg_true()
    if len(odd):
        at = int(odd[0])
        raise _wrong_width(int(numbers[at + 1]), rows[at].split(separator), names)
    if width == 1:
        columns = [rows]
    else:
        columns = rows.str.split_exact(separator, width - 1).struct.unnest().get_columns()
    cells = pl.DataFrame(dict(zip(names, columns, strict=True)))
    return Delimited(_filled(cells), numbers[1:], quoted)


def _enclosed(path: Path, text: str, separator: str) -> Delimited:
    """Records in which quotation marks enclose fields; Python's strict reader parts them."""
    records = _records(text, separator)
    names = _header(path, next(records), separator)
    lines: list[int] = []
    columns: list[list[str]] = [[] for _ in names]
    for record in records:
        if len(record.fields) != len(names):
            raise _wrong_width(record.line, record.fields, names)
        lines.append(record.line)
        for column, field in zip(columns, record.fields, strict=True):
            column.append(field)
    cells = pl.DataFrame(dict(zip(names, columns, strict=True)), dict.fromkeys(names, pl.String))
    return Delimited(_filled(cells), np.array(lines, np.int64), True)


def _records(text: str, separator: str) -> Iterator[_Record]:
    """Record after record, with the line on which it begins; blank lines are left out."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    begun = 1
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error:
            raise _Malformed(
                f"{begun}: expected a quoted field to end with a quotation mark before the next "
                f"separator, got {_line(text, begun)!r}; write a quotation mark within it twice"
            ) from None
        if len(fields) > 1 or "".join(fields).strip():
            for field in fields:
                inner = field.strip()
                if field[:1].isspace() and len(inner) > 1 and inner[0] == inner[-1] == '"':
                    raise _Malformed(
                        f"{begun}: expected a quoted field right after the separator, got {field!r}"
                    )
            yield _Record(begun, fields)
        begun = reader.line_num + 1


def _either(path: Path, text: str, separator: str) -> Delimited:
    """The reading that fits, of two; the other one fails, or is not what the writer did."""
    try:
        plain = _plain(path, text, separator, False)
    except _Malformed:
        return _enclosed(path, text, separator)
    try:
        enclosed = _enclosed(path, text, separator)
    except _Malformed:
        # A header that is enclosed tells the writer's habit; then one mark is wrong.
        if plain.cells.columns[0].startswith('"'):
            raise
        return plain
    if enclosed.cells.equals(plain.cells):
        return plain
    if list(plain.cells.columns) != list(enclosed.cells.columns) or _habit(plain.cells):
        return enclosed
    at = next(
        (row, name)
        for row, cells in enumerate(plain.cells.iter_rows(named=True))
        for name, cell in cells.items()
        if cell and cell[0] == '"'
    )
    found = plain.cells[at[1]][at[0]]
    raise _Malformed(
        f"{plain.lines[at[0]]}: column {at[1]!r}: {found!r} can be read in two ways, with "
        "quotation marks as text or as what encloses a field; say which (--feature-quotes text or "
        "--feature-quotes enclose)"
    )


def _habit(cells: pl.DataFrame) -> bool:
    """Whether a writer put the marks: all of a column's cells have them, or those that need them.

    R encloses every string, pandas what holds a quotation mark.
    """
    for column in cells.iter_columns():
        filled = column.drop_nulls()
        marked = filled.filter(filled.str.starts_with('"'))
        inner = marked.str.slice(1).str.head(-1)
        if len(marked) and len(marked) < len(filled) and not inner.str.contains('"').all():
            return False
    return True


def _header(path: Path, record: _Record, separator: str) -> list[str]:
    names = [name.strip() for name in record.fields]
    if len(names) == 1:
        for mark, what in _FOREIGN.items():
            if mark != separator and mark in names[0]:
                raise _Malformed(
                    f"{record.line}: expected {_NAMES.get(separator, repr(separator))}-separated "
                    f"columns, got the one column {names[0]!r}; fields that {what} parts cannot be "
                    f"read from a {path.suffix} file"
                )
    twice = [name for at, name in enumerate(names) if name and name in names[:at]]
    if twice:
        raise _Malformed(f"{record.line}: expected each column once, got {twice[0]!r} twice")
    # Only the first column may lack a name (pandas' index), and one that a last separator makes.
    for at, name in enumerate(names):
        if not name and at not in (0, len(names) - 1):
            raise _Malformed(f"{record.line}: expected a name for column {at + 1}, got ''")
    if len(names) > 1 and not names[0] and not names[-1]:
        raise _Malformed(f"{record.line}: expected names of columns, got {record.fields}")
    return names


def _filled(cells: pl.DataFrame) -> pl.DataFrame:
    """Null in place of blank fields."""
    text = pl.all()
    return cells.select(pl.when(text.str.strip_chars() != "").then(text))


def _wrong_width(line: int, fields: list[str], names: list[str]) -> _Malformed:
    wanted = f"{len(names)} field{'s' * (len(names) > 1)} ({', '.join(names)[:200]})"
    return _Malformed(f"{line}: expected {wanted}, got {len(fields)}: {str(fields)[:200]}")


def _line(text: str, number: int) -> str:
    return re.split(r"\r\n|\r|\n", text)[number - 1][:80]
