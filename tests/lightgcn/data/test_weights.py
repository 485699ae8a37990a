"""Weights of interactions: what is one, how those of a pair add up, and that none is lost."""

import dataclasses

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings

from lightgcn_jax.data import (
    Interactions,
    Pairs,
    Split,
    carve_validation,
    given_split,
    leave_k_out_split,
    positives,
    ratio_split,
    read_interactions,
    temporal_split,
    undivided,
)
from lightgcn_jax.data.pairs import merge_pairs
from lightgcn_jax.data.protocol import apply_protocol
from lightgcn_jax.errors import InputError


def weighed(data, pairs=None):
    """(user, item) -> weight by external ids."""
    users, items, weights = (
        (data.user_rows, data.item_rows, data.weights)
        if pairs is None
        else (pairs.users, pairs.items, pairs.weights)
    )
    ids = zip(data.users.external(users), data.items.external(items), strict=True)
    return dict(zip(ids, weights.tolist(), strict=True))


def log_of(rows, **more):
    users, items, weights = zip(*rows, strict=True)
    return Interactions.from_arrays(users, items, weights=weights, **more)


ODD = {"0": 0.0, "-1": -1.0, "nan": np.nan, "inf": np.inf, "1e99": 1e99}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_what_is_no_weight_is_refused_by_its_place(odd):
    with pytest.raises(InputError, match=r"^weights\[1\]: expected a finite number above 0, got"):
        Interactions.from_arrays(["u", "v"], ["a", "b"], weights=[1.0, odd])


@pytest.mark.parametrize("odd", ["heavy", None])
def test_text_and_missing_weights_are_refused_by_their_place(odd):
    frame = {"user": ["u", "v"], "item": ["a", "b"], "amount": pl.Series(["1", odd])}
    with pytest.raises(InputError, match=r"weights\[1\]: expected a (number|value)"):
        Interactions.from_frame(frame, weight="amount")


def test_weights_of_another_type_or_length_are_refused():
    data = Interactions.from_arrays(["u", "v"], ["a", "b"])
    for weights in (np.ones(2), np.ones(3, np.float32)):
        with pytest.raises(InputError, match=r"weights: expected float32\[2\]"):
            dataclasses.replace(data, weights=weights)


@pytest.mark.parametrize("odd", [*ODD, "", "heavy"])
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_an_odd_cell_is_named_with_its_line(tmp_path, odd, suffix):
    path = tmp_path / f"log.{suffix}"
    if suffix == "csv":
        path.write_text(f"user,item,amount\nu,a,2\nv,b,{odd}\nu,b,.5\n")
    else:
        path.write_text(
            '{"user": "u", "item": "a", "amount": 2}\n'
            f'{{"user": "v", "item": "b", "amount": "{odd}"}}\n'
            '{"user": "u", "item": "b", "amount": 0.5}\n'
        )
    line = 3 if suffix == "csv" else 2
    with pytest.raises(InputError, match=rf"log.{suffix}:{line}: .*'amount': expected a finite nu"):
        read_interactions(path, weight_column="amount")
    kept = read_interactions(path, weight_column="amount", skip_bad_rows=True)
    assert weighed(kept) == {("u", "a"): 2, ("u", "b"): 0.5}
    assert "weight_column" in kept.readings[0].settings


def test_a_parquet_column_and_a_place_are_read(tmp_path):
    frame = pl.DataFrame({"user": ["u", "v"], "item": ["a", "b"], "n": [3, 4]})
    frame.write_parquet(tmp_path / "log.parquet")
    (tmp_path / "log.txt").write_text("u a 3\nv b 4\n")
    expected = {("u", "a"): 3, ("v", "b"): 4}
    assert weighed(read_interactions(tmp_path / "log.parquet", weight_column="n")) == expected
    by_place = read_interactions(tmp_path / "log.txt", format="triples", weight_column=3)
    assert weighed(by_place) == expected
    assert by_place.ratings is None
    with pytest.raises(InputError, match="weight_column='m': no such column"):
        read_interactions(tmp_path / "log.parquet", weight_column="m")
    words = pl.DataFrame({"user": ["u"], "item": ["a"], "n": [pl.Series([True])]})
    words.write_parquet(tmp_path / "lists.parquet")
    with pytest.raises(InputError, match="column 'n': expected numbers"):
        read_interactions(tmp_path / "lists.parquet", weight_column="n")


def test_one_column_may_rate_and_weigh_and_is_a_weight_only_where_asked(tmp_path):
    (tmp_path / "log.csv").write_text("user,item,weight\nu,a,5\nv,b,2\n")
    (tmp_path / "log.txt").write_text("u a 5\nv b 2\n")
    plain = read_interactions(tmp_path / "log.csv")
    assert plain.weights is None
    assert plain.ratings.tolist() == [5, 2]
    assert "weight_column" not in plain.readings[0].settings
    both = read_interactions(tmp_path / "log.csv", weight_column="weight")
    assert both.ratings.tolist() == both.weights.tolist() == [5, 2]
    assert weighed(positives(both, 3)) == {("u", "a"): 5}
    places = {"rating_column": 3, "weight_column": 3}
    by_place = read_interactions(tmp_path / "log.txt", format="triples", **places)
    assert by_place.ratings.tolist() == by_place.weights.tolist() == [5, 2]


def test_an_unused_column_is_said_to_be_unused_with_the_flag_that_uses_it(tmp_path):
    (tmp_path / "log.csv").write_text("user,item,quantity,rating\nu,a,5,4\nv,b,2,5\n")
    [note] = read_interactions(tmp_path / "log.csv").readings[0].notes
    assert note.startswith("column 'quantity' is not used (--weight-column quantity")
    used = read_interactions(tmp_path / "log.csv", weight_column="quantity")
    assert used.readings[0].notes == ()


def test_the_rows_of_a_pair_add_up_and_a_note_says_so():
    data = log_of([("u", "a", 1), ("v", "a", 2), ("u", "a", 0.5), ("u", "b", 4)])
    found = positives(data)
    assert weighed(found) == {("u", "a"): 1.5, ("v", "a"): 2, ("u", "b"): 4}
    assert found.notes == (
        "3 pairs weigh 7.5 together, from 1.5 to 4 each (the rows of a pair add up); they weigh so "
        "in graph and loss",
    )
    assert "weights" in found.facts()["with"]


def test_which_rows_add_up_depends_on_what_a_row_is():
    rows = [("u", "a", 1), ("u", "a", 2), ("u", "a", 4)]
    data = log_of(rows, ratings=[5, 1, 5])
    # Events below the threshold leave first; of ratings the last decides for all rows.
    assert weighed(positives(data, 4, "events")) == {("u", "a"): 5}
    assert weighed(positives(data, 4, "ratings")) == {("u", "a"): 7}


def test_what_is_held_out_weighs_no_training_pair():
    data = log_of([("u", "a", 1), ("u", "a", 8), ("u", "a", 2), ("u", "b", 3)], parts=[0, 2, 0, 2])
    assert weighed(data.deduplicated()) == {("u", "a"): 3, ("u", "b"): 3}
    split = given_split(data)
    assert weighed(split, split.train) == {("u", "a"): 3}


def test_a_sum_that_is_too_large_is_refused():
    with pytest.raises(
        InputError, match=r"weights\[0\]: expected a finite number above 0, got inf"
    ):
        log_of([("u", "a", 3e38), ("u", "a", 3e38)]).deduplicated()


ROWS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 4), st.floats(0.0625, 128, width=32)), min_size=1
)


@given(rows=ROWS, order=st.randoms())
@settings(max_examples=50, deadline=None)
def test_sums_do_not_depend_on_the_order_of_rows(rows, order):
    exact = {}
    for user, item, weight in rows:
        exact[user, item] = exact.get((user, item), 0.0) + weight
    found = weighed(log_of(rows).deduplicated())
    assert found == pytest.approx(exact, rel=1e-6)
    order.shuffle(rows)
    assert weighed(log_of(rows).deduplicated()) == found


@pytest.fixture(scope="module")
def log():
    """Events of 12 users, each pair of a weight of its own."""
    rng = np.random.default_rng(0)
    users, items = np.nonzero(rng.random((12, 15)) < 0.6)
    order = rng.permutation(len(users))
    return Interactions.from_arrays(
        users[order],
        items[order],
        ratings=rng.integers(1, 6, len(users)),
        timestamps=rng.integers(0, 10**6, len(users)),
        weights=np.exp(rng.normal(size=len(users))),
    )


def subset_of(part, whole):
    return part.items() <= whole.items() and bool(part)


def test_filters_keep_the_weights_of_their_pairs(log):
    whole = weighed(log)
    assert subset_of(weighed(log.with_min_rating(3)), whole)
    assert subset_of(weighed(log.with_k_core(5, 5)), whole)
    assert weighed(log.in_canonical_order()[0]) == whole


SPLITS = {
    "ratio": lambda data: ratio_split(data, 0.6, 0.2, 0.2),
    "leave-k-out": leave_k_out_split,
    "temporal": lambda data: temporal_split(data, 0.6, 0.2, 0.2),
    "temporal-per-user": lambda data: temporal_split(data, 0.6, 0.2, 0.2, per_user=True),
    "undivided": undivided,
    "carved": lambda data: carve_validation(undivided(data)),
    "legacy": lambda data: apply_protocol(ratio_split(data), "legacy"),
    "all": lambda data: apply_protocol(ratio_split(data), "all"),
    "canonical": lambda data: ratio_split(data).in_canonical_order(),
}


@pytest.mark.parametrize("name", SPLITS)
def test_splits_keep_the_weights_of_their_pairs_and_are_those_without(log, name):
    split = SPLITS[name](log)
    parts = [
        weighed(split, pairs) for pairs in (split.train, split.valid, split.test) if len(pairs)
    ]
    together = {}
    for part in parts:
        together |= part
    assert sum(map(len, parts)) == len(together)
    assert together == weighed(log)
    if name != "canonical":  # Whose rows weights tell apart.
        plain = SPLITS[name](dataclasses.replace(log, weights=None))
        assert plain.train.weights is None
        np.testing.assert_array_equal(plain.train.keys, split.train.keys)


def test_the_order_of_rows_depends_on_weights_and_on_no_name():
    """Two users of one item each are told apart by weights alone."""
    first = log_of([("x", "a", 1), ("y", "b", 2), ("z", "c", 3)])
    other = log_of([("q", "k", 3), ("r", "l", 1), ("a", "m", 2)])
    orders = [undivided(data).in_canonical_order().train.weights for data in (first, other)]
    np.testing.assert_array_equal(*orders)


def test_weights_that_are_all_alike_leave_the_order_of_rows(log):
    plain = ratio_split(dataclasses.replace(log, weights=None)).in_canonical_order()
    twos = np.full(len(log), 2, np.float32)
    alike = ratio_split(dataclasses.replace(log, weights=twos)).in_canonical_order()
    assert alike.users == plain.users
    np.testing.assert_array_equal(alike.train.keys, plain.train.keys)


def test_parts_have_weights_together_or_not_at_all():
    one, two = (Pairs(np.int32([0]), np.int32([item])) for item in range(2))
    heavy = dataclasses.replace(two, weights=np.float32([2]))
    none = Pairs(np.zeros(0, np.int32), np.zeros(0, np.int32))
    ids = log_of([(0, 0, 1), (0, 1, 1)])
    with pytest.raises(InputError, match="expected weights in each of them or in none"):
        Split(ids.users, ids.items, one, heavy, none, "odd")
    assert Split(ids.users, ids.items, heavy, none, none, "one part").valid.weights is None
    assert merge_pairs(one, heavy).weights is None
    assert merge_pairs(heavy, none, heavy).weights.tolist() == [4]
