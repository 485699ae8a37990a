"""Cells: rows of text -> columns of ids and numbers, and what becomes of rows that do not fit.

Whatever a file looks like, its rows are judged here and by the same rules. A row is refused for
its width, its ids, and the ratings and times that the caller asked for; ratings and times that were
found by the name of their column alone are left out where they cannot be read.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import polars as pl

from lightgcn_jax.data.faults import Faults
from lightgcn_jax.data.ids import canonical_integers, id_fault, judged_ids
from lightgcn_jax.data.reading import NONE, Options, Reading
from lightgcn_jax.data.text import explained
from lightgcn_jax.data.times import UNITS, epoch_seconds, in_seconds, time_fault, unit_of
from lightgcn_jax.errors import InputError

_FEW = 0.01  # up to this share of ids that are no integers among integers is worth a note
_LARGEST_RATING = 1e8  # a column of numbers from here on holds times
_ENCLOSED = r'^".*"$'
_BLANK_QUOTE = r'^\s+".*"\s*$'


@dataclass(frozen=True)
class Columns:
    """The columns of one file.

    Attributes:
        users: Int64 or String [E].
        items: Int64 or String [E].
        ratings: Float32 [E].
        timestamps: Float64 [E].
        weights: Float32 [E].
        idle_users: Users whom the file names without an item.
        reading: How the file was read.
    """

    users: pl.Series
    items: pl.Series
    ratings: pl.Series | None = None
    timestamps: pl.Series | None = None
    weights: pl.Series | None = None
    idle_users: pl.Series | None = None
    reading: Reading = field(default_factory=lambda: Reading("", {}))


class Rows(NamedTuple):
    """Rows of text, not yet judged.

    Attributes:
        path: the file that the user named.
        table: number (of the line), fits (whether the row has the right width) and a column of
            text for each role. A lazy table, which may be read twice.
        names: role -> what a message calls the column.
        explain: why the row of a line does not fit.
        header: role -> name in the header, if any; a row with the same cells is the header again.
        by_name: roles that nobody asked for, found by the name of their column.
        by_place: whether roles were assumed by their place alone.
        quoted: whether quotation marks enclose fields; None where a format has no such marks.
        place: what a row is called.
    """

    path: Path
    table: pl.LazyFrame
    names: dict[str, str]
    explain: Callable[[int], str]
    header: dict[str, str] | None = None
    by_name: frozenset[str] = frozenset()
    by_place: bool = False
    quoted: bool | None = None
    place: str = "line"


class Unjudged(NamedTuple):
    """A file that was taken apart and not yet judged.

    Attributes:
        rows: its rows.
        options: what the caller says of it, and what its types do.
        reading: how it was taken apart.
        stored_times: whether times are of a type of their own, and no numbers of some unit.
    """

    rows: Rows
    options: Options
    reading: Reading
    stored_times: bool = False

    def judged(self) -> Columns:
        """The columns of the file.

        Raises:
            InputError: a row does not fit, or a column can be read in two ways.
        """
        columns = columns_of(self.rows, self.options, self.reading)
        if not self.stored_times or columns.timestamps is None:
            return columns
        read_as = {**columns.reading.settings, "time_unit": "dates"}
        return replace(columns, reading=replace(columns.reading, settings=read_as))

    def slices(self, size: int) -> list["Unjudged"]:
        """The file in slices of so many rows, each to be judged as a file of its own.

        Args:
            size: rows of a slice, 1 or more.
        """
        count = collected(self.rows.table.select(pl.len()), self.rows.path).item()
        return [
            self._replace(rows=self.rows._replace(table=self.rows.table.slice(start, size)))
            for start in range(0, count, size)
        ]


def columns_of(rows: Rows, options: Options, reading: Reading) -> Columns:
    """Judges the rows of a file.

    Args:
        rows: the rows.
        options: what the caller says of the file.
        reading: how the file was taken apart.

    Raises:
        InputError: a row does not fit, or a column can be read in two ways.
    """
    found = collected(
        rows.table.select("number", "fits", *(_parsed(role) for role in rows.names)), rows.path
    )
    lines, fits = found["number"], found["fits"]
    sheet = _Sheet(rows, fits, options)
    faults = Faults(rows.path, lines, rows.place)
    if not fits.all():
        faults.add(~fits, lambda at: rows.explain(int(lines[at])))
    ids = {role: _ids(sheet, role, found[role], faults) for role in ("user", "item")}
    _refuse_second_header(rows, ids, faults)
    if faults.absent is not None:
        sheet = sheet._replace(fits=fits & ~faults.absent)
    kept: dict[str, pl.Series] = {}
    settings, notes = dict(reading.settings), list(reading.notes)
    readers = {"rating": _ratings, "timestamp": _timestamps, "weight": _weights}
    for role, parse in readers.items():
        if role not in rows.names:
            if role != "weight":  # Nothing is guessed of weights, so nothing is said of none.
                settings[f"{role}_column"] = NONE
            continue
        own = Faults(rows.path, lines, rows.place)
        numbers, unit = parse(sheet, found[role], own)
        complaints = own.first(1)
        if complaints and role in rows.by_name:
            # Nobody asked for the column, so it must not stop a run.
            settings[f"{role}_column"] = NONE
            notes.append(_left_out(rows, role, *complaints[0]))
            continue
        kept[role] = numbers
        faults.join(own)
        if unit:
            settings["time_unit"] = unit
    stays, skipped = faults.settle(options.skip_bad_rows)
    if stays is not None:
        lines = lines.filter(stays)
        ids = {role: column.filter(stays) for role, column in ids.items()}
        kept = {role: column.filter(stays) for role, column in kept.items()}
    for role in ids:
        ids[role], odd = settled_ids(ids[role], role, lines, options)
        notes += odd
    reading = replace(reading, settings=settings, notes=(*notes, *skipped))
    numbers = (kept.get(role) for role in readers)
    return Columns(ids["user"], ids["item"], *numbers, reading=reading)


def collected(table: pl.LazyFrame, path: Path) -> pl.DataFrame:
    """Runs a reading in a stream.

    Args:
        table: The reading.
        path: The file that it reads.

    Raises:
        InputError: It cannot be read.
    """
    with explained(path):
        return table.collect(engine="streaming")


class _Sheet(NamedTuple):
    """The rows of a file, those of the right width (Boolean [n]), and what the caller says."""

    rows: Rows
    fits: pl.Series
    options: Options

    def text(self, role: str) -> pl.Series:
        """A column as the file has it, read once more."""
        return collected(self.rows.table.select(role), self.rows.path)[role]


def _parsed(role: str) -> pl.Expr:
    """Ids as integers and numbers as floats, null where they are not."""
    cell = pl.col(role).str.strip_chars()
    if role in ("rating", "weight"):
        return cell.cast(pl.Float32, strict=False).alias(role)
    if role == "timestamp":
        return cell.cast(pl.Float64, strict=False).alias(role)
    return integers(cell).alias(role)


def integers(cell: pl.Expr) -> pl.Expr:
    """Ids as integers, null where an id is not the decimal form of one.

    Args:
        cell: String [n].
    """
    number = cell.cast(pl.Int64, strict=False)
    return pl.when(number.cast(pl.String) == cell).then(number)


def _ids(sheet: _Sheet, role: str, numbers: pl.Series, faults: Faults) -> pl.Series:
    """One column of ids, its faults noted."""
    if not numbers.null_count():
        return numbers
    given, name, quoted = sheet.text(role), sheet.rows.names[role], sheet.rows.quoted
    ids, bad = checked_ids(given, sheet.options, quoted)
    if sheet.options.missing == "skip":
        absent = (given.is_null() | (ids == "").fill_null(False)) & sheet.fits
        faults.leave_out(absent)
        bad &= ~absent
    faults.add(
        bad & sheet.fits, lambda at: f"{name}: expected an id, {fault_of_id(given[at], quoted)}"
    )
    if sheet.options.ids_of(role) == "integers":
        odd = numbers.is_null() & ids.is_not_null() & (ids != "") & ~bad & sheet.fits
        faults.add(odd, lambda at: f"{name}: expected an integer, got {given[at]!r}")
    return ids


def checked_ids(
    given: pl.Series, options: Options, quoted: bool | None
) -> tuple[pl.Series, pl.Series]:
    """Ids of a text file by the policy for ids, quotation marks around them included.

    Args:
        given: String [n], as the file has them.
        options: what the caller says of the file.
        quoted: whether quotation marks enclose fields; None where a format has no such marks.

    Returns:
        The ids [n], and Boolean [n], where one is refused.
    """
    ids, bad = judged_ids(given, null_ids=options.null_ids == "keep")
    if options.quoting != NONE and quoted is not None:
        marks = given if quoted else ids
        bad = bad | marks.str.contains(_BLANK_QUOTE if quoted else _ENCLOSED).fill_null(False)
    return ids, bad


def fault_of_id(value: str | None, quoted: bool | None) -> str:
    """Why ``checked_ids`` refuses an id, in words behind "expected an id, ".

    Args:
        value: the id, as the file has it.
        quoted: as for ``checked_ids``.
    """
    if value is not None and quoted and re.search(_BLANK_QUOTE, value):
        return (
            f"got {value!r}: blanks before a quotation mark make it text; remove the blanks, or "
            "pass quoting none (--quoting none) where the marks are part of the id"
        )
    if value is not None and quoted is False and re.search(_ENCLOSED, value.strip()):
        return (
            f"got {value.strip()!r}, which can be read in two ways: enclosed in quotation marks, "
            "quoting csv, or with marks as part of the id, quoting none (--quoting …)"
        )
    return id_fault(value)


def _refuse_second_header(rows: Rows, ids: dict[str, pl.Series], faults: Faults) -> None:
    if rows.header and all(column.dtype == pl.String for column in ids.values()):
        again = (ids["user"] == rows.header["user"]) & (ids["item"] == rows.header["item"])
        faults.add(
            again.fill_null(False),
            lambda _: "expected a row of ids, got the header again; were files put together?",
        )


def _ratings(sheet: _Sheet, numbers: pl.Series, faults: Faults) -> tuple[pl.Series, str]:
    """Ratings, their faults noted."""
    name, bad = sheet.rows.names["rating"], ~numbers.is_finite().fill_null(False) & sheet.fits
    if bad.any():
        given = sheet.text("rating")
        faults.add(bad, lambda at: _number_fault(name, given[at]))
    least = numbers.min()
    if sheet.rows.by_place and isinstance(least, float) and least >= _LARGEST_RATING:
        raise InputError(
            f"{sheet.rows.path}: {name} can be read in two ways, as ratings or as times, for the "
            f"least number in it is {least:.0f}: say which by its place (--rating-column 3, or "
            "--timestamp-column 3)"
        )
    return numbers, ""


def _weights(sheet: _Sheet, numbers: pl.Series, faults: Faults) -> tuple[pl.Series, str]:
    """Weights, their faults noted."""
    fits = numbers.is_finite() & (numbers > 0)
    bad = ~fits.fill_null(False) & sheet.fits
    if bad.any():
        given, name = sheet.text("weight"), sheet.rows.names["weight"]
        faults.add(bad, lambda at: _number_fault(name, given[at], "a finite number above 0"))
    return numbers, ""


def _number_fault(name: str, value: str | None, expected: str = "a finite number") -> str:
    fault = f"{name}: expected {expected}, got {value!r}"
    # What stands there as a number should is not to be written in another way.
    is_plain = value and re.fullmatch(r"\s*-?\d+(\.\d+)?\s*", value)
    meant = r"\s*[^\w\s-]?\s*-?\d+([., ]\d+)*\s*[^\w\s]?\s*"
    if value and not is_plain and re.fullmatch(meant, value):
        fault += " (write 1234.5, without a comma or a sign of a currency)"
    return fault


def _timestamps(sheet: _Sheet, numbers: pl.Series, faults: Faults) -> tuple[pl.Series, str]:
    """Seconds, their faults noted, and the unit that the file has."""
    name, unit, fits = sheet.rows.names["timestamp"], sheet.options.time_unit, sheet.fits
    counted = unit in UNITS or unit == "yyyymmdd"
    missing = numbers.is_null() & fits
    given = sheet.text("timestamp") if unit == "dates" or missing.any() else None
    if given is not None and not counted:
        seconds = epoch_seconds(given)
        if unit == "dates" or (seconds.is_not_null() & missing).any():
            bad = ~seconds.is_finite().fill_null(False) & fits
            faults.add(bad, lambda at: time_fault(name, given[at], unit))
            return seconds, "dates"
    bad = ~numbers.is_finite().fill_null(False) & fits
    if bad.any():
        cells, asked = (sheet.text("timestamp") if given is None else given), unit
        faults.add(bad, lambda at: time_fault(name, cells[at], asked))
    if not counted:
        unit, ways = unit_of(numbers)
        if ways is not None:
            faults.add(fits, lambda _: f"{name}: {ways}")
    seconds = in_seconds(numbers, unit)
    if unit == "yyyymmdd":
        no_day = seconds.is_null() & ~bad & fits
        faults.add(no_day, lambda at: time_fault(name, f"{numbers[at]:.0f}", unit))
    return seconds, unit


def _left_out(rows: Rows, role: str, number: int, reason: str) -> str:
    """The note on a column that was found by its name and cannot be read."""
    return (
        f"{rows.names[role]} is left out, so there are no {role}s: {rows.place} {number}: {reason} "
        f"(--{role}-column NAME insists on it, --{role}-column none leaves it out without a note)"
    )


def settled_ids(
    ids: pl.Series, role: str, lines: pl.Series, options: Options
) -> tuple[pl.Series, tuple[str, ...]]:
    """Ids as integers where all of them are and nobody wants text, else as text.

    Args:
        ids: Int64 or String [n].
        role: whose ids they are.
        lines: the line of each.
        options: what the caller says of the file.

    Returns:
        The ids, and a note where only a few of them are no integers.
    """
    if options.ids_of(role) == "text":
        return ids.cast(pl.String), ()
    if ids.dtype != pl.String:
        return ids, ()
    numbers, is_integer = canonical_integers(ids)
    if is_integer.all():
        return numbers, ()
    odd = pl.Series(~is_integer)
    count = int(odd.sum())
    if count > _FEW * len(ids):
        return ids, ()
    at = int(odd.arg_max() or 0)
    return ids, (
        f"{role} ids are text, for {count:,} of {len(ids):,} are no integers, such as "
        f"{ids[at]!r} in line {lines[at]} (--{role}-ids integers makes them errors)",
    )
