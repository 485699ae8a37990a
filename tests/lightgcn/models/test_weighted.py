"""Models without epochs on weighted interactions: each formula with the weights in R."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightgcn_jax.errors import InputError
from lightgcn_jax.models import GNN, Filter, GfCf, ItemCf, Popular, Random, Spectral
from lightgcn_jax.models.itemcf import nearest_items
from lightgcn_jax.models.responses import chebycf
from tests.lightgcn.oracles import dense_interactions
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of, random_pairs, random_weights

KEY = jax.random.key(0)
EVERYBODY = np.arange(NUM_USERS, dtype=np.int32)
# Connected, and without repeated singular values.
PAIRS = random_pairs(3)
WEIGHTS = random_weights(len(PAIRS[0]))
GRAPH = graph_of(*PAIRS, weights=WEIGHTS)
R = dense_interactions(*PAIRS, NUM_USERS, NUM_ITEMS, WEIGHTS)
ONES = graph_of(*PAIRS, weights=np.ones(len(WEIGHTS), np.float32))

scores_of = jax.jit(lambda model, rows: model.scores(rows))


def powers(degrees, power):
    return np.where(degrees > 0, degrees, 1.0) ** power


def block(user_power=0.5):
    users, items = powers(R.sum(axis=1), -user_power), powers(R.sum(axis=0), user_power - 1)
    return users[:, None] * R * items


def low_pass(matrix, rank):
    _, values, right = np.linalg.svd(matrix)
    leading = right[:rank][values[:rank] > 1e-9]
    return leading.T @ leading


def test_gf_cf():
    """R (R̃ᵀR̃ + w D_I^-½ V Vᵀ D_I^½)."""
    model = GfCf(singular_vectors=3, low_pass_weight=0.4, svd_iterations=60).fit(GRAPH, KEY)
    matrix, root = block(), np.diag(powers(R.sum(axis=0), 0.5))
    ideal = np.linalg.inv(root) @ low_pass(matrix, 3) @ root
    expected = R @ (matrix.T @ matrix + 0.4 * ideal)
    np.testing.assert_allclose(scores_of(model, EVERYBODY).T, expected, rtol=1e-3, atol=1e-4)


def test_a_filter():
    """[R D^-β p(P) + α R D^-γ V Vᵀ D^(γ−β)] D^β."""
    settings = {"polynomial_degree": 3, "flatness": 1.0, "low_pass_rank": 3, "low_pass_gain": 0.3}
    model = Filter(**settings, item_power=0.3, low_pass_power=0.5, user_power=0.4).fit(GRAPH, KEY)
    matrix = block(0.4)
    p, degrees = matrix.T @ matrix, R.sum(axis=0)
    terms = [np.eye(NUM_ITEMS), 2 * p - np.eye(NUM_ITEMS)]
    coefficients = chebycf(3, 1.0).interactions
    while len(terms) < len(coefficients):
        terms.append(2 * terms[1] @ terms[-1] - terms[-2])
    polynomial = sum(c * term for c, term in zip(coefficients, terms, strict=True))
    beta, gamma = np.diag(powers(degrees, 0.3)), np.diag(powers(degrees, 0.5))
    back, ahead = np.linalg.inv(beta), np.linalg.inv(gamma)
    passed = ahead @ low_pass(matrix, 3) @ gamma @ back
    expected = R @ (back @ polynomial + 0.3 * passed) @ beta
    np.testing.assert_allclose(scores_of(model, EVERYBODY).T, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(model.signals(jnp.asarray(EVERYBODY)).T, R.astype(np.float32))


def test_item_cosine():
    lengths = np.linalg.norm(R, axis=1)
    columns = R / np.where(lengths > 0, lengths, 1)[:, None]
    norms = np.linalg.norm(columns, axis=0)
    columns = columns / np.where(norms > 0, norms, 1)
    cosines = columns.T @ columns
    np.fill_diagonal(cosines, 0)
    model = ItemCf(NUM_ITEMS).fit(GRAPH, KEY)
    np.testing.assert_allclose(scores_of(model, EVERYBODY).T, R @ cosines, rtol=1e-5, atol=1e-6)
    users, items = (grid.ravel() for grid in np.indices((NUM_USERS, NUM_ITEMS), np.int32))
    found = model.pair_scores(jnp.asarray(users), jnp.asarray(items))
    np.testing.assert_allclose(found, (R @ cosines).ravel(), rtol=1e-5, atol=1e-6)


def test_popularity_and_singular_vectors():
    popular = Popular().fit(GRAPH, KEY)
    np.testing.assert_allclose(popular.popularity, R.sum(axis=0), rtol=1e-6)
    spectral = Spectral(dim=NUM_USERS, svd_iterations=60).fit(GRAPH, KEY)
    expected = block() * powers(R.sum(axis=0), 0.5)
    np.testing.assert_allclose(spectral.queries @ np.asarray(spectral.items).T, expected, atol=1e-4)


MODELS = {
    "gfcf": GfCf(singular_vectors=3),
    "filter": Filter(low_pass_rank=3),
    "itemcf": ItemCf(4),
    "popular": Popular(),
    "spectral": Spectral(dim=3),
    "random": Random(),
}


@pytest.mark.parametrize("name", MODELS)
def test_weights_of_one_are_no_weights_bit_for_bit(name):
    plain, ones = (MODELS[name].fit(graph, KEY) for graph in (graph_of(*PAIRS), ONES))
    np.testing.assert_array_equal(scores_of(plain, EVERYBODY), scores_of(ones, EVERYBODY))


def test_weights_of_one_find_the_same_neighbours():
    for plain, ones in zip(nearest_items(graph_of(*PAIRS), 4), nearest_items(ONES, 4), strict=True):
        np.testing.assert_array_equal(plain, ones)


def test_a_largest_message_takes_no_weights():
    with pytest.raises(InputError, match="aggregate: max takes no weights"):
        GNN(4, layers=1, aggregate="max").operator_of(GRAPH)
    mean = GNN(4, layers=1, aggregate="mean").operator_of(GRAPH)
    np.testing.assert_allclose(
        mean.materialise()[:NUM_USERS, NUM_USERS:],
        R * powers(R.sum(axis=1), -1.0)[:, None],
        rtol=1e-5,
    )
