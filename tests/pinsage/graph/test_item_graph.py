import jax
import numpy as np
import pytest

from lightgcn_jax.errors import InputError
from pinsage_jax.graph.item_graph import ItemGraph

ITEMS = np.array([0, 2, 0, 2, 0, 3])
CONTEXTS = np.array([1, 0, 0, 0, 1, 3])


def graph_of(items=ITEMS, contexts=CONTEXTS, *, num_items=5, num_contexts=4, **settings):
    return ItemGraph.from_pairs(
        items, contexts, num_items=num_items, num_contexts=num_contexts, **settings
    )


def rows_of(adjacency, values=None):
    values = np.asarray(adjacency.columns if values is None else values)
    bounds = zip(np.asarray(adjacency.starts), np.asarray(adjacency.lengths), strict=True)
    return [values[start : start + length].tolist() for start, length in bounds]


def test_rows_hold_their_pairs_with_repetitions_in_ascending_order():
    graph = graph_of()
    assert rows_of(graph.contexts_of_item) == [[0, 1, 1], [], [0, 0], [3], []]
    assert rows_of(graph.items_of_context) == [[0, 2, 2], [0, 0], [], [3]]
    assert (graph.num_items, graph.num_contexts) == (5, 4)
    assert graph.item_degrees().tolist() == [3, 0, 2, 1, 0]
    assert graph.item_degrees().dtype == np.int64
    assert graph.contexts_of_item.cumulative is None
    assert graph.contexts_of_item.longest == 3


@pytest.mark.parametrize("weighted", [False, True])
def test_the_order_of_the_pairs_does_not_matter(weighted):
    order = np.array([4, 1, 5, 0, 3, 2])
    weights = np.arange(1, 7) if weighted else None
    shuffled = None if weights is None else weights[order]
    first = graph_of(weights=weights)
    second = graph_of(ITEMS[order], CONTEXTS[order], weights=shuffled)
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        assert one.tolist() == other.tolist()


def test_running_shares_of_weights_in_both_directions():
    graph = graph_of(weights=[1.0, 2, 3, 4, 5, 6])
    of_item, of_context = graph.contexts_of_item, graph.items_of_context
    assert rows_of(of_item) == [[0, 1, 1], [], [0, 0], [3], []]
    expected = [[3 / 9, 4 / 9, 1], [], [2 / 6, 1], [1], []]
    for row, shares in zip(rows_of(of_item, of_item.cumulative), expected, strict=True):
        np.testing.assert_allclose(row, shares, rtol=1e-6)
    expected = [[3 / 9, 5 / 9, 1], [1 / 6, 1], [], [1]]
    for row, shares in zip(rows_of(of_context, of_context.cumulative), expected, strict=True):
        np.testing.assert_allclose(row, shares, rtol=1e-6)


def test_a_heavy_row_leaves_light_ones_their_digits():
    weights = [1e30, 1e-30, 2e30, 3e-30, 1e30, 1.0]
    of_item = graph_of(weights=weights).contexts_of_item
    np.testing.assert_allclose(rows_of(of_item, of_item.cumulative)[2], [1 / 4, 1], rtol=1e-6)


@pytest.mark.parametrize("weights", [None, [1.0, 2, 3, 4, 5, 6]], ids=["uniform", "weighted"])
def test_new_items_get_their_contexts_in_the_same_shapes(weights):
    graph = graph_of(weights=weights, item_slack=2, edge_slack=5)
    assert (graph.num_items, graph.contexts_of_item.columns.shape) == (7, (11,))
    grown = graph.with_items(np.array([6, 1]), [[2, 0, 2], [3]]).with_items([5], [[]])
    expected = [[0, 1, 1], [3], [0, 0], [3], [], [], [2, 0, 2]]
    assert rows_of(grown.contexts_of_item) == expected
    assert rows_of(grown.items_of_context) == rows_of(graph.items_of_context)
    assert grown.item_degrees().tolist() == [3, 1, 2, 1, 0, 0, 3]
    assert graph.item_degrees().tolist() == [3, 0, 2, 1, 0, 0, 0]
    assert jax.tree.structure(grown) == jax.tree.structure(graph)
    for one, other in zip(jax.tree.leaves(grown), jax.tree.leaves(graph), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
    if weights is not None:
        shares = rows_of(grown.contexts_of_item, grown.contexts_of_item.cumulative)
        np.testing.assert_allclose(shares[6], [1 / 3, 2 / 3, 1], rtol=1e-6)
        np.testing.assert_allclose(shares[0], [3 / 9, 4 / 9, 1], rtol=1e-6)


def test_slack_is_used_up():
    graph = graph_of(item_slack=1, edge_slack=3).with_items([5], [[0, 1]])
    with pytest.raises(InputError, match="contexts: expected at most the 1 entries of slack"):
        graph.with_items([1], [[0, 1]])
    with pytest.raises(InputError, match=r"rows: expected rows in \[0, 6\).*more item_slack"):
        graph.with_items([6], [[0]])


@pytest.mark.parametrize(
    ("rows", "contexts", "message"),
    [
        ([0], [[1]], "rows: expected items without contexts, got 1 that have some, the first 0"),
        ([1, 1], [[1], [2]], "rows: expected distinct rows, got 2 with repetitions"),
        ([1], [[1], [2]], "contexts: expected one list for each of 1 rows, got 2"),
        ([1], [[4]], r"contexts: expected rows in \[0, 4\), got values from 4 to 4"),
        ([1], [[0.5]], "contexts: expected a one-dimensional integer array"),
    ],
)
def test_new_items_that_do_not_fit(rows, contexts, message):
    with pytest.raises(InputError, match=message):
        graph_of(item_slack=1, edge_slack=3).with_items(rows, contexts)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"items": [5] * 6}, r"items: expected rows in \[0, 5\), got values from 5 to 5"),
        ({"contexts": [-1] * 6}, r"contexts: expected rows in \[0, 4\), got values from -1"),
        ({"contexts": [0.0] * 6}, "contexts: expected a one-dimensional integer array"),
        ({"items": [1]}, "items and contexts: expected equal lengths, got 1 and 6"),
        ({"weights": [1.0] * 5}, "weights: expected 6 numbers, one for each pair"),
        ({"weights": [1, 1, -2, 1, 1, 1]}, "weights: expected numbers positive.*got -2 at pair 2"),
        ({"weights": [1, 0, 1, 1, 1, 1]}, "weights: expected numbers positive.*got 0 at pair 1"),
        ({"item_slack": -1}, "item_slack: expected at least 0, got -1"),
        ({"edge_slack": 2**31}, "graph: items, contexts and edges are counted in 32 bits"),
    ],
)
def test_pairs_that_make_no_graph(changes, message):
    with pytest.raises(InputError, match=message):
        graph_of(**changes)
