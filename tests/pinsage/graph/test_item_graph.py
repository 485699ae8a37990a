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


def rows_of(adjacency):
    values = np.asarray(adjacency.columns)
    bounds = zip(np.asarray(adjacency.starts), np.asarray(adjacency.lengths), strict=True)
    return [values[start : start + length].tolist() for start, length in bounds]


def test_rows_hold_their_pairs_with_repetitions_in_ascending_order():
    graph = graph_of()
    assert rows_of(graph.contexts_of_item) == [[0, 1, 1], [], [0, 0], [3], []]
    assert rows_of(graph.items_of_context) == [[0, 2, 2], [0, 0], [], [3]]
    assert (graph.num_items, graph.num_contexts) == (5, 4)
    assert graph.item_degrees().tolist() == [3, 0, 2, 1, 0]
    assert graph.item_degrees().dtype == np.int64


def test_the_order_of_the_pairs_does_not_matter():
    order = np.array([4, 1, 5, 0, 3, 2])
    first, second = graph_of(), graph_of(ITEMS[order], CONTEXTS[order])
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        assert one.tolist() == other.tolist()


def test_new_items_get_their_contexts_in_the_same_shapes():
    graph = graph_of(item_slack=2, edge_slack=5)
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
        ({"item_slack": -1}, "item_slack: expected at least 0, got -1"),
        ({"edge_slack": 2**31}, "graph: items, contexts and edges are counted in 32 bits"),
    ],
)
def test_pairs_that_make_no_graph(changes, message):
    with pytest.raises(InputError, match=message):
        graph_of(**changes)
