import numpy as np
import polars as pl
import pytest

from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.errors import InputError
from pinsage_jax.features.files import align, items_of_frame, read_features, read_items

CSV = """item,title,year,genres,code
12,"Shoes, red",1999,Drama|War,007
7,,2001.5,,008
9,Hat,,War,009
"""


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text(CSV)
    return path


def test_a_csv_aligned_to_the_items(csv):
    frame = read_features(csv, kinds={"genres": "categories", "code": "category"})
    items = IdMap.from_values([7, 12, 30])
    table, report = align(frame, items, kinds={"genres": "categories", "code": "category"})
    assert table.num_rows == 3
    assert table.columns["title"].values == [None, "Shoes, red", None]
    np.testing.assert_array_equal(table.columns["year"].values, [2001.5, 1999, np.nan])
    assert table.columns["genres"].values == [[], ["Drama", "War"], []]
    assert table.columns["code"].values == ["008", "007", None]
    assert report == (3, 1, 1, {"title": 2, "year": 1, "genres": 2, "code": 1}, "")
    assert str(report) == (
        "1 of 3 items have no features; 1 rows of features belong to no item; "
        "title is missing for 2; year is missing for 1; genres is missing for 2; "
        "code is missing for 1"
    )


def test_columns_of_a_csv_are_numbers_only_throughout(tmp_path):
    path = tmp_path / "items.tsv"
    path.write_text("name\ta\tb\tc\td\te\n01\t1\t1\t\t02\t0.5\n02\t 2 \tx\t\t12\t\n")
    found = read_items(path)
    assert found.ids.to_list() == ["01", "02"]  # the first column; zeros in front are kept
    kinds = {name: column.kind for name, column in found.table.columns.items()}
    assert kinds == {"a": "number", "b": "text", "c": "text", "d": "text", "e": "number"}
    assert found.table.columns["a"].values.tolist() == [1, 2]
    # An id column that is named only later has lost nothing.
    assert items_of_frame(read_features(path), "a").ids.to_list() == [1, 2]
    assert items_of_frame(read_features(path), "d").ids.to_list() == ["02", "12"]


def test_a_parquet_keeps_its_types(tmp_path):
    path = tmp_path / "items.parquet"
    pl.DataFrame(
        {"tags": [["a", "b"], None], "look": [[1.0, 2.0], None], "id": ["x", " y "]}
    ).write_parquet(path)
    found = read_items(path)
    assert found.ids.to_list() == ["x", "y"]
    assert found.table.columns["tags"].values == [["a", "b"], []]
    assert found.table.columns["look"].values.tolist() == [[1, 2], [0, 0]]
    assert found.table.missing() == {"tags": 1, "look": 1}
    # A missing vector stays missing beside an item that the file does not hold.
    table, report = align(read_features(path), IdMap.from_values(["w", "y", "x"]))
    assert table.columns["look"].absent().tolist() == [True, False, True]
    assert report.without_features == 1
    assert read_items(path, id_column="id").ids.to_list() == ["x", "y"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int16, ">f4"])
def test_vectors_beside_ids(tmp_path, dtype):
    (tmp_path / "ids.txt").write_text("3\n\n1\n2\n")
    np.save(tmp_path / "look.npy", np.arange(6).reshape(3, 2).astype(dtype))
    vectors = {"look": tmp_path / "look.npy"}
    found = read_items(tmp_path / "ids.txt", vectors=vectors)
    assert found.ids.to_list() == [3, 1, 2]
    frame = read_features(tmp_path / "ids.txt", vectors=vectors)
    table, _ = align(frame, IdMap.from_values([1, 2, 3]))
    assert table.columns["look"].values.tolist() == [[2, 3], [4, 5], [0, 1]]


def test_broken_vectors_of_a_file(tmp_path):
    (tmp_path / "ids.txt").write_text("3\n1\n")
    np.save(tmp_path / "look.npy", np.array([[1.0, 2.0], [np.nan, 1.0]], np.float32))
    vectors = {"look": tmp_path / "look.npy"}
    with pytest.raises(InputError, match=r"column 'look', row 1: expected finite numbers .* nan"):
        read_items(tmp_path / "ids.txt", vectors=vectors)
    found = read_items(tmp_path / "ids.txt", vectors=vectors, missing="zero")
    assert found.table.missing() == {"look": 1}


def test_ids_are_compared_as_elsewhere():
    """Integers by value, and by their decimal form with strings."""
    frame = pl.DataFrame({"item": ["2", "1"], "n": [20.0, 10.0]})
    for ids in ([1, 2], ["1", "2"]):
        table, _ = align(frame, IdMap.from_values(ids))
        assert table.columns["n"].values.tolist() == [10, 20]
    assert items_of_frame(frame).ids.dtype == pl.Int64


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"item": [1, 2, 1]}, "column 'item': expected each id once, but 1 stands twice"),
        ({"item": ["a", " a"]}, "column 'item': expected each id once, but 'a' stands twice"),
        ({"item": ["a", " "]}, r"item\[1\]: expected an id, got an empty string"),
        ({"item": [1, None]}, r"item\[1\]: expected an integer or a string, but it is missing"),
        ({"item": [1.0]}, "item: expected integers or strings, got Float64"),
        ({}, "features: expected a column of ids, there are no columns"),
    ],
)
def test_ids_that_do_not_fit(frame, message):
    with pytest.raises(InputError, match=message):
        items_of_frame(pl.DataFrame(frame))


def test_features_of_other_items_altogether():
    with pytest.raises(InputError, match="ids of the 2 items, such as 1; none of the 1 ids is one"):
        align(pl.DataFrame({"item": [5]}), IdMap.from_values([1, 2]))


def test_files_that_cannot_be_read(tmp_path):
    def refused(message, name, content=b"", **settings):
        path = tmp_path / name
        if content:
            path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_features(path, **settings)

    refused("none.csv: expected this file, it is missing", "none.csv")
    refused("items.xlsx: expected a .parquet, .csv, .tsv or .txt file", "items.xlsx", b"x")
    refused("bad.parquet: expected a Parquet file", "bad.parquet", b"PAR1 no")
    refused("long.csv:3: expected 2 fields", "long.csv", b"item,a\n1,2\n1,2,3\n")
    refused("latin.csv:2: cannot be read", "latin.csv", b"item,a\n1,\xff\n")
    refused("latin.txt:1: cannot be read", "latin.txt", b"\xff\n")
    refused("a.csv: expected a column 'sku' of ids, .* item", "a.csv", b"item\n", id_column="sku")


def test_vectors_that_cannot_be_read(tmp_path, csv):
    def refused(message, name, content):
        path = tmp_path / name
        if isinstance(content, np.ndarray):
            np.save(path, content, allow_pickle=True)
        else:
            path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_features(csv, vectors={"look": path})

    refused("rows of .*items.csv, got 2", "short.npy", np.zeros((2, 2)))
    refused(r"numbers of shape \[items, width\], got \(3,\)", "flat.npy", np.zeros(3))
    refused("NumPy array without objects", "objects.npy", np.array([[{}], [1], [2]], object))
    refused("expected numbers of shape", "strings.npy", np.array([["a"], ["b"], ["c"]]))
    refused("NumPy array without objects", "junk.npy", b"junk")
    refused("NumPy array without objects", "none.npy", b"")
    refused("expected a .npy file", "look.npz", b"x")
    np.save(tmp_path / "whole.npy", np.zeros((3, 4)))
    cut = (tmp_path / "whole.npy").read_bytes()[:-8]
    refused("NumPy array without objects", "cut.npy", cut)
    with pytest.raises(InputError, match=r"gone.npy: expected this file, it is missing"):
        read_features(csv, vectors={"look": tmp_path / "gone.npy"})
    with pytest.raises(InputError, match="already has a column 'year'"):
        read_features(csv, vectors={"year": tmp_path / "whole.npy"})
