"""Times as people write them -> seconds since 1970 UTC."""

from typing import Any

import numpy as np
import polars as pl

from lightgcn_jax.errors import InputError


def epoch_seconds(column: pl.Series) -> pl.Series:
    """Times as Float64 seconds since 1970 UTC: numbers, dates, numerals or ISO 8601 strings.

    Numerals are seconds; beside dates, a numeral of four digits is a year.

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
            at = moment.dt.epoch("us").cast(pl.Float64) / 1e6
            seconds = seconds.zip_with(seconds.is_not_null(), at)
        return seconds
    if column.dtype == pl.Date:
        column = column.cast(pl.Datetime("us"))
    if isinstance(column.dtype, pl.Datetime):
        return column.dt.epoch("us").cast(pl.Float64) / 1e6
    if column.dtype.is_numeric():
        return column.cast(pl.Float64)
    return pl.Series(column.name, [None] * len(column), dtype=pl.Float64)


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
        raise InputError(
            f"timestamps[{at}]: expected seconds, a date or an ISO 8601 string, got {column[at]!r}"
        )
    return seconds.to_numpy()
