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

import io
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import polars as pl

from lightgcn_jax.data.quoted import Record, records_of
from lightgcn_jax.data.text import plain_text
from lightgcn_jax.errors import InputError
from pinsage_jax.features.inputs import require

Quoting = Literal["auto", "csv", "none"]
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


class _Malformed(Exception):
    """The line, and what was expected and found there."""


def read_delimited(
    path: Path, separator: str, quoting: Quoting = "auto", encoding: str = "auto"
) -> Delimited:
    """Read all cells of a file.

    Args:
        path: the file.
        separator: what stands between fields, one character.
        quoting: what quotation marks are.
        encoding: a text encoding that Python knows; auto is UTF-8, or what a mark says.

    Raises:
        InputError: the file cannot be read or is empty, two columns have one name, or a line does
            not fit.
    """
    require(quoting in get_args(Quoting), "quoting", " or ".join(get_args(Quoting)), quoting)
    return parse_delimited(path, read_text(path, encoding), separator, quoting)


def parse_delimited(path: Path, text: str, separator: str, quoting: Quoting = "auto") -> Delimited:
    """Part the cells of a text that was read before.

    Args:
        path: the file that it comes from, for messages.
        text: a header and rows.
        separator: as :func:`read_delimited` takes it.
        quoting: as :func:`read_delimited` takes it.

    Raises:
        InputError: as :func:`read_delimited`.
    """
    if not text.strip():
        raise InputError(f"{path}: expected a header and rows, but the file is empty")
    try:
        if '"' not in text:
            return _plain(path, text, separator, None)
        if quoting == "none":
            return _plain(path, text, separator, False)
        if quoting == "csv" or separator == ",":
            return _enclosed(path, text, separator)
        return _either(path, text, separator)
    except _Malformed as error:
        raise InputError(f"{path}:{error}") from None


def read_text(path: Path, encoding: str = "auto") -> str:
    """Read a file as text, without a byte-order mark; it may be compressed.

    Args:
        path: the file.
        encoding: as :func:`read_delimited` takes it.

    Raises:
        InputError: it cannot be read, is empty, or is other than text.
    """
    with plain_text(path, encoding, "features") as plain:
        raw = plain.path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}:{line}: cannot be read: expected UTF-8 text, got the byte "
            f"{raw[error.start : error.start + 1]!r}; say its encoding, such as "
            "--feature-encoding latin-1"
        ) from None


def _plain(path: Path, text: str, separator: str, quoted: bool | None) -> Delimited:
    """Each line a row, quotation marks being text; polars parts the fields."""
    lines = pl.Series(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    blank = (lines.str.strip_chars() == "") & ~lines.str.contains(separator, literal=True)
    numbers = np.flatnonzero(~blank.to_numpy()) + 1
    lines = lines.filter(~blank)
    names = _header(path, Record(int(numbers[0]), lines[0].split(separator)), separator)
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
    records = (one for one in records_of(io.StringIO(text, newline=""), separator) if _sound(one))
    names = _header(path, next(records), separator)
    lines: list[int] = []
    columns: list[list[str]] = [[] for _ in names]
    for record in records:
        if len(record.cells) != len(names):
            raise _wrong_width(record.line, record.cells, names)
        lines.append(record.line)
        for column, field in zip(columns, record.cells, strict=True):
            column.append(field)
    cells = pl.DataFrame(dict(zip(names, columns, strict=True)), dict.fromkeys(names, pl.String))
    return Delimited(_filled(cells), np.array(lines, np.int64), True)


def _sound(record: Record) -> bool:
    """Whether a record is one of the table: a blank line is not, and what is none is refused."""
    if record.fault is not None:
        fault = record.fault.replace("--quoting", "--feature-quoting")
        raise _Malformed(f"{record.line}: {fault}: {record.cells[0][:80]!r}")
    for field in record.cells:
        inner = field.strip()
        if field[:1].isspace() and len(inner) > 1 and inner[0] == inner[-1] == '"':
            raise _Malformed(
                f"{record.line}: expected a quoted field right after the separator, got {field!r}"
            )
    return bool(record.cells)


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
        "quotation marks as text or as what encloses a field; say which (--feature-quoting none or "
        "--feature-quoting csv)"
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


def _header(path: Path, record: Record, separator: str) -> list[str]:
    names = [name.strip() for name in record.cells]
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
        raise _Malformed(f"{record.line}: expected names of columns, got {record.cells}")
    return names


def _filled(cells: pl.DataFrame) -> pl.DataFrame:
    """Null in place of blank fields."""
    text = pl.all()
    return cells.select(pl.when(text.str.strip_chars() != "").then(text))


def _wrong_width(line: int, fields: list[str], names: list[str]) -> _Malformed:
    wanted = f"{len(names)} field{'s' * (len(names) > 1)} ({', '.join(names)[:200]})"
    return _Malformed(f"{line}: expected {wanted}, got {len(fields)}: {str(fields)[:200]}")
