"""Item-based cosine against its dense statement."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightgcn_jax.errors import InputError
from lightgcn_jax.models import ItemCf, itemcf
from lightgcn_jax.models.itemcf import nearest_items
from tests.lightgcn.oracles import dense_interactions, stable_top_k
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of, pair_sets, random_pairs

scores_of = jax.jit(lambda model, rows: model.scores(rows))


def dense_cosines(users, items):
    """Cosines of the item columns of R with rows of length 1, float64, 0 on the diagonal."""
    r = dense_interactions(users, items, NUM_USERS, NUM_ITEMS)
    lengths = np.sqrt(r.sum(axis=1))
    columns = r / np.where(lengths > 0, lengths, 1)[:, None]
    norms = np.linalg.norm(columns, axis=0)
    columns = columns / np.where(norms > 0, norms, 1)
    cosines = columns.T @ columns
    np.fill_diagonal(cosines, 0)
    return cosines


def dense_kept(cosines, neighbours):
    """Each row's largest alone, ties (in float32) to the lower column."""
    kept = np.zeros_like(cosines)
    for row, values in enumerate(cosines.astype(np.float32)):
        chosen = [item for item in stable_top_k(values, neighbours) if values[item] > 0]
        kept[row, chosen] = cosines[row, chosen]
    return kept


def as_dense(found):
    dense = np.zeros((len(found.items), len(found.items) + 1))
    np.put_along_axis(dense, found.items.astype(np.int64), found.cosines, axis=1)
    assert not dense[:, -1].any()
    return dense[:, :-1]


@given(pairs=pair_sets(), block=st.sampled_from([1, 10, 1 << 22]))
@settings(max_examples=60, deadline=None)
def test_all_cosines(pairs, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(itemcf, "_BLOCK_COSINES", block)
        found = nearest_items(graph_of(*pairs), NUM_ITEMS)
    np.testing.assert_allclose(as_dense(found), dense_cosines(*pairs), rtol=1e-6, atol=1e-12)
    assert (np.diff(found.items, axis=1) >= 0).all()


# Where cosines tie in exact numbers, rounding must tie them too: the sums have equal terms.
@given(pairs=pair_sets(), neighbours=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_the_largest_are_kept_and_memory_is_theirs(pairs, neighbours):
    everything = as_dense(nearest_items(graph_of(*pairs), NUM_ITEMS))
    found = nearest_items(graph_of(*pairs), neighbours)
    assert found.items.shape == found.cosines.shape
    assert found.items.shape[1] <= neighbours
    assert found.items.nbytes + found.cosines.nbytes <= 8 * NUM_ITEMS * neighbours
    np.testing.assert_array_equal(as_dense(found), dense_kept(everything, neighbours))


@pytest.mark.parametrize("neighbours", [2, 8])
@pytest.mark.parametrize("at_once", [1, 1 << 18])
def test_scores_are_the_sums_over_a_users_items(neighbours, at_once, monkeypatch):
    monkeypatch.setattr(itemcf, "_ADDED_AT_ONCE", at_once)
    pairs = random_pairs(3)
    graph = graph_of(*pairs)
    found = nearest_items(graph, neighbours)
    model = ItemCf(neighbours).fit(graph, jax.random.key(0))
    rows = np.array([5, 0, 0, 6, 2], np.int32)
    # The chunk's width is read while tracing: no compiled function may be shared here.
    got = jax.jit(lambda model, rows: model.scores(rows))(model, rows)
    expected = dense_interactions(*pairs, NUM_USERS, NUM_ITEMS)[rows] @ as_dense(found)
    np.testing.assert_allclose(got, expected.T, rtol=1e-5, atol=1e-7)
    cosines = scores_of(model.item_similarity(), np.arange(NUM_ITEMS))
    np.testing.assert_array_equal(np.asarray(cosines).T, as_dense(found).astype(np.float32))


def test_a_graph_without_interactions_scores_zero():
    graph = graph_of(np.zeros(0, int), np.zeros(0, int))
    model = ItemCf(3).fit(graph, jax.random.key(0))
    assert not np.asarray(scores_of(model, np.arange(NUM_USERS))).any()


@pytest.mark.parametrize("neighbours", [0, -1, 2.5])
def test_a_count_of_neighbours_is_wanted(neighbours):
    with pytest.raises(InputError, match="neighbours: expected a whole number of at least 1"):
        ItemCf(neighbours)
