"""Arrays, frames and matrices give what they hold, and what they lack is named by its row."""

import datetime as dt
import decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse

from lightgcn_jax.data.ids import clean_ids
from lightgcn_jax.data.interactions import Interactions
from lightgcn_jax.errors import InputError

BERLIN = dt.timezone(dt.timedelta(hours=2))
DAY = 86_400.0


def times(values):
    return Interactions.from_arrays([1, 2], [1, 2], timestamps=values).timestamps.tolist()


def ratings(values):
    return Interactions.from_arrays([1, 2], [1, 2], ratings=values).ratings.tolist()


@pytest.mark.parametrize(
    "values",
    [
        [dt.date(1970, 1, 2), dt.date(1970, 1, 3)],
        np.array([dt.date(1970, 1, 2), dt.date(1970, 1, 3)], object),
        [dt.datetime(1970, 1, 2, 2, tzinfo=BERLIN), dt.datetime(1970, 1, 3)],
        np.array(["1970-01-02", "1970-01-03"], "datetime64[s]"),
        np.array(["1970-01-02", "1970-01-03"], "datetime64[D]"),
        [np.datetime64("1970-01-02"), pd.Timestamp("1970-01-03", tz="UTC")],
        ["1970-01-02", "1970-01-03T00:00:00"],
        [86_400, 172_800.0],
        np.ma.masked_array([DAY, 2 * DAY]),
        pd.Series(pd.to_datetime(["1970-01-02 02:00", "1970-01-03 02:00"])).dt.tz_localize(BERLIN),
        pd.to_datetime(["1970-01-02 02:00", "1970-01-03 02:00"]).tz_localize(BERLIN),
        pl.Series([dt.date(1970, 1, 2), dt.date(1970, 1, 3)]),
    ],
)
def test_times_of_every_kind_are_seconds_of_utc(values):
    assert times(values) == [DAY, 2 * DAY]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Kolkata", "UTC"])
def test_zoned_columns_of_both_frames_are_the_same_moments(zone):
    moments = [dt.datetime(2020, 3, 29, 1, 30), dt.datetime(2020, 10, 25, 0, 30)]
    expected = [moment.replace(tzinfo=dt.UTC).timestamp() for moment in moments]
    zoned = pd.Series(moments).dt.tz_localize("UTC").dt.tz_convert(zone)
    frame = pd.DataFrame({"user": [1, 2], "item": [1, 2], "t": zoned})
    assert Interactions.from_frame(frame, timestamp="t").timestamps.tolist() == expected
    theirs = pl.DataFrame({"user": [1, 2], "item": [1, 2], "t": moments}).with_columns(
        pl.col("t").dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
    )
    assert Interactions.from_frame(theirs, timestamp="t").timestamps.tolist() == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", " 2.5 "], [1, 2.5]),
        ([decimal.Decimal("4.5"), 3], [4.5, 3]),
        (pl.Series([decimal.Decimal("4.5"), decimal.Decimal(3)]), [4.5, 3]),
        (pd.Categorical([2, 1]), [2, 1]),
        (pl.Series(["2", "1"], dtype=pl.Categorical), [2, 1]),
        ([True, False], [1, 0]),
        (pd.array([1, 2], dtype="Float64"), [1, 2]),
        (np.array([1, 2], np.float16), [1, 2]),
    ],
)
def test_ratings_of_every_kind(values, expected):
    assert ratings(values) == expected


MASKED = np.ma.masked_array([1, 2], mask=[False, True])
SPANS = [dt.timedelta(1), dt.timedelta(2)]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"users": MASKED}, r"user ids\[1\]: expected a value, but it is masked"),
        ({"ratings": MASKED}, r"ratings\[1\]: expected a value, but it is masked"),
        ({"timestamps": MASKED}, r"timestamps\[1\]: expected a value, but it is masked"),
        ({"users": pd.array([1, None], dtype="Int64")}, r"user ids\[1\].* is missing"),
        ({"items": pd.array(["a", None], dtype="string")}, r"item ids\[1\].* is missing"),
        ({"items": np.array(["a", None], object)}, r"item ids\[1\].* got None"),
        ({"users": pd.Series([1.0, np.nan])}, r"user ids\[1\].* is missing"),
        ({"users": pd.Series([1.0, 2.0])}, "expected integers or strings, got Float64; pandas"),
        ({"users": [np.datetime64("2020", "ns"), 1]}, r"user ids\[0\]: expected an integer or"),
        ({"users": np.array([1, 2**63], np.uint64)}, f"64 bits or strings, got {2**63} at 1"),
        ({"users": [1, 2**70]}, f"got {2**70} at 1"),
        ({"ratings": pd.array([1, None], dtype="Float64")}, r"ratings\[1\].* is missing"),
        ({"ratings": pl.Series([1, None])}, r"ratings\[1\].* is missing"),
        ({"ratings": [1, None]}, r"ratings\[1\]: expected a number, got None"),
        ({"ratings": ["1", "good"]}, r"ratings\[1\]: expected a number, got 'good'"),
        ({"ratings": np.array([1 + 2j, 3])}, "ratings: expected numbers, got complex128"),
        ({"ratings": [1, 2j]}, r"ratings\[1\]: expected a number, got 2j"),
        ({"ratings": np.array(SPANS, "timedelta64[s]")}, "numbers, got timedelta64"),
        ({"ratings": SPANS}, r"ratings\[0\]: expected a number, got datetime.timedelta"),
        ({"ratings": pl.Series(SPANS)}, "ratings: expected numbers, got Duration"),
        ({"ratings": np.array(["2020", "2021"], "datetime64[Y]")}, "numbers, got datetime64"),
        (
            {"ratings": [np.timedelta64(1, "s"), 2]},
            r"ratings\[0\]: expected a number, got .*timedelta",
        ),
        ({"timestamps": [1, None]}, r"timestamps\[1\]: expected seconds.* got None"),
        ({"timestamps": pd.to_datetime(["2020-01-01", None])}, r"timestamps\[1\].* is missing"),
        ({"timestamps": np.array(["2020", "NaT"], "datetime64[D]")}, r"timestamps\[1\]: "),
        ({"timestamps": SPANS}, r"timestamps\[0\]: expected seconds.*timedelta"),
        ({"timestamps": np.array(SPANS, "timedelta64[s]")}, "ISO strings, got timedelta64"),
        ({"timestamps": [1j, 2]}, "timestamps: expected|timestamps.0.: expected"),
        ({"users": ["a", "  "]}, r"user ids\[1\]: expected an id, got an empty field \('  '\)"),
        ({"items": ["", "a"]}, r"item ids\[0\]: expected an id, got an empty field"),
        ({"items": ["a", "nan"]}, r"item ids\[1\]: .* missing value or an id"),
        ({"items": ["a\x00", "b"]}, r"item ids\[0\]: .* a character that cannot be seen"),
    ],
)
def test_what_is_no_value_is_named_by_its_row(columns, message):
    with pytest.raises(InputError, match=message):
        Interactions.from_arrays(**({"users": [1, 2], "items": [1, 2]} | columns))
    if not isinstance(next(iter(columns.values())), np.ma.MaskedArray):
        # A frame of pandas keeps a column as it came.
        roles = {"users": "user", "items": "item", "ratings": "rating", "timestamps": "timestamp"}
        named = {roles[name]: one for name, one in columns.items()}
        frame = {"user": [1, 2], "item": [1, 2]} | named
        with pytest.raises(InputError):
            Interactions.from_frame(frame, **{role: role for role in named})


def test_a_masked_array_without_a_masked_value_is_an_array():
    data = Interactions.from_arrays(np.ma.masked_array([5, 3]), ["a", "b"])
    assert data.users.external(data.user_rows) == [5, 3]


def test_ids_of_arrays_follow_the_policy_of_files():
    data = Interactions.from_arrays(["a", " a", "b\t"], ["x", "x ", "\u3000y"])
    assert data.users.ids.to_list() == ["a", "b"]
    assert data.items.ids.to_list() == ["x", "y"]
    assert data.user_rows.tolist() == [0, 0, 1]
    assert clean_ids([3, 1]).to_list() == [3, 1]
    assert clean_ids(["017", "17.0"]).to_list() == ["017", "17.0"]


def test_spellings_of_a_missing_value_are_ids_where_that_is_said():
    data = Interactions.from_arrays(["NA", "x"], ["nan", "null"], null_ids=True)
    assert data.users.ids.to_list() == ["NA", "x"]
    frame = {"user": ["NA", "x"], "item": ["nan", "null"]}
    assert Interactions.from_frame(frame, null_ids=True).items.ids.to_list() == ["nan", "null"]


def test_a_lazy_frame_is_computed_once():
    """Its columns would not belong together if each were computed anew."""
    calls = []

    def shuffled(frame):
        calls.append(1)
        return frame.sample(fraction=1, shuffle=True)

    plain = pl.LazyFrame({"user": range(200), "item": range(200), "r": range(200)})
    lazy = plain.map_batches(shuffled, schema=plain.collect_schema())
    data = Interactions.from_frame(lazy, rating="r")
    users = data.users.external(data.user_rows)
    assert users == data.items.external(data.item_rows) == data.ratings.tolist()
    assert users != sorted(users)
    assert len(calls) == 1
    broken = plain.with_columns(r=pl.lit("x").str.to_integer())
    with pytest.raises(InputError, match="this lazy frame cannot be computed"):
        Interactions.from_frame(broken, rating="r")
    with pytest.raises(InputError, match="user='who': no such column; the columns are user, item"):
        Interactions.from_frame(plain, user="who")


def test_two_columns_of_one_name_are_refused():
    frame = pd.DataFrame([[1, "a", "b"]], columns=["user", "item", "item"])
    with pytest.raises(InputError, match=r"item='item': expected one column of that name, .* 2"):
        Interactions.from_frame(frame)


def test_what_is_no_table_is_named_by_its_type():
    with pytest.raises(InputError, match=r"expected a table .*, got coo_array; .*from_scipy"):
        Interactions.from_frame(scipy.sparse.coo_array(np.eye(2)))


@pytest.mark.parametrize("form", ["coo", "csr", "csc", "lil", "dok"])
def test_a_sparse_matrix_is_its_entries(form):
    dense = np.array([[0, 2.5, 0], [0, 0, 0], [1, 0, 4]])
    for made in (scipy.sparse.coo_array, scipy.sparse.coo_matrix):
        data = Interactions.from_scipy(made(dense).asformat(form), items=["x", "y", "z"])
        assert data.users.ids.to_list() == [0, 1, 2]
        assert data.items.ids.to_list() == ["x", "y", "z"]
        found = np.zeros_like(dense)
        found[data.user_rows, data.item_rows] = data.ratings
        np.testing.assert_array_equal(found, dense)
        assert len(data) == 3


def test_rows_of_a_matrix_keep_their_places_under_ids_of_any_order():
    matrix = scipy.sparse.csr_array(np.eye(3, dtype=bool))
    data = Interactions.from_scipy(matrix, users=["c", "a", " b"], items=[30, 10, 20])
    assert data.ratings is None
    assert data.users.external(data.user_rows) == ["c", "a", "b"]
    assert data.items.external(data.item_rows) == [30, 10, 20]


def test_entries_of_one_cell_add_up_and_the_matrix_stays_as_it_was():
    matrix = scipy.sparse.coo_array(([1.0, 2.0, 5.0], ([0, 0, 1], [1, 1, 0])), shape=(2, 2))
    data = Interactions.from_scipy(matrix)
    assert sorted(data.ratings.tolist()) == [3, 5]
    assert matrix.nnz == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: (np.eye(2),), r"expected a sparse matrix of SciPy, got ndarray of shape \(2, 2\)"),
        (lambda: ([[1]],), "got list; scipy.sparse.coo_array makes"),
        (lambda: (scipy.sparse.coo_array([[1, 2]]), [1, 2]), "users: expected 1 ids .* got 2"),
        (lambda: (scipy.sparse.coo_array([[1, 2]]), [1], ["a", "a"]), "'a' stands twice"),
        (lambda: (scipy.sparse.csr_array(([0.0, 1], ([0, 1], [1, 0])), shape=(2, 2)),),
         r"matrix\[0, 1\]: 1 of 2 entries are zeros, which can be read in two ways"),
        (lambda: (scipy.sparse.coo_array([[np.nan]]),), r"ratings\[0\]: expected a finite number"),
        (lambda: (scipy.sparse.coo_array([[1j]]),), "ratings: expected numbers, got complex128"),
    ],
)  # fmt: skip
def test_matrices_that_do_not_fit(make, message):
    with pytest.raises(InputError, match=message):
        Interactions.from_scipy(*make())
