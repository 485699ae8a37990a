"""The map of items, against a singular value decomposition and clusters that are known."""

import numpy as np
import pytest

from lightgcn_jax.service.plane import clusters, principal


def test_two_principal_components():
    vectors = np.random.default_rng(0).normal(size=(40, 5)) * [5, 3, 1, 0.5, 0.1]
    places, share = principal(vectors)
    left, values, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    expected = left[:, :2] * values[:2]
    scale = np.abs(expected).max()
    np.testing.assert_allclose(np.abs(places), np.abs(expected) / scale, atol=1e-9)
    assert share == pytest.approx((values[:2] ** 2).sum() / (values**2).sum())


def test_equal_vectors_lie_in_one_place():
    places, share = principal(np.ones((4, 3)))
    assert not places.any()
    assert share == 1


def test_directions_far_apart_are_clusters_of_their_own():
    random = np.random.default_rng(0)
    kinds = np.repeat(np.arange(4), 30)
    vectors = np.eye(4)[kinds] + 0.05 * random.normal(size=(120, 4))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    groups, centres = clusters(unit, 8)
    assert {*groups.tolist()} == {*range(len(centres))}
    # No cluster holds two kinds.
    assert all(len({*kinds[groups == one]}) == 1 for one in range(len(centres)))
    np.testing.assert_allclose(np.linalg.norm(centres, axis=1), 1)
