import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from lightgcn_jax.errors import InputError
from lightgcn_jax.graph import BipartiteGraph, contains, count_below, walk_rows
from tests.lightgcn.oracles import dense_interactions
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of, pair_sets, random_pairs


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


def test_counts_beyond_32_bits_are_refused():
    with pytest.raises(InputError, match=r"counted in 32 bits, at most 2,147,483,647, got 2,147"):
        graph_of(np.array([], int), np.array([], int), num_users=2**31 - 2)


@pytest.mark.slow
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


def test_entries_of_rows_are_walked_one_after_another():
    users, items = random_pairs(3)
    rows = graph_of(users, items).items_of_user
    wanted = [4, 0, 4, 6]
    expected = [
        (slot, item)
        for slot, user in enumerate(wanted)
        for item in sorted(items[users == user].tolist())
    ]
    positions = jnp.arange(len(expected) + 5)
    slots, columns, inside = walk_rows(rows, jnp.array(wanted), positions)
    assert inside.tolist() == [True] * len(expected) + [False] * 5
    got = list(zip(slots.tolist(), columns.tolist(), strict=True))[: len(expected)]
    assert got == expected
