"""Where nodes lie, and how even their edges are dealt out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AbstractMesh

from lightgcn_jax.data import Interactions, undivided
from lightgcn_jax.graph import training_graph
from lightgcn_jax.sharding import Layout, balanced
from lightgcn_jax.sharding.balance import unevenness


def layout(users, items, shards):
    return Layout(users, items, AbstractMesh((1, shards), ("data", "model")))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9))
def test_every_node_has_a_row_of_its_own_and_shards_hold_equal_parts(users, items, shards):
    of = layout(users, items, shards)
    nodes = np.arange(users + items, dtype=np.int32)
    rows = of.rows(nodes)
    assert len(set(rows.tolist())) == len(nodes)
    assert rows.min() >= 0
    assert rows.max() < of.num_rows == shards * of.rows_a_shard
    np.testing.assert_array_equal(of.is_user(rows), nodes < users)
    # Rows that stand for nobody are fewer than one a shard and side.
    assert of.num_rows - len(nodes) < 2 * shards
    # The order within users and within items stays.
    assert (np.diff(rows[:users]) > 0).all()
    assert (np.diff(rows[users:]) > 0).all()


def test_by_hand():
    of = layout(3, 2, 2)  # two users and an item on each; the last user's row stands for nobody
    assert of.rows(np.arange(5, dtype=np.int32)).tolist() == [0, 1, 3, 2, 5]


@pytest.mark.parametrize("shards", [2, 3, 8])
def test_rows_are_dealt_out_evenly_where_they_are_not(shards):
    """The first users have nearly all interactions."""
    rng = np.random.default_rng(0)
    users = np.minimum((rng.pareto(1.0, 4_000) * 3).astype(int), 200)
    items = rng.integers(0, 97, len(users))
    split = undivided(Interactions.from_arrays(users, items))
    degrees = np.asarray(training_graph(split).items_of_user.lengths())
    assert unevenness(np.sort(degrees)[::-1], shards) > 1.3
    dealt = balanced(split, shards)
    graph = training_graph(dealt)
    assert sorted(dealt.users.ids.to_list()) == sorted(split.users.ids.to_list())
    # No deal can split the user who has most.
    bound = max(1.1, degrees.max() * shards / degrees.sum() + 0.1)
    assert unevenness(np.asarray(graph.items_of_user.lengths()), shards) < bound
    assert unevenness(np.asarray(graph.users_of_item.lengths()), shards) < 1.1


def test_even_rows_stay_where_they_are():
    pairs = np.indices((8, 8)).reshape(2, -1)
    split = undivided(Interactions.from_arrays(*pairs))
    assert balanced(split, 4) is split
