"""Delimited text: numbered lines -> columns of ids and numbers.

Lines are split into fields by polars in a stream, so that the text never lies in memory as a
whole, and a malformed line is named by its number. Only the chosen fields are kept: ids as integers
wherever that loses nothing, numbers as floats.
"""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import NamedTuple, NoReturn

import polars as pl

from lightgcn_jax.data.times import epoch_seconds
from lightgcn_jax.errors import InputError

_NAMED_SEPARATORS = {"\t": "tab", " ": "space", ",": "comma", ";": "semicolon"}
_UNDECODABLE = "\ufffd"  # what a lossy decoder leaves in the place of bytes that are no UTF-8
_scan_csv = partial(
    pl.scan_csv, has_header=False, encoding="utf8-lossy", row_index_name="number", glob=False
)


@dataclass(frozen=True)
class Layout:
    """How the lines of one file are to be taken apart.

    Attributes:
        separator: What stands between fields.
        names: The names of all fields, in order.
        places: The field of each role.
        header_line: The number of the header's line; 0 for none.
        quotes: Whether "…" may enclose a field.
    """

    separator: str
    names: tuple[str, ...]
    places: dict[str, int]
    header_line: int = 0
    quotes: bool = False

    def describe(self) -> str:
        """What a line should look like, for messages."""
        separator = _NAMED_SEPARATORS.get(self.separator, repr(self.separator))
        return f"{len(self.names)} {separator}-separated fields ({', '.join(self.names)})"


@dataclass(frozen=True)
class Columns:
    """The columns of one file.

    Attributes:
        users: Int64 or String [E].
        items: Int64 or String [E].
        ratings: Float32 [E].
        timestamps: Float64 [E].
        idle_users: Users whom the file names without an item.
    """

    users: pl.Series
    items: pl.Series
    ratings: pl.Series | None = None
    timestamps: pl.Series | None = None
    idle_users: pl.Series | None = None


class LineShape(NamedTuple):
    """What all lines of a file that are not blank look like.

    Attributes:
        lines: their number.
        users: how many first cells are distinct.
        narrowest: fewest cells of a line, apart by blanks.
        widest: most cells of a line.
    """

    lines: int
    users: int
    narrowest: int
    widest: int


def shape_of_lines(path: Path) -> LineShape:
    """Looks at every line of a file.

    Args:
        path: The file.

    Raises:
        InputError: It cannot be read.
    """
    cells = pl.col("line").str.count_matches(r"\S+")
    found = (
        _scan(path)
        .filter(_is_filled())
        .select(
            lines=pl.len(),
            users=pl.col("line").str.extract(r"(\S+)").n_unique(),
            narrowest=cells.min(),
            widest=cells.max(),
        )
    )
    return LineShape(*collected(found, path).row(0))


def first_lines(path: Path, count: int) -> list[tuple[int, str]]:
    """The first lines that are not blank, each with its number; at least one.

    Args:
        path: The file.
        count: The most lines to give.

    Raises:
        InputError: The file cannot be read, or holds nothing.
    """
    lines = collected(_scan(path).filter(_is_filled()).head(count), path).rows()
    if not lines:
        raise InputError(f"{path}: expected interactions, but the file is empty")
    return lines


def read_lists(path: Path, separator: str | None) -> Columns:
    """Reads lines 'user item item …'.

    Args:
        path: The file.
        separator: What stands between cells; None for blanks.

    Raises:
        InputError: The file cannot be read, or a line does not fit.
    """
    text = pl.col("line").str.strip_chars()
    if separator is None:
        text = text.str.replace_all("\t", " ", literal=True)
    cells = text.str.split(separator or " ")
    # A user without items gets no list, which explodes to one row whose item is null.
    items = pl.when(cells.list.len() > 1).then(cells.list.slice(1))
    table = (
        _scan(path)
        .filter(_is_filled())
        .select("number", user=cells.list.first(), item=items)
        .explode("item")
        .with_columns(pl.col("user", "item").str.strip_chars())
        .filter(pl.col("item").is_null() | (pl.col("item") != ""))
    )
    undecodable = pl.any_horizontal(
        pl.col(role).str.contains(_UNDECODABLE, literal=True) for role in ("user", "item")
    )
    found = collected(
        table.select(
            "number",
            _integer("user"),
            _integer("item"),
            idle=pl.col("item").is_null(),
            bad=undecodable.fill_null(False) | (pl.col("user") == ""),
        ),
        path,
    )
    if found["bad"].any():
        number = int(found["number"].filter(found["bad"])[0])
        line = _line(path, number)[:80]
        raise InputError(f"{path}:{number}: expected 'user item item …' in UTF-8, got {line!r}")
    idle = found["idle"]
    users, items = found["user"], found["item"]
    if users.null_count():
        users = collected(table.select("user"), path)["user"]
    if items.null_count() > idle.sum():
        items = collected(table.select("item"), path)["item"]
    return Columns(users.filter(~idle), items.filter(~idle), idle_users=users.filter(idle))


def read_table(path: Path, layout: Layout) -> Columns:
    """Reads the chosen fields of every line that is not blank.

    Args:
        path: The file.
        layout: How its lines are to be taken apart.

    Raises:
        InputError: The file cannot be read, or a line does not fit.
    """
    width, mark = len(layout.names), layout.separator
    line = pl.col("line")
    table = (
        _scan(path)
        .filter((pl.col("number") > layout.header_line) & _is_filled())
        .select(
            "number",
            cells=line.str.split_exact(mark, width - 1),
            whole=line.str.count_matches(mark, literal=True) == width - 1,
            quoted=line.str.contains('"', literal=True) if layout.quotes else pl.lit(False),
        )
        .with_columns(
            pl.col("cells").struct.field(f"field_{place}").str.strip_chars().alias(role)
            for role, place in layout.places.items()
        )
    )
    found = collected(_parsed(table, layout), path)
    if found["quoted"].any():
        return _read_quoted(path, layout)

    def refuse(number: int) -> NoReturn:
        raise _malformed(path, number, _line(path, number).split(mark), layout)

    if found["bad"].any():
        refuse(found["number"].filter(found["bad"])[0])
    return _columns(found, table, path, refuse)


def _read_quoted(path: Path, layout: Layout) -> Columns:
    """Reads a table in which "…" may enclose a field, its separators and its line breaks.

    polars splits the records, but tells neither a missing field from an empty one nor the line of
    a record; where a record looks odd, a second and slower reading settles what is the matter.
    """
    width = len(layout.names)
    schema = {f"field_{at}": pl.String for at in range(width)}
    records = _scan_csv(path, separator=layout.separator, schema=schema)
    # Only blank lines precede the header, and each of them counts as a record.
    header = layout.header_line - 1
    table = records.filter(pl.col("number") > header).select(
        "number",
        pl.col(f"field_{width - 1}").is_not_null().alias("whole"),
        pl.lit(False).alias("quoted"),
        *(
            pl.col(f"field_{place}").str.strip_chars().alias(role)
            for role, place in layout.places.items()
        ),
    )

    def refuse(record: int) -> NoReturn:
        line, cells = next(islice(_records(path, layout), record, None))
        raise _malformed(path, line, cells, layout)

    try:
        found = _parsed(table, layout).collect(engine="streaming")
        odd = set(found["number"].filter(found["bad"]).to_list())
    except pl.exceptions.PolarsError:
        found, odd = None, set()
    if found is None or odd:
        sound = []
        for record, (line, cells) in enumerate(_records(path, layout)):
            if record in odd and len(cells) == width and _complaint(cells, layout) is None:
                sound.append(record)
            elif record > header and cells and (record in odd or len(cells) != width):
                raise _malformed(path, line, cells, layout)
        blank = pl.Series(sorted(odd.difference(sound)), dtype=pl.UInt32)
        table = table.filter(~pl.col("number").is_in(blank.implode()))
        found = collected(_parsed(table, layout), path)
    return _columns(found, table, path, refuse)


def _records(path: Path, layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """Record after record of a quoted table: the line that it ends on, and its fields."""
    lines = collected(_scan(path).select(pl.col("line").fill_null("")), path)["line"]
    reader = csv.reader((f"{line}\n" for line in lines), delimiter=layout.separator, strict=True)
    try:
        for cells in reader:
            is_blank = len(cells) < 2 and not "".join(cells).strip()
            yield reader.line_num, [] if is_blank else cells
    except csv.Error as error:
        raise InputError(
            f"{path}:{reader.line_num}: expected {layout.describe()}: {error}"
        ) from error


def _parsed(table: pl.LazyFrame, layout: Layout) -> pl.LazyFrame:
    """Adds ``bad`` and makes ids integers and numbers floats, null where they are not."""
    bad = ~pl.col("whole")
    columns = []
    for role in layout.places:
        cell = pl.col(role)
        if role == "rating":
            number = cell.cast(pl.Float32, strict=False)
            bad |= ~number.is_finite().fill_null(False)
            columns.append(number)
        elif role == "timestamp":
            number = cell.cast(pl.Float64, strict=False)
            bad |= ~number.is_finite().fill_null(True) | (cell == "").fill_null(True)
            columns.append(number)
        else:
            undecodable = cell.str.contains(_UNDECODABLE, literal=True)
            bad |= ((cell == "") | undecodable).fill_null(True)
            columns.append(_integer(role))
    return table.select("number", "quoted", *columns, bad=bad)


def _columns(
    found: pl.DataFrame, table: pl.LazyFrame, path: Path, refuse: Callable[[int], NoReturn]
) -> Columns:
    """What was found in a table, read once more as text where it is not integers and numbers."""

    def text(role: str) -> pl.Series:
        return collected(table.select(role), path)[role]

    users, items = (
        text(role) if found[role].null_count() else found[role] for role in ("user", "item")
    )
    timestamps = found["timestamp"] if "timestamp" in found.columns else None
    if timestamps is not None and timestamps.null_count():
        timestamps = epoch_seconds(text("timestamp"))
        if timestamps.null_count():
            refuse(found["number"].filter(timestamps.is_null())[0])
    ratings = found["rating"] if "rating" in found.columns else None
    return Columns(users, items, ratings, timestamps)


def _integer(role: str) -> pl.Expr:
    """A column of ids as integers, null where an id is not the decimal form of one."""
    number = pl.col(role).cast(pl.Int64, strict=False)
    return pl.when(number.cast(pl.String) == pl.col(role)).then(number).alias(role)


def _malformed(path: Path, line: int, cells: list[str], layout: Layout) -> InputError:
    complaint = _complaint(cells, layout) or f"expected {layout.describe()}, got {cells}"
    return InputError(f"{path}:{line}: {complaint}")


def _complaint(cells: list[str], layout: Layout) -> str | None:
    """What is wrong with one record."""
    if len(cells) != len(layout.names):
        text = layout.separator.join(cells)[:80]
        return f"expected {layout.describe()}, got {len(cells)}: {text!r}"
    for role, place in layout.places.items():
        cell = cells[place].strip()
        column = f"column {layout.names[place]!r}"
        if role == "rating":
            number = pl.Series([cell]).cast(pl.Float32, strict=False)[0]
            if number is None or not isfinite(number):
                return f"{column}: expected a finite number, got {cell!r}"
        elif role == "timestamp":
            seconds = epoch_seconds(pl.Series([cell]))[0]
            if seconds is None or not isfinite(seconds):
                return f"{column}: expected seconds or an ISO 8601 date, got {cell!r}"
        elif not cell:
            return f"{column}: expected an id, got an empty field"
        elif _UNDECODABLE in cell:
            return f"{column}: expected UTF-8 text, got bytes that are not ({cell!r})"
    return None


def _line(path: Path, number: int) -> str:
    return collected(_scan(path).filter(pl.col("number") == number), path)["line"][0]


def _scan(path: Path) -> pl.LazyFrame:
    """The lines of a text file: ``number`` (from 1) and ``line`` (null where it is empty)."""
    if not path.stat().st_size:
        raise InputError(f"{path}: expected interactions, but the file is empty")
    # No file has a record separator within a line, so a line is one field.
    return _scan_csv(
        path, separator="\x1e", quote_char=None, schema={"line": pl.String}, row_index_offset=1
    )


def collected(table: pl.LazyFrame, path: Path) -> pl.DataFrame:
    """Runs a reading in a stream.

    Args:
        table: The reading.
        path: The file that it reads.

    Raises:
        InputError: polars cannot read it.
    """
    try:
        return table.collect(engine="streaming")
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: cannot be read: {reason}") from error


def _is_filled() -> pl.Expr:
    return (pl.col("line").str.strip_chars() != "").fill_null(False)
