"""Mini-batches: whom they take, in what order, and what fills the last one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightgcn_jax.training import PerUserNegatives, SharedNegatives, edge_users, epoch_shuffle
from lightgcn_jax.training.batch import draw_user_edges
from tests.lightgcn.laws import GRAPH, LEVEL, SEEN, chi_square
from tests.lightgcn.steps import ITEMS, STRATEGIES, USERS, changed, draw, inputs_of

PAIRS = sorted(zip(USERS.tolist(), ITEMS.tolist(), strict=True))


def test_users_are_uniform_and_positives_uniform_within_a_user():
    with_items = jnp.asarray(np.flatnonzero(SEEN.any(axis=1)), jnp.int32)
    users, edges = draw_user_edges(jax.random.key(0), GRAPH, with_items, 200_000)
    items = GRAPH.items_of_user.columns[edges]
    counts = np.zeros(SEEN.shape)
    np.add.at(counts, (np.asarray(users), np.asarray(items)), 1)
    law = SEEN / np.maximum(SEEN.sum(axis=1, keepdims=True), 1)
    assert chi_square(counts.ravel(), law.ravel()) > LEVEL


def test_edges_know_their_users():
    users = GRAPH.pairs()[0]
    assert edge_users(GRAPH, jnp.arange(GRAPH.num_edges)).tolist() == users.tolist()


def test_an_epoch_takes_every_interaction_once_and_pads_the_last_batch():
    inputs, taken = inputs_of(), []
    shuffle = epoch_shuffle(jax.random.key(1), len(PAIRS), STRATEGIES)
    for step in range(-(-len(PAIRS) // STRATEGIES.optimization.batch_size)):
        batch = draw(jax.random.key(step), inputs, shuffle, jnp.int32(step), strategies=STRATEGIES)
        real = np.asarray(batch.weights) > 0
        taken += zip(
            np.asarray(batch.users)[real].tolist(),
            np.asarray(batch.positives)[real].tolist(),
            strict=True,
        )
    assert sorted(taken) == PAIRS
    assert taken != sorted(taken)


@pytest.mark.parametrize("negatives", [SharedNegatives(4), PerUserNegatives(4)])
def test_negatives_are_never_seen_where_valid(negatives):
    strategies = changed(negatives=negatives, optimization={"sampling": "users"})
    shuffle = epoch_shuffle(jax.random.key(0), len(PAIRS), strategies)
    assert not shuffle.size
    batch = draw(
        jax.random.key(0), inputs_of(strategies), shuffle, jnp.int32(0), strategies=strategies
    )
    seen, items = set(PAIRS), np.broadcast_to(np.asarray(batch.negatives), batch.valid.shape)
    for row, user in enumerate(np.asarray(batch.users).tolist()):
        assert (user, int(batch.positives[row])) in seen
        for item, valid in zip(items[row].tolist(), np.asarray(batch.valid)[row], strict=True):
            assert valid == ((user, item) not in seen) or strategies.sampler.per_user
            assert not valid or (user, item) not in seen
