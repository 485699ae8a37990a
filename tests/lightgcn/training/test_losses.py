import functools
import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightgcn_jax.training.batch_terms import batch_mean, bpr_all_pairs_loss, hardest, l2_penalty
from lightgcn_jax.training.losses import (
    BPR,
    BilateralSoftmax,
    Binary,
    MaxMargin,
    Softmax,
    bilateral_softmax_loss,
    binary_loss,
    bpr_loss,
    max_margin_loss,
    softmax_loss,
)


def softplus(x):
    return math.log1p(math.exp(x))


NEGATIVES = jnp.array([2.0, 0.0, -1.0])
SOME = jnp.array([True, False, True])
ALL = jnp.ones(3, bool)
LOSSES = {
    "bpr": bpr_loss,
    "binary": binary_loss,
    "softmax": softmax_loss,
    "bilateral-softmax": partial(bilateral_softmax_loss, negative_weight=0.5),
    "max-margin": partial(max_margin_loss, margin=1.0),
}
# Of a positive that scores 1 and the first and third negative, by hand.
BY_HAND = {
    "bpr": (softplus(2 - 1) + softplus(-1 - 1)) / 2,
    "binary": softplus(-1) + (softplus(2) + softplus(-1)) / 2,
    "softmax": -math.log(math.e / (math.e + math.exp(2) + math.exp(-1))),
    "bilateral-softmax": 0.5 * math.log(math.exp(2) + math.exp(-1)) - 1,
    "max-margin": ((2 - 1 + 1) + 0) / 2,
}
each_loss = pytest.mark.parametrize("name", LOSSES)


@functools.cache
def with_gradients(name):
    return jax.jit(jax.value_and_grad(LOSSES[name], argnums=(0, 1)))


# Of a batch, compiled once for each loss and shape.
mean_of = jax.jit(batch_mean, static_argnums=0)
mean_with_gradient = jax.jit(jax.value_and_grad(batch_mean, argnums=(1, 2)), static_argnums=0)
softmax = jax.jit(softmax_loss)
each_bpr = jax.jit(jax.vmap(bpr_loss))


@each_loss
def test_one_row_by_hand(name):
    got, _ = with_gradients(name)(jnp.float32(1.0), NEGATIVES, SOME)
    np.testing.assert_allclose(got, BY_HAND[name], rtol=1e-6)


@each_loss
def test_what_is_not_valid_has_no_influence(name):
    loss = with_gradients(name)
    positive = jnp.float32(1.0)
    value, (_, gradient) = loss(positive, NEGATIVES, SOME)
    other, _ = loss(positive, NEGATIVES.at[1].set(50.0), SOME)
    assert value == other
    assert gradient[1] == 0
    assert (gradient[jnp.array([0, 2])] != 0).any()


@each_loss
def test_values_and_gradients_stay_finite(name):
    loss = with_gradients(name)
    for positive, scale in ((1e4, -1e4), (-1e4, 1e4), (0.0, 0.0)):
        for valid in (ALL, SOME, ~ALL):
            value, gradients = loss(jnp.float32(positive), scale + NEGATIVES, valid)
            assert np.isfinite(value)
            assert all(np.isfinite(gradient).all() for gradient in gradients)


@each_loss
def test_a_better_margin_never_costs_more(name):
    loss = with_gradients(name)
    values = [float(loss(jnp.float32(p), NEGATIVES, SOME)[0]) for p in (-3.0, 0.0, 1.0, 6.0)]
    assert values == sorted(values, reverse=True)
    assert values[0] > values[-1]


POSITIVES = jnp.array([1.0, 1.0, 0.5])
ROWS = jnp.array([[2.0, 0.0, -1.0], [0.0, 2.0, -3.0], [1.0, 0.0, 0.0]])
VALID = jnp.array([[True, False, True], [True, True, True], [False, False, False]])


@each_loss
def test_the_batch_is_the_weighted_mean_of_the_rows_that_count(name):
    first, second = (with_gradients(name)(POSITIVES[i], ROWS[i], VALID[i])[0] for i in (0, 1))
    mean = partial(mean_of, LOSSES[name], POSITIVES, ROWS)
    # The third row has no valid negative; a weight of 0 is padding.
    np.testing.assert_allclose(mean(VALID, jnp.ones(3)), (first + second) / 2, rtol=1e-6)
    np.testing.assert_allclose(mean(VALID, jnp.array([0.0, 1, 1])), second, rtol=1e-6)
    weighted = mean(VALID, jnp.array([0.1, 0.3, 5.0]))
    np.testing.assert_allclose(weighted, 0.25 * first + 0.75 * second, rtol=1e-6)
    assert mean(jnp.zeros((3, 3), bool), jnp.ones(3)) == 0
    assert mean(VALID, jnp.zeros(3)) == 0


def test_the_correction_is_shared_or_a_row_each():
    ones, correction = jnp.ones(3), jnp.array([0.5, -1.0, 2.0])
    shared = mean_of(softmax_loss, POSITIVES, ROWS, VALID, ones, correction)
    by_hand = [
        math.log1p(math.exp(2 - 0.5 - 1) + math.exp(-1 - 2 - 1)),
        math.log1p(math.exp(0 - 0.5 - 1) + math.exp(2 + 1 - 1) + math.exp(-3 - 2 - 1)),
    ]
    np.testing.assert_allclose(shared, sum(by_hand) / 2, rtol=1e-6)
    own = mean_of(softmax_loss, POSITIVES, ROWS, VALID, ones, jnp.tile(correction, (3, 1)))
    np.testing.assert_allclose(own, shared, rtol=1e-6)
    assert abs(shared - mean_of(softmax_loss, POSITIVES, ROWS, VALID, ones)) > 0.1


def test_all_items_as_negatives_are_the_full_softmax():
    scores = np.random.default_rng(0).normal(size=6)
    seen = np.array([True, False, False, True, False, False])
    candidates = np.exp(scores) * (~seen | (np.arange(6) == 3))
    for log_expected in (None, jnp.zeros(6)):
        got = softmax(jnp.float32(scores[3]), jnp.float32(scores), jnp.asarray(~seen), log_expected)
        np.testing.assert_allclose(got, -np.log(candidates[3] / candidates.sum()), rtol=1e-6)


def test_the_corrected_sum_is_unbiased():
    """Over all draws of M = 3 from four items, item 1 seen, each weighed by its probability."""
    scores, law = np.array([0.3, 2.0, -1.0, 0.8]), np.array([0.5, 0.2, 0.1, 0.2])
    seen = np.array([False, True, False, False])
    draws = np.array(list(itertools.product(range(4), repeat=3)))
    with jax.enable_x64(True):
        each = jax.jit(jax.vmap(softmax_loss, in_axes=(None, 0, 0, 0)))
        losses = each(0.4, scores[draws], ~seen[draws], np.log(3 * law)[draws])
        # The sum over the negatives, out of log(1 + sum / exp p).
        sums = np.expm1(np.asarray(losses)) * np.exp(0.4)
    expected = (law[draws].prod(axis=1) * sums).sum()
    np.testing.assert_allclose(expected, np.exp(scores)[~seen].sum(), rtol=1e-12)


def test_a_large_sample_with_correction_is_the_full_softmax():
    rng = np.random.default_rng(1)
    scores, law = rng.normal(size=20), rng.dirichlet(np.ones(20))
    drawn = rng.choice(20, 200_000, p=law)
    full = math.log1p(np.exp(scores - 0.7).sum())
    arguments = jnp.float32(0.7), jnp.float32(scores[drawn]), jnp.ones(len(drawn), bool)
    got = softmax(*arguments, jnp.float32(np.log(len(drawn) * law[drawn])))
    np.testing.assert_allclose(got, full, rtol=0.02)


SCORES = np.random.default_rng(2).normal(size=(5, 6))
# None, some, everything: the second and the fourth user have no pair.
_ROWS = ["x.x..x", "......", ".....x", "xxxxxx", "xx.xxx"]
SEEN = np.array([[mark == "x" for mark in row] for row in _ROWS])


def all_pairs(scores, interactions):
    """The double sum, from its definition."""
    users = []
    for row, mask in zip(scores, interactions, strict=True):
        pairs = [
            softplus(row[j] - row[i]) for i in np.nonzero(mask)[0] for j in np.nonzero(~mask)[0]
        ]
        if pairs:
            users.append(sum(pairs) / len(pairs))
    return sum(users) / len(users)


def test_all_pairs_are_the_double_sum():
    with jax.enable_x64(True):
        exact = jax.jit(jax.value_and_grad(bpr_all_pairs_loss))
        got, _ = exact(jnp.asarray(SCORES), jnp.asarray(SEEN))
        np.testing.assert_allclose(got, all_pairs(SCORES, SEEN), rtol=1e-12)
        for nothing in (np.zeros_like(SEEN), np.ones_like(SEEN)):
            value, gradient = exact(jnp.asarray(SCORES), jnp.asarray(nothing))
            assert value == 0
            assert not gradient.any()


def test_mini_batch_of_every_interaction_with_all_items_is_all_pairs():
    """Value and gradient, with each interaction weighed by 1 / |N_u|."""
    users, items = np.nonzero(SEEN)
    weights = 1 / SEEN.sum(axis=1)[users]

    def of_batch(scores):
        rows = scores[users]
        return batch_mean(
            bpr_loss, scores[users, items], rows, jnp.asarray(~SEEN[users]), jnp.asarray(weights)
        )

    with jax.enable_x64(True):
        value, gradient = jax.jit(jax.value_and_grad(of_batch))(jnp.asarray(SCORES))
        exact = jax.jit(jax.value_and_grad(bpr_all_pairs_loss))(
            jnp.asarray(SCORES), jnp.asarray(SEEN)
        )
        np.testing.assert_allclose(value, exact[0], rtol=1e-12)
        np.testing.assert_allclose(gradient, exact[1], rtol=1e-10, atol=1e-15)


def test_sampled_bpr_is_all_pairs_on_average():
    """Over every positive and all draws of two unseen items, for each user with both."""
    means = []
    for user in np.flatnonzero(SEEN.any(axis=1) & ~SEEN.all(axis=1)):
        unseen = np.flatnonzero(~SEEN[user])
        positives = SCORES[user][SEEN[user]]
        draws = SCORES[user][np.array(list(itertools.product(unseen, repeat=2)))]
        with jax.enable_x64(True):
            both = itertools.product(positives, draws)
            own, others = (np.array(side) for side in zip(*both, strict=True))
            rows = each_bpr(own, others, np.ones(others.shape, bool))
            means.append(np.asarray(rows).mean())
    np.testing.assert_allclose(np.mean(means), all_pairs(SCORES, SEEN), rtol=1e-12)


def test_a_masked_draw_from_all_items_is_a_draw_from_the_unseen():
    """Over all shared draws of three items of which one at least counts, for one user."""
    draws = np.array(list(itertools.product(range(6), repeat=3)))
    valid = ~SEEN[0][draws]
    with jax.enable_x64(True):
        losses = each_bpr(np.full(len(draws), SCORES[0, 0]), SCORES[0][draws], valid)
        mean = np.asarray(losses)[valid.any(axis=1)].mean()
    exact = np.mean([softplus(SCORES[0, j] - SCORES[0, 0]) for j in np.flatnonzero(~SEEN[0])])
    np.testing.assert_allclose(mean, exact, rtol=1e-12)


class TestTwoUsersWhoRankPerfectly:
    """Both put their positive above every negative, so Recall@1 is 1, on scales far apart: one
    user's negatives score above the other's positive. BPR is content, the binary loss is not."""

    positives = np.float32([10, -5])
    negatives = np.float32([[5, 5], [-10, -10]])
    valid = np.ones((2, 2), bool)
    # Moves each user's scores so that both have 2.5 and −2.5.
    moves = np.float32([-7.5, 7.5])

    def loss(self, loss, moves):
        """The loss where each user's scores are moved, and its derivative by the move."""
        scores = self.positives + moves, self.negatives + moves[:, None]
        value, slopes = mean_with_gradient(loss, *scores, self.valid, np.ones(2, np.float32))
        return value, slopes[0] + slopes[1].sum(axis=1)

    def test_the_ranking_is_perfect_and_the_scales_overlap(self):
        assert (self.positives > self.negatives.max(axis=1)).all()
        assert self.negatives[0].min() > self.positives[1]

    def test_binary_punishes_and_wants_to_move_a_users_scores(self):
        value, gradient = self.loss(binary_loss, np.zeros(2, np.float32))
        # softplus(−10) + softplus(5) for either user: 0.00005 + 5.00672.
        np.testing.assert_allclose(value, softplus(-10) + softplus(5), rtol=1e-6)
        assert value > 5
        # (σ(5) − σ(−10)) / 2 = 0.49663 a user: down with the first, up with the second.
        step = (1 / (1 + math.exp(-5)) - 1 / (1 + math.exp(10))) / 2
        np.testing.assert_allclose(gradient, [step, -step], rtol=1e-5)
        moved, _ = self.loss(binary_loss, self.moves)
        np.testing.assert_allclose(moved, 2 * softplus(-2.5), rtol=1e-5)
        assert moved < 0.16

    @pytest.mark.parametrize("loss", [bpr_loss, softmax_loss])
    def test_ranking_losses_are_content_and_blind_to_the_scale(self, loss):
        value, gradient = self.loss(loss, np.zeros(2, np.float32))
        assert value < 0.014
        np.testing.assert_allclose(gradient, 0, atol=1e-8)
        np.testing.assert_allclose(self.loss(loss, self.moves)[0], value, rtol=1e-5)
        np.testing.assert_allclose(self.loss(bpr_loss, self.moves)[0], softplus(-5), rtol=1e-5)


def test_the_hardest_are_the_largest_valid_scores():
    pool = jnp.array([[3.0, 9.0, 1.0, 4.0], [0.0, 5.0, -2.0, 5.0], [1.0, 2.0, 3.0, 4.0]])
    valid = jnp.array([[1, 0, 1, 1], [0, 0, 1, 0], [0, 0, 0, 0]], bool)
    scores, kept = jax.jit(hardest, static_argnums=2)(pool, valid, 2)
    assert kept.tolist() == [[True, True], [True, False], [False, False]]
    assert scores[0].tolist() == [4.0, 3.0]
    assert scores[1, 0] == -2.0
    assert np.isfinite(scores).all()


def test_gradients_flow_through_the_hardest_alone():
    pool = jnp.array([[3.0, 9.0, 1.0, 4.0], [0.0, 5.0, -2.0, 6.0]])
    valid = jnp.array([[1, 0, 1, 1], [1, 1, 1, 1]], bool)

    def of_pool(pool):
        return batch_mean(bpr_loss, jnp.zeros(2), *hardest(pool, valid, 2), jnp.ones(2))

    gradient = jax.jit(jax.grad(of_pool))(pool)
    # Two rows, two negatives each: σ(n) / 4.
    expected = np.where([[1, 0, 0, 1], [0, 1, 0, 1]], 1 / (1 + np.exp(-np.asarray(pool))) / 4, 0)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)


USER_ROWS = np.float32([[1, 0], [0, 2]])
POSITIVE_ROWS = np.float32([[1, 1], [0.5, 0.5]])
NEGATIVE_ROWS = np.float32([[2, 0], [0, 1], [-1, -1]])
penalty = jax.jit(l2_penalty)


def test_l2_counts_all_negatives_as_one():
    # ‖u‖² = 1, 4; ‖pos‖² = 2, 0.5; ‖neg‖² = 4, 1, 2 with mean 7/3.
    expected = 0.5 * (1 + 4 + 2 + 0.5) / 2 + 0.5 * 7 / 3
    ones = np.ones(2, np.float32)
    shared = penalty(USER_ROWS, POSITIVE_ROWS, NEGATIVE_ROWS, ones)
    np.testing.assert_allclose(shared, expected, rtol=1e-6)
    own = np.broadcast_to(NEGATIVE_ROWS, (2, 3, 2))
    np.testing.assert_allclose(penalty(USER_ROWS, POSITIVE_ROWS, own, ones), expected, rtol=1e-6)
    first_only = penalty(USER_ROWS, POSITIVE_ROWS, own, np.float32([1, 0]))
    np.testing.assert_allclose(first_only, 0.5 * (1 + 2 + 7 / 3), rtol=1e-6)


def test_l2_leaves_out_shared_negatives_that_are_padding():
    weights, of_items = np.float32([1, 0]), np.float32([1, 0, 1])
    found = penalty(USER_ROWS, POSITIVE_ROWS, NEGATIVE_ROWS, weights, of_items)
    np.testing.assert_allclose(found, 0.5 * (1 + 2 + (4 + 2) / 2), rtol=1e-6)
    assert penalty(USER_ROWS, POSITIVE_ROWS, NEGATIVE_ROWS, 0 * weights, 0 * of_items) == 0


@pytest.mark.parametrize("loss", [BPR, Binary, Softmax])
def test_scores_are_divided_by_the_temperature(loss):
    positive, negatives = np.float32(1), np.asarray(NEGATIVES)
    arguments = positive / np.float32(0.5), negatives / np.float32(0.5), np.asarray(SOME)
    functions = {BPR: bpr_loss, Binary: binary_loss, Softmax: softmax_loss}
    one_row = jax.jit(lambda loss, *row: loss(*row), static_argnums=0)
    expected = one_row(functions[loss], *arguments)
    found = one_row(loss(temperature=0.5), positive, negatives, np.asarray(SOME))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    plain = one_row(loss(), positive, negatives, np.asarray(SOME))
    np.testing.assert_allclose(plain, BY_HAND[loss.__name__.lower()], rtol=1e-6)


def test_values_take_the_correction_and_the_margin():
    log_expected = np.float32([0.5, -1, 2])
    row = np.float32(1), np.asarray(NEGATIVES), np.ones(3, bool)
    found = jax.jit(Softmax(temperature=0.5))(*row, log_expected)
    terms = np.exp((np.asarray(NEGATIVES) - 1) / 0.5 - log_expected)
    np.testing.assert_allclose(found, math.log1p(terms.sum()), rtol=1e-6)
    found = jax.jit(BilateralSoftmax(temperature=0.5, negative_weight=0.5))(*row)
    expected = 0.5 * math.log(np.exp(np.asarray(NEGATIVES) / 0.5).sum()) - 1 / 0.5
    np.testing.assert_allclose(found, expected, atol=1e-6)
    found = jax.jit(MaxMargin(margin=1.0))(row[0], row[1], np.asarray(SOME))
    np.testing.assert_allclose(found, BY_HAND["max-margin"], rtol=1e-6)
