"""The canonical order knows who met what, and neither names nor rows."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightgcn_jax.data.canonical import canonical_order, mixed
from lightgcn_jax.data.ids import IdMap

LOGS = st.sets(st.tuples(st.integers(0, 7), st.integers(0, 9)), min_size=1, max_size=40)


def ids(prefix, count):
    return IdMap.from_values([f"{prefix}{n:03d}" for n in range(count)])


def table(users, items, edges, order):
    """The interactions ``bool[U, I]`` with rows and columns in an order."""
    dense = np.zeros((users, items), int)
    for at, (user, item) in enumerate(edges, 1):
        dense[user, item] = at if isinstance(edges, list) else 1
    return dense[np.ix_(*order)]


def ordered(pairs, users=8, items=10, labels=None):
    rows = np.array(sorted(pairs) if isinstance(pairs, set) else pairs).T
    return canonical_order(ids("u", users), ids("i", items), *rows, labels)


@settings(deadline=None)
@given(LOGS, st.randoms(use_true_random=False))
def test_renamed_and_shuffled_logs_come_out_as_one(pairs, random):
    """The tables are equal, not only alike: what is not told apart can be exchanged."""
    renamed_users, renamed_items = list(range(8)), list(range(10))
    random.shuffle(renamed_users)
    random.shuffle(renamed_items)
    renamed = {(renamed_users[user], renamed_items[item]) for user, item in pairs}
    shuffled = sorted(pairs)
    random.shuffle(shuffled)
    expected = table(8, 10, pairs, ordered(pairs))
    np.testing.assert_array_equal(table(8, 10, set(shuffled), ordered(shuffled)), expected)
    np.testing.assert_array_equal(table(8, 10, renamed, ordered(renamed)), expected)


def test_pairs_of_strangers_come_out_as_one():
    """Which of two users alike comes first decides which of two items does."""
    tables = []
    for items in itertools.permutations(range(3)):
        pairs = set(enumerate(items))
        tables.append(table(3, 3, pairs, ordered(pairs, 3, 3)))
    assert all((one == tables[0]).all() for one in tables)


def test_a_random_log_of_some_size_comes_out_equal_under_any_names():
    rng = np.random.default_rng(0)
    dense = rng.random((60, 50)) < 0.1
    users, items = rng.permutation(60), rng.permutation(50)
    first = canonical_order(ids("u", 60), ids("i", 50), *np.nonzero(dense))
    other = dense[np.ix_(users, items)]
    second = canonical_order(ids("u", 60), ids("i", 50), *np.nonzero(other))
    np.testing.assert_array_equal(other[np.ix_(*second)], dense[np.ix_(*first)])
    assert (np.argsort(first[0]) != np.arange(60)).any()


def test_labels_tell_edges_apart():
    # All users have both items; one edge has another time.
    pairs = [(user, item) for user in range(4) for item in range(2)]
    times = np.zeros(8)
    times[5] = 1.0
    order = ordered(pairs, 4, 2, times)
    moved = ordered([(3 - user, 1 - item) for user, item in pairs], 4, 2, times)
    # The user and the item of that edge, wherever they stand.
    assert order[0].tolist().index(2) == moved[0].tolist().index(1)
    assert order[1].tolist().index(1) == moved[1].tolist().index(0)
    signs = np.where(times == 0, -0.0, times)
    assert np.array_equal(ordered(pairs, 4, 2, signs)[0], order[0])


def test_what_is_alike_is_ordered_by_a_hash_of_its_id_wherever_it_stands():
    users = IdMap.from_values(["x"])
    rows = np.zeros(5, np.int32), np.arange(5, dtype=np.int32)
    items = IdMap.from_values([3, 14, 15, 92, 65])
    moved = IdMap(items.ids.gather([4, 2, 0, 3, 1]))
    texts = IdMap(moved.ids.cast(str))
    orders = [one.external(canonical_order(users, one, *rows)[1]) for one in (items, moved, texts)]
    assert orders[0] == orders[1] == list(map(int, orders[2]))
    assert orders[0] != sorted(orders[0])


def test_neither_popularity_nor_rows_decide():
    """Over random logs of one popular item among ten, its place is uniform: 800 logs, 10 places."""
    places = np.zeros(10)
    rng = np.random.default_rng(3)
    for _ in range(800):
        dense = rng.random((12, 10)) < 0.3
        dense[:, 4] = rng.random(12) < 0.9
        order = canonical_order(ids("u", 12), ids("i", 10), *np.nonzero(dense))[1]
        places[order.tolist().index(4)] += 1
    # Chi-square with 9 degrees of freedom exceeds 27.9 once in a thousand.
    assert ((places - 80) ** 2 / 80).sum() < 27.9


def test_mixing_is_a_bijection_with_no_fixed_order():
    words = np.arange(1 << 16, dtype=np.uint64)
    assert len(np.unique(mixed(words))) == len(words)
    bits = mixed(words)[:, None] >> np.arange(64, dtype=np.uint64) & np.uint64(1)
    # A bit's mean has the standard deviation 1/512.
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 5 / 512


@pytest.mark.parametrize("edges", [0, 3])
def test_nodes_without_edges_are_in_the_order_too(edges):
    rows = np.arange(edges, dtype=np.int32), np.zeros(edges, np.int32)
    users, items = canonical_order(ids("u", 6), ids("i", 2), *rows)
    assert sorted(users) == list(range(6))
    assert sorted(items) == [0, 1]
