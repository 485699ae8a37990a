import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

from lightgcn_jax.errors import InputError
from pinsage_jax.negatives.distance_weighted import (
    _shares,
    draw_distance_weighted,
    log_density,
    log_weights,
    unit_distances,
)

draw = jax.jit(draw_distance_weighted, static_argnums=3)


def on_sphere(rng, count, dim):
    points = rng.normal(size=(count, dim))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def density(d, dim):
    return d ** (dim - 2) * (1 - d**2 / 4) ** ((dim - 3) / 2)


@pytest.mark.parametrize("dim", [3, 8, 64])
def test_the_density_is_that_of_the_paper(dim):
    distances = np.linspace(0.1, 1.9, 7)
    expected = np.log(density(distances, dim))
    np.testing.assert_allclose(log_density(distances, dim), expected, rtol=1e-5, atol=1e-4)


def test_the_density_is_that_of_random_points():
    rng = np.random.default_rng(0)
    points = on_sphere(rng, 200_000, 8)
    distances = np.linalg.norm(points[::2] - points[1::2], axis=1)
    edges = np.linspace(0, 2, 11)
    counts, _ = np.histogram(distances, edges)
    whole = scipy.integrate.quad(density, 0, 2, args=(8,))[0]
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        expected = 100_000 * scipy.integrate.quad(density, low, high, args=(8,))[0] / whole
        assert abs(count - expected) < 4 * np.sqrt(expected) + 1


def test_weights_are_clipped_below_and_end_above():
    distances = np.array([0.0, 0.3, 0.5, 0.9, 1.4, 1.41, 2.0])
    expected = [1, 1, 1, density(0.5, 8) / density(0.9, 8), density(0.5, 8) / density(1.4, 8), 0, 0]
    np.testing.assert_allclose(np.exp(log_weights(distances, 8)), expected, rtol=1e-4)
    shares = _shares(log_weights(distances, 8))
    np.testing.assert_allclose(shares, np.array(expected) / np.sum(expected), rtol=1e-4)


def test_weights_in_many_dimensions_do_not_vanish():
    """The largest of a row is e^-150 of λ, below what float32 holds."""
    distances = np.array([[1.1, 1.2, 1.3], [1.6, 1.7, 1.8]])
    shares = np.asarray(_shares(log_weights(distances, 256)))
    law = density(0.5, 256) / density(distances[0], 256)
    np.testing.assert_allclose(shares[0], law / law.sum(), rtol=1e-3)
    assert (shares[1] == 0).all()
    assert log_weights(1.1, 256) < -150


def test_distances_drawn_on_a_sphere_are_uniform():
    rng = np.random.default_rng(1)
    queries, points = on_sphere(rng, 32, 8), on_sphere(rng, 100_000, 8)
    drawn = np.asarray(draw(jax.random.key(0), queries, points, 2_000))
    assert (drawn >= 0).all()
    distances = np.linalg.norm(queries[:, None] - points[drawn], axis=2)
    assert distances.max() <= 1.4 + 1e-5
    near = distances < 0.5
    counts, _ = np.histogram(distances[~near], np.linspace(0.5, 1.4, 10))
    # The candidates' own fluctuation comes on top of that of the draws.
    np.testing.assert_allclose(counts / counts.mean(), 1, atol=0.04)
    # Clipped weights leave what is nearer to its own density: ∫ q / q(0.5) against the 0.9 above.
    clipped = scipy.integrate.quad(density, 0, 0.5, args=(8,))[0] / density(0.5, 8)
    np.testing.assert_allclose(near.mean(), clipped / (clipped + 0.9), rtol=0.1)


def test_uniform_draws_would_be_far_away():
    rng = np.random.default_rng(2)
    distances = unit_distances(on_sphere(rng, 50, 8), on_sphere(rng, 400, 8))
    assert np.mean(np.asarray(distances) > 1.1) > 0.75


def test_draws_follow_the_shares_of_the_candidates():
    """Candidates at distances on both sides of the limits, drawn 20,000 times."""
    wanted = np.array([0.2, 0.7, 1.0, 1.39, 1.5])
    angles = 2 * np.arcsin(wanted / 2)
    points = np.zeros((5, 8), np.float32)
    points[:, 0], points[:, 1] = np.cos(angles), np.sin(angles)
    query = np.eye(8, dtype=np.float32)[:1]
    valid = np.array([[True, True, True, True, True], [False, True, True, True, True]])
    drawn = np.asarray(
        draw(jax.random.key(3), np.repeat(query, 2, axis=0), points, 20_000, jnp.asarray(valid))
    )
    law = 1 / np.maximum(density(wanted, 8), density(0.5, 8)) * (wanted <= 1.4)
    for row, allowed in zip(drawn, valid, strict=True):
        expected = law * allowed / (law * allowed).sum()
        found = np.bincount(row, minlength=5) / 20_000
        assert (np.abs(found - expected) <= 4 * np.sqrt(expected * (1 - expected) / 20_000)).all()


def test_nothing_near_enough_or_valid_is_nothing():
    query = np.eye(4, dtype=np.float32)[:1]
    opposite = -np.repeat(query, 3, axis=0)
    assert draw(jax.random.key(0), query, opposite, 2).tolist() == [[-1, -1]]
    nobody = jnp.zeros((1, 3), bool)
    assert draw(jax.random.key(0), query, -opposite, 2, nobody).tolist() == [[-1, -1]]


def test_no_gradient_flows_through_the_choice():
    """A score of what was chosen has the gradient that it has of fixed places."""
    rng = np.random.default_rng(0)
    query, points = jnp.asarray(on_sphere(rng, 1, 8)), jnp.asarray(on_sphere(rng, 50, 8))

    def chosen(query, points):
        return draw_distance_weighted(jax.random.key(0), query, points, 5)[0]

    def score(query, points, places):
        return (points[places] @ query[0]).sum()

    fixed = chosen(query, points)
    assert (fixed >= 0).all()
    through = jax.grad(lambda *given: score(*given, chosen(*given)), argnums=(0, 1))(query, points)
    expected = jax.grad(score, argnums=(0, 1))(query, points, fixed)
    jax.tree.map(np.testing.assert_array_equal, through, expected)
    np.testing.assert_allclose(through[0][0], points[fixed].sum(axis=0), rtol=1e-6)


@pytest.mark.parametrize("limits", [(0, 1.4), (1.4, 0.5), (0.5, 2)])
def test_limits_are_in_order(limits):
    with pytest.raises(InputError, match="low and high: expected 0 < low < high < 2"):
        log_weights(1.0, 8, *limits)


def test_a_circle_is_no_sphere():
    with pytest.raises(InputError, match="dim: expected 3 or more dimensions, got 2"):
        log_weights(1.0, 2)
