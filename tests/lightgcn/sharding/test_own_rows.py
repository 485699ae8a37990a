"""Parts of a graph on a mesh, each made of its own rows; rows dealt out so that parts are even."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AbstractMesh

from lightgcn_jax.graph import BipartiteGraph
from lightgcn_jax.graph.normalization import NormalizedAdjacency, normalized_adjacency
from lightgcn_jax.graph.ordering import dealt
from lightgcn_jax.sharding import Layout
from lightgcn_jax.sharding.own_rows import part_of_shard, rows_sent


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(1, 9))
def test_rows_are_dealt_out_once_and_parts_of_one_are_by_degree(degrees, parts):
    order = dealt(np.array(degrees), parts)
    assert sorted(order.tolist()) == list(range(len(degrees)))
    by_degree = np.argsort(-np.array(degrees), kind="stable")
    np.testing.assert_array_equal(dealt(np.array(degrees), 1), by_degree)


def damaged_elsewhere(graph, of, shard):
    """The graph with nonsense in all rows but those of a shard."""
    sides = []
    for rows, (start, stop, _), first in zip(
        (graph.items_of_user, graph.users_of_item), of.nodes_of(shard), (0, of.num_users),
        strict=True,
    ):  # fmt: skip
        offsets, columns = np.asarray(rows.offsets), np.full(graph.num_edges, -7, np.int32)
        here = slice(offsets[start - first], offsets[stop - first])
        columns[here] = np.asarray(rows.columns)[here]
        sides.append(rows.replace(columns=columns))
    return BipartiteGraph(*sides, graph.num_users, graph.num_items, graph.num_edges)


@pytest.mark.parametrize("normalization", ["symmetric", "row"])
@pytest.mark.parametrize("shards", [2, 3])
def test_a_shard_is_made_from_its_own_rows_alone_and_knows_what_others_read(normalization, shards):
    rng = np.random.default_rng(shards)
    pairs = np.divmod(rng.permutation(23 * 17)[:90], 17)
    graph, of = (
        BipartiteGraph.from_pairs(*pairs, num_users=23, num_items=17),
        Layout(23, 17, AbstractMesh((1, shards), ("data", "model"))),
    )
    whole = np.zeros((of.num_rows, of.num_rows))
    rows = of.rows(np.arange(40, dtype=np.int32))
    whole[np.ix_(rows, rows)] = normalized_adjacency(graph, normalization).as_scipy().toarray()
    each, parts = of.rows_a_shard, []
    for shard in range(shards):
        matrix = NormalizedAdjacency(damaged_elsewhere(graph, of, shard), normalization)
        parts.append(part_of_shard(matrix, of, shard))
        expected = whole[shard * each : (shard + 1) * each]
        np.testing.assert_array_equal(parts[-1].toarray(), expected)
    for sender in range(shards):
        sent = rows_sent(parts[sender], shards, each)
        for receiver in range(shards):
            block = parts[receiver][:, sender * each : (sender + 1) * each]
            read = np.unique(block.indices)
            np.testing.assert_array_equal(sent[receiver, : len(read)], read)
            assert not sent[receiver, len(read) :].any()
