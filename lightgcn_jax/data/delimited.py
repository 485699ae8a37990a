"""Delimited text: numbered lines -> rows of fields.

Lines are split by polars in a stream, so that the text never lies in memory as a whole, where no
quotation mark is in the file or all of them enclose fields without marks and separators. Else
:mod:`quoted` reads the records.
"""

from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import NamedTuple

import polars as pl

from lightgcn_jax.data.cells import (
    Columns,
    Faults,
    Rows,
    Unjudged,
    checked_ids,
    collected,
    fault_of_id,
    integers,
    settled_ids,
)
from lightgcn_jax.data.quoted import quoted_rows, records
from lightgcn_jax.data.reading import NONE, Options, Reading, separator_name
from lightgcn_jax.data.roles import Roles
from lightgcn_jax.data.text import PlainText
from lightgcn_jax.errors import InputError, printable

_SHOWN = 100  # characters of a line that a message shows
_scan_csv = partial(
    pl.scan_csv, has_header=False, encoding="utf8-lossy", row_index_name="number", glob=False
)


@dataclass(frozen=True)
class Layout:
    """How the lines of one file are to be taken apart.

    Attributes:
        separator: What stands between fields.
        names: The names of all fields, in order; their places where there is no header.
        roles: Which field is what.
        header_line: The number of the header's line; 0 for none.
        quoting: csv, backslash or none.
        runs: Whether blanks that stand beside each other are one separator.
    """

    separator: str
    names: tuple[str, ...]
    roles: Roles
    header_line: int = 0
    quoting: str = NONE
    runs: bool = False

    def describe(self) -> str:
        """What a line should look like, for messages."""
        names = printable(", ".join(self.names[:8])) + (", …" if len(self.names) > 8 else "")
        return f"{len(self.names)} {_named(self.separator)}-separated fields ({names})"

    def title(self, role: str) -> str:
        """What a message calls the column of a role.

        Args:
            role: The role.
        """
        return f"column {self.names[self.roles.places[role]]!r}"


class LineShape(NamedTuple):
    """What all lines of a file that are not blank look like.

    Attributes:
        lines: their number.
        users: how many first cells are distinct.
        widths: how many lines have each number of cells, apart by blanks.
        odd_line: the first line that holds anything but numbers, and 0 where there is none.
        whole: whether all cells are integers.
    """

    lines: int
    users: int
    widths: dict[int, int]
    odd_line: int
    whole: bool


def shape_of_lines(text: PlainText) -> LineShape:
    """Looks at every line of a file.

    Args:
        text: The file.

    Raises:
        InputError: It cannot be read.
    """
    line = pl.col("line").str.strip_chars()
    rows = _scan(text).filter(_is_filled())
    counts = collected(
        rows.group_by(width=line.str.count_matches(r"\S+")).agg(lines=pl.len()), text.source
    )
    facts = collected(
        rows.select(
            users=line.str.extract(r"^(\S+)").n_unique(),
            odd=pl.col("number").filter(~line.str.contains(_NUMBERS)).min(),
            whole=line.str.contains(r"^-?[0-9]+(?:\s+-?[0-9]+)*$").all(),
        ),
        text.source,
    )
    users, odd, whole = facts.row(0)
    widths = dict(zip(counts["width"].to_list(), counts["lines"].to_list(), strict=True))
    return LineShape(sum(widths.values()), users, widths, odd or 0, bool(whole))


_NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_NUMBERS = rf"^-?[0-9]+(?:\s+{_NUMBER})*$"


def first_lines(text: PlainText, count: int) -> list[tuple[int, str]]:
    """The first lines that are not blank, each with its number; at least one.

    Args:
        text: The file.
        count: The most lines to give.

    Raises:
        InputError: The file cannot be read, or holds nothing.
    """
    lines = ((at, line.rstrip("\r\n")) for at, line in enumerate(text.open_lines(), start=1))
    found = list(islice(((at, line) for at, line in lines if line.strip()), count))
    if not found:
        raise InputError(f"{text.source}: expected interactions, but the file is empty")
    return found


def first_records(
    text: PlainText, separator: str, quoting: str, runs: bool, count: int
) -> list[tuple[int, list[str]]]:
    """The fields of the first lines that are not blank, each with its line's number.

    Args:
        text: The file.
        separator: What stands between fields.
        quoting: csv, backslash or none.
        runs: Whether blanks that stand beside each other are one separator.
        count: The most records to give.

    Raises:
        InputError: The file cannot be read or holds nothing, or the first record is none.
    """
    if quoting == NONE:
        lines = first_lines(text, count)
        return [(at, line.split() if runs else line.split(separator)) for at, line in lines]
    found = []
    for line, cells, fault in islice(records(text, separator, quoting), 10 * count):
        if fault is not None and not found:
            raise InputError(f"{text.source}:{line}: {fault}")
        if fault is None and cells:
            found.append((line, cells))
        if len(found) == count:
            break
    if not found:
        raise InputError(f"{text.source}: expected interactions, but the file is empty")
    return found


def read_lists(
    text: PlainText, separator: str | None, options: Options, reading: Reading
) -> Columns:
    """Reads lines 'user item item …'.

    Args:
        text: The file.
        separator: What stands between cells; None for blanks.
        options: What the caller says of it.
        reading: How it was taken apart.

    Raises:
        InputError: The file cannot be read, or a line does not fit.
    """
    line = pl.col("line").str.strip_chars()
    if separator is None:
        line = line.str.replace_all("\t", " ", literal=True)
    cells = line.str.split(separator or " ")
    # A user without items gets no list, which explodes to one row whose item is null.
    items = pl.when(cells.list.len() > 1).then(cells.list.slice(1))
    table = (
        _scan(text)
        .filter(_is_filled())
        .select("number", user=cells.list.first(), item=items)
        .explode("item")
        .with_columns(pl.col("user", "item").str.strip_chars())
        .filter(pl.col("item").is_null() | (pl.col("item") != ""))
    )
    found = collected(
        table.select(
            "number",
            integers(pl.col("user")).alias("user"),
            integers(pl.col("item")).alias("item"),
            idle=pl.col("item").is_null(),
        ),
        text.source,
    )
    idle, faults = found["idle"], Faults(text.source, found["number"])
    ids = {"user": found["user"], "item": found["item"]}
    for role, missing in (("user", 0), ("item", int(idle.sum()))):
        if ids[role].null_count() > missing:
            given = collected(table.select(role), text.source)[role]
            ids[role], bad = checked_ids(given, options, False)
            bad = bad if role == "user" else bad & ~idle
            faults.add(
                bad,
                lambda at, given=given, role=role: (
                    f"expected 'user item item …', got {role} {given[at]!r}: expected an id, "
                    f"{fault_of_id(given[at], False)}"
                ),
            )
            if options.ids_of(role) == "integers":
                odd = found[role].is_null() & ~bad
                odd = odd & ~idle if role == "item" else odd
                faults.add(
                    odd,
                    lambda at, given=given, role=role: (
                        f"{role}: expected an integer, got {given[at]!r}"
                    ),
                )
    stays, notes = faults.settle(options.skip_bad_rows)
    lines = found["number"]
    if stays is not None:
        idle, lines = idle.filter(stays), lines.filter(stays)
        ids = {role: column.filter(stays) for role, column in ids.items()}
    users, odd_users = settled_ids(ids["user"], "user", lines, options)
    items = ids["item"].filter(~idle)
    items, odd_items = settled_ids(items, "item", lines.filter(~idle), options)
    return Columns(
        users.filter(~idle),
        items,
        idle_users=users.filter(idle),
        reading=replace(reading, notes=(*reading.notes, *odd_users, *odd_items, *notes)),
    )


def table_rows(text: PlainText, layout: Layout, options: Options, reading: Reading) -> Unjudged:
    """The chosen fields of every line that is not blank.

    Args:
        text: The file.
        layout: How its lines are to be taken apart.
        options: What the caller says of it.
        reading: How it was taken apart.

    Raises:
        InputError: The file cannot be read.
    """
    width, roles = len(layout.names), layout.roles
    quoted = layout.quoting != NONE and (
        text.has_quotes or text.has_returns or layout.quoting == "backslash"
    )
    if quoted and not _encloses_whole_fields(text, layout):
        table = quoted_rows(
            text, layout.separator, layout.quoting, layout.header_line, roles.places, width
        )
    else:
        table = _split_lines(text, layout, without_marks=quoted)

    def explain(number: int) -> str:
        if quoted:
            found = records(text, layout.separator, layout.quoting)
            record = next(record for record in found if record.line == number)
            if record.fault is not None:
                line = record.cells[0]
                fault = f"expected {layout.describe()}: {record.fault}, got {line[:_SHOWN]!r}"
                escaped = layout.quoting == "csv" and '\\"' in line
                hint = "; --quoting backslash reads quotation marks behind backslashes"
                return fault + (hint if escaped else "")
            cells, line = record.cells, layout.separator.join(record.cells)
        else:
            line = _line(text, number)
            cells = line.split() if layout.runs else line.split(layout.separator)
        hint = ""
        if number == layout.header_line + 1 > 1 and len(cells) == width + 1:
            hint = "; if the first field is the name of the row, as R writes it, name that column"
        return f"expected {layout.describe()}, got {len(cells)}: {line[:_SHOWN]!r}{hint}"

    header = {role: layout.names[roles.places[role]] for role in ("user", "item")}
    rows = Rows(
        path=text.source,
        table=table,
        names={role: layout.title(role) for role in roles.places},
        explain=explain,
        header=header if layout.header_line else {},
        by_name=roles.assumed if layout.header_line else frozenset(),
        by_place=not layout.header_line and "rating" in roles.assumed,
        quoted=quoted,
    )
    return Unjudged(rows, options, reading)


def _encloses_whole_fields(text: PlainText, layout: Layout) -> bool:
    """Whether quotation marks stand at both ends of fields, with neither marks nor separators
    between them, on every line: then a line is a record, and the marks can simply be taken off."""
    if layout.quoting != "csv" or text.has_returns or not layout.separator.isascii():
        return False
    mark = f"\\x{ord(layout.separator):02x}"
    field = rf'(?:"[^"{mark}]*"|[^"{mark}]*)'
    is_plain = pl.col("line").str.contains(rf"^{field}(?:{mark}{field})*$").fill_null(True)
    return bool(collected(_scan(text).select(is_plain.all()), text.source).item())


def _split_lines(text: PlainText, layout: Layout, *, without_marks: bool) -> pl.LazyFrame:
    """The rows of a text in which every separator stands between fields."""
    width, mark = len(layout.names), layout.separator
    line = pl.col("line")
    if without_marks:
        line = line.str.replace_all('"', "", literal=True)
    if layout.runs:
        line = line.str.strip_chars()
        if text.has_runs:
            line = line.str.replace_all(r"\s+", " ")
    return (
        _scan(text)
        .filter((pl.col("number") > layout.header_line) & _is_filled())
        .select(
            "number",
            cells=line.str.split_exact(mark, width - 1),
            fits=line.str.count_matches(mark, literal=True) == width - 1,
        )
        .select(
            "number",
            "fits",
            *(
                pl.col("cells").struct.field(f"field_{place}").alias(role)
                for role, place in layout.roles.places.items()
            ),
        )
    )


def _named(separator: str) -> str:
    name = separator_name(separator)
    return name if name != separator else repr(separator)


def _line(text: PlainText, number: int) -> str:
    return next(islice(text.open_lines(), number - 1, None)).rstrip("\r\n")


def _scan(text: PlainText) -> pl.LazyFrame:
    """The lines of a text: ``number`` (from 1) and ``line`` (null where it is empty)."""
    # No text holds a NUL, so a line is one field.
    return _scan_csv(
        text.path, separator="\0", quote_char=None, schema={"line": pl.String}, row_index_offset=1
    )


def _is_filled() -> pl.Expr:
    return (pl.col("line").str.strip_chars() != "").fill_null(False)
