"""Raw columns come back from disk as they were."""

import json

import numpy as np
import pytest

from lightgcn_jax.errors import InputError
from pinsage_jax.features.schema import Column, FeatureTable
from pinsage_jax.runs.feature_store import read_table, write_table

VECTORS = np.arange(9, dtype=np.float32).reshape(3, 3)
TABLE = FeatureTable(
    {
        "looks": Column("vector", VECTORS),
        "sound": Column("vector", VECTORS * 2, np.array([False, True, False])),
        "title": Column("text", ["a bed", None, "два слова"]),
        "shape": Column("category", [None, "round", "square"]),
        "tags": Column("categories", [["x", "y"], [], ["z"]]),
        "price": Column("number", np.array([1.5, np.nan, 3.0])),
    },
    3,
)


def test_every_kind_comes_back(tmp_path):
    write_table(tmp_path, TABLE)
    again = read_table(tmp_path)
    assert again.num_rows == 3
    assert list(again.columns) == list(TABLE.columns)
    for name, column in TABLE.columns.items():
        other = again.columns[name]
        assert other.kind == column.kind
        if column.kind in ("vector", "number"):
            np.testing.assert_array_equal(other.values, column.values)
        else:
            assert list(other.values) == list(column.values)
        np.testing.assert_array_equal(other.absent(), column.absent())


def test_rows_without_columns(tmp_path):
    write_table(tmp_path, FeatureTable({}, 4))
    assert read_table(tmp_path).num_rows == 4


def test_what_does_not_fit_is_named(tmp_path):
    write_table(tmp_path, TABLE)
    kinds = json.loads((tmp_path / "columns.json").read_text())
    (tmp_path / "columns.json").write_text(json.dumps({"looks": kinds["looks"]}))
    with pytest.raises(InputError, match=r"columns.parquet: expected the columns that"):
        read_table(tmp_path)
    (tmp_path / "columns.parquet").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"columns.parquet: expected a Parquet file"):
        read_table(tmp_path)
