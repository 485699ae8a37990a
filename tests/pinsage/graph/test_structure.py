"""Structure against singular vectors of the dense matrix, in float64."""

import jax
import numpy as np
import pytest

from pinsage_jax.graph.item_graph import ItemGraph
from pinsage_jax.graph.structure import Structure

NUM_ITEMS, NUM_CONTEXTS, RANK = 40, 12, 5
KEY = jax.random.key(0)


def edges_of(seed=0):
    """Items of skewed degrees, some edges twice; item 39 is isolated, context 11 is empty."""
    rng = np.random.default_rng(seed)
    items = (rng.random(150) ** 2 * 39).astype(int)
    contexts = rng.integers(0, 11, 150)
    return np.append(items, items[:5]), np.append(contexts, contexts[:5])


ITEMS, CONTEXTS = edges_of()


def graph_of(items=ITEMS, contexts=CONTEXTS):
    return ItemGraph.from_pairs(items, contexts, num_items=NUM_ITEMS, num_contexts=NUM_CONTEXTS)


def counts_of(items=ITEMS, contexts=CONTEXTS):
    counts = np.zeros((NUM_ITEMS, NUM_CONTEXTS))
    np.add.at(counts, (items, contexts), 1)
    return counts


def dense(counts, rank):
    """s of all items, line by line as the module has it; signs and rotations are free."""
    of_items, of_contexts = counts.sum(axis=1), counts.sum(axis=0)
    scale = np.sqrt(np.maximum(of_contexts, 1))
    scaled = counts / np.sqrt(np.maximum(of_items, 1))[:, None] / scale
    _, values, right = np.linalg.svd(scaled, full_matrices=False)
    directions = right[:rank].T * values[:rank] / scale[:, None]
    found = np.zeros((len(counts), directions.shape[1]))
    for item, row in enumerate(counts):
        total = sum(row[context] * directions[context] for context in np.flatnonzero(row))
        length = np.linalg.norm(total)
        if length > 0:
            found[item] = np.log(1 + of_items[item]) * total / length * np.sqrt(rank) / 2
    return found


def inner(values):
    values = np.asarray(values, np.float64)
    return values @ values.T


@pytest.fixture(scope="module")
def structure():
    return Structure.of(KEY, graph_of(), RANK)


def test_items_stand_where_the_singular_vectors_put_them(structure):
    found = structure.items(graph_of())
    assert (found.shape, found.dtype) == ((NUM_ITEMS, RANK), np.float32)
    np.testing.assert_allclose(inner(found), inner(dense(counts_of(), RANK)), atol=1e-3)
    # A length tells the degree alone, as many as there are entries.
    lengths = np.log1p(counts_of().sum(axis=1)) * np.sqrt(RANK) / 2
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), lengths, rtol=1e-5)


def test_a_direction_is_the_item_s_own_of_the_left_singular_vectors(structure):
    """t_u = D^½ U Σ², so that directions are those of U Σ²."""
    counts = counts_of()
    scaled = counts / np.sqrt(np.maximum(counts.sum(axis=1, keepdims=True), 1))
    scaled /= np.sqrt(np.maximum(counts.sum(axis=0), 1))
    left, values, _ = np.linalg.svd(scaled, full_matrices=False)
    listed = counts.any(axis=1)
    wanted, found = (
        one[listed] / np.linalg.norm(one[listed], axis=1, keepdims=True)
        for one in ((left * values**2)[:, :RANK], structure.items(graph_of()))
    )
    np.testing.assert_allclose(inner(found), inner(wanted), atol=1e-4)


def test_a_new_item_s_structure_is_that_of_an_item_of_the_same_contexts(structure):
    contexts = [np.sort(CONTEXTS[np.equal(ITEMS, item)]) for item in range(NUM_ITEMS)]
    rng = np.random.default_rng(0)
    shuffled, degrees = [rng.permutation(one) for one in contexts], counts_of().sum(axis=1)
    found = structure.new_items(shuffled, degrees)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, structure.items(graph_of()), atol=1e-6)
    assert structure.new_items([], np.zeros(0)).shape == (0, RANK)
    # Another degree gives another length and no other direction.
    longer = structure.new_items(shuffled, degrees + 3)
    listed = degrees > 0
    factor = np.log1p(degrees[listed] + 3) / np.log1p(degrees[listed])
    np.testing.assert_allclose(longer[listed], found[listed] * factor[:, None], rtol=1e-4)


def test_who_stands_nowhere_has_zeros(structure):
    """An item without contexts, and one whose context holds nobody."""
    assert not structure.items(graph_of())[39].any()
    contexts = [np.zeros(0, np.int64), np.array([11]), np.array([0])]
    found = structure.new_items(contexts, np.array([4, 4, 4]))
    assert found.any(axis=1).tolist() == [False, False, True]


def test_beyond_the_rank_of_the_graph_columns_are_zeros():
    structure = Structure.of(KEY, graph_of(), 16)
    found = structure.items(graph_of())
    assert found.shape == (NUM_ITEMS, 16)
    # Eleven contexts have items.
    assert not found[:, 11:].any()
    assert found[:, :11].any(axis=0).all()
    full = dense(counts_of(), 11) * np.sqrt(16 / 11)
    np.testing.assert_allclose(inner(found), inner(full), atol=3e-3)


def test_few_contexts_give_few_singular_vectors():
    """A sixteenth of the contexts, and sixteen where that is fewer."""
    rng = np.random.default_rng(1)
    for num_contexts, found in ((30, 16), (320, 20)):
        edges = rng.integers(0, 60, 4_000), rng.integers(0, num_contexts, 4_000)
        graph = ItemGraph.from_pairs(*edges, num_items=60, num_contexts=num_contexts)
        columns = Structure.of(KEY, graph, 24).contexts.any(axis=0)
        assert columns.tolist() == [True] * found + [False] * (24 - found)


def test_a_graph_without_edges_has_zeros():
    none = np.zeros(0, np.int64)
    for num_contexts in (3, 0):
        graph = ItemGraph.from_pairs(none, none, num_items=4, num_contexts=num_contexts)
        structure = Structure.of(KEY, graph, RANK)
        assert structure.contexts.shape == (num_contexts, RANK)
        np.testing.assert_array_equal(structure.items(graph), np.zeros((4, RANK)))


def test_items_may_stand_in_any_order(structure):
    order = np.random.default_rng(1).permutation(NUM_ITEMS)
    graph = graph_of(order[ITEMS])
    found = Structure.of(KEY, graph, RANK).items(graph)[order]
    np.testing.assert_allclose(inner(found), inner(structure.items(graph_of())), atol=1e-3)


def test_another_key_gives_the_same_inner_products(structure):
    other = Structure.of(jax.random.key(9), graph_of(), RANK).items(graph_of())
    np.testing.assert_allclose(inner(other), inner(structure.items(graph_of())), atol=1e-3)


def test_fewer_edges_are_summed_from_the_same_contexts(structure):
    """As a fold does: the contexts' vectors stay those of all edges."""
    kept = np.random.default_rng(2).random(len(ITEMS)) > 0.3
    counts = counts_of(ITEMS[kept], CONTEXTS[kept])
    sums = counts @ structure.contexts.astype(np.float64)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    wanted = sums / np.where(lengths > 0, lengths, 1) * np.sqrt(RANK) / 2
    wanted *= np.log1p(counts.sum(axis=1, keepdims=True))
    found = structure.items(graph_of(ITEMS[kept], CONTEXTS[kept]))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_graph_that_grows_keeps_its_directions(structure):
    """A new context of the items of another one is placed where that one is; nothing else moves."""
    members = ITEMS[CONTEXTS == 3]
    after = ItemGraph.from_pairs(
        np.concatenate([ITEMS, members, [40]]),
        np.concatenate([CONTEXTS, np.full(len(members), 12), [13]]),
        num_items=41,
        num_contexts=14,
    )
    grown = structure.grown(graph_of(), after)
    np.testing.assert_array_equal(grown.contexts[:12], structure.contexts)
    np.testing.assert_allclose(grown.contexts[12], structure.contexts[3], rtol=1e-4, atol=1e-6)
    assert not grown.contexts[13].any()  # It holds a new item alone.
