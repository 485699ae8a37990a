"""Columns of arrays and frames -> ids, numbers and times that hold what was given, or an error.

What is masked or missing is named by its row and never stands for the value that lies beneath it;
a number with a second part (complex) or with a unit (a duration, a date) is no rating.
"""

import datetime
import decimal
import numbers
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import polars as pl

from lightgcn_jax.data.ids import clean_ids
from lightgcn_jax.data.reading import AUTO
from lightgcn_jax.data.times import time_fault, times_of
from lightgcn_jax.errors import InputError, first_line
from lightgcn_jax.fields import scalar

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MOST_YEARS = 290_000  # from 1970 on that microseconds can count
_DURATIONS = (datetime.timedelta, np.timedelta64)


def ids_of(values: Any, name: str, *, null_ids: bool = False) -> pl.Series:
    """External ids, Int64 or String [n], by the policy of :func:`clean_ids`.

    Args:
        values: Integers or strings [n]: a list, an array, a Series of polars or of pandas.
        name: What an error calls them.
        null_ids: Whether spellings of a missing value are ids.

    Raises:
        InputError: An id is missing, masked, refused by the policy, or neither an integer nor a
            string.
    """
    return clean_ids(_present(values, name), name, null_ids=null_ids)


def numbers_of(values: Any, name: str, dtype: type[np.generic]) -> np.ndarray:
    """Numbers of one type, [n]; numerals and True and False (1 and 0) among them.

    Args:
        values: Numbers [n]: a list, an array, a Series of polars or of pandas.
        name: What an error calls them.
        dtype: The type to give. Too large a number for it becomes infinite.

    Raises:
        InputError: A value is missing, masked, or no number.
    """
    given = _present(values, name)
    if isinstance(given, pl.Series):
        given = _series_numbers(given, name)
    if isinstance(given, list):
        given = _listed_numbers(given, name)
    elif given.dtype.kind not in "iufb":
        raise InputError(f"{name}: expected numbers, got {given.dtype}")
    with np.errstate(over="ignore", invalid="ignore"):
        found = given.astype(dtype)
    if np.issubdtype(dtype, np.integer) and not np.array_equal(found, given):
        raise InputError(f"{name}: expected whole numbers of type {np.dtype(dtype).name}")
    return found


def seconds_of(values: Any, name: str) -> np.ndarray:
    """Times as float64[n], seconds since 1970 UTC; a time without a zone is taken as UTC.

    Args:
        values: Seconds, dates, times or ISO 8601 strings [n]: a list, an array, a Series of polars
            or of pandas.
        name: What an error calls them.

    Raises:
        InputError: A value is missing, masked, or no time.
    """
    given = _present(values, name)
    if isinstance(given, np.ndarray):
        if given.dtype.kind == "M" and np.datetime_data(given.dtype)[0] != "generic":
            years = given.astype("datetime64[Y]").astype(np.int64)
            far = (np.abs(years) > _MOST_YEARS) & ~np.isnat(given)
            _refuse_at(far, name, "beyond the calendar")
            given = pl.Series(name, given.astype("datetime64[us]"))
        elif given.dtype.kind not in "iuf":
            raise InputError(f"{name}: expected seconds, dates or ISO strings, got {given.dtype}")
    elif isinstance(given, list):
        # One by one: neither several zones nor whole numbers beside others have a common type.
        found = [_moment(value) for value in given]
        if None in found:
            at = found.index(None)
            raise InputError(time_fault(f"{name}[{at}]", given[at], AUTO))
        is_text = any(isinstance(one, str) for one in found)
        given = pl.Series(name, list(map(str, found)) if is_text else found)
    return times_of(given)


def columns_of(frame: Any, roles: Mapping[str, Any]) -> list[Any]:
    """The columns of a table that play some roles.

    Args:
        frame: A polars or pandas frame, an Arrow table, a mapping from names to columns, or
            whatever else ``polars.DataFrame`` takes. What is lazy is computed once, so that rows of
            different columns belong together.
        roles: The column's name for each role; None for a role that no column plays.

    Returns:
        A column for each role, None where its name is.

    Raises:
        InputError: It is no table, or a column is missing or stands twice.
    """
    wanted = [name for name in roles.values() if name is not None]
    if isinstance(frame, pl.LazyFrame):
        try:
            _check_names(frame.collect_schema().names(), roles)
            frame = frame.select(list(dict.fromkeys(wanted))).collect()
        except pl.exceptions.PolarsError as error:
            reason = first_line(error)
            raise InputError(f"this lazy frame cannot be computed; polars says: {reason}") from None
    is_pandas = hasattr(frame, "columns") and hasattr(frame, "to_numpy")
    if not (isinstance(frame, (Mapping, pl.DataFrame)) or is_pandas):
        try:
            frame = pl.DataFrame(frame)
        except (TypeError, ValueError, pl.exceptions.PolarsError):
            raise InputError(
                "expected a table (polars, pandas, Arrow or a mapping of columns), got "
                f"{type(frame).__name__}; columns go to Interactions.from_arrays, a sparse matrix "
                "to Interactions.from_scipy"
            ) from None
    _check_names(list(frame if isinstance(frame, Mapping) else frame.columns), roles)
    return [None if name is None else frame[name] for name in roles.values()]


def _check_names(names: Sequence[Any], roles: Mapping[str, Any]) -> None:
    for role, wanted in roles.items():
        if wanted is None:
            continue
        if wanted not in names:
            raise InputError(
                f"{role}={wanted!r}: no such column; the columns are "
                f"{', '.join(str(name) for name in names) or 'none'}"
            )
        if list(names).count(wanted) > 1:
            raise InputError(
                f"{role}={wanted!r}: expected one column of that name, there are "
                f"{list(names).count(wanted)}; rename or drop the others"
            )


def _present(values: Any, name: str) -> pl.Series | np.ndarray | list[Any]:
    """A column without a mask, none of its values masked or missing.

    Returns:
        What polars holds as it is, an array [n] of one of NumPy's own types, or a list.
    """
    if isinstance(values, np.ma.MaskedArray):
        _refuse_at(np.ma.getmaskarray(values).ravel(), name, "masked")
        values = values.data
    if isinstance(values, pl.Series):
        _refuse_at(values.is_null().to_numpy(), name, "missing")
        return values
    if hasattr(values, "isna") and hasattr(values, "to_numpy"):
        if getattr(values, "nlevels", 1) > 1 or getattr(values, "ndim", 1) != 1:
            raise InputError(f"{name}: expected one value a row, got {type(values).__name__}")
        _refuse_at(np.asarray(values.isna(), bool), name, "missing")
        zoned = getattr(values.dtype, "tz", None) is not None
        values = values.to_numpy(dtype="datetime64[us]") if zoned else values.to_numpy()
    if hasattr(values, "dtype") and hasattr(values, "__array__"):
        values = np.asarray(values)
        if values.ndim != 1:
            raise InputError(f"{name}: expected one value a row, got shape {values.shape}")
        return values.tolist() if values.dtype.kind in "OUST" else values
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise InputError(f"{name}: expected a column, got {values!r}")
    values = list(values)
    # NumPy would turn one into "not a number".
    _refuse_at(np.array([one is np.ma.masked for one in values], bool), name, "masked")
    return values


def _refuse_at(where: np.ndarray, name: str, what: str) -> None:
    if where.any():
        count = int(where.sum())
        raise InputError(
            f"{name}[{int(where.argmax())}]: expected a value, but it is {what}"
            f"{f', as are {count - 1:,} others' if count > 1 else ''}; leave such rows out first"
        )


def _series_numbers(column: pl.Series, name: str) -> np.ndarray | list[Any]:
    if column.dtype in (pl.Categorical, pl.Enum, pl.String, pl.Object):
        return column.to_list()
    if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        raise InputError(f"{name}: expected numbers, got {column.dtype}")
    is_wide = column.dtype.is_decimal() or str(column.dtype).endswith("Int128")
    return (column.cast(pl.Float64) if is_wide else column).to_numpy()


def _listed_numbers(values: list[Any], name: str) -> np.ndarray:
    if set(map(type, values)) <= {int, float, bool}:
        with suppress(OverflowError):
            return np.array(values, np.float64)
    return np.array([_number(f"{name}[{at}]", value) for at, value in enumerate(values)])


def _number(name: str, value: Any) -> float:
    # Of NumPy's durations and moments the scalar may be an integer.
    plain = None if isinstance(value, (*_DURATIONS, np.datetime64)) else scalar(value)
    if isinstance(plain, (numbers.Real, decimal.Decimal, str)):
        try:
            return float(plain)
        except ValueError:
            pass
        except OverflowError:
            return float("inf")
    raise InputError(f"{name}: expected a number, got {value!r}")


def _moment(value: Any) -> float | str | None:
    """One time as seconds, or as the text that it is; None for what is no time."""
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]").item()
        # An integer where it is beyond the calendar.
        return _moment(value) if isinstance(value, datetime.date) else None
    value = None if isinstance(value, _DURATIONS) else scalar(value)
    if isinstance(value, str):
        return value
    if isinstance(value, datetime.datetime):
        if value != value:  # pandas' NaT
            return None
        zoned = value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
        return (zoned - _EPOCH).total_seconds()
    if isinstance(value, datetime.date):
        return (value - _EPOCH.date()).total_seconds()
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    try:
        return float(value) if is_number else None
    except OverflowError:
        return None
