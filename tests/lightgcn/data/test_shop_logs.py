"""Logs as shops export them: guests, names of columns, dates as people write them."""

import datetime
import json

import polars as pl
import pytest

from lightgcn_jax.data.readers import read_interactions
from lightgcn_jax.data.times import times_of
from lightgcn_jax.errors import InputError

GUESTS = [("7", "x", "4"), ("", "y", "?"), ("8", " ", "2"), ("8", "y", "5"), (" ", "", "1")]


def write(path, text):
    path.write_text(text)
    return path


def pairs(found):
    users, items = found.users.external(found.user_rows), found.items.external(found.item_rows)
    return list(zip(users, items, strict=True))


def guests(tmp_path, kind):
    """A log of five rows, of which three are without a user or an item."""
    path = tmp_path / f"log.{kind}"
    if kind == "parquet":
        filled = [[cell.strip() or None for cell in row] for row in GUESTS]
        pl.DataFrame(filled, ["customer", "sku", "rating"], orient="row").write_parquet(path)
        return path
    if kind == "jsonl":
        rows = [
            {"customer": int(user) if user.strip() else None, "sku": item, "rating": rating}
            for user, item, rating in GUESTS
        ]
        return write(path, "".join(json.dumps(row) + "\n" for row in rows))
    mark = {"csv": ",", "tsv": "\t"}[kind]
    return write(
        path, "".join(mark.join(row) + "\n" for row in [("customer", "sku", "rating"), *GUESTS])
    )


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_rows_without_a_user_or_an_item_are_left_out_and_counted(tmp_path, kind):
    path = guests(tmp_path, kind)
    found = read_interactions(path)
    assert pairs(found) == [(7, "x"), (8, "y")]
    # What stands in the other columns of such a row is not judged.
    assert found.ratings.tolist() == [4, 5]
    (reading,) = found.readings
    assert any("3 of 5 rows are without a user or an item" in note for note in reading.notes)
    with pytest.raises(
        InputError, match=r"(:3|row 2|:2): .*expected an id, (got an empty|but it is m)"
    ):
        read_interactions(path, missing="error")


def test_other_rows_are_still_faults(tmp_path):
    path = write(tmp_path / "log.csv", "user,item\n1,2\n,3\n4,\n5\n6,7\n8,9\n")
    with pytest.raises(InputError, match=r"log.csv:5: expected 2 comma-separated fields"):
        read_interactions(path)
    found = read_interactions(path, skip_bad_rows=True)
    assert pairs(found) == [(1, 2), (6, 7), (8, 9)]
    notes = found.readings[0].notes
    assert any("2 of 6 rows are without" in note for note in notes)
    assert any("1 of 6 rows do not fit" in note for note in notes)
    with pytest.raises(InputError, match="the files hold none: 2 of 2 rows are without a user or"):
        read_interactions(write(tmp_path / "log.csv", "user,item\n,3\n4,\n"))


@pytest.mark.parametrize(
    ("header", "user", "item"),
    [
        ("Order No,Customer No.,SKU", "Customer No.", "SKU"),
        ("board,pin,day", "board", "pin"),
        ("playlist,artist_name,track", "playlist", "track"),
        ("basket_id,article,n", "basket_id", "article"),
        ("InvoiceNo,StockCode,Country", "InvoiceNo", "StockCode"),
        ("session,product,step", "session", "product"),
        ("context,item,n", "context", "item"),
    ],
)
def test_usual_names(tmp_path, header, user, item):
    settings = read_interactions(write(tmp_path / "l.csv", f"{header}\na,b,c\nd,e,f\n")).readings[0]
    assert settings.settings["user_column"] == user
    assert settings.settings["item_column"] == item


def test_two_columns_are_taken_as_they_stand(tmp_path):
    path = write(tmp_path / "log.csv", "who,what\na,1\nb,2\n")
    assert pairs(read_interactions(path)) == [("a", 1), ("b", 2)]
    assert pairs(read_interactions(path, item_column="who")) == [(1, "a"), (2, "b")]
    path = write(tmp_path / "words.csv", "who,what\na,x\nb,y\n")
    with pytest.raises(InputError, match=r"names of columns or as a row.*pass header yes or no"):
        read_interactions(path)
    assert pairs(read_interactions(path, header="yes")) == [("a", "x"), ("b", "y")]
    pl.DataFrame({"who": ["a"], "what": ["x"]}).write_parquet(tmp_path / "log.parquet")
    assert pairs(read_interactions(tmp_path / "log.parquet")) == [("a", "x")]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_an_only_column_of_dates_is_that_of_the_times(tmp_path, kind):
    days = {"user": ["a", "b"], "item": [1, 2], "shipped": ["2024-01-31", "2024-02-01"]}
    path = tmp_path / f"log.{kind}"
    table = pl.DataFrame(days)
    save = {"csv": table.write_csv, "jsonl": table.write_ndjson, "parquet": table.write_parquet}
    save[kind](path)
    found = read_interactions(path)
    moments = [datetime.datetime.fromtimestamp(one, datetime.UTC) for one in found.timestamps]
    assert [moment.day for moment in moments] == [31, 1]
    assert found.readings[0].settings["timestamp_column"] == "shipped"
    assert "timestamp_column" in found.readings[0].guessed
    assert read_interactions(path, timestamp_column="none").timestamps is None


def test_of_two_columns_of_dates_none_is_guessed(tmp_path):
    rows = "user,item,n,shipped,paid\n1,2,3,2024-01-31,2024-01-01\n"
    found = read_interactions(write(tmp_path / "log.csv", rows))
    assert found.timestamps is None
    assert any("'shipped', 'paid' hold dates" in note for note in found.readings[0].notes)


def test_numbers_are_no_dates(tmp_path):
    rows = "user,item,price,year\n1,2,3.5,2020\n1,3,4.0,2021\n"
    assert read_interactions(write(tmp_path / "log.csv", rows)).timestamps is None


def seconds(*when):
    return datetime.datetime(*when, tzinfo=datetime.UTC).timestamp()


def test_dates_with_dots_and_slashes():
    assert times_of(["14.05.2025", "1.2.2025 08:30"]).tolist() == [
        seconds(2025, 5, 14),
        seconds(2025, 2, 1, 8, 30),
    ]
    # One date that fits one way alone tells the order of day and month for all.
    assert times_of(["01/02/2025", "13/02/2025"])[0] == seconds(2025, 2, 1)
    assert times_of(["01/02/2025", "2/13/2025 8:26"])[0] == seconds(2025, 1, 2)
    with pytest.raises(InputError, match="whether the day or the month stands first"):
        times_of(["01/02/2025", "03/04/2025"])
    with pytest.raises(InputError, match=r"timestamps\[0\]: expected seconds or a date .*31/02"):
        times_of(["31/02/2025"])


def test_a_column_of_times_that_cannot_be_read_says_what_can(tmp_path):
    path = write(tmp_path / "log.csv", "user,item,date\n1,2,yesterday\n3,4,today\n")
    with pytest.raises(InputError, match=r"expected seconds or a date such as 2024-01-31"):
        read_interactions(path, timestamp_column="date")
