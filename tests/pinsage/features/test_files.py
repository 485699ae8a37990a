import datetime

import numpy as np
import polars as pl
import pytest

from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.errors import InputError
from pinsage_jax.features.files import (
    align,
    items_of_frame,
    load_features,
)

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
    frame = load_features(csv, kinds={"genres": "categories", "code": "category"}).frame
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
    found = items_of_frame(load_features(path).frame)
    assert found.ids.to_list() == ["01", "02"]  # the first column; zeros in front are kept
    kinds = {name: column.kind for name, column in found.table.columns.items()}
    assert kinds == {"a": "number", "b": "text", "c": "text", "d": "text", "e": "number"}
    assert found.table.columns["a"].values.tolist() == [1, 2]
    # An id column that is named only later has lost nothing.
    assert items_of_frame(load_features(path).frame, "a").ids.to_list() == [1, 2]
    assert items_of_frame(load_features(path).frame, "d").ids.to_list() == ["02", "12"]


def test_a_parquet_keeps_its_types(tmp_path):
    path = tmp_path / "items.parquet"
    pl.DataFrame(
        {"tags": [["a", "b"], None], "look": [[1.0, 2.0], None], "id": ["x", " y "]}
    ).write_parquet(path)
    found = items_of_frame(load_features(path).frame)
    assert found.ids.to_list() == ["x", "y"]
    assert found.table.columns["tags"].values == [["a", "b"], []]
    assert found.table.columns["look"].values.tolist() == [[1, 2], [0, 0]]
    assert found.table.missing() == {"tags": 1, "look": 1}
    # A missing vector stays missing beside an item that the file does not hold.
    table, report = align(load_features(path).frame, IdMap.from_values(["w", "y", "x"]))
    assert table.columns["look"].absent().tolist() == [True, False, True]
    assert report.without_features == 1
    assert items_of_frame(load_features(path, id_column="id").frame, "id").ids.to_list() == [
        "x",
        "y",
    ]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int16, ">f4"])
def test_vectors_beside_ids(tmp_path, dtype):
    (tmp_path / "ids.txt").write_text("3\n\n1\n2\n")
    np.save(tmp_path / "look.npy", np.arange(6).reshape(3, 2).astype(dtype))
    vectors = {"look": tmp_path / "look.npy"}
    frame = load_features(tmp_path / "ids.txt", vectors=vectors).frame
    assert items_of_frame(frame).ids.to_list() == [3, 1, 2]
    table, _ = align(frame, IdMap.from_values([1, 2, 3]))
    assert table.columns["look"].values.tolist() == [[2, 3], [4, 5], [0, 1]]


def test_broken_vectors_of_a_file(tmp_path):
    (tmp_path / "ids.txt").write_text("3\n1\n")
    np.save(tmp_path / "look.npy", np.array([[1.0, 2.0], [np.nan, 1.0]], np.float32))
    vectors = {"look": tmp_path / "look.npy"}
    frame = load_features(tmp_path / "ids.txt", vectors=vectors).frame
    with pytest.raises(InputError, match=r"column 'look', row 1: expected finite numbers .* nan"):
        items_of_frame(frame)
    found = items_of_frame(frame, missing="zero")
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
        ({"item": ["a", " "]}, r"item\[1\]: expected an id, got an empty field"),
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
            load_features(path, **settings)

    refused("none.csv: expected this file, it is missing", "none.csv")
    refused("items.xlsx: expected a .parquet, .csv, .tsv or .txt file", "items.xlsx", b"x")
    refused("bad.parquet: expected a Parquet file", "bad.parquet", b"PAR1 no")
    refused("page.parquet: expected a Parquet file, got .*HTML", "page.parquet", b"<html>")
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
            load_features(csv, vectors={"look": path})

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
        load_features(csv, vectors={"look": tmp_path / "gone.npy"})
    with pytest.raises(InputError, match="already has a column 'year'"):
        load_features(csv, vectors={"year": tmp_path / "whole.npy"})


def loaded(path, **settings):
    found = load_features(path, **settings)
    return found, {series.name: series.to_list() for series in found.frame.iter_columns()}


def test_how_a_file_was_understood_is_told(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text('item,"title",price,zip\n1,a,2.5,01234\n2,b,NA,10000\n')
    found, columns = loaded(path)
    assert columns["price"] == [2.5, None]
    assert columns["zip"] == ["01234", "10000"]
    assert found.id_column == "item"
    assert found.notes == (
        "items.csv: quotation marks enclose fields (--feature-quoting)",
        "items.csv: 2 rows, ids in column 'item' (--id-column)",
        "features of items.csv: title text, price number [1 of 2 filled cells is no number and "
        "counts as missing: 'NA' (line 3)], zip text [1 cells have zeros in front, as codes do: "
        "'01234' (line 2)] (--kind, --skip-columns)",
    )


@pytest.mark.parametrize("ids", [["007", "010"], ["12345678901234567890", "7"], ["3", "5"]])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_ids_keep_their_spelling_wherever_they_stand(ids, place, tmp_path):
    columns = {"price": ["1.5", "2"], "title": ["a", "b"]}
    names = [*columns]
    names.insert(place, "sku")
    rows = zip(*({**columns, "sku": ids}[name] for name in names), strict=True)
    path = tmp_path / "items.csv"
    path.write_text("\n".join(map(",".join, [names, *rows])) + "\n")
    found, read = loaded(path, id_column="sku")
    assert read["sku"] == ids
    assert read["price"] == [1.5, 2]
    table, _ = align(found.frame, IdMap.from_values(ids[::-1]), found.id_column)
    assert sorted(table.columns["price"].values.tolist()) == [1.5, 2]
    assert table.missing() == {"price": 0, "title": 0}


def test_the_column_of_ids_that_was_guessed_wrong_is_told_apart(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text("price,sku\n1.5,1\n1.5,2\n")
    message = "the first column, 'price', was taken for the ids, but '1.5' stands there twice"
    with pytest.raises(InputError, match=message):
        load_features(path)
    path.write_text("price,sku\n1.5,1\n2.5,2\n")
    with pytest.raises(InputError, match="; column 'sku' holds ids of items: --id-column sku"):
        align(load_features(path).frame, IdMap.from_values([1, 2]))


def test_the_index_that_pandas_writes_is_left_out(tmp_path):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"item": [5, 7], "n": [1.5, 2.5]})
    frame.to_csv(tmp_path / "a.csv")
    found, columns = loaded(tmp_path / "a.csv")
    assert columns == {"item": ["5", "7"], "n": [1.5, 2.5]}
    assert "a.csv: the column without a name is pandas' index: left out" in found.notes
    # Where no column is called as ids are, the index may be what holds them.
    named = frame.set_index("item").rename_axis(None)
    named.to_csv(tmp_path / "b.csv")
    with pytest.raises(
        InputError, match=r"a column has no name, .*: it can hold the ids or be lef"
    ):
        load_features(tmp_path / "b.csv")
    assert loaded(tmp_path / "b.csv", id_column="")[1] == {"": ["5", "7"], "n": [1.5, 2.5]}
    pl.DataFrame({"n": [1.5], "item": [5], "__index_level_0__": [0]}).write_parquet(
        tmp_path / "a.parquet"
    )
    assert loaded(tmp_path / "a.parquet")[1] == {"item": [5], "n": [1.5]}


def test_a_separator_at_the_end_of_each_line_makes_no_column(tmp_path):
    (tmp_path / "a.csv").write_text("item,n,\n5,1,\n7,2,\n")
    found, columns = loaded(tmp_path / "a.csv")
    assert columns == {"item": ["5", "7"], "n": [1, 2]}
    assert "a.csv: the last column has neither a name nor a cell: left out" in found.notes


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("5,1\nitem,n\n", r"a.csv:3: column 'item': expected an id, got the header again"),
        ("5,1\n ,2\n", r"a.csv:3: column 'item': expected an id, got an empty field"),
        (
            "5,1\nnan,2\n",
            "a.csv:3: column 'item': expected an id, got 'nan', which may be a missing value",
        ),
        (
            "5,1\nx\x1b[2J,2\n",
            r"a.csv:3: .* got 'x\\x1b\[2J', which holds a character that cannot be seen",
        ),
        ("5,1\n7,1\n 5,2\n", r"a.csv:4: .* each id once, but '5' stands in line 2 too"),
    ],
)
def test_what_stands_in_the_place_of_an_id_is_named_by_its_line(rows, message, tmp_path):
    (tmp_path / "a.csv").write_text("item,n\n" + rows)
    with pytest.raises(InputError, match=message):
        load_features(tmp_path / "a.csv")


def unreadable(tmp_path):
    path = tmp_path / "items.parquet"
    pl.DataFrame(
        {
            "item": [1, 2],
            "n": [1.5, None],
            "day": [datetime.date(1970, 1, 3), None],
            "moment": [datetime.datetime(1970, 1, 1, 12), None],
            "span": [datetime.timedelta(days=2, hours=6), None],
            "blob": [b"x", b"y"],
            "parts": [{"a": 1}, {"a": 2}],
            "void": [None, None],
        }
    ).write_parquet(path)
    return path


def test_dates_of_a_parquet_file_are_days(tmp_path):
    found, _ = loaded(unreadable(tmp_path), skip=["blob", "parts", "void"])
    table = items_of_frame(found.frame).table
    days = {name: column.values[0].item() for name, column in table.columns.items()}
    assert days == {"n": 1.5, "day": 2, "moment": 0.5, "span": 2.25}
    assert table.missing() == dict.fromkeys(days, 1)
    assert found.notes[-1].startswith("features of items.parquet: n number, day number [in days], ")


@pytest.mark.parametrize("name", ["blob", "parts", "void"])
def test_types_without_a_kind_are_left_out_only_where_that_is_said(name, tmp_path):
    path = unreadable(tmp_path)
    others = [one for one in ("blob", "parts", "void") if one != name]
    with pytest.raises(InputError, match=rf"items.parquet: column '{name}': no kind .* \(--skip-c"):
        load_features(path, skip=others)
    # Columns are chosen before their types are judged.
    found, columns = loaded(path, columns=["n"])
    assert name not in columns
    assert sum("left out, for it is not among the columns" in one for one in found.notes) == 3
    with pytest.raises(InputError, match=rf"column '{name}': no kind"):
        load_features(path, columns=["n", name], skip=others)


def test_columns_that_cannot_be_skipped(csv):
    with pytest.raises(InputError, match="columns to skip: expected the columns 'nix'"):
        load_features(csv, skip=["nix"])
    with pytest.raises(InputError, match="column 'item' holds the ids and cannot be skipped"):
        load_features(csv, skip=["item"])
    with pytest.raises(InputError, match="columns: expected the columns 'nix'"):
        load_features(csv, kinds={"nix": "text"})


def test_strings_of_numbers_in_a_parquet_file_are_pointed_out(tmp_path):
    path = tmp_path / "a.parquet"
    pl.DataFrame({"item": [1, 2], "n": ["1.5", "2"]}).write_parquet(path)
    found, columns = loaded(path)
    assert columns["n"] == ["1.5", "2"]
    assert "n text [strings, all of which are numbers: --kind n=number" in found.notes[-1]
    assert loaded(path, kinds={"n": "number"})[1]["n"] == [1.5, 2]


def test_features_of_mostly_other_items_are_refused():
    items = IdMap.from_values(range(100))
    frame = pl.DataFrame({"item": [f"{row:02}" for row in range(100)], "n": range(100)})
    table, report = align(frame, items)  # ten of a hundred are written in two ways
    assert report[:3] == (100, 10, 10)
    assert report.spelling == "'00' here and 0 there differ in spelling alone"
    assert f"10 rows of features belong to no item ({report.spelling})" in str(report)
    frame = frame.with_columns(pl.Series("item", [f"{row:03}" for row in range(99)] + ["99"]))
    message = "99 of 100 items of the features are unknown to the data: '000' in the features, 0 in"
    with pytest.raises(InputError, match=message):
        align(frame, items)
    table, report = align(frame, items, unknown_ids="allow")
    assert np.isnan(table.columns["n"].values).sum() == report.without_features == 99
    # A catalogue may be larger than what was met, and features may be known of few.
    align(pl.DataFrame({"item": range(1000), "n": range(1000)}), items)
    align(pl.DataFrame({"item": range(3), "n": range(3)}), items)


def test_names_have_no_blanks_around_them(tmp_path):
    path = tmp_path / "a.parquet"
    pl.DataFrame({" item ": [1], "price ": [2.0]}).write_parquet(path)
    assert loaded(path)[1] == {"item": [1], "price": [2]}
    pl.DataFrame({"item": [1], "n": [1], "n ": [2]}).write_parquet(path)
    with pytest.raises(InputError, match=r"a.parquet: expected each column once, got 'n' twice"):
        load_features(path)
    # The name that a run gives the numbers of its rows is no feature's.
    with pytest.raises(InputError, match="expected names without blanks around them, got ' row'"):
        items_of_frame(pl.DataFrame({"item": [1], " row": [2.0]}))
