import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.training.batch import draw_user_positives, edge_users
from tests.lightgcn.laws import GRAPH, LEVEL, SEEN, chi_square


def test_users_are_uniform_and_positives_uniform_within_a_user():
    with_items = jnp.asarray(np.flatnonzero(SEEN.any(axis=1)), jnp.int32)
    users, items = draw_user_positives(jax.random.key(0), GRAPH, with_items, 200_000)
    counts = np.zeros(SEEN.shape)
    np.add.at(counts, (np.asarray(users), np.asarray(items)), 1)
    law = SEEN / np.maximum(SEEN.sum(axis=1, keepdims=True), 1)
    assert chi_square(counts.ravel(), law.ravel()) > LEVEL


def test_edges_know_their_users():
    users = GRAPH.pairs()[0]
    assert edge_users(GRAPH, jnp.arange(GRAPH.num_edges)).tolist() == users.tolist()
