"""Ids: the names that the outside world gives users and items, and their rows here."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from lightgcn_jax.errors import InputError
from lightgcn_jax.fields import scalar

# What pandas takes for missing, and what databases and R write in the place of a missing value.
NULL_SPELLINGS = (
    *("nan", "NaN", "NAN", "-nan", "-NaN", "NaT", "null", "NULL", "Null", "None", "<NA>", "NA"),
    *("n/a", "N/A", "#N/A", "#NA", "\\N", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
)
"""Ids that cannot be meant: spellings of a missing value."""
# Control characters, blanks without width, marks of the byte order, and undecodable bytes.
_UNSEEN = "\x00-\x1f\x7f-\x9f\u200b\u2028\u2029\u2060\ufeff\ufffd"
# Ids that are looked up one by one.
_FEW = 8
# Integers that lie no further apart on average are looked up in a table: 16 bytes an id.
_SPREAD = 4


@dataclass(frozen=True, eq=False)
class IdMap:
    """External ids and their rows: row r belongs to the external id ``ids[r]``.

    An integer map also understands the decimal form of its ids ("12", as a command line hands
    them over), and a string map understands integers by their decimal form.

    Attributes:
        ids: Int64 or String [n], unique, without nulls.
    """

    ids: pl.Series

    def __post_init__(self) -> None:
        if self.ids.dtype not in (pl.Int64, pl.String):
            raise InputError(f"ids: expected Int64 or String, got {self.ids.dtype}")
        if self.ids.null_count():
            raise InputError(f"ids: {self.ids.null_count()} of {len(self.ids)} are missing")
        if len(self.ids) >= 2**31:
            raise InputError(f"ids: rows are int32, so fewer than 2^31 fit, got {len(self.ids)}")
        if self.ids.n_unique() != len(self.ids):
            repeated = self.ids.filter(self.ids.is_duplicated()).first()
            raise InputError(f"ids: expected unique ids, but {repeated!r} stands twice")

    @classmethod
    def from_values(cls, values: Any) -> "IdMap":
        """Gives the distinct ids among some values rows in ascending order.

        Args:
            values: External ids, integers or strings: a list, an array or a Series.

        Raises:
            InputError: A value is missing, or is neither an integer nor a string.
        """
        return cls(as_ids(values).unique().sort().rename("id"))

    def __len__(self) -> int:
        return len(self.ids)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IdMap):
            return NotImplemented
        return self.ids.dtype == other.ids.dtype and self.ids.equals(other.ids)

    def __repr__(self) -> str:
        return f"IdMap({len(self)} {self.ids.dtype} ids)"

    def rows(self, values: Any) -> np.ndarray:
        """Looks rows up.

        Args:
            values: n external ids, integers or strings: a list, an array or a Series.

        Returns:
            int32[n], -1 where the id is unknown.

        Raises:
            InputError: A value is missing, or is neither an integer nor a string.
        """
        wanted = as_ids(values)
        if self.ids.dtype == pl.String:
            return self._search(wanted.cast(pl.String))
        if wanted.dtype == pl.Int64:
            return self._search(wanted)
        numbers, known_form = canonical_integers(wanted)
        return np.where(known_form, self._search(numbers.fill_null(0)), np.int32(-1))

    def row(self, value: int | str) -> int:
        """The row of one external id.

        Args:
            value: The id, or the decimal form of an integer id.

        Raises:
            InputError: The id is unknown.
        """
        found = int(self.rows([value])[0])
        if found < 0:
            example = f"; known ids look like {self.ids[0]!r}" if len(self) else ""
            raise InputError(f"unknown id {value!r}: none of the {len(self)} known ids{example}")
        return found

    def external(self, rows: Any) -> list[int | str]:
        """The external ids of rows, in their order.

        Args:
            rows: int[n].

        Raises:
            InputError: A row is out of range, or is no integer.
        """
        wanted = np.asarray(rows).reshape(-1)
        if wanted.size and wanted.dtype.kind not in "iu":
            raise InputError(f"rows: expected integers, got {wanted.dtype}")
        wanted = wanted.astype(np.int64)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= len(self)):
            outside = wanted[(wanted < 0) | (wanted >= len(self))][0]
            raise InputError(f"row {outside} is outside 0 … {len(self) - 1}")
        # Not gather, which plans an expression each time.
        return self.ids[wanted].to_list()

    def grow(self, values: Any) -> "IdMap":
        """A map that also knows other ids.

        Known ids keep their rows and unknown ids follow in ascending order. An integer map that
        meets a string which is no integer becomes a string map, with the same rows.

        Args:
            values: External ids, known ones among them or not.
        """
        added = as_ids(values)
        known = self.ids
        if known.dtype == pl.Int64 and added.dtype == pl.String:
            numbers, is_integer = canonical_integers(added)
            if is_integer.all():
                added = numbers
            else:
                known = known.cast(pl.String)
        elif known.dtype == pl.String:
            added = added.cast(pl.String)
        unknown = added.unique()
        unknown = unknown.filter(IdMap(known)._search(unknown) < 0).sort()
        return IdMap(pl.concat([known.rename("id"), unknown.rename("id")]))

    @cached_property
    def _sorted(self) -> tuple[pl.Series, np.ndarray]:
        """The ids in ascending order, and the row of each: what a binary search needs."""
        order = self.ids.arg_sort().cast(pl.Int32)
        return self.ids.gather(order), order.to_numpy()

    @cached_property
    def _dense(self) -> tuple[int, np.ndarray] | None:
        """The lowest id and the row of each id from there on, -1 where there is none.

        None for strings, and for integers that lie so far apart that the table would be large.
        """
        if self.ids.dtype != pl.Int64:
            return None
        low, high = int(self.ids.min()), int(self.ids.max())  # pyright: ignore[reportArgumentType]
        if high - low >= _SPREAD * len(self):
            return None
        table = np.full(high - low + 1, -1, dtype=np.int32)
        table[self.ids.to_numpy() - low] = np.arange(len(self), dtype=np.int32)
        return low, table

    def _search(self, wanted: pl.Series) -> np.ndarray:
        """Rows int32[n] of ids that already have this map's type, -1 where unknown."""
        if len(self) == 0 or len(wanted) == 0:
            return np.full(len(wanted), -1, dtype=np.int32)
        if self._dense is not None:
            low, table = self._dense
            values = wanted.to_numpy()
            if values.min() >= low and values.max() < low + len(table):
                return table.take(values - low if low else values)  # one pass in place of five
            inside = (values >= low) & (values < low + len(table))
            return np.where(inside, table[np.where(inside, values - low, 0)], np.int32(-1))
        ids, row_of = self._sorted
        if len(wanted) <= _FEW:
            # An expression of polars takes longer to plan. Both order strings by their code points.
            few = [(one, bisect_left(ids, one)) for one in wanted.to_list()]
            found = [
                row_of[at] if at < len(ids) and ids[at] == one else np.int32(-1) for one, at in few
            ]
            return np.array(found, np.int32)
        place = np.minimum(ids.search_sorted(wanted).to_numpy(), len(ids) - 1)
        return np.where((ids.gather(place) == wanted).to_numpy(), row_of[place], np.int32(-1))


def as_ids(values: Any, name: str = "ids") -> pl.Series:
    """External ids as a column of type Int64 or String.

    Args:
        values: Integers or strings [n]: a list, an array or a Series. In a list that mixes the
            two, integers stand for their decimal form.
        name: What an error calls them.

    Raises:
        InputError: A value is missing, or is neither an integer nor a string.
    """
    if values is None or isinstance(values, (str, bytes, Mapping)):
        raise InputError(f"{name}: expected a column of ids, got {values!r}")
    if isinstance(values, np.ndarray) and values.dtype.kind in "OU":
        values = values.tolist()
    elif isinstance(values, Iterable) and not hasattr(values, "dtype"):
        values = values if isinstance(values, Sequence) else list(values)
    if isinstance(values, Sequence):
        kinds = set(map(type, values))
        if any(getattr(kind, "ndim", None) is not None for kind in kinds):
            # A moment of NumPy's would become an integer.
            is_time = [isinstance(value, (np.datetime64, np.timedelta64)) for value in values]
            values = [
                value if one else scalar(value) for value, one in zip(values, is_time, strict=True)
            ]
            kinds = {type(value) for value in values}
        if not all(issubclass(kind, (str, int)) and kind is not bool for kind in kinds):
            at, odd = next(
                (at, value)
                for at, value in enumerate(values)
                if isinstance(value, bool) or not isinstance(value, (str, int))
            )
            raise InputError(f"{name}[{at}]: expected an integer or a string, got {odd!r}")
        if any(issubclass(kind, str) for kind in kinds):
            values = [str(value) for value in values]
    try:
        try:
            column = pl.Series(name, values)
        except TypeError:  # an array of JAX, for instance
            column = pl.Series(name, np.asarray(values))
        if column.dtype.is_integer() or len(column) == 0:
            column = column.cast(pl.String if column.dtype == pl.String else pl.Int64)
        elif column.dtype in (pl.Categorical, pl.Enum):
            column = column.cast(pl.String)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
        found = _beyond_int64(values)
        raise InputError(f"{name}: expected integers of 64 bits or strings, got {found}") from None
    if column.dtype == pl.Object:
        raise InputError(
            f"{name}: expected integers of 64 bits or strings, got {_beyond_int64(values)}"
        )
    if column.dtype not in (pl.Int64, pl.String):
        hint = ""
        if column.dtype.is_float():
            hint = (
                "; pandas turns integers into floats where one is missing: leave such rows out, "
                "then astype('int64')"
            )
        raise InputError(f"{name}: expected integers or strings, got {column.dtype}{hint}")
    if column.null_count():
        at = column.is_null().arg_max()
        raise InputError(f"{name}[{at}]: expected an integer or a string, but it is missing")
    return column


def _beyond_int64(values: Any) -> str:
    """The first integer that does not fit, or what the values are instead."""
    with suppress(TypeError, ValueError):
        for at, value in enumerate(values):
            # NumPy counts durations among the integers.
            whole = isinstance(value, (int, np.integer)) and not isinstance(value, np.timedelta64)
            if whole and not -(2**63) <= value < 2**63:
                return f"{value} at {at}"
    return type(values).__name__


def clean_ids(values: Any, name: str = "ids", *, null_ids: bool = False) -> pl.Series:
    """External ids of arrays by the policy of :func:`judged_ids`.

    Args:
        values: As for :func:`as_ids`.
        name: What an error calls them.
        null_ids: Whether spellings of a missing value are ids.

    Returns:
        Int64 or String [n].

    Raises:
        InputError: An id is refused by the policy, or is neither an integer nor a string.
    """
    given = as_ids(values, name)
    ids, bad = judged_ids(given, null_ids=null_ids)
    if bad.any():
        at = int(bad.arg_max() or 0)
        raise InputError(f"{name}[{at}]: expected an id, {id_fault(given[at])}")
    return ids


def canonical_integers(column: pl.Series) -> tuple[pl.Series, np.ndarray]:
    """Reads strings as integers where that loses nothing.

    "12" is the integer 12; "012", "+12" and "1e3" stay strings, for two ids must not become one.

    Args:
        column: String [n].

    Returns:
        Int64 [n] (null where the string is no integer), and bool[n], where it is a canonical one.
    """
    numbers = column.cast(pl.Int64, strict=False)
    is_integer = (numbers.cast(pl.String) == column).fill_null(False)
    return numbers, is_integer.to_numpy()


def judged_ids(column: pl.Series, *, null_ids: bool = False) -> tuple[pl.Series, pl.Series]:
    """The one policy for ids, from wherever they come.

    Blanks around an id are no part of it. An id is refused where it is missing or empty, holds a
    character that nobody sees (a control character, a byte-order mark, a blank without width, a
    byte that was no UTF-8), or is a spelling of a missing value (``NULL_SPELLINGS``). All others
    are told apart by their code points: case and composed accents matter.

    Args:
        column: Int64 or String [n].
        null_ids: Whether spellings of a missing value are ids.

    Returns:
        The ids [n], and Boolean [n], where one is refused; ``id_fault`` says why.
    """
    if column.dtype != pl.String:
        return column, column.is_null()
    ids = column.str.strip_chars()
    # Few ids stand behind many interactions, and most columns have no fault.
    distinct = ids.unique()
    faulty = distinct.filter(_faulty(distinct, null_ids))
    if not len(faulty):
        return ids, pl.Series([False]).new_from_index(0, len(ids))
    return ids, _faulty(ids, null_ids)


def _faulty(ids: pl.Series, null_ids: bool) -> pl.Series:
    faulty = (ids == "") | ids.str.contains(f"[{_UNSEEN}]")
    if not null_ids:
        faulty |= ids.is_in(NULL_SPELLINGS)
    return faulty.fill_null(True)


def id_fault(value: str | None) -> str:
    """Why ``judged_ids`` refuses an id, in words behind "expected an id, ".

    Args:
        value: The id.
    """
    if value is None:
        return "but it is missing"
    if not value.strip():
        return "got an empty field" if not value else f"got an empty field ({value!r})"
    if "\ufffd" in value:
        return f"got bytes that are no UTF-8 ({value!r}); pass encoding latin-1 if that is theirs"
    if value.strip() in NULL_SPELLINGS:
        return (
            f"got {value!r}, which may be a missing value or an id; "
            "pass null_ids keep (--null-ids keep) where it is an id"
        )
    return f"got {value!r}, which holds a character that cannot be seen"
