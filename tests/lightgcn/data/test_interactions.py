"""Ids keep their rows, filters keep what they say, and what does not fit is named."""

import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightgcn_jax.data.interactions import TEST, TRAIN, VALID, IdMap, Interactions
from lightgcn_jax.errors import InputError

INTEGERS = st.integers(-(2**63), 2**63 - 1) | st.integers(-20, 20)
IDS = st.lists(INTEGERS, max_size=40) | st.lists(st.text(max_size=4), max_size=40)
PAIRS = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=60)
quick = settings(deadline=None)


def pairs_of(data: Interactions) -> list[tuple]:
    users, items = data.users.external(data.user_rows), data.items.external(data.item_rows)
    return list(zip(users, items, strict=True))


# Ids


@quick
@given(IDS)
def test_external_ids_survive_the_way_to_rows_and_back(ids):
    known = IdMap.from_values(ids)
    rows = known.rows(ids)
    assert rows.dtype == np.int32
    assert known.external(rows) == ids
    assert known.ids.to_list() == sorted(set(ids))


@quick
@given(IDS, IDS)
def test_ids_that_are_looked_up_one_by_one_are_found_as_together(ids, asked):
    known = IdMap.from_values(ids)
    asked = [one for one in ids + asked if isinstance(one, int) == (known.ids.dtype == pl.Int64)]
    one_by_one = [int(known.rows([one])[0]) for one in asked]
    assert one_by_one == [known.ids.to_list().index(one) if one in ids else -1 for one in asked]
    # More than are looked up so.
    assert known.rows(asked * 9).tolist() == one_by_one * 9


@quick
@given(IDS, IDS)
def test_growing_keeps_rows_and_appends_the_unknown_in_order(ids, more):
    known = IdMap.from_values(ids)
    grown = known.grow(more)
    old, new = grown.ids.to_list()[: len(known)], grown.ids.to_list()[len(known) :]
    kind = type(old[0]) if old else None
    assert old == [kind(value) for value in known.ids.to_list()] if kind else not old
    assert new == sorted(new)
    assert (grown.rows(ids) == known.rows(ids)).all()
    assert (grown.rows(more) >= 0).all()
    assert grown.grow(more) == grown


def test_unknown_ids_have_row_minus_one():
    known = IdMap.from_values([5, 1, 9])
    assert known.rows([9, 2, 5, -(2**63), 2**63 - 1]).tolist() == [2, -1, 1, -1, -1]
    assert IdMap.from_values([0, 10**15]).rows([10**15, 7]).tolist() == [1, -1]
    assert IdMap.from_values(["b", "a"]).rows(["a", "z"]).tolist() == [0, -1]
    assert IdMap.from_values([]).rows([1, 2]).tolist() == [-1, -1]


def test_ids_may_be_numbers_of_numpy_and_jax():
    known = IdMap.from_values([np.int32(5), jnp.int32(1), 9])
    assert known.ids.to_list() == [1, 5, 9]
    for values in ([jnp.int8(9), np.int64(2)], np.array([9, 2]), jnp.array([9, 2])):
        assert known.rows(values).tolist() == [2, -1]
    with pytest.raises(InputError, match=r"ids\[1\]: expected an integer or a string, got True"):
        known.rows([1, np.bool_(True)])


@pytest.mark.parametrize(
    ("made", "held"),
    [(str, "_sorted"), (lambda value: 9 * value, "_sorted"), (int, "_dense")],
    ids=["text", "far-apart", "dense"],
)
@pytest.mark.parametrize("count", [1, 5, 400, 1000])
def test_lookups_share_what_is_made_once(made, held, count):
    """Of all ids a look-up needs their order or a table alone, in few look-ups and in many."""
    rng = np.random.default_rng(0)
    values = [made(value) for value in rng.permutation(1000)]
    known = IdMap(pl.Series(values))
    asked = rng.permutation(1000)[:count]
    wanted = [values[row] for row in asked] + [made(5000), made(-1)]
    assert known.rows(wanted).tolist() == [*asked.tolist(), -1, -1]
    kept = known.__dict__[held]
    assert kept is not None
    known.rows(wanted)
    assert known.__dict__[held] is kept


def test_ids_typed_on_a_command_line_find_integers_and_the_reverse():
    assert IdMap.from_values([5, 12]).rows(["12", "012", "+12", "x", ""]).tolist() == [1] + [-1] * 4
    assert IdMap.from_values(["12", "x"]).rows([12, 5]).tolist() == [0, -1]
    assert IdMap.from_values(["12", "x"]).row(12) == 0


def test_an_integer_map_becomes_strings_when_it_meets_one():
    known = IdMap.from_values([3, 1])
    assert known.grow(["7", "3"]).ids.to_list() == [1, 3, 7]
    assert known.grow(["x", "3", "2"]).ids.to_list() == ["1", "3", "2", "x"]
    assert IdMap.from_values(["b"]).grow([2]).ids.to_list() == ["b", "2"]


def test_maps_are_equal_when_ids_rows_and_type_are():
    assert IdMap.from_values([2, 1]) == IdMap(pl.Series([1, 2]))
    assert IdMap.from_values([1, 2]) != IdMap(pl.Series([2, 1]))
    assert IdMap.from_values([1]) != IdMap.from_values(["1"])
    assert IdMap.from_values([1]) != 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IdMap.from_values([1, None]), r"ids\[1\]: expected an integer or a string"),
        (lambda: IdMap.from_values("abc"), "ids: expected a column of ids, got 'abc'"),
        (lambda: IdMap.from_values([1]).rows(None), "ids: expected a column of ids, got None"),
        (lambda: IdMap.from_values([np.datetime64(1, "ns")]), r"ids\[0\]: expected an integer or"),
        (lambda: IdMap.from_values([True]), r"ids\[0\].*True"),
        (lambda: IdMap.from_values([1.5]), r"ids\[0\].*1\.5"),
        (lambda: IdMap.from_values(np.array([1.5])), "expected integers or strings, got Float64"),
        (lambda: IdMap.from_values([2**63]), "64 bits"),
        (lambda: IdMap.from_values(pl.Series(["a", None])), r"ids\[1\].*missing"),
        (lambda: IdMap(pl.Series([1, 1])), "expected unique ids, but 1 stands twice"),
        (lambda: IdMap(pl.Series([1.0])), "expected Int64 or String, got Float64"),
        (lambda: IdMap.from_values([1, 2]).row(4), "unknown id 4"),
        (lambda: IdMap.from_values(["a"]).row("b"), "unknown id 'b'"),
        (lambda: IdMap.from_values([1]).external([0.5]), "rows: expected integers, got float64"),
        (lambda: IdMap.from_values([1, 2]).external([2]), "row 2 is outside 0 … 1"),
    ],
)
def test_ids_that_do_not_fit_are_named(make, message):
    with pytest.raises(InputError, match=message):
        make()


# Construction


def test_arrays_of_any_kind_give_the_same_interactions():
    users, items = [30, 10, 30], ["b", "a", "a"]
    expected = [(30, "b"), (10, "a"), (30, "a")]
    for given_users, given_items in (
        (users, items),
        (np.array(users, dtype=np.uint16), np.array(items)),
        (pl.Series(users), pl.Series(items, dtype=pl.Categorical)),
        (np.array(users, dtype=object), np.array(items, dtype=object)),
    ):
        data = Interactions.from_arrays(given_users, given_items)
        assert pairs_of(data) == expected
        assert (data.num_users, data.num_items, len(data)) == (2, 2, 3)
        assert data.ratings is data.timestamps is data.parts is None


def test_frames_of_any_kind_give_the_same_interactions():
    columns = {"u": [3, 1], "i": ["x", "y"], "r": [4.5, 1], "t": [10, 20], "other": [None, None]}
    frames = [columns, pl.DataFrame(columns), pl.LazyFrame(columns)]
    for frame in frames:
        data = Interactions.from_frame(frame, user="u", item="i", rating="r", timestamp="t")
        assert pairs_of(data) == [(3, "x"), (1, "y")]
        assert data.ratings is not None
        assert data.ratings.tolist() == [4.5, 1.0]
        assert data.timestamps is not None
        assert data.timestamps.tolist() == [10.0, 20.0]


def test_pandas_frames_are_read_without_pyarrow():
    pandas = pytest.importorskip("pandas")
    moments = pandas.to_datetime(["1970-01-01 00:00:01", "1970-01-02 00:00:00"])
    frame = pandas.DataFrame({"user": ["a", "b"], "item": [1, 2], "when": moments})
    data = Interactions.from_frame(frame, timestamp="when")
    assert pairs_of(data) == [("a", 1), ("b", 2)]
    assert data.timestamps is not None
    assert data.timestamps.tolist() == [1.0, 86400.0]


def test_times_are_seconds_since_1970_utc():
    day = 18262 * 86400.0  # 2020-01-01 is 50 years of 365 days and 12 leap days after 1970-01-01
    texts = ["2020-01-01", "2020-01-01T00:00:01Z", "2020-01-01 02:00:00.5+02:00", f"{day + 2}"]
    data = Interactions.from_arrays([1] * 4, [1, 2, 3, 4], timestamps=texts)
    assert data.timestamps is not None
    assert data.timestamps.tolist() == [day, day + 1, day + 0.5, day + 2]


def test_a_year_beside_dates_is_no_number_of_seconds():
    day = 18262 * 86400.0
    data = Interactions.from_arrays([1] * 3, [1, 2, 3], timestamps=["2020", "2021-01-01", "1971"])
    assert data.timestamps is not None
    assert data.timestamps.tolist() == [day, day + 366 * 86400, 365 * 86400]
    seconds = Interactions.from_arrays([1] * 2, [1, 2], timestamps=["2020", "2021"])
    assert seconds.timestamps is not None
    assert seconds.timestamps.tolist() == [2020, 2021]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Interactions.from_arrays([1, 2], [1]), "as many item ids as user ids, got 1 and"),
        (lambda: Interactions.from_arrays([1], [1], ratings=[1, 2]), r"ratings: expected float32"),
        (lambda: Interactions.from_arrays([1], [1], ratings=[np.nan]), r"ratings\[0\].*nan"),
        (lambda: Interactions.from_arrays([1], [1], ratings=[1e300]), r"ratings\[0\].*inf"),
        (
            lambda: Interactions.from_arrays([1], [1], ratings=["x"]),
            r"ratings\[0\]: expected a number, got 'x'",
        ),
        (lambda: Interactions.from_arrays([1], [1], timestamps=[np.inf]), r"timestamps\[0\].*inf"),
        (lambda: Interactions.from_arrays([1], [1], timestamps=["x"]), r"timestamps\[0\].*'x'"),
        (lambda: Interactions.from_arrays([1], [1], timestamps=[None]), r"timestamps\[0\].*None"),
        (lambda: Interactions.from_arrays([1], [1], parts=[3]), "parts: expected 0, 1 or 2, got 3"),
        (lambda: Interactions.from_arrays([1], [1], parts=[-1]), "parts: expected whole numbers"),
        (lambda: Interactions.from_arrays([None], [1]), r"user ids\[0\]"),
        (
            lambda: Interactions.from_frame({"user": [1], "film": [1]}),
            "item='item': no such column; the columns are user, film",
        ),
        (lambda: Interactions.from_frame(3), "expected a table .* got int"),
    ],
)
def test_columns_that_do_not_fit_are_named(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_the_constructor_checks_rows():
    users, items = IdMap.from_values([1, 2]), IdMap.from_values([1])
    rows = np.array([0, 1], dtype=np.int32)
    with pytest.raises(InputError, match=r"item_rows: expected rows in \[0, 1\), got .* 0 to 1"):
        Interactions(users, items, rows, rows)
    with pytest.raises(InputError, match=r"user_rows: expected int32\[2\], .*, got int64\[2\]"):
        Interactions(users, items, rows.astype(np.int64), rows)


# De-duplication


def test_the_last_of_equal_pairs_stays_and_the_order_of_the_rest():
    data = Interactions.from_arrays([1, 2, 1, 1], [7, 7, 8, 7], ratings=[1, 2, 3, 4])
    distinct = data.deduplicated()
    assert pairs_of(distinct) == [(2, 7), (1, 8), (1, 7)]
    assert distinct.ratings is not None
    assert distinct.ratings.tolist() == [2, 3, 4]
    assert distinct.report[-1][1:] == (4, 3, 2, 2, 2, 2)
    assert str(distinct.report[-1]) == (
        "one interaction per user-item pair: 4 → 3 interactions, 2 users, 2 items"
    )


def test_the_latest_of_equal_pairs_stays_where_there_are_times():
    data = Interactions.from_arrays([1, 1, 1], [7, 7, 7], ratings=[1, 2, 3], timestamps=[5, 9, 5])
    assert data.deduplicated().ratings.tolist() == [2]  # pyright: ignore[reportOptionalMemberAccess]


def test_the_earliest_part_of_equal_pairs_stays():
    data = Interactions.from_arrays(
        [1, 1, 1, 2, 2], [7, 7, 7, 7, 7], timestamps=[1, 2, 9, 1, 2], parts=[2, 0, 1, 2, 1]
    )
    distinct = data.deduplicated()
    assert distinct.parts is not None
    assert distinct.parts.tolist() == [TRAIN, VALID]
    assert distinct.timestamps is not None
    assert distinct.timestamps.tolist() == [2, 2]


@quick
@given(PAIRS)
def test_deduplication_leaves_every_pair_once(pairs):
    data = Interactions.from_arrays(*zip(*pairs, strict=True))
    assert data.has_duplicates == (len(set(pairs)) < len(pairs))
    distinct = data.deduplicated()
    assert sorted(pairs_of(distinct)) == sorted(set(pairs))
    assert not distinct.has_duplicates
    assert distinct.users == data.users


# Filters


def test_low_ratings_and_ids_left_without_interactions_go():
    data = Interactions.from_arrays([1, 2, 3], ["a", "b", "b"], ratings=[5, 1, 4])
    kept = data.with_min_rating(4)
    assert pairs_of(kept) == [(1, "a"), (3, "b")]
    assert kept.users.ids.to_list() == [1, 3]
    assert str(kept.report[-1]) == "rating ≥ 4: 3 → 2 interactions, 3 → 2 users, 2 items"


def k_core_by_definition(pairs, users, items):
    """Removes what is short, one user or item at a time."""
    pairs = list(pairs)
    while True:
        short_users = [u for u, _ in pairs if sum(v == u for v, _ in pairs) < users]
        short_items = [i for _, i in pairs if sum(j == i for _, j in pairs) < items]
        if short_users:
            pairs = [(u, i) for u, i in pairs if u != short_users[0]]
        elif short_items:
            pairs = [(u, i) for u, i in pairs if i != short_items[0]]
        else:
            return pairs


@quick
@given(PAIRS, st.integers(1, 4), st.integers(1, 4))
def test_k_core_is_the_largest_subset_of_sufficient_degrees(pairs, users, items):
    data = Interactions.from_arrays(*zip(*pairs, strict=True))
    expected = k_core_by_definition(pairs, users, items)
    if not expected:
        with pytest.raises(InputError, match=r"k-core.*removed all"):
            data.with_k_core(users, items)
        return
    core = data.with_k_core(users=users, items=items)
    assert pairs_of(core) == expected
    assert np.bincount(core.user_rows, minlength=core.num_users).min() >= users
    assert np.bincount(core.item_rows, minlength=core.num_items).min() >= items


def test_k_core_undoes_a_chain():
    # u1-a-u2-b-u3: only the ends are short at first, yet nothing has two of each in the end.
    chain = Interactions.from_arrays([1, 2, 2, 3], ["a", "a", "b", "b"])
    with pytest.raises(InputError, match="users ≥ 2, items ≥ 2 removed all 4 interactions"):
        chain.with_k_core(2, 2)
    assert len(chain.with_k_core(1, 2)) == 4


def test_filters_keep_parts_and_a_published_split_keeps_its_ids():
    users = IdMap.from_values([1, 2, 3])  # user 3 has no interaction
    rows = np.array([0, 1], dtype=np.int32)
    data = Interactions(
        users, IdMap.from_values([7, 8]), rows, rows,
        ratings=np.array([1, 5], dtype=np.float32), parts=np.array([0, 2], dtype=np.uint8),
    )  # fmt: skip
    assert data.with_min_rating(0).users == users
    assert data.with_k_core(1, 1).users == users
    kept = data.with_min_rating(5)
    assert kept.users.ids.to_list() == [2]
    assert kept.parts is not None
    assert kept.parts.tolist() == [TEST]


def test_filters_that_do_not_fit_say_so():
    data = Interactions.from_arrays([1], [1])
    with pytest.raises(InputError, match="min_rating=3: these interactions have no ratings"):
        data.with_min_rating(3)
    with pytest.raises(InputError, match="k-core users: expected an integer of 1 or more, got 0"):
        data.with_k_core(0, 1)
    with pytest.raises(InputError, match="rating ≥ 9 removed all 1 interactions"):
        Interactions.from_arrays([1], [1], ratings=[1]).with_min_rating(9)
