"""What was written is read, and what cannot be read is named by file and line."""

import csv
import gzip
import os
import re
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightgcn_jax.data.interactions import Interactions
from lightgcn_jax.data.readers import read_interactions
from lightgcn_jax.data.splits import given_split
from lightgcn_jax.errors import InputError

quick = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
WORDS = st.text("abcXYZ019-_.é漢", min_size=1, max_size=6)
IDS = st.integers(-(10**12), 10**12) | st.integers(0, 9)
EVENTS = st.one_of(
    st.lists(st.tuples(ids, ids, st.integers(1, 10), st.integers(10**8, 2 * 10**9)), min_size=1)
    for ids in (IDS, WORDS)
)


def pairs_of(data: Interactions) -> list[tuple[str, str]]:
    """The pairs in the order of the file, as text: "12" in a file is the integer 12 here."""
    users, items = data.users.external(data.user_rows), data.items.external(data.item_rows)
    return [(str(user), str(item)) for user, item in zip(users, items, strict=True)]


def write(path: Path, text: str | bytes) -> Path:
    content = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def table(events, separator, header="") -> str:
    lines = [separator.join(map(str, event)) for event in events]
    return "\n".join([header, *lines] if header else lines) + "\n"


# Round trips


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize(
    ("name", "separator", "header"),
    [
        ("log.csv", ",", "user_id,item_id,rating,timestamp"),
        ("log.csv", ";", "userId;movieId;stars;time"),
        ("log.tsv", "\t", "userID\tartistID\tweight\ttimestamp"),
        ("log.inter", "\t", "user_id:token\titem_id:token\trating:float\ttimestamp:float"),
        ("ratings.dat", "::", ""),
        ("u.data", "\t", ""),
    ],
)
@quick
@given(events=EVENTS)
def test_a_table_is_read_as_it_was_written(tmp_path, name, separator, header, ending, events):
    data = read_interactions(write(tmp_path / (name + ending), table(events, separator, header)))
    assert pairs_of(data) == [(str(user), str(item)) for user, item, _, _ in events]
    assert data.ratings is not None
    assert data.ratings.tolist() == [rating for _, _, rating, _ in events]
    assert data.timestamps is not None
    assert data.timestamps.tolist() == [time for _, _, _, time in events]
    for known, values in (
        (data.users, {e[0] for e in events}),
        (data.items, {e[1] for e in events}),
    ):
        canonical = all(str(v) == str(int(v)) if is_integer(v) else False for v in values)
        assert (known.ids.dtype == pl.Int64) == canonical


def is_integer(value) -> bool:
    try:
        return -(2**63) <= int(value) < 2**63 and "_" not in str(value)
    except ValueError:
        return False


@quick
@given(events=EVENTS)
def test_parquet_is_read_as_it_was_written(tmp_path, events):
    frame = pl.DataFrame(events, schema=["user", "item", "rating", "timestamp"], orient="row")
    frame.write_parquet(tmp_path / "log.parquet")
    data = read_interactions(tmp_path / "log.parquet")
    assert pairs_of(data) == [(str(user), str(item)) for user, item, _, _ in events]
    assert data.timestamps is not None
    assert data.timestamps.tolist() == frame["timestamp"].to_list()


@pytest.mark.parametrize("ending", ["", ".gz"])
@quick
@given(events=EVENTS)
def test_adjacency_lists_are_read_as_they_were_written(tmp_path, ending, events):
    pairs = sorted({(str(user), str(item)) for user, item, _, _ in events})
    lines = {user: [item for other, item in pairs if other == user] for user, _ in pairs}
    text = "".join(f"{user} {' '.join(items)}\n" for user, items in lines.items())
    data = read_interactions(write(tmp_path / f"log.txt{ending}", text), format="adjacency")
    assert pairs_of(data) == pairs


@quick
@given(
    st.lists(
        st.tuples(
            st.text('ab ",;é', min_size=1, max_size=6).filter(
                # Blanks before quotation marks around an id are refused.
                lambda text: text.strip() and not re.fullmatch(r'\s+".*"\s*', text)
            ),
            st.integers(0, 9),
            st.text('ab",\n', max_size=4),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_quoted_fields_hold_separators_quotes_and_line_breaks(tmp_path, records):
    with (tmp_path / "log.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writerows([("user", "item", "comment"), *records])
    data = read_interactions(tmp_path / "log.csv")
    assert pairs_of(data) == [(user.strip(), str(item)) for user, item, _ in records]


# Formats


def test_folders_of_parts_share_their_rows(tmp_path):
    for name, text in {
        "train.txt": "0 5 6\n1 5\n3\n",
        "valid.txt": "0 7\n",
        "test.txt": "1 6 8\n2 5\n",
    }.items():
        write(tmp_path / name, text)
    data = read_interactions(tmp_path, unknown_ids="allow")
    assert data.users.ids.to_list() == [0, 1, 2, 3]  # 3 is known, though it has no item
    assert data.items.ids.to_list() == [5, 6, 7, 8]
    assert data.parts is not None
    assert data.parts.tolist() == [0, 0, 0, 1, 2, 2, 2]
    split = given_split(data)
    assert [len(split.train), len(split.valid), len(split.test)] == [3, 1, 3]


def test_ids_that_are_strings_in_one_part_are_strings_in_all(tmp_path):
    write(tmp_path / "x.train.inter", "user_id:token\titem_id:token\n1\t2\n")
    write(tmp_path / "x.test.inter", "user_id:token\titem_id:token\nb\t3\n")
    data = read_interactions(tmp_path, unknown_ids="allow")
    assert data.users.ids.to_list() == ["1", "b"]
    assert data.items.ids.to_list() == [2, 3]
    assert data.parts is not None
    assert data.parts.tolist() == [0, 2]


def test_triples_in_folders_and_files(tmp_path):
    write(tmp_path / "data1.txt", "1\t5\t2\n2\t5\t1\n")
    write(tmp_path / "test1.txt", "2\t6\t7\n")
    data = read_interactions(tmp_path, unknown_ids="allow")
    assert pairs_of(data) == [("1", "5"), ("2", "5"), ("2", "6")]
    assert data.ratings is not None
    assert data.ratings.tolist() == [2, 1, 7]
    single = write(tmp_path / "single", "1 5\n1 6\n2 5\n")
    assert pairs_of(read_interactions(single)) == [("1", "5"), ("1", "6"), ("2", "5")]


def test_files_that_are_lists_and_triples_are_not_read(tmp_path):
    """Ratings and times would become items without a word: 9 interactions in place of 3."""
    log = write(tmp_path / "log.txt", "1 10 5 881250949\n2 11 4 881250950\n3 12 3 881250951\n")
    for path in (log, write(tmp_path / "three.txt", "1 5 6\n2 5 7\n")):
        with pytest.raises(
            InputError,
            match=r"txt: can be read in two ways, .*, format adjacency, "
            r"or as .*, format triples; say which by format=… \(--format …\)",
        ):
            read_interactions(path)  # fmt: skip
    triples = read_interactions(log, format="triples")
    assert pairs_of(triples) == [("1", "10"), ("2", "11"), ("3", "12")]
    assert triples.timestamps is not None
    assert len(read_interactions(log, format="adjacency")) == 9


def test_one_line_far_down_tells_a_list_from_a_table(tmp_path):
    """The first thousand lines of a log in the order of time may name a thousand users."""
    lines = [f"{user} {user % 7} 5 {1_500_000_000 + user}" for user in range(1_500)]
    path = write(tmp_path / "log.txt", "\n".join([*lines, "3 5 4 1500009999\n"]))
    assert len(read_interactions(path)) == 1_501
    # A torn line in a log of one event for each user does not turn ratings into items.
    torn = write(tmp_path / "torn.txt", "\n".join([*lines, "1500 3\n"]))
    with pytest.raises(
        InputError,
        match=r"torn.txt: can be read in two ways, for 1,500 lines have 4 numbers and 1 have not",
    ):
        read_interactions(torn)  # fmt: skip
    assert len(read_interactions(torn, format="adjacency")) == 3 * 1_500 + 1
    # A cut line in a log is no reason to take it for lists.
    for text in ([*lines, lines[3], "7 5 4\n"], ["1 2 3 4 5", "2 2 3 4 5", "1 7 3 4 5\n"]):
        path = write(tmp_path / "cut.txt", "\n".join(text))
        with pytest.raises(
            InputError,
            match=r"cut.txt: fits neither of two ways to read it, for "
            r"lines have . to . numbers, and a user has several lines",
        ):
            read_interactions(path)  # fmt: skip


def test_all_files_of_a_split_tell_their_format(tmp_path):
    write(tmp_path / "train.txt", "0 1 2\n1 2 3\n")
    for test, expected in (("0 3\n", 5), ("0 3 4\n0 5 1\n", 4)):
        write(tmp_path / "test.txt", test)
        assert len(read_interactions(tmp_path, unknown_ids="allow")) == expected
    write(tmp_path / "test.txt", "0 3 4\n")
    with pytest.raises(InputError, match="can be read in two ways"):
        read_interactions(tmp_path)


def test_pairs_are_lists_and_triples_alike(tmp_path):
    pairs = write(tmp_path / "pairs.txt", "1 5\n2 6\n3 5\n")
    assert pairs_of(read_interactions(pairs)) == [("1", "5"), ("2", "6"), ("3", "5")]
    assert pairs_of(read_interactions(pairs, format="adjacency")) == pairs_of(
        read_interactions(pairs)
    )


def test_lines_tell_a_list_from_a_table(tmp_path):
    lists = write(tmp_path / "lists.txt", "1 5 6\n2 5\n")
    assert len(read_interactions(lists)) == 3
    repeats = write(tmp_path / "table.txt", "1 5 6\n1 6 7\n")
    assert len(read_interactions(repeats)) == 2
    tabs = write(tmp_path / "tabs.txt", "1\t5  6 \n\n2\t7\n")
    assert pairs_of(read_interactions(tabs)) == [("1", "5"), ("1", "6"), ("2", "7")]
    headed = write(tmp_path / "headed.txt", "uid\titem\nx\t7\n")
    assert pairs_of(read_interactions(headed)) == [("x", "7")]


def test_folders_known_by_a_file(tmp_path):
    for folder, name, text in (
        ("a", "ratings.csv", "userId,movieId,rating,timestamp\n1,2,3,4\n"),
        ("b", "ratings.dat", "1::2::3::4\n"),
        ("c", "u.data", "1\t2\t3\t4\n"),
        ("d", "user_artists.dat", "userID\tartistID\tweight\n1\t2\t3\n"),
        ("e", "any.inter.gz", "user_id:token\titem_id:token\trating:float\n1\t2\t3\n"),
    ):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "README.txt", "not a log")
        write(tmp_path / folder / name, text)
        data = read_interactions(tmp_path / folder)
        assert pairs_of(data) == [("1", "2")]
        assert data.ratings is not None
        assert data.ratings.tolist() == [3]


def test_columns_and_separators_can_be_named(tmp_path):
    path = write(tmp_path / "log.csv", "when|who|what|user|n\n2020-01-01|x|7|9|2.5\n")
    data = read_interactions(
        path, user_column="who", item_column="what", rating_column="n", timestamp_column="when"
    )
    assert pairs_of(data) == [("x", "7")]
    assert data.ratings is not None
    assert data.ratings.tolist() == [2.5]
    assert data.timestamps is not None
    assert data.timestamps.tolist() == [18262 * 86400]
    path = write(tmp_path / "odd.txt", "user~|item\n1~|2\n")
    assert pairs_of(read_interactions(path, format="csv", separator="~|")) == [("1", "2")]
    path = write(tmp_path / "list.txt", "1,2,3\n")
    assert len(read_interactions(path, format="adjacency", separator=",")) == 2


def test_blank_lines_blanks_and_line_ends_do_not_matter(tmp_path):
    text = b"\xef\xbb\xbf\r\nuser , item\r\n\r\n 1 , 2 \r\n   \r\n3,4"
    data = read_interactions(write(tmp_path / "log.csv", text))
    assert pairs_of(data) == [("1", "2"), ("3", "4")]
    assert data.users.ids.dtype == pl.Int64


def test_ids_that_are_no_canonical_integers_stay_apart(tmp_path):
    data = read_interactions(write(tmp_path / "log.csv", "user,item\n01,1\n1,+1\n"))
    assert data.users.ids.to_list() == ["01", "1"]
    assert data.items.ids.to_list() == ["+1", "1"]


def test_undecodable_text_in_other_columns_does_not_matter(tmp_path):
    path = write(tmp_path / "log.tsv", b'user\titem\tname\n1\t2\tBj\xf6rk\n3\t4\t"x\n')
    assert pairs_of(read_interactions(path)) == [("1", "2"), ("3", "4")]


# What does not fit

CSV = "user,item,rating,timestamp\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", CSV + "1,2,3,4\n\n1,2,3\n", "a.csv:4: expected 4 comma-separated fields "
         r"\(user, item, rating, timestamp\), got 3: '1,2,3'"),
        ("a.csv", CSV + "1,2,3,4,5\n", "a.csv:2: expected 4 comma-separated fields .* got 5"),
        ("a.csv", CSV + "1, ,3,4\n", "a.csv:2: column 'item': expected an id, got an empty field"),
        ("a.csv", CSV.encode() + b"\xff,2,3,4\n", "a.csv:2: column 'user': expected an id, got by"),
        ("a.csv.gz", CSV + "1,,3,4\n", "a.csv.gz:2: column 'item'"),
        ("a.csv", CSV + '"1\n",2,3,4\n"5",,3,4\n', "a.csv:4: column 'item'.*an empty field"),
        ("a.csv", CSV + '"1",2,3,4\n\n"5",2,3\n', "a.csv:4: expected 4 comma-sep.* got 3"),
        ("a.csv", CSV + '"1",2,3,4\n"5",2,3,4,5\n', "a.csv:3: expected 4 comma-sep.* got 5"),
        ("a.csv", CSV + '1,2,3,4\n"5,2,3,4\n', "a.csv:3: .* a quotation mark opens"),
        ("a.csv", "", "a.csv: expected interactions, but the file is empty"),
        ("a.csv", "\n \n", "a.csv: expected interactions, but the file is empty"),
        ("a.csv", CSV, "a.csv: expected interactions, but the files hold none"),
        ("a.csv", "1,2,3\n", "a.csv: expected a header with a column of user ids .* got 1, 2, 3;"),
        ("a.csv", "user,rating\n", "a.csv: expected a header with a column of item ids"),
        ("a.tsv", "user\titem\n1\t2\t3\n", "a.tsv:2: expected 2 tab-separated fields"),
        ("a.inter", "user_id\titem_id\n1\t2\n", "a.inter:1: expected a header of name:type"),
        ("ratings.dat", "1::2::3::4\n1::2\n", "ratings.dat:2: expected 4 '::'-separated fields"),
        ("u.data", "1\n", "u.data: expected lines 'user item"),
        ("train.txt", b"1 2 3\n4 5\n6 7\n", None),
        ("a.parquet", "no table", "a.parquet: expected a Parquet table"),
        ("a.log", "the quick brown fox\n", "a.log: cannot tell the format, for .* pass format"),
        ("a.csv.gz", None, "a.csv.gz: cannot be read: "),
    ],
)  # fmt: skip
def test_malformed_files_are_named_with_the_line(tmp_path, name, content, message):
    if content is None:
        whole = gzip.compress(CSV.encode() + b"1,2,3,4\n" * 1000)
        (tmp_path / name).write_bytes(whole[:-20])
    else:
        write(tmp_path / name, content)
    if message is None:
        assert len(read_interactions(tmp_path / name)) == 4
        return
    with pytest.raises(InputError, match=message):
        read_interactions(tmp_path / name, missing="error")


def test_undecodable_adjacency_lists_are_named_with_the_line(tmp_path):
    path = write(tmp_path / "a.txt", b"1 2\n\n3 4 \xff\n")
    with pytest.raises(
        InputError, match=r"a.txt:3: expected 'user item item …', got item .* that are no UTF-8"
    ):
        read_interactions(path, format="adjacency")
    with pytest.raises(InputError, match="the files hold none"):
        read_interactions(write(path, "1\n2\n"), format="adjacency")


def test_malformed_parquet_is_named_with_the_row(tmp_path):
    path = tmp_path / "a.parquet"
    for columns, message in (
        ({"user": [1, None], "item": [1, 2]}, r"a.parquet: row 2: column 'user': .*missing"),
        ({"user": [1.5], "item": [1]}, "column 'user': expected integers or strings, got Float64"),
        ({"user": ["a", " "], "item": [1, 2]}, "row 2: column 'user': expected an id"),
        ({"film": [1]}, "expected a header with a column of user ids .* got film"),
    ):
        pl.DataFrame(columns).write_parquet(path)
        with pytest.raises(InputError, match=message):
            read_interactions(path, missing="error")


def test_requests_that_do_not_fit_are_named(tmp_path):
    path = write(tmp_path / "a.csv", CSV + "1,2,3,4\n")
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        read_interactions(tmp_path / "nowhere")
    with pytest.raises(InputError, match="format='xml': expected auto, adjacency, trip"):
        read_interactions(path, format="xml")
    with pytest.raises(InputError, match=r"item_column='film': no such column; .* user, item, rat"):
        read_interactions(path, item_column="film")
    with pytest.raises(InputError, match="user and item are both column 'item'"):
        read_interactions(path, user_column="item")
    with pytest.raises(InputError, match="separator: expected at least one character"):
        read_interactions(path, separator="")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no file that a folder is read by; known formats"):
        read_interactions(tmp_path / "empty")
    with pytest.raises(InputError, match=r"format movielens is ratings.csv, ratings.dat"):
        read_interactions(tmp_path, format="movielens")
    with pytest.raises(InputError, match=r"user_column: lines .* have no columns"):
        read_interactions(path, format="adjacency", user_column="user")
    for name in ("x.inter", "y.inter"):
        write(tmp_path / name, "user_id:token\titem_id:token\n1\t2\n")
    with pytest.raises(InputError, match=r"expected one .inter file, .* got x.inter, y.inter"):
        read_interactions(tmp_path)


def test_parts_must_agree_on_ratings(tmp_path):
    write(tmp_path / "data1.txt", "1\t5\t2\n")
    write(tmp_path / "test1.txt", "2\t6\n")
    with pytest.raises(InputError, match="expected ratings in every file or in none, but test1"):
        read_interactions(tmp_path, unknown_ids="allow")


# Real logs


@pytest.mark.parametrize(
    ("name", "format", "users", "items", "interactions"),
    [
        ("gowalla", "adjacency", 29_858, 40_981, 810_128 + 217_242),
        # 12 of the 1,892 users that the set is known for have friends but no interaction.
        ("lastfm", "triples", 1_880, 4_489, 42_135 + 10_533),
        ("ml-100k", "recbole", 943, 1_682, 100_000),
        ("ml-latest-small", "movielens", 671, 9_066, 100_004),
        ("hetrec-lastfm", "hetrec", 1_892, 17_632, 92_834),
    ],
)
def test_public_logs_have_their_known_counts(name, format, users, items, interactions):
    root = os.environ.get("GRAPHREC_DATA")
    if not root:
        pytest.skip("GRAPHREC_DATA names no folder with public logs")
    data = read_interactions(Path(root) / name)
    assert (data.num_users, data.num_items, len(data)) == (users, items, interactions)
    assert not data.has_duplicates
    named = read_interactions(Path(root) / name, format=format)
    assert (named.users, named.items) == (data.users, data.items)
    if data.parts is not None:
        split = given_split(data)
        sizes = {"gowalla": (810_128, 217_242), "lastfm": (42_135, 10_533)}[name]
        assert (len(split.train), len(split.test), len(split.valid)) == (*sizes, 0)
        assert len(set(split.test.users.tolist())) == (29_858 if name == "gowalla" else 1_858)
