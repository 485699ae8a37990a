"""Raw feature columns on disk, whole: ``columns.parquet`` and what kind each of them is."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from lightgcn_jax.errors import InputError
from lightgcn_jax.files import read_json, replacing, write_json
from pinsage_jax.features.schema import Column, FeatureTable

_TABLE, _KINDS = "columns.parquet", "columns.json"
# Parquet has no rows without columns.
_ROW = " row"


def write_table(folder: Path, table: FeatureTable) -> None:
    """Write a table into a folder."""
    series = [pl.Series(_ROW, range(table.num_rows), dtype=pl.Int64)]
    series += [_series(name, column) for name, column in table.columns.items()]
    with replacing(folder / _TABLE) as temporary:
        pl.DataFrame(series).write_parquet(temporary)
    write_json(folder / _KINDS, {name: column.kind for name, column in table.columns.items()})


def read_table(folder: Path) -> FeatureTable:
    """Read what :func:`write_table` wrote.

    Raises:
        InputError: a file is missing or damaged, or the two do not fit each other.
    """
    path, kinds = folder / _TABLE, read_json(folder / _KINDS)
    try:
        frame = pl.read_parquet(path)
    except FileNotFoundError:
        raise InputError(f"{path}: expected this file, it is missing") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{path}: expected a Parquet file: {error}") from error
    if not isinstance(kinds, dict) or frame.columns != [_ROW, *kinds]:
        raise InputError(f"{path}: expected the columns that {_KINDS} names, got {frame.columns}")
    columns = {name: frame.get_column(name) for name in kinds}
    return FeatureTable.from_mapping(columns, kinds, num_rows=frame.height, missing="zero")


def _series(name: str, column: Column) -> pl.Series:
    if column.kind == "vector":
        width = column.values.shape[1]
        series = pl.Series(name, column.values, dtype=pl.Array(pl.Float32, width))
        if column.missing is None:
            return series
        return series.set(pl.Series(column.missing), None)
    if column.kind == "number":
        return pl.Series(name, column.values, dtype=pl.Float64)
    kind = pl.List(pl.String) if column.kind == "categories" else pl.String
    return pl.Series(name, column.values, dtype=kind)
