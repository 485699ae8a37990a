"""A column of raw features, which has one of five kinds.

===========  ==========================  ============================================
kind         values of a row             a polars column of this type gets it unasked
===========  ==========================  ============================================
vector       w floats                    Array or List of numbers
text         a string or None            String
category     one value or None           Boolean, Enum, Categorical
categories   a list of values            List(String)
number       a float, NaN where missing  integers, floats, decimals; dates, times and durations,
                                         in days (of a date: since 1970, in UTC)
===========  ==========================  ============================================

Nothing is guessed from the values: a String column of few distinct ones is text unless declared a
category. A declared kind converts what it can: numbers and truth values are categories by their
written form, and a String column declared ``categories`` is split at ``|``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import polars as pl

from lightgcn_jax.errors import InputError, first_line
from pinsage_jax.features.inputs import require

Kind = Literal["vector", "text", "category", "categories", "number"]
Missing = Literal["error", "zero"]

DAY = 86_400.0
"""Seconds of a day, in which dates and times are numbers."""
SEPARATOR = "|"
"""What stands between the values of a list that is written as one string."""

_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class Column:
    """One feature of I items.

    Attributes:
        kind: what the values are.
        values: vectors as ``float32[I, w]``, numbers as ``float64[I]`` (NaN where one is missing),
            texts and single categories as a list of I strings or None, several categories as a
            list of I lists of strings. A table brings what it is given into this form.
        missing: ``bool[I]``, the rows without a vector, whose values are 0; None where every row
            has one, and for other kinds.
    """

    kind: Kind
    values: Any
    missing: np.ndarray | None = None

    def absent(self) -> np.ndarray:
        """The rows without a value, ``bool[I]``; an empty text or list counts as no value."""
        if self.kind == "vector":
            return np.zeros(len(self.values), bool) if self.missing is None else self.missing
        if self.kind == "number":
            return np.isnan(self.values)
        return np.fromiter((not value for value in self.values), bool, len(self.values))

    def take(self, rows: np.ndarray) -> Column:
        """Take the values of some rows.

        Args:
            rows: ``int[n]``; −1 gives a row without a value.
        """
        if self.kind in ("vector", "number"):
            blank, there = 0 if self.kind == "vector" else np.nan, rows >= 0
            values = np.full((len(rows), *self.values.shape[1:]), blank, self.values.dtype)
            values[there] = self.values[rows[there]]
            # −1 is the last row, which is added here and below.
            missing = np.append(self.absent(), True)[rows]
            whole = self.kind == "number" or not missing.any()
            return Column(self.kind, values, None if whole else missing)
        texts = [*self.values, [] if self.kind == "categories" else None]
        return Column(self.kind, [texts[row] for row in rows.tolist()])

    def followed_by(self, other: Column) -> Column:
        """Put the values of a column behind these.

        Args:
            other: a column of the same kind, vectors of the same width.
        """
        if self.kind not in ("vector", "number"):
            return Column(self.kind, [*self.values, *other.values])
        missing = None
        if self.missing is not None or other.missing is not None:
            missing = np.concatenate([self.absent(), other.absent()])
        return Column(self.kind, np.concatenate([self.values, other.values]), missing)


def kind_of(series: pl.Series) -> Kind:
    """Tell which kind a column's type stands for.

    Args:
        series: the column.

    Raises:
        InputError: the type has no kind of its own.
    """
    dtype = series.dtype
    if dtype == pl.String:
        return "text"
    if dtype == pl.Boolean or isinstance(dtype, (pl.Enum, pl.Categorical)):
        return "category"
    if dtype.is_numeric() or dtype.is_temporal():
        return "number"
    if isinstance(dtype, (pl.List, pl.Array)):
        inner: Any = dtype.inner
        if inner.is_numeric():
            return "vector"
        if inner in (pl.String, pl.Categorical) or isinstance(inner, pl.Enum):
            return "categories"
    raise InputError(
        f"column {series.name!r}: no kind of feature has the type {dtype}; "
        f"declare one of {', '.join(get_args(Kind))} that it can be read as, convert it, or leave "
        f"it out (--skip-columns {series.name})"
    )


def column_of(name: str, values: Any, kind: Kind | None, missing: Missing) -> Column:
    """Turn a Column, a Series, an array or a list into the column that it stands for.

    Args:
        name: what the column is called.
        values: I values.
        kind: what the values are; None takes what their type stands for.
        missing: what becomes of a vector with a NaN or infinite entry: an ``error``, or a missing
            vector, which the encoder sees as ``zero``.

    Raises:
        InputError: the values are not of the kind.
    """
    if isinstance(values, Column):
        same = kind in (None, values.kind)
        require(same, f"column {name!r}", f"kind {kind}", values.kind)
        if values.kind == "vector":
            return _vectors(name, values.values, values.missing, missing)
        return values
    known = kind in (None, *get_args(Kind))
    require(known, f"column {name!r}", f"a kind of {', '.join(get_args(Kind))}", kind)
    if isinstance(values, np.ndarray) and values.ndim == 2 and kind in (None, "vector"):
        return _vectors(name, values, None, missing)
    if not isinstance(values, pl.Series):
        values = _series(name, values)
    kind = kind or kind_of(values.alias(name))
    if kind == "vector":
        return _series_vectors(name, values, missing)
    if kind == "number":
        return _series_numbers(name, values)
    if kind == "categories":
        return _series_categories(name, values)
    return Column(kind, _cast(name, values, pl.String).to_list())


def _series(name: str, values: Any) -> pl.Series:
    if isinstance(values, np.ndarray) and values.dtype.kind in "OU":
        values = values.tolist()
    try:
        return pl.Series(name, values)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        reason = first_line(error)
        raise InputError(f"column {name!r}: expected values of one type: {reason}") from error


def _cast(name: str, series: pl.Series, dtype: Any) -> pl.Series:
    try:
        return series.cast(dtype)
    except pl.exceptions.PolarsError:
        raise InputError(f"column {name!r}: cannot turn {series.dtype} into {dtype}") from None


def _series_vectors(name: str, series: pl.Series, missing: Missing) -> Column:
    dtype = series.dtype
    inner: Any = dtype.inner if isinstance(dtype, (pl.List, pl.Array)) else None
    if inner is None or not (inner.is_numeric() or inner == pl.Null):
        raise InputError(f"column {name!r}: expected lists of numbers, got {dtype}")
    if isinstance(dtype, pl.List):
        # A list without an entry stands for no vector, unless there is no other.
        series = series.set((series.list.len() == 0).fill_null(False), None)
    absent = series.is_null().to_numpy()
    present = series.drop_nulls()
    real = pl.Float32 if inner == pl.Float32 else pl.Float64
    if isinstance(dtype, pl.List):
        widths = present.list.len()
        first = int(widths[0]) if len(widths) else 1
        if (odd := widths != first).any():
            at = int(odd.arg_true()[0])
            row = np.flatnonzero(~absent)[at]
            raise _odd(name, row, f"{first} entries as before", int(widths[at]))
        present = present.cast(pl.List(real)).list.to_array(first)
    width = present.dtype.shape[0]  # pyright: ignore[reportAttributeAccessIssue]
    values = np.zeros((len(series), width), np.float32 if real == pl.Float32 else np.float64)
    # A null within a vector becomes NaN, which is no number either.
    values[~absent] = _cast(name, present, pl.Array(real, width)).to_numpy()
    return _vectors(name, values, absent, missing)


def _vectors(name: str, values: Any, absent: np.ndarray | None, missing: Missing) -> Column:
    """Vectors as ``float32[I, w]``, with zeros in place of a missing one."""
    given = np.asarray(values)
    if given.ndim != 2 or given.dtype.kind not in "fiub" or not given.shape[1]:
        raise InputError(
            f"column {name!r}: expected vectors of one width, float [items, width], "
            f"got {given.dtype} of shape {given.shape}"
        )
    with np.errstate(over="ignore"):
        vectors = given.astype(np.float32)
    absent = np.zeros(len(given), bool) if absent is None else np.asarray(absent)
    if absent.shape != (len(given),) or absent.dtype != bool:
        raise InputError(f"column {name!r}: expected missing as a truth value for each row")
    vectors[absent] = 0
    broken = ~np.isfinite(vectors).all(axis=1)
    if missing == "error" and broken.any():
        row = int(broken.argmax())
        at = int((~np.isfinite(vectors[row])).argmax())
        raise _odd(name, row, "finite numbers that float32 holds", given[row, at].item())
    vectors[broken] = 0
    absent = absent | broken
    return Column("vector", vectors, absent if absent.any() else None)


def _series_numbers(name: str, series: pl.Series) -> Column:
    if series.dtype == pl.String:
        written = series.str.strip_chars()
        written = written.set(written == "", None)
        numbers = written.cast(pl.Float64, strict=False)
        if (odd := numbers.is_null() & written.is_not_null()).any():
            row = int(odd.arg_true()[0])
            raise _odd(name, row, "a number", series[row])
    elif series.dtype.is_numeric() or series.dtype in (pl.Boolean, pl.Null):
        numbers = _cast(name, series, pl.Float64)
    elif series.dtype.is_temporal():
        numbers = _days(series)
    else:
        raise InputError(f"column {name!r}: expected numbers, got {series.dtype}")
    return Column("number", numbers.fill_null(np.nan).to_numpy())


def _days(series: pl.Series) -> pl.Series:
    """Dates as days since 1970 in UTC, durations and times of day as days."""
    if series.dtype == pl.Date:
        return series.cast(pl.Int32).cast(pl.Float64)
    if isinstance(series.dtype, pl.Datetime):
        return series.dt.epoch("us").cast(pl.Float64) / (DAY * 1e6)
    if series.dtype == pl.Time:
        return series.cast(pl.Int64).cast(pl.Float64) / (DAY * 1e9)
    return series.dt.total_microseconds().cast(pl.Float64) / (DAY * 1e6)


def _series_categories(name: str, series: pl.Series) -> Column:
    if series.dtype == pl.String:
        parts = series.str.split(SEPARATOR).to_list()
        return Column("categories", [[one.strip() for one in row or ()] for row in parts])
    if not isinstance(series.dtype, (pl.List, pl.Array)) and series.dtype != pl.Null:
        raise InputError(f"column {name!r}: expected lists of values, got {series.dtype}")
    return Column("categories", _cast(name, series, pl.List(pl.String)).to_list())


def checked_column(name: str, column: Column, num_rows: int) -> Column:
    """Bring a column into the form that ``Column`` describes.

    Args:
        name: what it is called.
        column: the values.
        num_rows: I.

    Raises:
        InputError: it has other than ``num_rows`` rows, or a value is not of its kind.
    """
    where, kinds = f"column {name!r}", get_args(Kind)
    fine = isinstance(column, Column) and column.kind in kinds
    require(fine, where, f"a Column of kind {', '.join(kinds)}", column)
    values = column.values
    require(len(values) == num_rows, where, f"{num_rows} rows", len(values))
    if column.kind == "vector":
        return _vectors(name, values, column.missing, "error")
    require(column.missing is None, where, "missing for vectors alone", column.kind)
    if column.kind == "number":
        return Column("number", _numbers(name, values))
    values = values.tolist() if hasattr(values, "tolist") else values
    read = {"text": _text, "category": _category, "categories": _categories}[column.kind]
    return Column(column.kind, [read(name, row, one) for row, one in enumerate(values)])


def _numbers(name: str, values: Any) -> np.ndarray:
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"column {name!r}: expected numbers, NaN where one is missing") from None
    if numbers.ndim != 1:
        raise InputError(f"column {name!r}: expected one number a row, got shape {numbers.shape}")
    if (odd := np.abs(numbers) > _FLOAT32_MAX).any():
        row = int(odd.argmax())
        raise _odd(name, row, "a finite number that float32 holds", numbers[row].item())
    return numbers


def _text(name: str, row: int, value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise _odd(name, row, "a string or None", value)
    return value


def _category(name: str, row: int, value: Any) -> str | None:
    """A value by its written form; an empty string is no value."""
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if value is not None and not isinstance(value, str):
        raise _odd(name, row, "a string, an integer or None", value)
    return value or None


def _categories(name: str, row: int, values: Any) -> list[str]:
    """The values of a list, each once, in their order."""
    if values is None:
        return []
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise _odd(name, row, "a list of values", values)
    written = (_category(name, row, value) for value in values)
    return list(dict.fromkeys(value for value in written if value is not None))


def _odd(name: str, row: Any, expected: str, got: Any) -> InputError:
    return InputError(f"column {name!r}, row {int(row)}: expected {expected}, got {got!r}")
