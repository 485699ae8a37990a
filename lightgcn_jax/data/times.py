"""Times as people write them -> seconds since 1970 UTC."""

import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from lightgcn_jax.errors import InputError

UNITS = {"seconds": 1.0, "milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
"""Units of numbers that count from 1970, and how many of each make a second."""
TIME_UNITS = (*UNITS, "yyyymmdd", "dates")
"""What a column of times may be: numbers of a unit, days such as 20240131, or dates."""
# From these sizes on a number is taken for milliseconds, microseconds, nanoseconds: as seconds
# each would lie beyond the year 5138, and as the larger unit before March 1973.
_FROM = {"nanoseconds": 1e17, "microseconds": 1e14, "milliseconds": 1e11, "seconds": 0.0}
_PLAUSIBLE = (3.1e8, 4.2e9)  # seconds of 1980 to 2103
# Dates as people write them, with a time of day or without: the day stands first before dots,
# the day or the month before slashes.
_DOTTED = r"^(\d{1,2}\.\d{1,2}\.\d{4}(?: \d{1,2}:\d\d(?::\d\d)?)?)$"
_SLASHED = _DOTTED.replace(r"\.", "/")


def unit_of(numbers: pl.Series) -> tuple[str, str | None]:
    """The unit of times, by the size of most of them.

    Args:
        numbers: Float64 [n], finite; 0 and nulls count for nothing.

    Returns:
        A key of ``UNITS``, and None; or, where the numbers can be read in two ways, these ways.
    """
    sizes = numbers.drop_nulls().abs()
    sizes = sizes.filter((sizes > 0) & sizes.is_finite())
    if not len(sizes):
        return "seconds", None
    median = float(np.median(sizes.to_numpy()))
    unit = next(name for name, least in _FROM.items() if median >= least)
    if unit == "seconds" and _are_days(numbers):
        return unit, (
            f"times such as {int(sizes[0])} can be read in two ways, as days (YYYYMMDD) or as "
            "seconds of 1970: pass time_unit yyyymmdd or seconds (--time-unit)"
        )
    for other, per_second in UNITS.items():
        if other != unit:
            low, high = (end * per_second for end in _PLAUSIBLE)
            odd = sizes.filter((sizes >= low) & (sizes <= high) & (sizes >= _FROM[other]))
            if len(odd):
                return unit, (
                    f"times can be read in two ways: most look like {unit}, but {len(odd):,} of "
                    f"{len(sizes):,}, such as {odd[0]:.0f}, like {other}; pass time_unit "
                    f"(--time-unit {unit})"
                )
    return unit, None


def _are_days(numbers: pl.Series) -> bool:
    """Whether every number looks like a day written as YYYYMMDD."""
    given = numbers.drop_nulls()
    if not bool(((given >= 19000101) & (given <= 21001231)).all()):
        return False
    return int(day_seconds(given).null_count()) == 0


def day_seconds(numbers: pl.Series) -> pl.Series:
    """Days such as 20240131 as seconds; null where there is no such day.

    Args:
        numbers: Float64 [n].
    """
    whole = numbers.cast(pl.Int64, strict=False)
    text = pl.select(pl.when(whole == numbers).then(whole.cast(pl.String))).to_series()
    days = text.str.to_date("%Y%m%d", strict=False)
    return _divided(days.cast(pl.Datetime("us")).dt.epoch("us"), 1e6)


def in_seconds(numbers: pl.Series, unit: str) -> pl.Series:
    """Numbers of a unit as seconds.

    Args:
        numbers: Float64 [n].
        unit: a key of ``UNITS``, or yyyymmdd.
    """
    if unit == "yyyymmdd":
        return day_seconds(numbers)
    return numbers if unit == "seconds" else _divided(numbers, UNITS[unit])


def _divided(numbers: pl.Series, by: float) -> pl.Series:
    """Numbers by a number, to the last bit, which polars gives up for a product."""
    quotients = numbers.cast(pl.Float64).to_numpy() / by
    return pl.Series(numbers.name, quotients).fill_nan(None)


def epoch_seconds(column: pl.Series) -> pl.Series:
    """Times as Float64 seconds since 1970 UTC: numbers, dates, numerals or strings of dates.

    Numerals are seconds; beside dates, a numeral of four digits is a year. Strings are ISO 8601,
    14.05.2025, or with slashes, of which the column tells whether day or month stands first.

    Args:
        column: Values [n] of one of these kinds.

    Returns:
        Seconds [n]; null where a value is none of these, and where it was missing.
    """
    if column.dtype == pl.String:
        text = column.str.strip_chars()
        seconds = text.cast(pl.Float64, strict=False)
        if not bool((seconds.is_null() & text.is_not_null()).any()):
            return seconds
        text = text.str.replace(r"^(\d{4})$", "${1}-01-01")
        seconds = text.cast(pl.Float64, strict=False)
        # An offset such as +02:00 counts; a time without one is taken as UTC.
        iso = text.str.replace("T", " ", literal=True).str.replace(r"\s?(?:Z|UTC)$", "+00:00")
        has_offset = iso.str.contains(r":\d\d(?:\.\d+)?[+-]\d\d:?\d\d$").fill_null(False)
        moments = [
            iso.str.to_datetime(form, time_unit="us", strict=False)
            for form in ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M")
        ]
        moments.append(iso.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")))
        if has_offset.any():
            zoned = iso.str.to_datetime("%Y-%m-%d %H:%M:%S%.f%#z", time_unit="us", strict=False)
            moments.append(zoned.dt.convert_time_zone("UTC").dt.replace_time_zone(None))
        for moment in moments:
            at = _divided(moment.dt.epoch("us"), 1e6)
            seconds = seconds.zip_with(seconds.is_not_null(), at)
        return seconds.zip_with(seconds.is_not_null(), _written(text))
    if column.dtype == pl.Date:
        column = column.cast(pl.Datetime("us"))
    if isinstance(column.dtype, pl.Datetime):
        return _divided(column.dt.epoch("us"), 1e6)
    if column.dtype.is_numeric():
        return column.cast(pl.Float64)
    return pl.Series(column.name, [None] * len(column), dtype=pl.Float64)


def _written(text: pl.Series) -> pl.Series:
    """Seconds of dates with dots or slashes; null elsewhere, and where slashes fit both ways."""
    dotted = _parsed(text.str.extract(_DOTTED), "%d.%m.%Y")
    slashed = text.str.extract(_SLASHED)
    days_first, months_first = (_parsed(slashed, day) for day in ("%d/%m/%Y", "%m/%d/%Y"))
    given = slashed.null_count()
    if (days_first.null_count() == given) == (months_first.null_count() == given):
        return dotted
    whole = days_first if days_first.null_count() == given else months_first
    return dotted.zip_with(dotted.is_not_null(), whole)


def _parsed(text: pl.Series, day: str) -> pl.Series:
    """Seconds of texts by the form of their day, with or without a time of day."""
    seconds = pl.Series(text.name, [None] * len(text), dtype=pl.Float64)
    if text.null_count() == len(text):
        return seconds
    # A day alone is midnight.
    text = text.str.replace(r"^(\S+)$", "${1} 00:00")
    for clock in ("%H:%M", "%H:%M:%S"):
        moment = text.str.to_datetime(f"{day} {clock}", time_unit="us", strict=False)
        seconds = seconds.zip_with(seconds.is_not_null(), _divided(moment.dt.epoch("us"), 1e6))
    return seconds


def dated(cells: Mapping[Any, Sequence[Any]]) -> list[Any]:
    """The columns that hold dates by what their first cells look like.

    Args:
        cells: Name -> the first cells; one that is None or blank tells nothing.
    """
    return [name for name, values in cells.items() if _are_dates(values)]


def _are_dates(values: Sequence[Any]) -> bool:
    filled = [
        one for one in values if one is not None and not (isinstance(one, str) and not one.strip())
    ]
    if not filled or not all(isinstance(one, (str, date)) for one in filled):
        return False
    text = pl.Series("cells", [str(one) for one in filled]).str.strip_chars()
    numerals = len(text) - text.cast(pl.Float64, strict=False).null_count()
    return not numerals and epoch_seconds(text).null_count() == 0


def times_of(values: Any) -> np.ndarray:
    """Times as seconds since 1970 UTC.

    Args:
        values: Seconds, dates or ISO 8601 strings [E]: a list, an array or a Series.

    Returns:
        float64[E].

    Raises:
        InputError: A value is none of these.
    """
    try:
        column = pl.Series("timestamps", values)
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise InputError(f"timestamps: expected seconds, dates or ISO strings: {error}") from error
    seconds = epoch_seconds(column)
    if seconds.null_count():
        at = int(seconds.is_null().arg_max() or 0)
        raise InputError(time_fault(f"timestamps[{at}]", column[at], "auto"))
    return seconds.to_numpy()


def time_fault(name: str, value: Any, unit: str) -> str:
    """Why a cell is no time.

    Args:
        name: The column, for the message.
        value: The cell.
        unit: The unit that was asked for, or auto.
    """
    wanted = "seconds or a date such as 2024-01-31 (ISO 8601)"
    if unit == "yyyymmdd":
        wanted = "a day such as 20240131"
    elif unit == "dates":
        wanted = "a date such as 2024-01-31 (ISO 8601)"
    elif unit in UNITS:
        wanted = f"a number of {unit}"
    fault = f"{name}: expected {wanted}, got {value!r}"
    if isinstance(value, str) and re.fullmatch(_SLASHED, value.strip()):
        fault += " (no date of the column says whether the day or the month stands first)"
    return fault
