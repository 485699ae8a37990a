"""The flags of data: events by their type, thresholds by role, and what was guessed is said."""

import contextlib
import io

import numpy as np
import polars as pl
import pytest

from lightgcn_jax.cli import main
from lightgcn_jax.cli.program import LIGHTGCN, _parsed
from lightgcn_jax.cli.source import columns_read
from lightgcn_jax.errors import InputError

EVENTS = [
    ("u1", "a", "view", 0),
    ("u1", "a", "click", 1),
    ("u1", "a", "view", 0),
    ("u2", "a", "buy", 1),
    ("u2", "b", "view", 0),
    ("u3", "b", "click", 1),
    ("u3", "c", "view", 0),
]


@pytest.fixture
def log(tmp_path):
    frame = pl.DataFrame(EVENTS, schema=["user", "item", "type", "label"], orient="row")
    frame.write_csv(tmp_path / "log.csv")
    frame.write_parquet(tmp_path / "log.parquet")
    return tmp_path / "log.csv"


def source(*flags):
    return _parsed(LIGHTGCN, ["train", *map(str, flags)]).source


def pairs_of(data):
    users, items = data.users.external(data.user_rows), data.items.external(data.item_rows)
    return sorted(zip(users, items, strict=True))


CLICKED = [("u1", "a"), ("u2", "a"), ("u3", "b")]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_events_are_filtered_by_type_before_pairs_are_merged(log, suffix):
    flags = ("--data", log.with_suffix(suffix), "--event-column", "type", "--event", "click, buy")
    data = source(*flags).interactions()
    assert pairs_of(data) == CLICKED
    assert [str(step).partition(":")[0] for step in data.report] == [
        "event click, buy",
        "one interaction per user-item pair",
    ]
    assert data.notes == ("events: view (4), click (2), buy (1); click, buy count",)


def test_a_label_is_read_as_events_unless_told_otherwise(log):
    flags = ("--data", log, "--rating-column", "label", "--min-rating", 1)
    data = source(*flags).interactions()
    assert pairs_of(data) == CLICKED
    assert "so rows are read as events" in data.notes[0]
    rated = source(*flags, "--feedback", "ratings").interactions()
    assert pairs_of(rated) == CLICKED[1:]
    assert rated.notes == ()


def test_notes_go_into_the_split_and_the_run_s_record(log):
    flags = ("--data", log, "--rating-column", "label", "--feedback", "events", "--split", "ratio")
    made = source(*flags)
    data = made.interactions()
    split = made.split_up(data, allow_empty=True)
    assert split.notes[0].startswith("2 of 5 pairs have no row rated above 0")
    assert made.record()["feedback"] == "events"
    assert made.record()["unknown_ids"] == "refuse"


def test_a_column_of_types_that_is_not_read_is_named(tmp_path, capsys):
    path = tmp_path / "events.csv"
    path.write_text("visitorid,itemid,event\n1,5,view\n1,6,NA\n2,5,addtocart\n")
    source("--data", path).interactions()
    assert "column 'event' is not read, so rows of every event count" in capsys.readouterr().err
    data = source("--data", path, "--event-column", "event", "--event", "NA").interactions()
    said = capsys.readouterr().err
    assert "is not read" not in said
    assert "note: events: NA (1), addtocart (1), view (1); NA count\n" in said
    assert pairs_of(data) == [(1, 6)]
    assert not any("is not read" in note for one in data.readings for note in one.notes)


def test_labels_are_found_by_their_name_and_said_to_count(tmp_path, capsys):
    path = tmp_path / "impressions.csv"
    path.write_text("user_id,item_id,label\n1,5,0\n1,5,1\n2,6,0\n")
    assert len(source("--data", path).interactions()) == 2
    said = capsys.readouterr().err
    assert "--rating-column label" in said
    assert "note: 1 of 2 pairs have no row rated above 0, and count as positives all the" in said
    assert pairs_of(source("--data", path, "--min-rating", 1).interactions()) == [(1, 5)]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--event", "click"), "expected both .* or neither"),
        (("--event-column", "type"), "expected both .* or neither"),
        (("--event", "clik", "--event-column", "type"), "event 'clik': .* view .4., click .2."),
        (
            ("--event", "buy", "--event-column", "type", "--skip-bad-rows"),
            "row without an event",
        ),
        (("--event", "1", "--event-column", "kind"), "event_column='kind': no such column"),
    ],
)
def test_events_that_do_not_fit(log, flags, message):
    with pytest.raises(InputError, match=message):
        source("--data", log, *flags).interactions()


@pytest.mark.parametrize("flag", ["--feedback=events", "--event=click", "--event-column=type"])
def test_flags_of_a_log_need_a_log(flag):
    name = flag.partition("=")[0]
    with pytest.raises(InputError, match=f"{name}: says how to read a log, but there is no --data"):
        source("--dataset", "synthetic", *flag.split("=")).interactions()


def test_describe_says_what_was_noted(tmp_path):
    rng = np.random.default_rng(0)
    for day in (1, 2):
        frame = pl.DataFrame({"user": rng.integers(0, 9, 20), "item": rng.integers(0, 9, 20)})
        frame.write_csv(tmp_path / f"day-{day}.csv")
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert main(["data", "describe", str(tmp_path)]) == 0
    reading, note = err.getvalue().splitlines()
    assert reading.startswith("day-1.csv … day-2.csv (2): read as --format csv ")
    assert note == "note: 2 files are read as one log: day-1.csv … day-2.csv"
    assert " 40" in out.getvalue()


@pytest.fixture
def baskets(tmp_path):
    path = tmp_path / "baskets.csv"
    path.write_text("user,item,amount\nu,a,2.5\nu,a,1.5\nu,b,1\nv,a,8\n")
    return path


def test_a_column_weighs_where_it_is_asked_for(baskets, capsys):
    assert source("--data", baskets).interactions().weights is None
    assert "column 'amount' is not used (--weight-column amount weighs" in capsys.readouterr().err
    made = source("--data", baskets, "--weight-column", "amount", "--split", "ratio")
    data = made.interactions()
    said = capsys.readouterr().err
    assert "--weight-column amount" in said
    assert "note: 3 pairs weigh 13 together, from 1 to 8 each" in said
    assert sorted(data.weights.tolist()) == [1, 4, 8]
    assert made.record(data)["weight_column"] == "amount"
    split = made.split_up(data, allow_empty=True)
    assert any("3 pairs weigh 13" in note for note in split.notes)


def test_weights_go_with_the_events_that_count(tmp_path):
    path = tmp_path / "events.csv"
    path.write_text("user,item,type,amount\nu,a,view,9\nu,a,buy,2\nv,a,buy,3\nu,a,buy,4\n")
    flags = ("--event-column", "type", "--event", "buy", "--weight-column", "amount")
    assert sorted(source("--data", path, *flags).interactions().weights.tolist()) == [3, 6]


def test_an_odd_weight_stops_with_its_line_or_is_left_out(baskets):
    with baskets.open("a") as file:
        file.write("v,b,0\n")
    flags = ("--data", baskets, "--weight-column", "amount")
    message = r"baskets.csv:6: column 'amount': .*above 0, got '0' \(--skip"
    with pytest.raises(InputError, match=message):
        source(*flags).interactions()
    assert len(source(*flags, "--skip-bad-rows").interactions()) == 3


def test_a_weight_column_needs_data():
    with pytest.raises(InputError, match="--weight-column: says how to read a file"):
        source("--dataset", "synthetic", "--weight-column", "amount").interactions()


def test_the_columns_of_a_run_are_found_in_new_data(tmp_path):
    new = tmp_path / "new.csv"
    new.write_text("who,what,n\na,1,2\nb,2,3\n")
    with pytest.raises(InputError, match="expected a header with a column of user ids"):
        source("--data", new).read(quiet=True)
    first = source("--data", new, "--user-column", "who", "--item-column", "what")
    remembered = columns_read(first.record(first.interactions(quiet=True)))
    assert remembered == {"user_column": "who", "item_column": "what"}
    data, _ = source("--data", new).read(quiet=True, remembered=remembered)
    assert pairs_of(data) == [("a", 1), ("b", 2)]
    # A flag has the say, and so have the usual names of a file that has other columns.
    data, _ = source("--data", new, "--item-column", "n").read(quiet=True, remembered=remembered)
    assert pairs_of(data) == [("a", 2), ("b", 3)]
    new.write_text("user,item\nc,4\n")
    data, _ = source("--data", new).read(quiet=True, remembered=remembered)
    assert pairs_of(data) == [("c", 4)]


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"readings": 3},
        {"readings": []},
        {"readings": ["x"]},
        {"readings": [{"read_as": 1}]},
        {"readings": [{"read_as": {"user_column": 2}}]},
        {"readings": [{"read_as": {"header": "no", "user_column": "1", "item_column": "2"}}]},
    ],
)
def test_a_run_that_remembers_no_columns_names_none(data):
    assert columns_read(data) == {}
