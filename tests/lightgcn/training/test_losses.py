import math

import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.training import bpr_batch_loss, bpr_loss, l2_penalty


def softplus(x):
    return math.log1p(math.exp(x))


USERS = jnp.array([[1.0, 0.0], [0.0, 2.0]])
POSITIVES = jnp.array([[1.0, 1.0], [0.5, 0.5]])
NEGATIVES = jnp.array([[2.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
# score(u, pos) − score(u, neg), by hand.
MARGINS = [[1 - 2, 1 - 0, 1 + 1], [1 - 0, 1 - 2, 1 + 2]]


def test_one_user_is_the_mean_over_valid_negatives():
    valid = jnp.array([True, False, True])
    got = bpr_loss(USERS[0], POSITIVES[0], NEGATIVES, valid)
    np.testing.assert_allclose(got, (softplus(1) + softplus(-2)) / 2, rtol=1e-6)


def test_batch_is_the_mean_over_users_shared_or_not():
    valid = jnp.array([[True, False, True], [True, True, True]])
    first = (softplus(1) + softplus(-2)) / 2
    second = (softplus(-1) + softplus(1) + softplus(-3)) / 3
    ones = jnp.ones(2)
    shared = bpr_batch_loss(USERS, POSITIVES, NEGATIVES, valid, ones)
    np.testing.assert_allclose(shared, (first + second) / 2, rtol=1e-6)
    own = jnp.broadcast_to(NEGATIVES, (2, 3, 2))
    np.testing.assert_allclose(
        bpr_batch_loss(USERS, POSITIVES, own, valid, ones), shared, rtol=1e-6
    )


def test_padding_and_users_without_negatives_are_left_out():
    valid = jnp.array([[False, False, False], [True, True, True]])
    second = (softplus(-1) + softplus(1) + softplus(-3)) / 3
    got = bpr_batch_loss(USERS, POSITIVES, NEGATIVES, valid, jnp.ones(2))
    np.testing.assert_allclose(got, second, rtol=1e-6)
    got = bpr_batch_loss(USERS, POSITIVES, NEGATIVES, jnp.ones((2, 3), bool), jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(got, second, rtol=1e-6)
    assert bpr_batch_loss(USERS, POSITIVES, NEGATIVES, ~jnp.ones((2, 3), bool), jnp.ones(2)) == 0


def test_loss_stays_finite_for_huge_margins():
    value, gradient = jax.value_and_grad(bpr_loss)(
        1e4 * USERS[0], -1e4 * POSITIVES[0], NEGATIVES, jnp.ones(3, bool)
    )
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_l2_counts_all_negatives_as_one():
    # ‖u‖² = 1, 4; ‖pos‖² = 2, 0.5; ‖neg‖² = 4, 1, 2 with mean 7/3.
    expected = 0.5 * (1 + 4 + 2 + 0.5) / 2 + 0.5 * 7 / 3
    ones = jnp.ones(2)
    np.testing.assert_allclose(l2_penalty(USERS, POSITIVES, NEGATIVES, ones), expected, rtol=1e-6)
    own = jnp.broadcast_to(NEGATIVES, (2, 3, 2))
    np.testing.assert_allclose(l2_penalty(USERS, POSITIVES, own, ones), expected, rtol=1e-6)
    first_only = l2_penalty(USERS, POSITIVES, own, jnp.array([1.0, 0.0]))
    np.testing.assert_allclose(first_only, 0.5 * (1 + 2 + 7 / 3), rtol=1e-6)
