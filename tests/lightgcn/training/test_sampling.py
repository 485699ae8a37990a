import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from lightgcn_jax.training.sampling import (
    draw_shared,
    draw_unseen,
    draw_user_positives,
    edge_users,
    unseen_mask,
)
from tests.lightgcn.oracles import dense_interactions
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of, random_pairs

USERS, ITEMS = random_pairs(0, density=0.4)
GRAPH = graph_of(USERS, ITEMS)
SEEN = dense_interactions(USERS, ITEMS, NUM_USERS, NUM_ITEMS).astype(bool)
# A sound sampler fails a test at this level once in ten thousand seeds; the seeds are fixed.
LEVEL = 1e-4


def chi_square(counts, probabilities):
    expected = np.asarray(probabilities) * np.sum(counts)
    assert not np.asarray(counts)[expected == 0].any()
    wanted = expected > 0
    return scipy.stats.chisquare(np.asarray(counts)[wanted], expected[wanted]).pvalue


def test_users_are_uniform_and_positives_uniform_within_a_user():
    with_items = jnp.asarray(np.flatnonzero(SEEN.any(axis=1)), jnp.int32)
    users, items = draw_user_positives(jax.random.key(0), GRAPH, with_items, 200_000)
    counts = np.zeros(SEEN.shape)
    np.add.at(counts, (np.asarray(users), np.asarray(items)), 1)
    each = np.where(SEEN, 1 / np.maximum(SEEN.sum(axis=1, keepdims=True), 1), 0) / len(with_items)
    assert chi_square(counts.ravel(), each.ravel()) > LEVEL


def test_unseen_items_are_uniform_over_the_complement():
    users = jnp.repeat(jnp.arange(NUM_USERS), 20_000)
    items, valid = draw_unseen(jax.random.key(1), GRAPH, users, 2)
    assert valid.all()
    for user in range(NUM_USERS):
        counts = np.bincount(
            np.asarray(items)[np.asarray(users) == user].ravel(), minlength=NUM_ITEMS
        )
        assert chi_square(counts, ~SEEN[user] / (~SEEN[user]).sum()) > LEVEL


def test_a_user_who_has_seen_everything_has_no_valid_negative():
    graph = graph_of(np.zeros(NUM_ITEMS, int), np.arange(NUM_ITEMS))
    items, valid = draw_unseen(jax.random.key(0), graph, jnp.array([0, 1]), 3)
    assert valid.tolist() == [[False] * 3, [True] * 3]
    assert ((items >= 0) & (items < NUM_ITEMS)).all()


def test_shared_items_are_uniform_and_masked_exactly():
    users = jnp.array([3, 0, 3, 6])
    items, valid = draw_shared(jax.random.key(2), GRAPH, users, 50_000)
    assert (
        chi_square(np.bincount(items, minlength=NUM_ITEMS), np.full(NUM_ITEMS, 1 / NUM_ITEMS))
        > LEVEL
    )
    assert (np.asarray(valid) == ~SEEN[np.asarray(users)[:, None], np.asarray(items)[None]]).all()


@pytest.mark.parametrize("block", [3, 16_384])
def test_unseen_mask_for_repeated_users_and_items(block, monkeypatch):
    monkeypatch.setattr("lightgcn_jax.training.sampling._MASK_BLOCK", block)
    mask = jax.jit(unseen_mask)
    for seed in range(50):
        rng = np.random.default_rng(seed)
        users, items = rng.integers(0, NUM_USERS, 12), rng.integers(0, NUM_ITEMS, 10)
        got = mask(GRAPH, jnp.asarray(users), jnp.asarray(items))
        assert (np.asarray(got) == ~SEEN[users[:, None], items[None]]).all()


def test_unseen_mask_under_vmap():
    rng = np.random.default_rng(0)
    users = jnp.asarray(rng.integers(0, NUM_USERS, (3, 5)))
    items = jnp.asarray(rng.integers(0, NUM_ITEMS, (3, 6)))
    got = jax.vmap(lambda u, i: unseen_mask(GRAPH, u, i))(users, items)
    assert (
        np.asarray(got) == ~SEEN[np.asarray(users)[:, :, None], np.asarray(items)[:, None]]
    ).all()


def test_mask_of_an_empty_graph():
    graph = graph_of(np.zeros(0, int), np.zeros(0, int))
    assert unseen_mask(graph, jnp.array([0, 1]), jnp.array([2])).all()


def test_edges_know_their_users():
    users = GRAPH.pairs()[0]
    assert edge_users(GRAPH, jnp.arange(GRAPH.num_edges)).tolist() == users.tolist()
