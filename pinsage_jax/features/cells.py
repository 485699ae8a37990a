"""Written cells -> the values of a column: which columns of a text file are numbers.

============================================  ==================================================
what the filled cells of a column are         what it becomes
============================================  ==================================================
numbers, with zeros in front or 16 digits     text: these are codes, which a number would alter
numbers, and marks such as NA, null or –      numbers; the marks are missing values
the same, up to a tenth are anything else     numbers; these are missing too, counted and named
numbers with currency signs, thousands
separators or decimal commas, over a tenth    refused: bare numbers have to be written
numbers, from a tenth to a half others        refused: it can be read in two ways
dates such as 2020-01-31, up to a tenth not   numbers, days since 1970
lists of numbers in brackets                  refused: these can be vectors, or text
anything else                                 text
============================================  ==================================================

A column that is declared a number is one where at least half of its cells are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import polars as pl

from lightgcn_jax.data.times import epoch_seconds
from lightgcn_jax.errors import InputError
from pinsage_jax.features.columns import DAY, Kind

_MARKS = ("na", "n/a", "#n/a", "nan", "null", "none", "nil", r"\n", "-", "--", "–", "—", "?", ".")
_BARE_SIGNS = ("$", "€", "£", "¥", "₹", "%")
# What looks like a number and is a code, whose zeros in front or last digits a number would lose.
_CODE = r"^[+-]?0\d"
_LONG = r"^[+-]?\d{16,}$"
_GROUPED = r"(?:[1-9]\d{0,2}(?:[,.' \x{a0}\x{202f}]\d{3})+|\d+)(?:[.,]\d+)?"
_CURRENCY = r"(?:[$€£¥₹]|usd|eur|gbp|chf|rs\.?)"
_DRESSED = rf"(?i)^[+-]?\s*{_CURRENCY}?\s*[+-]?{_GROUPED}\s*(?:{_CURRENCY}|%)?$"
_DRESSES = (
    (rf"(?i){_CURRENCY}", "a currency sign"),
    (r"%", "a percent sign"),
    (r"\d[,.' \x{a0}\x{202f}]\d{3}(?:\D|$)", "a thousands separator"),
    (r"\d,\d", "a decimal comma"),
)
_DATE = r"^\d{4}-\d{1,2}-\d{1,2}(?:[T ].*)?$"
_LIST = r"^[\[(]\s*[-+.\d][-+.,;eE\d\s]*[\])]$"
_NAMED = 3

Place = Callable[[int], str]
"""Says where a row lies, for messages."""


class Judged(NamedTuple):
    """A column as it is understood.

    Attributes:
        series: its values: Int64 or Float64 where it is a number, List(Float64) for a vector, else
            the cells.
        remark: what is worth telling of it; empty for nothing.
    """

    series: pl.Series
    remark: str = ""


def judged(cells: pl.Series, declared: Kind | None, place: Place) -> Judged:
    """Understand the cells of a column.

    Args:
        cells: String ``[n]``, null where a cell is blank.
        declared: the kind that the column is said to be; None lets the cells decide.
        place: where a row lies.

    Raises:
        InputError: the cells can be read in two ways, or are no numbers where these are declared.
    """
    if declared == "vector":
        return Judged(_vectors(cells, place))
    if declared not in (None, "number"):
        return Judged(cells)
    text = cells.str.strip_chars()
    filled = len(text) - text.null_count()
    if not filled:
        return Judged(cells if declared is None else cells.cast(pl.Float64), "no cell is filled")
    numbers = text.cast(pl.Float64, strict=False)
    numbers = numbers.set(~numbers.is_finite().fill_null(False), None)
    # A null is neither.
    mark = text.str.to_lowercase().is_in([*_MARKS, *_BARE_SIGNS]).fill_null(False)
    plain = numbers.is_not_null()
    odd = text.is_not_null() & ~plain & ~mark
    if declared is None and (code := _coded(text, plain, place)):
        return Judged(cells, code)
    if (days := _days(text, plain)) is not None:
        rest = text.is_not_null() & days.is_null()
        remark = "days since 1970"
        if rest.any():
            remark += f"; {_lost(text, rest, place)}"
        return Judged(days, remark)
    if not plain.any():
        return _without_numbers(cells, text, odd, declared, place)
    return _mostly_numbers(cells, text, numbers, odd, mark, declared, place)


def _mostly_numbers(
    cells: pl.Series,
    text: pl.Series,
    numbers: pl.Series,
    odd: pl.Series,
    mark: pl.Series,
    declared: Kind | None,
    place: Place,
) -> Judged:
    """A column in which some cells are numbers."""
    filled, others = len(text) - text.null_count(), int(odd.sum())
    dressed = odd & text.str.contains(_DRESSED).fill_null(False)
    worn = int(dressed.sum())
    if (others - worn) * 10 <= filled < worn * 10:
        raise _dressed(text, dressed, filled, place)
    if declared is None and others * 2 >= filled:
        return Judged(cells)
    if others * 10 > filled and (declared is None or others * 2 > filled):
        what = f"{filled - others - int(mark.sum()):,} of {filled:,} filled cells are numbers"
        if declared is not None:
            raise InputError(
                f"column {cells.name!r}: expected numbers, {what}: {_cells(text, odd, place)}"
            )
        first = int(odd.arg_max() or 0)
        raise InputError(
            f"column {cells.name!r}: can be read in two ways, {what} and {others:,} are not, "
            f"such as {text[first]!r} ({place(first)}): say --kind {cells.name}=number, where "
            f"these are missing values, or --kind {cells.name}=text"
        )
    lost = odd | mark
    whole = text.set(lost, None).cast(pl.Int64, strict=False)
    series = whole if whole.null_count() == numbers.null_count() else numbers
    return Judged(series.alias(cells.name), _lost(text, lost, place) if lost.any() else "")


def _without_numbers(
    cells: pl.Series, text: pl.Series, odd: pl.Series, declared: Kind | None, place: Place
) -> Judged:
    """A column in which no cell is a bare number."""
    filled = len(text) - text.null_count()
    if not odd.any():
        if declared is None:
            return Judged(cells, "no cell is filled, but for marks of missing values")
        none = pl.Series(cells.name, [None] * len(cells), pl.Float64)
        return Judged(none, _lost(text, text.is_not_null(), place))
    dressed = odd & text.str.contains(_DRESSED).fill_null(False)
    if int(dressed.sum()) * 10 >= filled * 9:
        raise _dressed(text, dressed, filled, place)
    if declared is None:
        if int(text.str.contains(_LIST).sum()) * 10 >= filled * 9:
            raise InputError(
                f"column {cells.name!r}: can be read in two ways, as vectors or as text, got "
                f"{_cells(text, odd, place)}: say --kind {cells.name}=vector or "
                f"--kind {cells.name}=text"
            )
        return Judged(cells)
    raise InputError(f"column {cells.name!r}: expected numbers, got {_cells(text, odd, place)}")


def _coded(text: pl.Series, plain: pl.Series, place: Place) -> str:
    """Why numerals are codes; empty where they are none."""
    if not plain.any():
        return ""
    for pattern, why in ((_CODE, "have zeros in front"), (_LONG, "have 16 digits or more")):
        found = text.str.contains(pattern).fill_null(False)
        if found.any():
            first = int(found.arg_max() or 0)
            return (
                f"{int(found.sum()):,} cells {why}, as codes do: {text[first]!r} ({place(first)})"
            )
    return ""


def _days(text: pl.Series, plain: pl.Series) -> pl.Series | None:
    """Days since 1970 where at least nine of ten filled cells are dates, else None."""
    dated = text.str.contains(_DATE).fill_null(False) & ~plain
    if int(dated.sum()) * 10 < (len(text) - text.null_count()) * 9:
        return None
    seconds = epoch_seconds(text.set(~dated, None))
    if int(seconds.is_not_null().sum()) * 10 < (len(text) - text.null_count()) * 9:
        return None
    return (seconds / DAY).alias(text.name)


def _dressed(text: pl.Series, dressed: pl.Series, filled: int, place: Place) -> InputError:
    """The error about numbers that are not written bare."""
    first = int(dressed.arg_max() or 0)
    value = text[first]
    worn = pl.Series([value])
    what = next(what for pattern, what in _DRESSES if worn.str.contains(pattern)[0])
    return InputError(
        f"column {text.name!r}: expected bare numbers such as 1234.5, {int(dressed.sum()):,} of "
        f"{filled:,} filled cells have {what}: {value!r} ({place(first)}); write them without, or "
        f"say --kind {text.name}=text or --skip-columns {text.name}"
    )


def _lost(text: pl.Series, lost: pl.Series, place: Place) -> str:
    count = int(lost.sum())
    verb = "is no number and counts" if count == 1 else "are no numbers and count"
    filled = len(text) - text.null_count()
    return f"{count:,} of {filled:,} filled cells {verb} as missing: {_cells(text, lost, place)}"


def _cells(text: pl.Series, chosen: pl.Series, place: Place) -> str:
    """The first few of some cells, each with its place."""
    rows = chosen.arg_true().to_list()
    named = [f"{text[row]!r} ({place(row)})" for row in rows[:_NAMED]]
    return ", ".join(named) + (", …" if len(rows) > _NAMED else "")


def _vectors(cells: pl.Series, place: Place) -> pl.Series:
    """Lists of numbers that are written like [0.5, 1, 2e-3] or 0.5 1 2e-3."""
    inner = cells.str.strip_chars().str.strip_chars("[]()").str.strip_chars()
    inner = inner.str.replace_all(r"\s*[,;|\s]\s*", " ")
    parts = inner.str.split(" ").list.eval(pl.element().filter(pl.element() != ""))
    numbers = parts.list.eval(pl.element().cast(pl.Float64, strict=False))
    odd = (numbers.list.len() != numbers.list.drop_nulls().list.len()).fill_null(False)
    if odd.any():
        first = int(odd.arg_max() or 0)
        raise InputError(
            f"column {cells.name!r}, {place(first)}: expected numbers of a vector, such as "
            f"[0.5, 1, 2], got {cells[first][:80]!r}"
        )
    return numbers.alias(cells.name)


def lines_of(lines: np.ndarray) -> Place:
    """Say where rows of a text file lie.

    Args:
        lines: ``int[n]``, the line of each row.
    """
    return lambda row: f"line {int(lines[row])}"
