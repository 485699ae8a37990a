import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from lightgcn_jax.errors import InputError
from lightgcn_jax.graph import BipartiteGraph, contains, count_below, entries
from tests.lightgcn.oracles import dense_interactions
from tests.lightgcn.worlds import (
    NUM_ITEMS,
    NUM_USERS,
    graph_of,
    pair_sets,
    random_pairs,
    random_weights,
)


@given(pair_sets())
@settings(max_examples=50, deadline=None)
def test_both_csr_directions_hold_the_same_interactions(pairs):
    graph = graph_of(*pairs)
    dense = dense_interactions(*pairs, NUM_USERS, NUM_ITEMS)
    for rows, expected in ((graph.items_of_user, dense), (graph.users_of_item, dense.T)):
        offsets, columns = np.asarray(rows.offsets), np.asarray(rows.columns)
        assert offsets.dtype == columns.dtype == np.int32
        assert rows.longest == expected.sum(axis=1).max()
        for row, wanted in enumerate(expected):
            assert (
                columns[offsets[row] : offsets[row + 1]].tolist() == np.flatnonzero(wanted).tolist()
            )


def test_pairs_come_back_sorted():
    users, items = random_pairs(0)
    got = graph_of(users, items).pairs()
    assert list(zip(*got, strict=True)) == sorted(zip(users, items, strict=True))


@pytest.mark.parametrize(
    ("users", "items", "message"),
    [
        ([0, 7], [0, 0], r"users: expected rows in \[0, 7\), got values from 0 to 7"),
        ([0, -1], [0, 0], r"users: expected rows in \[0, 7\), got values from -1 to 0"),
        ([0, 1], [0, 9], r"items: expected rows in \[0, 9\)"),
        ([0.5], [0], "users: expected a one-dimensional integer array"),
        ([0, 1], [0], "expected equal lengths, got 2 and 1"),
        ([3, 1, 3], [2, 2, 2], r"1 repeated, the first \(3, 2\)"),
    ],
)
def test_bad_pairs_are_refused(users, items, message):
    with pytest.raises(InputError, match=message):
        BipartiteGraph.from_pairs(
            np.array(users), np.array(items), num_users=NUM_USERS, num_items=NUM_ITEMS
        )


@given(pair_sets())
@settings(max_examples=30, deadline=None)
def test_weights_follow_their_pairs(pairs):
    weights = random_weights(0, len(pairs[0]))
    shuffled = np.random.default_rng(1).permutation(len(weights))
    users, items = pairs[0][shuffled], pairs[1][shuffled]
    graph = graph_of(users, items, weights=weights[shuffled])
    got = dense_interactions(*graph.pairs(), NUM_USERS, NUM_ITEMS, graph.edge_weights)
    expected = dense_interactions(*pairs, NUM_USERS, NUM_ITEMS, weights)
    np.testing.assert_allclose(got, expected, rtol=1e-7)
    # With a weight the structure is the same as without.
    without = graph_of(users, items)
    assert without.edge_weights is None
    np.testing.assert_array_equal(
        graph.items_of_user.columns, without.items_of_user.columns, strict=True
    )


def test_weights_may_be_whole_numbers():
    graph = graph_of(np.array([1, 0]), np.array([0, 2]), weights=np.array([3, 2]))
    np.testing.assert_array_equal(graph.edge_weights, np.array([2.0, 3.0], np.float32))


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, 0.0], r"positive and finite in float32, got 0.0 at pair 1"),
        ([-2.0, 1.0], r"weights: expected numbers positive .*got -2.0 at pair 0"),
        ([NAN, 1.0], r"got nan at pair 0"),
        ([1.0, INF], r"got inf at pair 1"),
        ([1.0, 1e300], r"positive and finite in float32, got 1e\+300 at pair 1"),
        ([1e-300, 1.0], r"positive and finite in float32, got 1e-300 at pair 0"),
        ([1.0], r"weights: expected 2 numbers, one for each pair, got shape \(1,\) of float64"),
        ([[1.0, 1.0]], r"got shape \(1, 2\)"),
        ([True, True], r"got shape \(2,\) of bool"),
        ([1j, 1j], r"got shape \(2,\) of complex128"),
    ],
)
def test_bad_weights_are_refused(weights, message):
    with pytest.raises(InputError, match=message):
        graph_of(np.array([0, 1]), np.array([0, 1]), weights=np.array(weights))


def test_counts_beyond_32_bits_are_refused():
    with pytest.raises(InputError, match=r"counted in 32 bits, at most 2,147,483,647, got 2,147"):
        graph_of(np.array([], int), np.array([], int), num_users=2**31 - 2)


@pytest.mark.parametrize("density", [0.0, 0.05, 0.4, 1.0])
def test_binary_searches_agree_with_counting(density):
    users, items = random_pairs(0, density=density)
    rows = graph_of(users, items).items_of_user
    dense = dense_interactions(users, items, NUM_USERS, NUM_ITEMS)
    all_rows = jnp.arange(NUM_USERS)[:, None]
    values = jnp.arange(-1, NUM_ITEMS + 1)[None, :]
    below = [[int((np.flatnonzero(row) < value).sum()) for value in values[0]] for row in dense]
    assert count_below(rows, all_rows, values).tolist() == below
    held = [[int(value) in np.flatnonzero(row) for value in values[0]] for row in dense]
    assert contains(rows, all_rows, values).tolist() == held
    # The r-th absent id is r plus the entries that stand before it.
    ranks = jnp.arange(NUM_ITEMS)[None, :]
    found = ranks + count_below(rows, all_rows, ranks, minus_rank=True)
    for row, ids in zip(dense, found.tolist(), strict=True):
        absent = np.flatnonzero(row == 0).tolist()
        assert ids[: len(absent)] == absent


def test_entries_walk_rows_one_after_another():
    users, items = random_pairs(3)
    rows = graph_of(users, items).items_of_user
    wanted = [4, 0, 4, 6]
    expected = [
        (slot, item)
        for slot, user in enumerate(wanted)
        for item in sorted(items[users == user].tolist())
    ]
    positions = jnp.arange(len(expected) + 5)
    slots, columns, inside = entries(rows, jnp.array(wanted), positions)
    assert inside.tolist() == [True] * len(expected) + [False] * 5
    got = list(zip(slots.tolist(), columns.tolist(), strict=True))[: len(expected)]
    assert got == expected
