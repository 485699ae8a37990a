from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lightgcn_jax.errors import InputError
from pinsage_jax.graph import neighborhoods
from pinsage_jax.graph.item_graph import ItemGraph
from pinsage_jax.graph.neighborhoods import (
    NeighborTable,
    agreement,
    build_table,
    importance_neighbors,
)
from pinsage_jax.graph.walks import WalkConfig, walk
from tests.lightgcn.laws import LEVEL, chi_square

ROWS, VISITS, COUNT = 3, 12, 4
KEY = jax.random.key(0)
# A chunk of one, two or three rows of the table below holds this many bytes.
CONFIG = WalkConfig(walks=4, length=5)
ROW_BYTES = 32 * CONFIG.visits


def assert_counted(seeds, visits, table, count):
    """The largest counts in their order, each of them the count of its item."""
    for row, seed in enumerate(seeds):
        counts = Counter(
            item for item in np.asarray(visits[row]).tolist() if item not in (-1, seed)
        )
        largest = sorted(counts.values(), reverse=True)[:count]
        ids = table.ids[row].tolist()
        kept, padding = ids[: len(largest)], ids[len(largest) :]
        assert [counts[item] for item in kept] == largest
        assert len(set(kept)) == len(kept)
        assert padding == [-1] * (count - len(largest))
        weights = np.zeros(count)
        weights[: len(largest)] = np.array(largest) / max(1, sum(largest))
        np.testing.assert_allclose(table.weights[row], weights, rtol=1e-6)


@settings(deadline=None, max_examples=60)
@given(
    arrays(np.int32, (ROWS, VISITS), elements=st.integers(-1, 6)),
    arrays(np.int32, ROWS, elements=st.integers(0, 6)),
)
def test_neighbours_are_the_most_visited(visits, seeds):
    table = importance_neighbors(KEY, seeds, visits, COUNT)
    assert_counted(seeds.tolist(), visits, table, COUNT)


def test_large_ids_and_long_rows_are_counted_exactly():
    rng = np.random.default_rng(0)
    most = np.iinfo(np.int32).max
    visits = (most - rng.geometric(0.01, (2, 3_000))).astype(np.int32)
    seeds = np.array([most, most - 1], np.int32)
    table = importance_neighbors(KEY, seeds, visits, 50)
    assert_counted(seeds.tolist(), visits, table, 50)


@pytest.mark.parametrize("at_once", [1, 100_000])
def test_threads_count_their_rows_alone(monkeypatch, at_once):
    """A row longer than what is counted at once stands alone, the last part is shorter."""
    monkeypatch.setattr(neighborhoods, "_COUNTED_AT_ONCE", at_once)
    rng = np.random.default_rng(2)
    # Rows of a few items and of many, with more and fewer gaps.
    spread = rng.integers(5, 5_000, (20, 1))
    visits = (rng.random((20, 16_000)) ** 3 * spread - rng.integers(0, 2, (20, 1))).astype(np.int32)
    seeds = rng.integers(0, 5, 20).astype(np.int32)
    assert_counted(seeds.tolist(), visits, importance_neighbors(KEY, seeds, visits, 50), 50)


def test_the_most_visits_that_a_row_may_have_are_counted():
    visits = np.stack([np.full(65_535, 7), np.arange(65_535), np.full(65_535, -1)]).astype(np.int32)
    visits[1, -40_000:] = 7
    seeds = np.array([3, 3, 3], np.int32)
    table = importance_neighbors(KEY, seeds, visits, 3)
    assert_counted(seeds.tolist(), visits, table, 3)
    assert table.ids[:, 0].tolist() == [7, 7, -1]


@pytest.mark.skipif(neighborhoods._library() is None, reason="the counter was not compiled")
@pytest.mark.parametrize(("width", "items", "count"), [(2_000, 300, 50), (7, 4, 10), (500, 9, 3)])
def test_counting_by_sorting_gives_the_same_neighbours(monkeypatch, width, items, count):
    """Ties too: which of equals is kept does not depend on who counts."""
    rng = np.random.default_rng(width)
    visits = rng.integers(-1, items, (40, width)).astype(np.int32)
    seeds = rng.integers(0, items, 40).astype(np.int32)
    counted = importance_neighbors(KEY, seeds, visits, count)
    monkeypatch.setattr(neighborhoods, "_library", lambda: None)
    by_sorting = importance_neighbors(KEY, seeds, visits, count)
    np.testing.assert_array_equal(counted.ids, by_sorting.ids)
    np.testing.assert_array_equal(counted.weights, by_sorting.weights)


def test_the_seed_is_left_out():
    visits = np.array([[9, 3, 7, 3, 9, 5, 5, 5, 7, 5, -1, 1]])
    table = importance_neighbors(KEY, np.array([5]), visits, 3)
    assert set(table.ids[0].tolist()) == {3, 7, 9}
    np.testing.assert_allclose(table.weights, [[1 / 3] * 3], rtol=1e-6)
    table = importance_neighbors(KEY, np.array([2]), visits, 3)
    assert table.ids[0, 0] == 5
    assert set(table.ids[0].tolist()) < {5, 3, 7, 9}
    np.testing.assert_allclose(table.weights, [[4 / 8, 2 / 8, 2 / 8]], rtol=1e-6)


def kept_of_equals(key, seeds):
    """The 4 that are kept of 30 items which are all visited once."""
    visits = np.broadcast_to(np.arange(30, dtype=np.int32), (len(seeds), 30))
    return np.asarray(importance_neighbors(key, seeds, visits, 4).ids)


def test_of_equally_visited_items_each_is_kept_as_often_as_any_other():
    """Over seeds under one key: in every place every item alike, and places are independent."""
    kept = kept_of_equals(KEY, 100 + np.arange(20_000, dtype=np.int32))
    for place in kept.T:
        assert chi_square(np.bincount(place, minlength=30), np.ones(30)) > LEVEL
    pairs = np.zeros((30, 30))
    np.add.at(pairs, (kept[:, 0], kept[:, 1]), 1)
    apart = ~np.eye(30, dtype=bool)
    assert not pairs[~apart].any()
    assert chi_square(pairs[apart], np.ones(870)) > LEVEL


def test_the_order_of_equals_belongs_to_the_key_and_the_seed():
    seeds = np.array([100, 101, 100], np.int32)
    kept = kept_of_equals(KEY, seeds)
    assert (kept[0] == kept[2]).all()
    assert (kept[0] != kept[1]).any()
    assert (kept_of_equals(KEY, seeds[1:])[0] == kept[1]).all()
    assert (kept_of_equals(jax.random.key(1), seeds)[0] != kept[0]).any()


def test_fewer_visits_than_neighbours_are_padded():
    table = importance_neighbors(KEY, np.array([0, 1]), np.array([[2, 2, 1], [1, -1, -1]]), 5)
    assert table.ids.tolist() == [[2, 1, -1, -1, -1], [-1] * 5]
    np.testing.assert_allclose(table.weights, [[2 / 3, 1 / 3, 0, 0, 0], [0] * 5], rtol=1e-6)
    assert (table.ids.dtype, table.weights.dtype) == (jnp.int32, jnp.float32)


@pytest.fixture(scope="module")
def graph():
    """Forty items in a dozen contexts each of which holds seven; item 39 is isolated."""
    rng = np.random.default_rng(1)
    items = np.concatenate([rng.permutation(39)[:7] for _ in range(12)])
    return ItemGraph.from_pairs(
        items, np.repeat(np.arange(12), 7), num_items=40, num_contexts=12, edge_slack=4
    )


def table_of(graph, key=0, **changes):
    return build_table(jax.random.key(key), graph, neighbors=COUNT, config=CONFIG, **changes)


def same(one, other):
    return (one.ids == other.ids).all() and (one.weights == other.weights).all()


def test_a_table_has_the_neighbours_of_every_item(graph):
    table = table_of(graph)
    ids, weights = np.asarray(table.ids), np.asarray(table.weights)
    assert (table.num_rows, ids.shape, weights.shape) == (40, (40, COUNT), (40, COUNT))
    connected = graph.item_degrees() > 0
    np.testing.assert_allclose(weights.sum(axis=1), connected, rtol=1e-6)
    assert (ids[39] == -1).all()
    assert (ids != np.arange(40)[:, None]).all()
    assert ((ids == -1) == (weights == 0)).all()
    assert (np.diff(weights, axis=1) <= 0).all()
    assert not same(table, table_of(graph, key=1))


@pytest.mark.parametrize("rows_at_once", [3, 16])
def test_chunks_do_not_change_a_table(graph, rows_at_once):
    assert same(table_of(graph), table_of(graph, memory_bytes=rows_at_once * ROW_BYTES))


def test_chosen_rows_are_those_of_the_whole(graph):
    whole, rows = table_of(graph), np.array([17, 3, 39, 8, 21])
    chosen = table_of(graph, rows=rows, memory_bytes=3 * ROW_BYTES)
    assert same(chosen, NeighborTable(ids=whole.ids[rows], weights=whole.weights[rows]))
    assert table_of(graph, rows=np.zeros(0, int)).ids.shape == (0, COUNT)


def test_one_program_serves_all_chunks_and_new_items(graph):
    before = walk._cache_size()
    config = WalkConfig(walks=2, length=3)
    for rows in (None, np.arange(5), np.array([39, 2, 7, 4, 30, 11])):
        table = build_table(
            jax.random.key(0), graph, neighbors=2, config=config, rows=rows,
            memory_bytes=4 * 32 * config.visits,
        )  # fmt: skip
    grown = graph.with_items([39], [[0, 1, 1]])
    table = build_table(
        jax.random.key(0), grown, neighbors=2, config=config, memory_bytes=4 * 32 * config.visits
    )
    assert walk._cache_size() == before + 1
    assert (table.ids[39] >= 0).any()


def table_of_rows(*rows):
    """A table from {neighbour: weight} of each item."""
    ids, weights = np.full((len(rows), 3), -1, np.int32), np.zeros((len(rows), 3), np.float32)
    for place, row in enumerate(rows):
        ids[place, : len(row)], weights[place, : len(row)] = list(row), list(row.values())
    return NeighborTable(ids=jnp.asarray(ids), weights=jnp.asarray(weights))


def test_agreement_is_the_weight_that_two_draws_share():
    one = table_of_rows({4: 0.5, 2: 0.25, 7: 0.25}, {1: 0.75, 0: 0.25}, {}, {5: 1.0}, {})
    other = table_of_rows({2: 0.5, 4: 0.3, 9: 0.2}, {6: 1.0}, {3: 1.0}, {}, {})
    # min(.5, .3) + min(.25, .5) and nothing; three items have no neighbours in one of the two.
    assert agreement(one, other) == pytest.approx(0.55 / 2, rel=1e-6)
    assert agreement(other, one) == pytest.approx(0.55 / 2, rel=1e-6)
    assert agreement(one, one) == pytest.approx(1, rel=1e-6)
    nobody = table_of_rows({}, {}, {}, {}, {})
    assert np.isnan(agreement(one, nobody))
    assert np.isnan(agreement(nobody, nobody))


def test_more_visits_agree_more(graph):
    shares = []
    for walks, fan in ((2, 1), (2, 4), (100, 4)):
        config = WalkConfig(walks=walks, length=5, fan=fan)
        one, other = (
            build_table(jax.random.key(key), graph, neighbors=COUNT, config=config)
            for key in (0, 1)
        )
        shares.append(agreement(one, other))
    assert 0 < shares[0] < shares[1] < shares[2] < 1


def test_rows_that_do_not_fit(graph):
    with pytest.raises(InputError, match=r"rows: expected rows in \[0, 40\), got values from -1"):
        table_of(graph, rows=np.array([-1]))


def test_settings_that_do_not_fit(graph):
    with pytest.raises(InputError, match="neighbors: expected at least 1, got 0"):
        importance_neighbors(KEY, np.array([0]), np.zeros((1, 3), np.int32), 0)
    with pytest.raises(InputError, match="neighbors: expected at least 1, got 0"):
        build_table(jax.random.key(0), graph, neighbors=0, config=CONFIG)
    with pytest.raises(InputError, match="visits: expected at most 65,535 a seed, got 65,536"):
        importance_neighbors(KEY, np.array([0]), np.zeros((1, 65_536), np.int32), 2)
    with pytest.raises(InputError, match=r"memory_bytes: expected at least 640, .* got 639"):
        table_of(graph, memory_bytes=ROW_BYTES - 1)
