import numpy as np
import pytest

from lightgcn_jax.errors import InputError
from lightgcn_jax.graph import BipartiteGraph, node_order
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of, random_pairs

orderings = pytest.mark.parametrize("ordering", ["degree", "rcm", "co-clustering"])


@orderings
@pytest.mark.parametrize("pairs", [random_pairs(1), (np.array([2]), np.array([3])), ([], [])])
def test_an_order_is_a_permutation_of_the_users_and_one_of_the_items(ordering, pairs):
    graph = graph_of(*(np.asarray(rows, int) for rows in pairs))
    order = node_order(graph, ordering)
    assert sorted(order.users) == list(range(NUM_USERS))
    assert sorted(order.items) == list(range(NUM_ITEMS))
    assert order.users.dtype == order.items.dtype == np.int32
    for one, again in zip(order, node_order(graph, ordering), strict=True):
        np.testing.assert_array_equal(one, again)


@orderings
def test_a_reordered_graph_has_the_same_edges(ordering):
    users, items = random_pairs(3)
    graph = graph_of(users, items)
    order = node_order(graph, ordering)
    moved = graph.reordered(*order)
    new_users, new_items = moved.pairs()
    back = set(zip(order.users[new_users], order.items[new_items], strict=True))
    assert back == set(zip(users, items, strict=True))
    assert len(back) == moved.num_edges == graph.num_edges


def test_an_order_that_leaves_a_row_out_is_refused():
    graph = graph_of(*random_pairs(1))
    users, items = np.arange(NUM_USERS), np.arange(NUM_ITEMS)
    with pytest.raises(InputError, match=rf"users: expected each of the rows 0 … {NUM_USERS - 1}"):
        graph.reordered(users - 1, items)
    with pytest.raises(InputError, match=rf"items: .* got int64\[{NUM_ITEMS + 1}\]"):
        graph.reordered(users, np.append(items, 0))
    with pytest.raises(InputError, match=r"users: .* got float64"):
        graph.reordered(users * 1.0, items)


def test_degrees_fall():
    graph = graph_of(*random_pairs(4))
    order = node_order(graph, "degree")
    for rows, nodes in zip((graph.items_of_user, graph.users_of_item), order, strict=True):
        degrees = np.asarray(rows.lengths())[nodes]
        assert (np.diff(degrees) <= 0).all()
        # Among equal degrees the order stays as it was.
        assert (np.diff(nodes)[np.diff(degrees) == 0] > 0).all()


@pytest.mark.parametrize("ordering", ["rcm", "co-clustering"])
def test_blocks_that_were_shuffled_come_together(ordering):
    # Four blocks of users and items that meet only each other: an order that finds them leaves
    # neighbours in the order mostly in the same block.
    rng = np.random.default_rng(0)
    block_of_user, block_of_item = rng.integers(0, 4, 120), rng.integers(0, 4, 80)
    users, items = np.nonzero(block_of_user[:, None] == block_of_item)
    chosen = rng.random(len(users)) < 0.4
    graph = BipartiteGraph.from_pairs(users[chosen], items[chosen], num_users=120, num_items=80)
    order = node_order(graph, ordering)
    changes = (np.diff(block_of_user[order.users]) != 0).sum()
    changes += (np.diff(block_of_item[order.items]) != 0).sum()
    shuffled = (np.diff(block_of_user) != 0).sum() + (np.diff(block_of_item) != 0).sum()
    assert shuffled > 120
    assert changes <= 20


def test_unknown_ordering():
    with pytest.raises(InputError, match=r"ordering: expected one of .*got 'random'"):
        node_order(graph_of(*random_pairs(1)), "random")
    assert node_order(graph_of(*random_pairs(1)), "none") is None
