"""Files as people have them: what is guessed is said, what is damaged is refused."""

import errno
import gzip
import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lightgcn_jax.data.interactions import Interactions
from lightgcn_jax.data.readers import read_interactions
from lightgcn_jax.data.text import explained
from lightgcn_jax.errors import InputError


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def pairs(data: Interactions) -> list[tuple]:
    users, items = data.users.external(data.user_rows), data.items.external(data.item_rows)
    return list(zip(users, items, strict=True))


def reading(data: Interactions) -> dict[str, str]:
    (one,) = data.readings
    return dict(one.settings)


def notes(data: Interactions) -> str:
    return "\n".join(line for one in data.readings for line in one.notes)


# What was guessed


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "user,item,rating,timestamp\n1,2,3,1500000000000\n2,3,4,1500000000001\n"),
        ("b.txt", "1 2 3 1500000000\n1 3 4 1500000001\n"),
        ("c.txt", "1 2 3\n2 4\n"),
        ("k.txt", " 1   2 3\n 1  3\t4\n10 20 5\n"),
        ("l.txt", "user   item\na      b\n c  d\n"),
        ("d.tsv", '"user id"\t"item\tid"\t"item"\n"a"\t"x"\t"b"\n'),
        ("e.jsonl", '{"user_id": "a", "asin": 5, "overall": 3.5, "date": "2020-01-01"}\n'),
        ("f.inter", "user_id:token\titem_id:token\na\tb\n"),
        ("g.csv", "who|item|item\n1|2|3\n"),
        ("h.csv", "user,2,item,date\n1,2,3,soon\n"),
        ("i.csv", "user;Größe;item\n1;2;ß\n".encode("utf-16")),
        ("j.tsv", "u\ti\n1\t2020-01-01\n"),
    ],
)
def test_the_printed_options_read_the_same_again(tmp_path, name, content):
    """The line is what a user would have to say: said, nothing is guessed, all is the same."""
    asked = {"g.csv": {"user_column": "who", "item_column": "#3"},
             "j.tsv": {"user_column": 1, "item_column": 1, "header": "no"}}  # fmt: skip
    options = asked.get(name, {})
    if name == "j.tsv":
        options = {"user_column": "u", "item_column": "i", "timestamp_column": "#2"}
    data = read_interactions(write(tmp_path / name, content), **options)
    again = read_interactions(tmp_path / name, **reading(data))
    if name != "c.txt":
        settings = reading(data)
        assert {"user_column", "item_column", "rating_column", "timestamp_column"} <= set(settings)
    assert pairs(again) == pairs(data)
    for values in ("ratings", "timestamps"):
        one, other = getattr(data, values), getattr(again, values)
        assert (one is None) == (other is None)
        assert one is None or np.array_equal(one, other)
    assert reading(again) == reading(data)
    assert again.readings[0].guessed == ()
    assert set(data.readings[0].guessed) == set(reading(data)) - set(options)


def test_the_line_names_all_and_the_types_of_ids(tmp_path):
    path = write(tmp_path / "log.csv", "user,item,rating,timestamp\n1,a,3,1500000000000\n")
    (one,) = read_interactions(path, separator="comma").readings
    assert str(one) == (
        "log.csv: read as --format csv --separator comma --header yes --quoting csv --user-column "
        "user --item-column item --rating-column rating --timestamp-column timestamp --time-unit "
        "milliseconds --user-ids integers --item-ids text (guessed: format, header, quoting, "
        "user column, item column, rating column, timestamp column, time unit, user ids, item ids)"
    )
    assert json.loads(json.dumps(one.record()))["read_as"]["time_unit"] == "milliseconds"


def test_separators_have_names(tmp_path):
    path = write(tmp_path / "log.txt", "1\t2\n3\t4\n")
    for name in ("tab", "\\t", "\t"):
        assert pairs(read_interactions(path, format="triples", separator=name)) == [(1, 2), (3, 4)]
    with pytest.raises(InputError, match="separator: expected what can stand between fields"):
        read_interactions(path, separator="\n")
    blanks = write(tmp_path / "aligned.txt", "  1    2  3\n 10   20  4\n  1   30  5\n")
    assert pairs(read_interactions(blanks)) == [(1, 2), (10, 20), (1, 30)]
    # A message shows blanks as they are.
    tabs = write(tmp_path / "tabs.txt", " 1 2 3\n1 \t5\t7 \n2 2 2\n")
    assert pairs(read_interactions(tabs)) == [(1, 2), (1, 5), (2, 2)]
    mixed = write(tmp_path / "mixed.txt", "1 2 3\n  1    2  3\n")
    with pytest.raises(InputError, match=r"expected 3 space-separated .* got 9: '  1    2  3'"):
        read_interactions(mixed, format="triples", separator=" ")


# Times


@pytest.mark.parametrize(
    ("factor", "unit"),
    [(1, "seconds"), (10**3, "milliseconds"), (10**6, "microseconds"), (10**9, "nanoseconds")],
)
def test_the_unit_of_times_is_told_by_their_size(tmp_path, factor, unit):
    seconds = [0, 1_000_000_000, 1_500_000_000, 1_700_000_123]
    lines = "".join(f"1,{at},{second * factor}\n" for at, second in enumerate(seconds))
    path = write(tmp_path / "log.csv", f"user,item,time\n{lines}")
    data = read_interactions(path)
    assert reading(data)["time_unit"] == unit
    assert data.timestamps is not None
    assert data.timestamps.tolist() == seconds
    as_given = read_interactions(path, time_unit="seconds").timestamps
    assert as_given is not None
    assert as_given.tolist() == [second * factor for second in seconds]


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (("1500000000000", "1500000000001", "1500000000"), "most look like milliseconds, but 1 of"),
        (("20200131", "20210201"), "as days .YYYYMMDD. or as seconds of 1970"),
    ],
)
def test_times_with_two_readings_are_not_guessed(tmp_path, times, message):
    lines = "".join(f"1,{at},{time}\n" for at, time in enumerate(times))
    path = write(tmp_path / "log.csv", f"user,item,time\n{lines}")
    data = read_interactions(path)  # nobody asked for times
    assert data.timestamps is None
    assert "column 'time' is left out" in notes(data)
    with pytest.raises(InputError, match=message):
        read_interactions(path, timestamp_column="time")
    days = read_interactions(path, time_unit="milliseconds").timestamps
    assert days is not None
    assert days.tolist() == [int(time) / 1000 for time in times]
    if len(times[0]) == 8:
        days = read_interactions(path, time_unit="yyyymmdd").timestamps
        assert days is not None
        assert pl.Series(days).cast(pl.Int64).to_list() == [1580428800, 1612137600]


def test_a_third_column_of_times_is_no_rating(tmp_path):
    path = write(tmp_path / "log.txt", "1 2 1500000000\n1 3 1500000009\n")
    with pytest.raises(InputError, match=r"column 'rating' .* two ways, as ratings or as times"):
        read_interactions(path)
    data = read_interactions(path, timestamp_column=3)
    assert data.ratings is None
    assert data.timestamps is not None
    assert data.timestamps.tolist() == [1500000000, 1500000009]


# What nobody asked for


@pytest.mark.parametrize(
    ("role", "name", "cell"),
    [
        *(("timestamp", "date", cell) for cell in ("1/5/2018", "Tue Apr 03 2012", "18:15:00", "")),
        *(
            ("rating", "score", cell)
            for cell in ('"1,234"', "3;5", "good", "4/5", "", "NaN", "inf")
        ),
    ],
)
def test_a_column_found_by_its_name_does_not_stop_a_run(tmp_path, role, name, cell):
    path = write(tmp_path / "log.csv", f"user,item,{name}\n1,2,3\n1,3,{cell}\n")
    data = read_interactions(path)
    assert pairs(data) == [(1, 2), (1, 3)]
    assert data.ratings is None
    assert data.timestamps is None
    assert f"column {name!r} is left out, so there are no {role}s: line 3: " in notes(data)
    assert reading(data)[f"{role}_column"] == "none"
    # Who asks for it is told, and who says none hears nothing.
    with pytest.raises(InputError, match=rf"log.csv:3: column {name!r}: expected "):
        read_interactions(path, **{f"{role}_column": name})
    assert not notes(read_interactions(path, **{f"{role}_column": "none"}))
    skipped = read_interactions(path, skip_bad_rows=True, **{f"{role}_column": name})
    assert pairs(skipped) == [(1, 2)]


def test_the_same_holds_of_parquet(tmp_path):
    path = tmp_path / "log.parquet"
    for column in ([1.0, float("nan")], [None, 2.0], ["good", "bad"], [[1], [2]]):
        pl.DataFrame({"user": [1, 2], "item": [3, 4], "rating": column}).write_parquet(path)
        data = read_interactions(path)
        assert data.ratings is None
        assert "column 'rating' is left out" in notes(data)
        with pytest.raises(InputError, match=r"log.parquet: (row . )?.*column 'rating': expected"):
            read_interactions(path, rating_column="rating")


# Columns by their places


def test_columns_by_their_places(tmp_path):
    path = write(tmp_path / "ratings.csv", "i1,u1,5.0,1400000000\ni2,u2,4.0,1400000001\n")
    data = read_interactions(path, user_column=2, item_column="1", rating_column=3)
    assert pairs(data) == [("u1", "i1"), ("u2", "i2")]
    assert data.ratings is not None
    assert data.ratings.tolist() == [5, 4]
    assert data.timestamps is None  # where places are given, no other column is taken
    headed = write(tmp_path / "headed.csv", "thing,person\n5,6\n7,8\n")
    assert pairs(read_interactions(headed, user_column=2, item_column=1)) == [(6, 5), (8, 7)]
    with pytest.raises(InputError, match="expected a place of 1 to 4, for lines have 4 fields"):
        read_interactions(path, user_column=2, item_column=5)
    with pytest.raises(InputError, match="expected a column of its own for each role"):
        read_interactions(path, user_column=2, item_column=2)
    with pytest.raises(InputError, match="item_column: expected its place as well"):
        read_interactions(path, format="triples", user_column=2)
    with pytest.raises(InputError, match="there is no header, so columns cannot be named"):
        read_interactions(path, header="no", user_column="u1", item_column=1)
    for wrong in (0, -1, True, 1.5):
        with pytest.raises(InputError, match=r"user_column: expected a (name or a )?place from 1"):
            read_interactions(path, user_column=wrong)


def test_a_first_line_that_may_be_names_or_a_row_is_not_guessed(tmp_path):
    path = write(tmp_path / "log.csv", "a,b\nc,d\n")
    with pytest.raises(InputError, match=r"log.csv:1: the first line can be read in two ways"):
        read_interactions(path, user_column=1, item_column=2)
    for header, expected in (("yes", 1), ("no", 2)):
        data = read_interactions(path, user_column=1, item_column=2, header=header)
        assert len(data) == expected
    # Names above numbers, though the format has none; the numbers that pandas gives to columns.
    write(path, "who what\n1 2\n3 4\n")
    with pytest.raises(InputError, match="can be read in two ways, as names of columns or as a"):
        read_interactions(path, format="triples")
    write(path, "0,1,2\n5,6,7\n8,9,7\n")
    with pytest.raises(InputError, match="can be read in two ways, as names of columns or as a"):
        read_interactions(path, user_column="#1", item_column="#2")
    write(path, "1,2,3\n5,6,7\n")  # the places are no names, though the row holds them
    assert len(read_interactions(path, user_column="1", item_column="2")) == 2
    # No name is a number, so this is a row with a gap.
    write(path, "a,1,NA\nb,2,5\nc,3,6\n")
    assert len(read_interactions(path, user_column=1, item_column=2)) == 3


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("log.txt", {"header": "yes"}),
        ("log.txt", {"quoting": "csv"}),
        ("log.txt", {"time_unit": "seconds"}),
        ("log.jsonl", {"separator": "tab"}),
        ("log.jsonl", {"header": "no"}),
        ("log.parquet", {"encoding": "latin-1"}),
        ("log.parquet", {"quoting": "csv"}),
        ("log.inter", {"header": "no"}),
    ],
)
def test_options_that_mean_nothing_in_a_format_are_refused(tmp_path, name, options):
    path = tmp_path / name
    if name == "log.parquet":
        pl.DataFrame({"user": [1], "item": [2]}).write_parquet(path)
    else:
        texts = {"log.txt": "1 2\n", "log.jsonl": '{"user": 1, "item": 2}',
                 "log.inter": "user_id:token\titem_id:token\n1\t2\n"}  # fmt: skip
        write(path, texts[name])
    format = {"format": "adjacency"} if name == "log.txt" else {}
    assert pairs(read_interactions(path, **format)) == [(1, 2)]
    with pytest.raises(InputError, match=rf"{name}: .*means nothing in format"):
        read_interactions(path, **format, **options)


def test_a_header_is_no_row_of_triples(tmp_path):
    path = write(tmp_path / "log.txt", "user item\na b\nc d\n")
    assert pairs(read_interactions(path, format="triples")) == [("a", "b"), ("c", "d")]
    assert len(read_interactions(path, format="triples", header="no")) == 3


def test_names_that_look_like_places_and_names_that_stand_twice(tmp_path):
    path = write(tmp_path / "log.csv", "2,1,user\na,b,c\n")
    with pytest.raises(
        InputError, match=r"item_column='1' can be read in two ways: .* '#1' or '#2'"
    ):
        read_interactions(path, item_column="1")
    assert pairs(read_interactions(path, item_column="#1")) == [("c", "a")]
    assert pairs(read_interactions(path, item_column="#2")) == [("c", "b")]
    path = write(tmp_path / "twice.csv", "user,item,item\na,b,c\n")
    with pytest.raises(InputError, match=r"2 columns are called 'item'.*'#2' or '#3'"):
        read_interactions(path)
    assert pairs(read_interactions(path, item_column="#3")) == [("a", "c")]
    both = write(tmp_path / "both.csv", "user,asin,parent_asin\na,b,c\n")
    data = read_interactions(both)
    assert pairs(data) == [("a", "c")]
    assert "item is column 'parent_asin'; it could also be 'asin'" in notes(data)


# JSON lines


def test_reviews_in_json_lines(tmp_path):
    amazon = [
        {"reviewerID": f"A{user}", "asin": f"0{item}", "overall": 5.0, "reviewTime": "01 1, 2013",
         "reviewText": 'two\nlines, "quoted"', "unixReviewTime": 1356998400 + user}
        for user in range(2) for item in range(2)
    ]  # fmt: skip
    path = tmp_path / "reviews_5.json.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, amazon)).encode()))
    data = read_interactions(path)
    assert pairs(data) == [(one["reviewerID"], one["asin"]) for one in amazon]
    assert data.timestamps is not None
    assert data.timestamps.tolist() == [one["unixReviewTime"] for one in amazon]
    yelp = {
        "review_id": "r",
        "user_id": "u",
        "business_id": "b",
        "stars": 4,
        "date": "2018-07-07 22:09:11",
    }
    data = read_interactions(write(tmp_path / "review.json", json.dumps(yelp)))
    assert pairs(data) == [("u", "b")]
    assert reading(data)["time_unit"] == "dates"
    named = write(tmp_path / "log.jsonl", '{"a": 1, "b": "2"}\n\n{"b": 3, "a": "4", "c": []}\n')
    assert pairs(read_interactions(named, user_column="a", item_column="b")) == [(1, 2), (4, 3)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            '{"user": 1',
            r"log.jsonl:2: expected a JSON object on a line of its own, got '{\"user\": 1'",
        ),
        ("[1, 2]", "log.jsonl:2: expected a JSON object on a line of its own, got a list"),
        ("{'user': 1}", "log.jsonl:2: expected JSON, got an object in Python's notation"),
        ('{"user": 1.0, "item": 2}', "log.jsonl:2: key 'user': expected an id, a string or an int"),
        ('{"user": true, "item": 2}', "log.jsonl:2: key 'user': .*, got true or false"),
        ('{"item": 2}', "log.jsonl:2: key 'user': expected an id, but it is missing"),
        ('{"user": "", "item": 2}', "log.jsonl:2: key 'user': expected an id, got an empty field"),
        ('{"user": "\\ud800", "item": 2}', None),
        ('{"user": "a\\u0000", "item": 2}', r"log.jsonl:2: key 'user': .*'a\\x00', which holds a"),
        ("[" * 100_000, "log.jsonl:2: expected a JSON object"),
        ('{"user": ' + "9" * 5_000 + ', "item": 2}', "log.jsonl:2: expected a JSON object"),
    ],
)
def test_damaged_json_lines_are_named(tmp_path, line, message):
    path = write(tmp_path / "log.jsonl", '{"user": 1, "item": 2}\n' + line + "\n")
    if message is None:
        assert read_interactions(path).users.ids.to_list() == ["1", "?"]
        return
    with pytest.raises(InputError, match=message):
        read_interactions(path, missing="error")


# Rows that do not fit


def test_bad_rows_are_skipped_where_the_user_says_so(tmp_path):
    rows = [f"u{row},i{row}" for row in range(20)]
    for at in (3, 7, 11, 15):
        rows[at] = f"u{at},NULL"
    path = write(tmp_path / "log.csv", "user,item\n" + "\n".join(rows))
    with pytest.raises(
        InputError, match=r"log.csv:5: .*\(4 of 20 rows do not fit; --skip-bad-rows"
    ):
        read_interactions(path)
    data = read_interactions(path, skip_bad_rows=True)
    assert len(data) == 16
    said = notes(data)
    assert "4 of 20 rows do not fit and are left out: line 5: column 'item'" in said
    assert said.count("line ") == 3  # the first three
    lists = write(tmp_path / "lists.txt", "1 2 3\n2 nan\n3 4\n")
    assert len(read_interactions(lists, format="adjacency", skip_bad_rows=True)) == 3
    mostly_bad = write(tmp_path / "bad.csv", "user,item\n1,2\n1\n2\n3\n")
    with pytest.raises(InputError, match="3 of 4 rows do not fit, too many to be skipped"):
        read_interactions(mostly_bad, skip_bad_rows=True)


# Ids


@pytest.mark.parametrize(
    ("id", "message"),
    [
        *((null, "which may be a missing value or an id") for null in ("nan", "NULL", "\\N", "NA")),
        ("a\x07", "holds a character that cannot be seen"),
        ("a\x1b[31m", "holds a character that cannot be seen"),
        ("\ufeffa", "holds a character that cannot be seen"),
        ("1\u200b", "holds a character that cannot be seen"),
        ("user", "expected a row of ids, got the header again"),
    ],
)
@pytest.mark.parametrize("name", ["log.csv", "log.tsv", "log.jsonl", "log.parquet"])
def test_ids_that_cannot_be_meant_are_refused_in_all_formats(tmp_path, name, id, message):
    path, item = tmp_path / name, "item" if id == "user" else "x"
    if name == "log.parquet":
        pl.DataFrame({"user": ["b", id], "item": ["y", item]}).write_parquet(path)
    elif name == "log.jsonl":
        path.write_text('{"user": "b", "item": "y"}\n' + json.dumps({"user": id, "item": item}))
    else:
        mark = "," if name == "log.csv" else "\t"
        path.write_text(f"user{mark}item\nb{mark}y\n{id}{mark}{item}\n", encoding="utf-8")
    if id == "user" and name in ("log.jsonl", "log.parquet"):
        assert len(read_interactions(path)) == 2  # these have no header that could stand twice
        return
    with pytest.raises(InputError, match=message) as caught:
        read_interactions(path)
    assert str(caught.value).isprintable()
    if "missing value" in message:
        assert pairs(read_interactions(path, null_ids="keep")) == [("b", "y"), (id, "x")]


def test_a_few_odd_ids_among_integers_are_noted(tmp_path):
    rows = [f"{row % 9},{row}" for row in range(300)]
    rows[100] = "1,21.5"
    data = read_interactions(write(tmp_path / "log.csv", "user,item\n" + "\n".join(rows)))
    assert "item ids are text, for 1 of 300 are no integers, such as '21.5' in line 102" in notes(
        data
    )


@pytest.mark.parametrize("name", ["log.csv", "lists.txt"])
def test_the_type_of_ids_can_be_said(tmp_path, name):
    mark, header = (",", "user,item\n") if name == "log.csv" else (" ", "")
    rows = [f"{row}{mark}{10 + row}" for row in range(6)]
    options = {} if name == "log.csv" else {"format": "adjacency"}
    path = write(tmp_path / name, header + "\n".join(rows))
    data = read_interactions(path, **options, item_ids="text")
    assert pairs(data) == [(row, f"{10 + row}") for row in range(6)]
    path = write(tmp_path / name, header + "\n".join([*rows, f"6{mark}017"]))
    assert read_interactions(path, **options).items.ids.dtype == pl.String
    with pytest.raises(InputError, match=r":.: .*item.*: expected an integer, got '017'"):
        read_interactions(path, **options, item_ids="integers")
    data = read_interactions(path, **options, item_ids="integers", skip_bad_rows=True)
    assert pairs(data) == [(row, 10 + row) for row in range(6)]


# Files that are no text, and texts of other kinds


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 12\n",
            "a Git LFS pointer",
        ),
        (b"\n <!DOCTYPE html>\n<p>404</p>", "an HTML or XML page"),
        (b"<html>\n", "an HTML or XML page"),
        (b"0 5\nConnection reset by peer\n", r"test.txt:2: expected numbers .* 'Connection reset"),
        (b"0,5\n1,6\n", r"test.txt:1: expected numbers apart by blanks, got '0,5'"),
        (b"0 5\n0 6 7\n0 8 9 1\n", "fits neither of two ways"),
        ("0 5\n1 6\n".encode("utf-16-le"), "test.txt:1: .*NUL byte; .* pass encoding utf-16-le"),
        ("0 5\n1 6\n".encode("utf-16-be"), "test.txt:1: .*NUL byte; .* pass encoding utf-16-be"),
        (b"0 5\n1 \x00 6\n", "test.txt:2: expected text, got a NUL byte$"),
    ],
)
def test_the_files_of_a_split_are_all_looked_at(tmp_path, content, message):
    write(tmp_path / "train.txt", "0 1 2 3\n1 2 3 4\n2 2\n")
    write(tmp_path / "test.txt", content)
    with pytest.raises(InputError, match=message):
        read_interactions(tmp_path)


def test_encodings(tmp_path):
    text = "user,item\nJosé,1\nZoë,2\n"
    expected = [("José", 1), ("Zoë", 2)]
    path = tmp_path / "log.csv"
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        write(path, text.encode(encoding))
        assert pairs(read_interactions(path)) == expected
    for encoding in ("latin-1", "cp1252", "utf-16-le", "utf-16-be", "mac-roman"):
        write(path, text.encode(encoding))
        assert pairs(read_interactions(path, encoding=encoding)) == expected
    write(path, text.encode("latin-1"))
    with pytest.raises(InputError, match=r"log.csv:2: column 'user': .* no UTF-8 .*latin-1"):
        read_interactions(path)
    with pytest.raises(InputError, match=r"log.csv: expected text in cp932, got the bytes"):
        read_interactions(path, encoding="cp932")
    for unknown in ("klingon", "base64", "idna", "utf-8\0"):
        with pytest.raises(InputError, match=r"encoding='.*: expected"):
            read_interactions(path, encoding=unknown)


def test_line_ends(tmp_path):
    for end in ("\n", "\r\n", "\r"):
        path = write(tmp_path / "log.txt", f"1 2 3{end}1 3 4{end}2 2 5{end}")
        data = read_interactions(path)
        assert pairs(data) == [(1, 2), (1, 3), (2, 2)]
        assert ("carriage returns alone" in notes(data)) == (end == "\r")
    path = write(tmp_path / "log.csv", "user,item,title\n1,2,a\rb\n")
    with pytest.raises(InputError, match=r"log.csv:2: .* carriage return stands within"):
        read_interactions(path)


def test_compressed_files(tmp_path):
    whole = gzip.compress(b"user,item\n1,2\n") + gzip.compress(b"3,4\n")
    assert pairs(read_interactions(write(tmp_path / "a.csv.gz", whole))) == [(1, 2), (3, 4)]
    # By its first bytes, whatever its name.
    assert pairs(read_interactions(write(tmp_path / "a.csv", whole))) == [(1, 2), (3, 4)]
    with pytest.raises(InputError, match=r"a.csv.gz: cannot be read: .* end early"):
        read_interactions(write(tmp_path / "a.csv.gz", whole[:-6]))
    damaged = bytearray(whole)
    damaged[20] ^= 255
    with pytest.raises(InputError, match=r"a.csv.gz: cannot be read: .* are damaged"):
        read_interactions(write(tmp_path / "a.csv.gz", bytes(damaged)))


def test_zstandard(tmp_path):
    frame = b"(\xb5/\xfd\x04X\x91\x00\x00user,item\n1,2\n3,4\n\xd4/p\xdf"
    assert pairs(read_interactions(write(tmp_path / "a.csv.zst", frame))) == [(1, 2), (3, 4)]
    for damaged in (frame[:-2], frame[:-1] + b"\x00"):
        with pytest.raises(InputError, match=r"a.csv.zst: cannot be read: .* damaged"):
            read_interactions(write(tmp_path / "a.csv.zst", damaged))
    with pytest.raises(InputError, match="decompress it first"):
        read_interactions(write(tmp_path / "a.csv.zst", frame), encoding="latin-1")


def test_a_full_disk_is_named(tmp_path):
    with (
        pytest.raises(InputError, match=r"a.csv.gz: no space is left in .*; TMPDIR names"),
        explained(tmp_path / "a.csv.gz"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "log.csv")
    with pytest.raises(InputError, match=r"log.csv: expected a file or a folder, got a pipe"):
        read_interactions(tmp_path / "log.csv")


def test_nothing_stays_behind(tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    read_interactions(write(tmp_path / "a.csv.gz", gzip.compress(b"user,item\n1,2\n")))
    with pytest.raises(InputError):
        read_interactions(write(tmp_path / "a.csv.gz", gzip.compress(b"user,item\n1,2\n")[:-4]))
    assert not list((tmp_path / "temporary").iterdir())
