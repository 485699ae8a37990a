"""Columns of arrays and frames -> ids, numbers and times that hold what was given, or an error.

What is masked or missing is named by its row and never stands for the value that lies beneath it;
a number with a second part (complex) or with a unit (a duration, a date) is no rating.
"""

import datetime
import decimal
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from lightgcn_jax.data.ids import clean_ids
from lightgcn_jax.data.times import times_of
from lightgcn_jax.errors import InputError

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
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
    values = _present(values, name)
    if isinstance(values, pl.Series):
        values = _series_numbers(values, name)
    given = np.asarray(values)
    if given.dtype.kind not in "iufb":
        if given.dtype.kind not in "OUS":
            raise InputError(f"{name}: expected numbers, got {given.dtype}")
        given = np.array([_number(f"{name}[{at}]", one) for at, one in enumerate(given.tolist())])
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
    values = _present(values, name)
    if isinstance(values, np.ndarray):
        if values.dtype.kind in "bcm":
            raise InputError(f"{name}: expected seconds, dates or ISO strings, got {values.dtype}")
        if values.dtype.kind == "M":
            values = pl.Series(name, values.astype("datetime64[us]"))
        elif values.dtype.kind in "OU":
            values = values.tolist()
    if isinstance(values, Sequence) and not isinstance(values, (str, bytes)):
        # One by one: neither several zones nor whole numbers beside others have a common type.
        found = [_moment(value) for value in values]
        if None in found:
            at = found.index(None)
            raise InputError(
                f"{name}[{at}]: expected seconds, a date or an ISO 8601 string, got {values[at]!r}"
            )
        is_text = any(isinstance(one, str) for one in found)
        values = pl.Series(name, map(str, found) if is_text else found)
    return times_of(values)


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
            reason = str(error).splitlines()[0]
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


def _present(values: Any, name: str) -> Any:
    """Values without a mask, none of them masked or missing; those of pandas as NumPy's."""
    if isinstance(values, np.ma.MaskedArray):
        _refuse_at(np.ma.getmaskarray(values), name, "masked")
        return values.data
    if isinstance(values, pl.Series):
        _refuse_at(values.is_null().to_numpy(), name, "missing")
    elif hasattr(values, "isna") and hasattr(values, "to_numpy"):
        _refuse_at(np.asarray(values.isna(), bool), name, "missing")
        zoned = getattr(values.dtype, "tz", None) is not None
        return values.to_numpy(dtype="datetime64[us]") if zoned else values.to_numpy()
    return values


def _refuse_at(where: np.ndarray, name: str, what: str) -> None:
    if where.any():
        count = int(where.sum())
        raise InputError(
            f"{name}[{int(where.argmax())}]: expected a value, but it is {what}"
            f"{f', as are {count - 1:,} others' if count > 1 else ''}; leave such rows out first"
        )


def _series_numbers(column: pl.Series, name: str) -> Any:
    if column.dtype in (pl.Categorical, pl.Enum, pl.String, pl.Object):
        return column.to_list()
    if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        raise InputError(f"{name}: expected numbers, got {column.dtype}")
    return column.cast(pl.Float64).to_numpy() if column.dtype.is_decimal() else column.to_numpy()


def _number(name: str, value: Any) -> float:
    is_number = isinstance(value, (numbers.Real, decimal.Decimal, str))
    if not isinstance(value, _DURATIONS) and is_number:
        try:
            return float(value)
        except ValueError:
            pass
        except OverflowError:
            return float("inf")
    raise InputError(f"{name}: expected a number, got {value!r}")


def _moment(value: Any) -> float | str | None:
    """One time as seconds, or as the text that it is; None for what is no time."""
    if isinstance(value, str):
        return value
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]").item()
    if isinstance(value, datetime.datetime):
        zoned = value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
        return (zoned - _EPOCH).total_seconds()
    if isinstance(value, datetime.date):
        return (value - _EPOCH.date()).total_seconds()
    is_number = isinstance(value, numbers.Real) and not isinstance(value, (bool, *_DURATIONS))
    return float(value) if is_number else None
