"""Splits partition the interactions, follow the stated counts and do not depend on row order."""

from collections import Counter, defaultdict
from fractions import Fraction
from math import floor

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.data.interactions import Interactions
from lightgcn_jax.data.pairs import PARTS, Pairs
from lightgcn_jax.data.splits import (
    Split,
    carve_validation,
    given_split,
    leave_k_out_split,
    ratio_split,
    temporal_split,
    undivided,
)
from lightgcn_jax.errors import InputError

EVENTS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 15), st.integers(0, 9)), min_size=25, max_size=90
)
quick = settings(deadline=None)


def build(events, timed=True) -> Interactions:
    users, items, times = zip(*events, strict=True)
    return Interactions.from_arrays(users, items, timestamps=times if timed else None)


def external(split: Split, pairs: Pairs) -> list[tuple]:
    return list(
        zip(split.users.external(pairs.users), split.items.external(pairs.items), strict=True)
    )


def parts_of(split: Split) -> tuple[set, set, set]:
    train, valid, test = (external(split, part) for part in (split.train, split.valid, split.test))
    return set(train), set(valid), set(test)


def assert_partition(split: Split, pairs: set) -> None:
    parts = parts_of(split)
    assert set().union(*parts) == pairs
    assert sum(map(len, parts)) == len(pairs)


def half_up(count: int, share: str) -> int:
    return floor(count * Fraction(share) + Fraction(1, 2))


def test_a_reordered_split_has_the_same_pairs_of_external_ids():
    split = Split(
        users=IdMap(pl.Series(["a", "b", "c"])),
        items=IdMap(pl.Series([10, 11, 12, 13])),
        train=Pairs.from_rows([0, 0, 1, 2], [0, 3, 1, 2]),
        valid=Pairs.from_rows([1], [3]),
        test=Pairs.from_rows([0, 2], [1, 0]),
        description="as written",
        notes=("a note",),
    )
    moved = split.reordered(np.array([2, 0, 1]), np.array([3, 1, 0, 2]))
    assert moved.users.ids.to_list() == ["c", "a", "b"]
    assert moved.items.ids.to_list() == [13, 11, 10, 12]
    # a is row 1 now, and 10 and 13 are rows 2 and 0: (a, 10) is (1, 2), (a, 13) is (1, 0).
    np.testing.assert_array_equal(moved.train.users, [0, 1, 1, 2])
    np.testing.assert_array_equal(moved.train.items, [3, 0, 2, 1])
    assert parts_of(moved) == parts_of(split)
    assert (moved.description, moved.notes) == (split.description, split.notes)
    back = moved.reordered(np.array([1, 2, 0]), np.array([2, 1, 3, 0]))
    assert (back.users, back.items) == (split.users, split.items)
    for name in PARTS:
        np.testing.assert_array_equal(getattr(back, name).keys, getattr(split, name).keys)


@pytest.mark.parametrize(
    ("users", "items", "message"),
    [
        ([0, 1], [0, 1], r"users: expected each of the rows 0 … 2 once, got int64\[2\]"),
        ([0, 1, 1], [0, 1], r"users: expected each of the rows 0 … 2 once, got int64\[3\]"),
        ([2, 1, 0], [0, -1], r"items: expected each of the rows 0 … 1 once"),
        ([2, 1, 0], [0.0, 1.0], r"items: .* got float64"),
    ],
)
def test_an_order_that_leaves_a_row_out_is_refused(users, items, message):
    pairs = Pairs.from_rows([0, 1, 2], [0, 1, 0])
    none = Pairs.from_rows([], [])
    ids = IdMap(pl.Series([7, 8, 9])), IdMap(pl.Series([5, 6]))
    split = Split(*ids, train=pairs, valid=none, test=none, description="as written")
    with pytest.raises(InputError, match=message):
        split.reordered(np.array(users), np.array(items))


SPLITS = {
    "ratio": lambda data: ratio_split(data, 0.6, 0.2, 0.2, seed=3),
    "leave random": lambda data: leave_k_out_split(data, 1, latest=False, seed=3),
    "leave latest": lambda data: leave_k_out_split(data, 2),
    "temporal": lambda data: temporal_split(data, 0.7, 0.1, 0.2),
    "temporal per user": lambda data: temporal_split(data, 0.6, 0.2, 0.2, per_user=True),
    "carved": lambda data: carve_validation(ratio_split(data, 0.7, 0, 0.3, seed=1), 0.3, seed=2),
}


@pytest.mark.parametrize("make", SPLITS.values(), ids=SPLITS.keys())
@quick
@given(events=EVENTS, order=st.randoms(use_true_random=False))
def test_every_split_partitions_the_pairs_whatever_their_order(make, events, order):
    pairs = {(user, item) for user, item, _ in events}
    try:
        split = make(build(events))
    except InputError as error:
        assert "empty" in str(error)  # noqa: PT017  (the draw left too few pairs)
        return
    assert_partition(split, pairs)
    assert len(split.train) + len(split.valid) + len(split.test) == len(pairs)
    shuffled = list(events)
    order.shuffle(shuffled)
    again = make(build(shuffled))
    assert parts_of(again) == parts_of(split)
    assert (again.users, again.items) == (split.users, split.items)
    assert (again.description, again.notes) == (split.description, split.notes)


@quick
@given(EVENTS, st.sampled_from([("0.5", "0.3", "0.2"), ("0.4", "0.3", "0.3"), ("0.5", "0", "0.5")]))
def test_ratio_counts_round_half_up_and_train_keeps_one(events, shares):
    # Five users share 25 events or more, so one of them has three pairs unless pairs repeat.
    sizes = Counter(user for user, _ in {(user, item) for user, item, _ in events})
    assume(max(sizes.values()) >= 3)
    split = ratio_split(build(events), *map(float, shares), seed=1)
    train, valid, test = (Counter(user for user, _ in part) for part in parts_of(split))
    for user, size in sizes.items():
        to_test = min(half_up(size, shares[2]), size - 1)
        to_valid = min(half_up(size, shares[1]), size - 1 - to_test)
        assert (valid[user], test[user]) == (to_valid, to_test)
        assert train[user] == size - to_valid - to_test >= 1


def test_shares_at_a_half_round_up_despite_floating_point():
    # 100 · 0.145 is 14.499999999999998 in floating point and 14.5 in mathematics.
    data = Interactions.from_arrays([0] * 100, range(100))
    assert len(ratio_split(data, 0.855, 0, 0.145).test) == 15


def test_seeds_decide():
    data = Interactions.from_arrays(np.repeat(np.arange(20), 30), np.tile(np.arange(30), 20))
    first, same, other = (ratio_split(data, seed=seed) for seed in (4, 4, 5))
    assert parts_of(first) == parts_of(same)
    assert parts_of(first) != parts_of(other)
    assert "seed 4" in first.description


def test_random_choice_is_uniform_over_a_users_interactions():
    # Each of 10 items is in test with chance 1/5: for 4,000 users 800 ± 5·√(4000·0.16) ≈ ± 127.
    users, items = np.repeat(np.arange(4000), 10), np.tile(np.arange(10), 4000)
    split = ratio_split(Interactions.from_arrays(users, items), 0.8, 0, 0.2)
    counts = np.bincount(split.test.items, minlength=10)
    assert counts.sum() == 8000
    assert np.abs(counts - 800).max() < 127


def test_leaving_the_latest_out_by_hand():
    users = [1, 1, 1, 1, 2, 2, 2, 3]
    items = [5, 6, 7, 8, 5, 6, 7, 5]
    times = [9, 1, 5, 3, 1, 2, 2, 1]
    data = Interactions.from_arrays(users, items, timestamps=times)
    split = leave_k_out_split(data)
    train, valid, test = parts_of(split)
    # User 2's last two stand at one moment: a draw puts them in order.
    assert (test - {(2, 6), (2, 7)}, valid - {(2, 6), (2, 7)}) == ({(1, 5)}, {(1, 7)})
    assert len(test & {(2, 6), (2, 7)}) == len(valid & {(2, 6), (2, 7)}) == 1
    assert train == {(1, 6), (1, 8), (2, 5), (3, 5)}
    assert split.notes[:2] == (
        "1 of 3 users have several interactions at one moment; of 2 interactions at a moment that "
        "a cut goes through, seed 0 decides the part",
        "1 of 3 users with fewer than 3 interactions stay wholly in train",
    )
    assert len({frozenset(parts_of(leave_k_out_split(data, seed=n))[2]) for n in range(20)}) == 2


@quick
@given(EVENTS, st.integers(1, 3))
def test_leave_k_out_takes_k_of_whoever_has_enough(events, k):
    sizes = Counter(user for user, _ in {(user, item) for user, item, _ in events})
    enough = {user for user, size in sizes.items() if size >= 2 * k + 1}
    data = build(events, timed=False)
    if not enough:
        with pytest.raises(InputError, match="valid stays empty"):
            leave_k_out_split(data, k)
        return
    split = leave_k_out_split(data, k)
    _, valid, test = (Counter(user for user, _ in part) for part in parts_of(split))
    assert valid == test == dict.fromkeys(enough, k)
    assert "random" in split.description


def test_a_global_cut_puts_the_past_in_train():
    users, items, times = [1, 2, 1, 2, 3], [1, 1, 2, 2, 3], [10, 20, 30, 40, 50]
    split = temporal_split(Interactions.from_arrays(users, items, timestamps=times), 0.6, 0.2, 0.2)
    assert parts_of(split) == ({(1, 1), (2, 1), (1, 2)}, {(2, 2)}, {(3, 3)})
    assert split.notes == (
        "1 of 1 (100%) test users have no training interaction; evaluation counts them apart",
        "1 of 1 (100%) test items have no training interaction; evaluation counts them apart",
    )


@quick
@given(EVENTS)
def test_no_training_event_is_later_than_a_withheld_one(events):
    latest = defaultdict(int)
    for user, item, time in events:
        latest[user, item] = max(latest[user, item], time)
    if len(latest) < 10:
        return
    train, valid, test = parts_of(temporal_split(build(events)))
    moments = [[latest[pair] for pair in part] for part in (train, valid, test)]
    assert max(moments[0]) <= min(moments[1])
    assert max(moments[1]) <= min(moments[2])
    assert (len(valid), len(test)) == (half_up(len(latest), "0.1"), half_up(len(latest), "0.1"))


def test_a_part_that_misses_its_share_says_so():
    # 100 users of 2 interactions and 20 of 10: a tenth of each, rounded, takes 20 of 400.
    users = np.append(np.repeat(np.arange(100), 2), np.repeat(np.arange(100, 120), 10))
    items = np.append(np.tile([0, 1], 100), np.tile(np.arange(10), 20))
    split = ratio_split(Interactions.from_arrays(users, items), 0.9, 0, 0.1)
    assert len(split.test) == 20
    assert split.notes == (
        "test holds 5.0% of the interactions, 10.0% was asked for: shares are of each user and "
        "rounded, and 100 of 120 users have fewer than 5 interactions and give it none",
    )
    even = ratio_split(Interactions.from_arrays(users[200:], items[200:]), 0.9, 0, 0.1)
    assert even.notes == ()


def test_a_part_that_dropping_has_emptied_is_not_called_too_few():
    # Every user comes once, so whoever is in the last fifth is new.
    data = Interactions.from_arrays(range(20), [0, 1] * 10, timestamps=range(20))
    assert len(temporal_split(data, 0.8, 0, 0.2).test) == 4
    with pytest.raises(InputError, match=r"test stays empty: all its 4 interactions name .* drop"):
        temporal_split(data, 0.8, 0, 0.2, unseen="drop")


def test_everything_trains_where_nothing_is_to_be_judged():
    split = undivided(published())
    assert parts_of(split) == ({(1, 5), (2, 6), (2, 5), (9, 5), (2, 8)}, set(), set())


# Splits that came with the files


def published() -> Interactions:
    # Test holds a user (9) and an item (8) that train lacks, and repeats the train pair (1, 5).
    return Interactions.from_arrays(
        [1, 2, 1, 9, 2, 2], [5, 6, 5, 5, 8, 5], parts=[0, 0, 2, 2, 2, 1]
    )


def test_a_given_split_is_kept_and_its_oddities_are_counted():
    split = given_split(published())
    assert parts_of(split) == ({(1, 5), (2, 6)}, {(2, 5)}, {(9, 5), (2, 8)})
    assert split.notes == (
        "1 of 2 (50%) test users have no training interaction; evaluation counts them apart",
        "1 of 2 (50%) test items have no training interaction; evaluation counts them apart",
    )
    assert [change.interactions_after for change in split.report] == [5]


def test_unseen_ids_are_dropped_or_refused_on_request():
    split = given_split(published(), unseen="drop")
    assert parts_of(split) == ({(1, 5), (2, 6)}, {(2, 5)}, set())
    assert split.users.ids.to_list() == [1, 2, 9]
    assert split.notes == (
        "2 of 3 (67%) valid and test interactions dropped: no training interaction names their "
        "user or item",
    )
    with pytest.raises(InputError, match=r"2 of 3 \(67%\) valid and test interactions name"):
        given_split(published(), unseen="error")
    with pytest.raises(InputError, match="unseen: expected keep, drop or error, got 'maybe'"):
        given_split(published(), unseen="maybe")  # pyright: ignore[reportArgumentType]


def test_carving_takes_from_train_and_leaves_test_alone():
    users, items = np.repeat(np.arange(10), 20), np.tile(np.arange(20), 10)
    parts = np.where(items >= 15, 2, 0)
    users, items, parts = np.append(users, 10), np.append(items, 0), np.append(parts, 0)
    split = given_split(Interactions.from_arrays(users, items, parts=parts))
    carved = carve_validation(split, 0.2, seed=7)
    assert_partition(carved, set(zip(users.tolist(), items.tolist(), strict=True)))
    assert parts_of(carved)[2] == parts_of(split)[2]
    valid = Counter(user for user, _ in parts_of(carved)[1])
    assert valid == dict.fromkeys(range(10), 3)  # ⌊15 · 0.2 + ½⌋; user 10 keeps its only one
    assert "30 interactions moved from train to valid" in carved.notes
    assert carved.description == f"{split.description}; valid: 0.2 of each user's train, seed 7"
    twice = carve_validation(carved, 0.25, seed=7)
    assert len(twice.valid) == 30 + 10 * 3


# What does not fit


def small(**columns) -> Interactions:
    return Interactions.from_arrays([1, 1, 2], [1, 2, 1], **columns)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: given_split(small()), "the files gave no split"),
        (lambda: given_split(small(parts=[2, 2, 2])), "train: expected at least one interaction"),
        (lambda: ratio_split(small(), 0.5, 0.1, 0.1), "a sum of 1, got train=0.5"),
        (lambda: ratio_split(small(), 0, 0.5, 0.5), "train above 0"),
        (lambda: ratio_split(small(), 1.1, -0.2, 0.1), "the others 0 or more"),
        (lambda: ratio_split(small(), float("nan"), 0, 1), "train above 0"),
        (
            lambda: ratio_split(small()),
            "valid stays empty: a user needs 5 interactions .* nobody has more than 2",
        ),
        (lambda: ratio_split(small(), 0.9, 0, 0.1), "test stays empty"),
        (lambda: ratio_split(small(), seed=-1), "seed: expected an integer of 0 or more, got -1"),
        (lambda: leave_k_out_split(small(), 0), "k: expected an integer of 1 or more, got 0"),
        (lambda: leave_k_out_split(small(), 1), "stays empty"),
        (lambda: leave_k_out_split(small(), latest=True), "needs timestamps"),
        (lambda: temporal_split(small()), "needs timestamps"),
        (lambda: carve_validation(ratio_split(small(), 1, 0, 0), 0.1), "leaves validation empty"),
        (lambda: carve_validation(ratio_split(small(), 1, 0, 0), 1.0), "between 0 and 1, got 1.0"),
    ],
)
def test_requests_that_do_not_fit_say_why(make, message):
    with pytest.raises(InputError, match=message):
        make()


def rows(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int32)


def test_pairs_are_distinct_and_in_order():
    pairs = Pairs.from_rows([1, 0, 1], [0, 3, 0])  # pyright: ignore[reportArgumentType]
    assert len(pairs) == 2
    assert (pairs.users.tolist(), pairs.items.tolist()) == ([0, 1], [3, 0])
    for users, items in (((1, 0), (0, 3)), ((1, 1), (2, 2))):
        with pytest.raises(InputError, match="distinct pairs in ascending order"):
            Pairs(rows(*users), rows(*items))
    with pytest.raises(InputError, match=r"items: expected int32\[1\], got int32\[2\]"):
        Pairs(rows(1), rows(1, 2))
    with pytest.raises(InputError, match="rows of 0 or more, got -1"):
        Pairs(rows(-1), rows(1))


def test_a_split_checks_rows_and_that_parts_are_disjoint():
    users, items = IdMap.from_values([1, 2]), IdMap.from_values([1, 2])
    one, other, none = Pairs(rows(0), rows(1)), Pairs(rows(1), rows(1)), Pairs(rows(), rows())
    assert len(Split(users, items, one, none, other, "by hand").test) == 1
    with pytest.raises(InputError, match="train and test share 1 pairs"):
        Split(users, items, one, none, one, "by hand")
    with pytest.raises(InputError, match="train: expected at least one interaction"):
        Split(users, items, none, none, one, "by hand")
    with pytest.raises(InputError, match=r"test.items: expected rows in \[0, 2\), got .* to 2"):
        Split(users, items, one, none, Pairs(rows(0), rows(2)), "by hand")
