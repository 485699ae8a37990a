import numpy as np
import pytest

from lightgcn_jax.errors import InputError
from lightgcn_jax.graph import BipartiteGraph, node_order
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of, random_pairs

NODES = NUM_USERS + NUM_ITEMS
orderings = pytest.mark.parametrize("ordering", ["degree", "rcm", "co-clustering"])


@orderings
@pytest.mark.parametrize("pairs", [random_pairs(1), (np.array([2]), np.array([3])), ([], [])])
def test_an_order_is_a_permutation_with_users_before_items(ordering, pairs):
    graph = graph_of(*(np.asarray(rows, int) for rows in pairs))
    order = node_order(graph, ordering)
    assert sorted(order) == list(range(NODES))
    assert (order[:NUM_USERS] < NUM_USERS).all()
    np.testing.assert_array_equal(order, node_order(graph, ordering))


@orderings
def test_a_relabelled_graph_has_the_same_edges(ordering):
    users, items = random_pairs(3)
    weights = np.random.default_rng(0).uniform(1, 2, len(users)).astype(np.float32)
    graph = graph_of(users, items, weights=weights)
    order = node_order(graph, ordering)
    moved = graph.relabelled(order)
    new_users, new_items = moved.pairs()
    back = zip(order[new_users], order[NUM_USERS + new_items] - NUM_USERS, strict=True)
    expected = dict(zip(zip(users, items, strict=True), weights, strict=True))
    assert dict(zip(back, np.asarray(moved.edge_weights), strict=True)) == expected


def test_degrees_fall():
    graph = graph_of(*random_pairs(4))
    degrees = np.concatenate([graph.items_of_user.lengths(), graph.users_of_item.lengths()])[
        node_order(graph, "degree")
    ]
    assert (np.diff(degrees[:NUM_USERS]) <= 0).all()
    assert (np.diff(degrees[NUM_USERS:]) <= 0).all()


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
    blocks = np.concatenate([block_of_user, block_of_item])
    changes = (np.diff(blocks[order[:120]]) != 0).sum() + (np.diff(blocks[order[120:]]) != 0).sum()
    shuffled = (np.diff(block_of_user) != 0).sum() + (np.diff(block_of_item) != 0).sum()
    assert shuffled > 120
    assert changes <= 20


def test_unknown_ordering():
    with pytest.raises(InputError, match=r"ordering: expected one of .*got 'random'"):
        node_order(graph_of(*random_pairs(1)), "random")
    assert node_order(graph_of(*random_pairs(1)), "none") is None
