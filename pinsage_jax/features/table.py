"""The raw features of items: a table of columns, row after row in the order of the items."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import polars as pl

from lightgcn_jax.errors import InputError
from pinsage_jax.features.columns import Column, Kind, Missing, checked_column, column_of
from pinsage_jax.features.inputs import checked_integers, require


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """The features of I items, row after row in the order of the items.

    Attributes:
        columns: the columns by name, in the order in which the encoder meets them; there may be
            none.
        num_rows: I.

    Raises:
        InputError: a column has other than I rows, or a value is not of the column's kind: a NaN or
            infinite entry of a vector, an infinite number, vectors of several widths.
    """

    columns: Mapping[str, Column]
    num_rows: int

    def __post_init__(self) -> None:
        for name in self.columns:
            fine = isinstance(name, str) and name and name == name.strip()
            require(fine, "columns", "names without blanks around them", name)
        given, rows = self.columns.items(), self.num_rows
        sound = {name: checked_column(name, column, rows) for name, column in given}
        object.__setattr__(self, "columns", sound)

    @classmethod
    def from_frame(
        cls,
        frame: pl.DataFrame,
        kinds: Mapping[str, Kind] | None = None,
        *,
        missing: Missing = "error",
    ) -> FeatureTable:
        """Take the columns of a polars frame.

        Args:
            frame: I rows; a null is a missing value.
            kinds: kinds by column; a column that is not named has the kind of its type
                (:mod:`pinsage_jax.features.columns`).
            missing: what becomes of a vector with a NaN or infinite entry: it is an ``error``, or
                it counts as missing, which the encoder sees as zeros (the mean of training).

        Raises:
            InputError: a column does not fit its kind, or has a type without one.
        """
        columns = {series.name: series for series in frame.iter_columns()}
        return cls.from_mapping(columns, kinds, num_rows=frame.height, missing=missing)

    @classmethod
    def from_mapping(
        cls,
        columns: Mapping[str, Any],
        kinds: Mapping[str, Kind] | None = None,
        *,
        num_rows: int | None = None,
        missing: Missing = "error",
    ) -> FeatureTable:
        """Take columns by name: ``Column``, polars Series, arrays (vectors as rows) or lists.

        Args:
            columns: columns of I rows each, by name.
            kinds: as ``from_frame`` takes them.
            num_rows: I, needed where there is no column.
            missing: as ``from_frame`` takes it.
        """
        policies, kinds = get_args(Missing), kinds or {}
        require(missing in policies, "missing", " or ".join(policies), missing)
        check_known("kinds", kinds, columns)
        made = {key: column_of(key, one, kinds.get(key), missing) for key, one in columns.items()}
        if num_rows is None:
            require(made, "num_rows", "the number of items where no column tells it", None)
            num_rows = len(next(iter(made.values())).values)
        return cls(made, num_rows)

    def select(self, names: Iterable[str]) -> FeatureTable:
        """Take some of the columns.

        Args:
            names: their names, in the order that they get.

        Raises:
            InputError: there is no column of a name.
        """
        names = list(names)
        check_known("columns", names, self.columns)
        return _sound_table({name: self.columns[name] for name in names}, self.num_rows)

    def take(self, rows: Any) -> FeatureTable:
        """Take some of the rows.

        Args:
            rows: ``int[n]`` in the order that they get; −1 gives a row without features.
        """
        wanted = checked_integers("rows", rows, -1, self.num_rows)
        taken = {name: column.take(wanted) for name, column in self.columns.items()}
        return _sound_table(taken, len(wanted))

    def followed_by(self, other: FeatureTable) -> FeatureTable:
        """Put the rows of a table behind these.

        Args:
            other: a table with the same columns, of the same kinds and widths.
        """
        columns = {name: one.followed_by(other.columns[name]) for name, one in self.columns.items()}
        return _sound_table(columns, self.num_rows + other.num_rows)

    def missing(self) -> dict[str, int]:
        """How many rows have no value, by column."""
        return {name: int(column.absent().sum()) for name, column in self.columns.items()}


def check_known(field: str, names: Iterable[str], columns: Mapping[str, Any]) -> None:
    """Raise an InputError where a table lacks columns.

    Args:
        field: who asks for them.
        names: the columns that are asked for.
        columns: the columns that are there.
    """
    if missing := [name for name in names if name not in columns]:
        raise InputError(
            f"{field}: expected the columns {', '.join(map(repr, missing))}, which are missing; "
            f"there are {', '.join(map(repr, columns)) or 'none'}"
        )


def _sound_table(columns: Mapping[str, Column], num_rows: int) -> FeatureTable:
    """A table of columns that a table has checked before."""
    table = object.__new__(FeatureTable)
    object.__setattr__(table, "columns", dict(columns))
    object.__setattr__(table, "num_rows", num_rows)
    return table
