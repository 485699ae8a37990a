"""From raw features to what the encoder reads, by a schema fitted on training items alone.

===========  ======================================================================================
column       inputs
===========  ======================================================================================
vector       dense, width w: each dimension standardised; a missing vector is zeros, the mean
number       dense, width 2: the standardised value (0 where missing), and 1 where missing
text         bag: hashed words and pairs of words; and, with a text encoder, dense: its vectors,
             standardised, as input ``NAME_sentence`` (zeros for an empty text)
category     bag of one: the place in the vocabulary of training
categories   bag: the places of the values
(degree)     dense, width 1: log(1 + degree), standardised, as input ``log_degree``
===========  ======================================================================================

References:
    Ying et al. 2018, section 4.1: visual and textual features and the logarithm of the degree.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from lightgcn_jax.arrays import Array
from lightgcn_jax.errors import InputError
from pinsage_jax.features import bags
from pinsage_jax.features.bags import CategorySchema, TextEncoders, TextSchema
from pinsage_jax.features.columns import Column, Kind
from pinsage_jax.features.inputs import Input, Statistics, checked_integers, require
from pinsage_jax.features.table import FeatureTable, check_known

LOG_DEGREE = "log_degree"
_VERSION = 1

FeatureArrays = dict[str, np.ndarray | Array]
"""Encoded features by ``Input.name``."""


@dataclass(frozen=True)
class DenseSchema:
    """Vectors as they are, or numbers as pairs of the value and whether it is missing.

    Attributes:
        name: what the column is called.
        kind: ``vector`` or ``number``.
        statistics: mean and deviation of the training items.
    """

    name: str
    kind: Kind
    statistics: Statistics

    def __post_init__(self) -> None:
        require(isinstance(self.name, str) and self.name, "name", "a string", self.name)
        known = isinstance(self.statistics, Statistics)
        require(known, "statistics", "an object", self.statistics)
        width = len(self.statistics.mean)
        require(width == 1 or self.kind == "vector", "statistics", "one dimension", width)

    @classmethod
    def fit(cls, name: str, column: Column, rows: np.ndarray) -> DenseSchema:
        """Measure the training items.

        Args:
            name: what the column is called.
            column: the values of all items.
            rows: ``int[n]``, the training items.
        """
        present = rows[~column.absent()[rows]]
        return cls(name, column.kind, Statistics.fit(_matrix(column), present))

    def inputs(self) -> tuple[Input, ...]:
        """The array that ``encode`` makes."""
        flags = 1 if self.kind == "number" else 0
        return (Input.dense(self.name, len(self.statistics.mean) + flags),)

    def encode(self, column: Column, _: TextEncoders) -> dict[str, np.ndarray]:
        """Make the array of ``inputs``.

        Args:
            column: the values of the items.

        Raises:
            InputError: vectors have another width than in training.
        """
        given, width = _matrix(column), len(self.statistics.mean)
        wanted = f"vectors of {width} entries as in training"
        require(given.shape[1] == width, f"column {self.name!r}", wanted, given.shape[1])
        values = self.statistics.standardised(given, column.absent())
        if self.kind == "number":
            values = np.column_stack([values, column.absent().astype(np.float32)])
        return {self.name: values}


def _matrix(column: Column) -> np.ndarray:
    return column.values[:, None] if column.kind == "number" else column.values


ColumnSchema = DenseSchema | TextSchema | CategorySchema


@dataclass(frozen=True)
class FeatureSchema:
    """How items are encoded: fitted once, on training items, and the same for every later item.

    Attributes:
        columns: how each column is encoded, in the order of the encoder's inputs.
        degree: statistics of log(1 + degree); None where the encoder does not see degrees.
    """

    columns: tuple[ColumnSchema, ...]
    degree: Statistics | None

    def __post_init__(self) -> None:
        names = [one.name for one in self.inputs()]
        if not names:
            raise InputError("columns: expected at least one column where log_degree is off")
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise InputError(f"columns: two inputs would be called {twice[0]!r}; rename a column")

    def inputs(self) -> tuple[Input, ...]:
        """The arrays that ``encode`` makes, in the encoder's order; the degree comes last."""
        inputs = [one for column in self.columns for one in column.inputs()]
        if self.degree is not None:
            inputs.append(Input.dense(LOG_DEGREE, 1))
        return tuple(inputs)

    def encode(
        self, table: FeatureTable, degrees: Any, text_encoders: TextEncoders | None = None
    ) -> dict[str, np.ndarray]:
        """Make the arrays of ``inputs``, by name, with a row for each of the table's items.

        Args:
            table: I items; columns that the schema does not know are not read.
            degrees: ``int[I]``, contexts of each item; 0 for one without.
            text_encoders: the functions that the schema was fitted with.

        Raises:
            InputError: a column is missing or of another kind, a vector of another width, or a
                text encoder is missing.
        """
        degrees = _checked_degrees(degrees, table.num_rows)
        columns = self.read_of(table).columns
        arrays: dict[str, np.ndarray] = {}
        for one in self.columns:
            arrays |= one.encode(columns[one.name], text_encoders or {})
        if self.degree is not None:
            arrays[LOG_DEGREE] = self.encode_degrees(degrees)
        return arrays

    def read_of(self, table: FeatureTable) -> FeatureTable:
        """Take the columns that are read, in the order of training.

        Args:
            table: I items. Where none of them has a vector of a column, its width does not matter.

        Raises:
            InputError: a column is missing or of another kind.
        """
        check_known("features", [one.name for one in self.columns], table.columns)
        columns: dict[str, Column] = {}
        for one in self.columns:
            column = table.columns[one.name]
            wanted = f"kind {one.kind} as in training"
            require(column.kind == one.kind, f"column {one.name!r}", wanted, column.kind)
            if isinstance(one, DenseSchema) and one.kind == "vector" and column.absent().all():
                width = len(one.statistics.mean)
                blank = np.zeros((table.num_rows, width), np.float32)
                column = Column("vector", blank, column.missing)
            columns[one.name] = column
        return FeatureTable(columns, table.num_rows)

    def encode_degrees(self, degrees: Any) -> np.ndarray:
        """Make the input of degrees, ``float32[n, 1]``.

        Args:
            degrees: ``int[n]``.

        Raises:
            InputError: the schema was fitted without degrees.
        """
        if self.degree is None:
            raise InputError("log_degree: the schema was fitted without degrees")
        degrees = _checked_degrees(degrees, len(np.atleast_1d(degrees)))
        return self.degree.standardised(np.log1p(degrees)[:, None], None)

    def ignored(self, table: FeatureTable) -> tuple[str, ...]:
        """Name the columns that ``encode`` does not read.

        Args:
            table: the items.
        """
        known = {one.name for one in self.columns}
        return tuple(name for name in table.columns if name not in known)

    def as_json(self) -> dict[str, Any]:
        """The schema as plain values, from which ``from_json`` makes an equal one."""
        return {"version": _VERSION} | json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_json(cls, value: Any) -> FeatureSchema:
        """Make the schema that ``as_json`` wrote.

        Args:
            value: what it wrote.

        Raises:
            InputError: anything is missing, unknown, of another type or out of its range.
        """
        wanted = ("version", "columns", "degree")
        fine = isinstance(value, dict) and set(value) == set(wanted)
        require(fine, "schema", f"an object with {', '.join(wanted)}", value)
        version, columns, degree = (value[name] for name in wanted)
        require(version == _VERSION, "schema.version", str(_VERSION), version)
        require(isinstance(columns, list), "schema.columns", "a list", columns)
        return cls(
            tuple(_read_column(one, f"schema.columns[{at}]") for at, one in enumerate(columns)),
            None if degree is None else _read(Statistics, degree, "schema.degree"),
        )


def fit_schema(
    table: FeatureTable,
    train_rows: Any,
    degrees: Any,
    *,
    buckets: int = 2**14,
    max_words: int = 32,
    log_degree: bool = True,
    text_encoders: TextEncoders | None = None,
) -> FeatureSchema:
    """Fit the schema of a table to its training items; no other row decides anything.

    Args:
        table: I items.
        train_rows: ``int[n]``, at least one; their order does not matter.
        degrees: ``int[I]``, contexts of each item in the training interactions.
        buckets: how many ids words are hashed to.
        max_words: words of a text that count at most.
        log_degree: whether the encoder sees the degree.
        text_encoders: by text column, what makes a sentence vector of its texts.
    """
    require(1 <= buckets <= bags.MAX_BUCKETS, "buckets", f"1 to {bags.MAX_BUCKETS}", buckets)
    require(1 <= max_words <= bags.MAX_WORDS, "max_words", f"1 to {bags.MAX_WORDS}", max_words)
    rows = np.unique(checked_integers("train_rows", train_rows, 0, table.num_rows))
    require(len(rows), "train_rows", "at least one row", train_rows)
    degrees = _checked_degrees(degrees, table.num_rows)
    encoders = text_encoders or {}
    for name in encoders:
        is_text = name in table.columns and table.columns[name].kind == "text"
        require(is_text, "text_encoders", "names of text columns", name)
    columns: list[ColumnSchema] = []
    for name, column in table.columns.items():
        if column.kind == "text":
            encoder = encoders.get(name)
            columns.append(TextSchema.fit(name, column, rows, buckets, max_words, encoder))
        else:
            columns.append(_SCHEMAS[column.kind].fit(name, column, rows))
    degree = Statistics.fit(np.log1p(degrees)[:, None], rows) if log_degree else None
    return FeatureSchema(tuple(columns), degree)


def _checked_degrees(degrees: Any, num_rows: int) -> np.ndarray:
    given = checked_integers("degrees", degrees, 0, 2**62)
    require(len(given) == num_rows, "degrees", f"one for each of {num_rows} items", len(given))
    return given


_SCHEMAS = {
    "vector": DenseSchema,
    "number": DenseSchema,
    "text": TextSchema,
    "category": CategorySchema,
    "categories": CategorySchema,
}


def _read_column(value: Any, where: str) -> ColumnSchema:
    kind: Any = value.get("kind") if isinstance(value, dict) else None
    known = isinstance(kind, str) and kind in _SCHEMAS
    require(known, f"{where}.kind", f"one of {', '.join(_SCHEMAS)}", kind)
    return _read(_SCHEMAS[kind], value, where)


def _read(schema: Any, value: Any, where: str) -> Any:
    """A dataclass of its fields, which it checks itself."""
    names = [one.name for one in dataclasses.fields(schema)]
    fine = isinstance(value, dict) and set(value) == set(names)
    require(fine, where, f"an object with {', '.join(names)}", value)
    fields = {name: tuple(one) if isinstance(one, list) else one for name, one in value.items()}
    for name in ("statistics", "sentence"):
        if isinstance(fields.get(name), dict):
            fields[name] = _read(Statistics, fields[name], f"{where}.{name}")
    try:
        return schema(**fields)
    except InputError as error:
        raise InputError(f"{where}.{error}") from None
