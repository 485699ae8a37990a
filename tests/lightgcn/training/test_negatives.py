import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightgcn_jax.errors import InputError
from lightgcn_jax.training import (
    AllItems,
    HardNegatives,
    InBatchNegatives,
    PerUserNegatives,
    SharedNegatives,
    negatives,
)
from lightgcn_jax.training.negatives import (
    all_items,
    draw_per_user,
    draw_shared,
    in_batch,
    log_expected_drawn,
    log_expected_in_batch,
    log_expected_unseen,
    unseen_mask,
)
from lightgcn_jax.training.weighted_draws import item_weights
from tests.lightgcn.laws import DEGREES, GRAPH, LEVEL, SEEN, chi_square, counts_of
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of

shared = jax.jit(draw_shared, static_argnames=("count", "reject_seen"))
per_user = jax.jit(draw_per_user, static_argnames=("count", "reject_seen"))
one_batch = jax.jit(in_batch, static_argnames="reject_seen")
every_item = jax.jit(all_items)
expected_drawn = jax.jit(log_expected_drawn, static_argnames="count")
expected_unseen = jax.jit(log_expected_unseen, static_argnames="count")
expected_in_batch = jax.jit(log_expected_in_batch)
each_draw = pytest.mark.parametrize("draw", [shared, per_user], ids=["shared", "per user"])

USERS = np.int32([3, 0, 3, 6])
POSITIVES = np.int32([2, 5, 8, 6])
DRAWS = 60_000
each_law = pytest.mark.parametrize("beta", [None, 0.75], ids=["uniform", "weighted"])
NOBODYS = int(np.flatnonzero(DEGREES == 0)[0])


def weights_of(beta, graph=GRAPH):
    return None if beta is None else item_weights(graph, beta)


def law_of(beta):
    """What each item weighs, to a part in a million; nobody's item next to nothing."""
    return np.ones(NUM_ITEMS) if beta is None else DEGREES.astype(float) ** beta


def drawable(beta):
    """The law without nobody's item: at a weight of 1 among 2³¹ it never comes."""
    law = law_of(beta)
    return law if beta is None else np.where(DEGREES == 0, 0, law)


@each_law
def test_shared_items_follow_the_law_and_are_masked_exactly(beta):
    key = jax.random.key(2)
    items, valid = shared(key, GRAPH, USERS, DRAWS, weights_of(beta))
    assert chi_square(counts_of(items), drawable(beta)) > LEVEL
    unseen = ~SEEN[USERS[:, None], np.asarray(items)[None]]
    assert (np.asarray(valid) == unseen).all()
    same, own = map(
        np.asarray, shared(key, GRAPH, USERS, DRAWS, weights_of(beta), False, POSITIVES)
    )
    assert (same == np.asarray(items)).all()
    assert (own == (same[None, :] != POSITIVES[:, None])).all()
    assert not own.all()


@each_law
def test_own_items_follow_the_law_over_the_unseen(beta):
    users = np.repeat(np.arange(NUM_USERS, dtype=np.int32), 20_000)
    items, valid = per_user(jax.random.key(1), GRAPH, users, 2, weights_of(beta))
    assert np.asarray(valid).all()
    for user in range(NUM_USERS):
        drawn = np.asarray(items)[users == user]
        law = drawable(beta) * ~SEEN[user]
        # Who has all but nobody's item gets that one, however little it weighs.
        law = law if law.any() else ~SEEN[user]
        assert chi_square(counts_of(drawn), law) > LEVEL


@each_law
def test_own_items_without_rejection_follow_the_law_over_all(beta):
    items, valid = per_user(
        jax.random.key(3), GRAPH, USERS, DRAWS, weights_of(beta), False, POSITIVES
    )
    items, valid = np.asarray(items), np.asarray(valid)
    assert (valid == (items != POSITIVES[:, None])).all()
    for row in items:
        assert chi_square(counts_of(row), drawable(beta)) > LEVEL


@each_draw
def test_without_rejection_the_positives_are_needed(draw):
    with pytest.raises(InputError, match="positives: expected the rows' positives"):
        draw(jax.random.key(0), GRAPH, USERS, 3, reject_seen=False)


@each_law
@each_draw
def test_a_user_who_has_seen_everything_has_no_valid_negative(draw, beta):
    graph = graph_of(np.zeros(NUM_ITEMS, int), np.arange(NUM_ITEMS))
    items, valid = draw(jax.random.key(0), graph, np.int32([0, 1]), 3, weights_of(beta, graph))
    assert valid.tolist() == [[False] * 3, [True] * 3]
    assert ((np.asarray(items) >= 0) & (np.asarray(items) < NUM_ITEMS)).all()


@each_draw
@pytest.mark.parametrize("reject_seen", [True, False])
def test_the_only_item_is_no_negative_of_its_user(draw, reject_seen):
    graph = graph_of([0], [0], num_items=1)
    items, valid = draw(
        jax.random.key(0), graph, np.int32([0]), 3, item_weights(graph, 0.75), reject_seen,
        np.int32([0]),
    )  # fmt: skip
    assert not np.asarray(items).any()
    assert not np.asarray(valid).any()


@each_law
@each_draw
def test_a_graph_without_interactions_has_nothing_to_reject(draw, beta):
    graph = graph_of(np.zeros(0, int), np.zeros(0, int))
    weights = weights_of(beta, graph)
    users = np.int32([0, 1])
    items, valid = draw(jax.random.key(0), graph, users, 5_000, weights)
    assert np.asarray(valid).all()
    assert chi_square(counts_of(items), np.ones(NUM_ITEMS)) > LEVEL


def test_in_batch_negatives_are_the_positives_of_others():
    items, valid = one_batch(GRAPH, USERS, POSITIVES)
    assert np.asarray(items).tolist() == POSITIVES.tolist()
    # User 3 has seen 1, 2, 6 and 8; user 0 has seen 0, 2 and 5; user 6 has seen 2, 6 and 8.
    assert valid.astype(int).tolist() == [[0, 1, 0, 0], [0, 0, 1, 1], [0, 1, 0, 0], [0, 1, 0, 0]]
    _, valid = one_batch(GRAPH, USERS, np.int32([2, 5, 8, 2]), reject_seen=False)
    assert valid.astype(int).tolist() == [[0, 1, 1, 0], [1, 0, 1, 1], [1, 1, 0, 1], [0, 1, 1, 0]]


def test_all_items_are_everything_unseen():
    items, valid = every_item(GRAPH, USERS)
    assert items.tolist() == list(range(NUM_ITEMS))
    assert (np.asarray(valid) == ~SEEN[USERS]).all()


def expected_counts(items, valid, log_expected):
    """Σ over valid draws of 1 / expected count, by item: 1 on average for each that can come."""
    each = np.where(np.asarray(valid), np.exp(-np.asarray(log_expected, np.float64)), 0.0)
    return np.bincount(np.asarray(items).ravel(), each.ravel(), minlength=NUM_ITEMS)


@each_law
def test_expected_counts_of_draws_from_all_items(beta):
    items = np.arange(NUM_ITEMS)
    got = np.exp(expected_drawn(GRAPH, items, 12, weights_of(beta)))
    law = law_of(beta)
    possible = law > 0
    np.testing.assert_allclose(got[possible], 12 * law[possible] / law.sum(), rtol=1e-5)
    if beta is not None:
        total = float(weights_of(beta).cumulative[-1])
        np.testing.assert_allclose(got[NOBODYS], 12 / total, rtol=1e-5)


@each_law
def test_expected_counts_of_draws_from_the_unseen(beta):
    items = np.broadcast_to(np.arange(NUM_ITEMS), (len(USERS), NUM_ITEMS))
    got = np.exp(expected_unseen(GRAPH, USERS, items, 12, weights_of(beta)))
    law = law_of(beta) * ~SEEN[USERS]
    possible = law > 0
    expected = 12 * law / law.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(got[possible], expected[possible], rtol=1e-5)
    everything = graph_of(np.zeros(NUM_ITEMS, int), np.arange(NUM_ITEMS))
    assert np.isfinite(expected_unseen(everything, np.int32([0]), items[:1], 12)).all()


def test_expected_counts_in_a_batch_are_exact():
    """Over all batches of three interactions that hold one of user 3's, by enumeration."""
    users, positives = GRAPH.pairs()
    row = int(np.flatnonzero(users == 3)[0])
    batches = [
        [row, *others]
        for others in itertools.combinations(np.delete(np.arange(GRAPH.num_edges), row), 2)
    ]
    items = positives[np.array(batches)]
    log_expected = expected_in_batch(GRAPH, items.ravel(), 3).reshape(items.shape)
    valid = ~SEEN[3][items]
    mean = expected_counts(items, valid, log_expected) / len(batches)
    np.testing.assert_allclose(mean, ~SEEN[3] & (DEGREES > 0), rtol=1e-5)


@pytest.mark.parametrize("block", [3, 16_384])
def test_unseen_mask_for_repeated_users_and_items(block, monkeypatch):
    monkeypatch.setattr(negatives, "_MASK_BLOCK", block)
    # The block is read while tracing: no compiled function may be shared here.
    mask = jax.jit(lambda users, items: unseen_mask(GRAPH, users, items))
    for seed in range(50):
        rng = np.random.default_rng(seed)
        users, items = rng.integers(0, NUM_USERS, 12), rng.integers(0, NUM_ITEMS, 10)
        got = mask(users, items)
        assert (np.asarray(got) == ~SEEN[users[:, None], items[None]]).all()


@functools.partial(jax.jit, static_argnames="sampler")
def sampled(sampler, prepared, weights):
    return sampler(jax.random.key(5), prepared, USERS, POSITIVES, weights)


def negatives_of(sampler, weights=(1, 1, 1, 1)):
    return sampled(sampler, sampler.prepare(GRAPH), np.float32(weights))


@pytest.mark.parametrize("reject_seen", [True, False])
@pytest.mark.parametrize("sampler", [SharedNegatives, PerUserNegatives])
def test_a_drawing_sampler_knows_its_law(sampler, reject_seen):
    drawn = negatives_of(sampler(5, popularity_power=0.75, reject_seen=reject_seen))
    assert drawn.items.shape == ((4, 5) if sampler is PerUserNegatives else (5,))
    assert drawn.weights is None
    items = np.broadcast_to(drawn.items, drawn.valid.shape)
    users, law = USERS[:, None], law_of(0.75)
    masked = SEEN[users, items] if reject_seen else items == POSITIVES[:, None]
    assert (np.asarray(drawn.valid) == ~masked).all()
    own = reject_seen and sampler is PerUserNegatives
    drawn_from = ~SEEN[users[:, 0]] if own else np.ones((1, NUM_ITEMS))
    total = (law * drawn_from).sum(axis=1, keepdims=True)
    expected = np.broadcast_to(np.exp(drawn.log_expected), items.shape)
    np.testing.assert_allclose(expected, 5 * law[items] / total, rtol=1e-5)


def test_all_items_need_no_correction():
    drawn = negatives_of(AllItems())
    assert drawn.items.tolist() == list(range(NUM_ITEMS))
    assert drawn.log_expected is None
    assert (np.asarray(drawn.valid) == ~SEEN[USERS]).all()


def test_padding_is_nobodys_negative_in_a_batch():
    drawn = negatives_of(InBatchNegatives(), [1, 1, 1, 0])
    assert drawn.weights.tolist() == [1, 1, 1, 0]
    assert drawn.valid.astype(int).tolist() == [
        [0, 1, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 1, 0, 0],
    ]  # fmt: skip
    expected = expected_in_batch(GRAPH, POSITIVES, 3)
    np.testing.assert_allclose(drawn.log_expected, expected, rtol=1e-6)
    whole = negatives_of(InBatchNegatives())
    assert whole.valid.tolist() == one_batch(GRAPH, USERS, POSITIVES)[1].tolist()
    np.testing.assert_allclose(
        whole.log_expected, expected_in_batch(GRAPH, POSITIVES, 4), rtol=1e-6
    )


def test_hard_negatives_are_the_highest_scores_of_a_shared_pool():
    sampler = HardNegatives(2, hard_pool=6)
    drawn = negatives_of(sampler)
    assert drawn.items.shape == (6,)
    assert drawn.log_expected is None
    valid = ~SEEN[USERS[:, None], np.asarray(drawn.items)[None]]
    assert (np.asarray(drawn.valid) == valid).all()
    scores, kept = jax.jit(sampler.chosen)(np.arange(24.0).reshape(4, 6), drawn.valid)
    for row, (found, mask) in enumerate(zip(scores.tolist(), kept.tolist(), strict=True)):
        highest = [6.0 * row + place for place in np.flatnonzero(valid[row])[::-1][:2]]
        assert [score for score, ok in zip(found, mask, strict=True) if ok] == highest


WALKS = [
    (SharedNegatives(2**11), 4, 2**11),
    (SharedNegatives(2**11, popularity_power=0.75), 4, 2**11),
    (HardNegatives(4, hard_pool=2**11), 4, 2**11),
    (InBatchNegatives(), 2**11, 2**11),
    (SharedNegatives(2**11, reject_seen=False), 4, 0),
    (HardNegatives(4, hard_pool=2**11, reject_seen=False), 4, 0),
    (InBatchNegatives(reject_seen=False), 2**11, 0),
    (PerUserNegatives(2**11), 4, 0),
    (AllItems(), 2**11, 0),
]


@pytest.mark.parametrize(("sampler", "batch_size", "walked"), WALKS)
def test_counters_hold_the_users_of_all_items_whose_rows_are_walked(sampler, batch_size, walked):
    """With 2²⁰ users each, 2¹¹ items are one bit too many; with fewer they are not."""
    prepared = sampler.prepare(GRAPH)
    rows, weights = jnp.zeros(batch_size, jnp.int32), jnp.ones(batch_size)

    def draw(longest):
        users_of_item = GRAPH.users_of_item.replace(longest=longest)
        graph = GRAPH.replace(users_of_item=users_of_item)
        of = prepared.replace(graph=graph) if hasattr(prepared, "graph") else graph
        return jax.eval_shape(sampler, jax.random.key(0), of, rows, rows, weights)

    assert draw(2**20 - 9).valid.shape[0] == batch_size
    if walked:
        message = f"negatives: {walked:,} shared items with up to 1,048,576 users each are more"
        with pytest.raises(InputError, match=message):
            draw(2**20)
    else:
        draw(2**20)


@each_draw
def test_draws_under_vmap_are_those_of_each_key(draw):
    keys, weights = jax.random.split(jax.random.key(7), 3), weights_of(0.75)
    together = jax.vmap(lambda key: draw(key, GRAPH, USERS, 5, weights))(keys)
    alone = [draw(key, GRAPH, USERS, 5, weights) for key in keys]
    for part in (0, 1):
        assert together[part].tolist() == [drawn[part].tolist() for drawn in alone]
