"""Filters' scores for newcomers against graphs that hold one row more."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightgcn_jax.graph import csr_rows
from lightgcn_jax.models import Filter, GfCf
from tests.lightgcn.oracles import dense_interactions
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of, random_pairs, random_weights

KEY = jax.random.key(0)
# The last item has no user but newcomers.
PAIRS = tuple(
    column[column_of != NUM_ITEMS - 1]
    for column in random_pairs(3)
    for column_of in [random_pairs(3)[1]]
)
R = dense_interactions(*PAIRS, NUM_USERS, NUM_ITEMS)
LISTS = [[0, 3, 4], [8], [1, 2, 6, 8], []]
ROWS = np.zeros((len(LISTS), NUM_ITEMS))
for at, items in enumerate(LISTS):
    ROWS[at, items] = 1
SETTINGS = {"user_power": 0.6, "item_power": 0.3, "low_pass_power": 0.5}


def histories(rows):
    return csr_rows(*np.nonzero(rows), len(rows))


def fitted(graph, **settings):
    with jax.enable_x64(True):
        return Filter(**SETTINGS | settings).fit(graph, KEY, dtype=jnp.float64)


scores = jax.jit(lambda model, rows: model.scores(rows))


def newcomers(model, rows=ROWS, **others):
    with jax.enable_x64(True):
        found = model.of_histories(histories(rows), **others)
        return np.asarray(scores(found, jnp.arange(len(rows), dtype=jnp.int32))).T


def appended_graph(row, weights=None, weight=None):
    items = np.flatnonzero(row)
    users = np.append(PAIRS[0], np.full(len(items), NUM_USERS))
    if weights is not None:
        weights = np.append(weights, np.full(len(items), weight, np.float32))
    return graph_of(users, np.append(PAIRS[1], items), num_users=NUM_USERS + 1, weights=weights)


@pytest.mark.parametrize("is_weighted", [False, True])
def test_without_a_low_pass_filter_it_is_the_graph_with_one_user_more(is_weighted):
    weights = random_weights(len(PAIRS[0])) if is_weighted else None
    weight = weights.mean() if is_weighted else 1
    settings = {"response": "bspm", "low_pass_rank": 0}
    found = newcomers(fitted(graph_of(*PAIRS, weights=weights), **settings))
    for row, of_row in zip(ROWS[:3], found, strict=False):
        grown = fitted(appended_graph(row, weights, weight), **settings)
        with jax.enable_x64(True):
            expected = np.asarray(scores(grown, jnp.array([NUM_USERS], jnp.int32)))[:, 0]
        # A known user's row holds the weights; it is scored for ones here.
        np.testing.assert_allclose(weight * of_row, expected, rtol=1e-6, atol=1e-9)
    assert not found[3].any()


def leading(matrix, rank):
    """V Vᵀ of the leading right singular vectors."""
    right = np.linalg.svd(matrix).Vh
    return right[:rank].T @ right[:rank]


@pytest.mark.parametrize("rank", [1, 3, NUM_USERS])
def test_the_low_pass_filter_keeps_what_it_kept_and_the_new_row_but_for_the_weakest(rank):
    """[Σ Vᵀ; w] decomposed anew; where all vectors were kept, all are."""
    a, beta, gamma = SETTINGS.values()
    model = fitted(graph_of(*PAIRS), response="turbo", low_pass_rank=rank, low_pass_gain=0.7)
    users, items = np.maximum(R.sum(axis=1), 1), np.maximum(R.sum(axis=0), 1)
    block = users[:, None] ** -a * R * items ** (a - 1)
    _, values, right = np.linalg.svd(block)
    assert values[NUM_USERS - 1] > 0.05
    for row, found in zip(ROWS[:3], newcomers(model), strict=False):
        degrees = np.maximum(R.sum(axis=0) + row, 1)
        own = row.sum() ** -a * degrees ** (a - 1) * row
        grown = np.vstack([users[:, None] ** -a * R * degrees ** (a - 1), own])
        p = grown.T @ grown
        kept = np.vstack([values[:rank, None] * right[:rank], own])
        low = leading(kept, rank + (rank == NUM_USERS))
        x = row * degrees**-beta
        low_pass = 0.7 * (row * degrees**-gamma) @ low * degrees ** (gamma - beta)
        expected = (x @ (2 * p - p @ p) + low_pass) * degrees**beta
        np.testing.assert_allclose(found, expected, atol=1e-8)


def test_parts_of_a_row_add_up():
    model = fitted(graph_of(*PAIRS), response="bspm", low_pass_rank=3)
    whole = ROWS[2]
    parts = np.diag(whole)[whole > 0]
    found = newcomers(model, parts, whole=histories(np.tile(whole, (len(parts), 1))))
    np.testing.assert_allclose(found.sum(axis=0), newcomers(model)[2], atol=1e-9)


def test_float32_is_close_and_every_model_is_finite():
    wide = np.concatenate([ROWS, np.ones((1, NUM_ITEMS))])
    exact = newcomers(fitted(graph_of(*PAIRS), low_pass_rank=3), wide)
    model = Filter(**SETTINGS, low_pass_rank=3).fit(graph_of(*PAIRS), KEY)
    everybody = jnp.arange(len(wide), dtype=jnp.int32)
    found = scores(model.of_histories(histories(wide)), everybody).T
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, exact, atol=3e-5)
    # More vectors than the graph has directions: an empty user and two who are alike.
    r = R.copy()
    r[1], r[2] = 0, r[3]
    model = GfCf(singular_vectors=NUM_USERS - 1).fit(graph_of(*np.nonzero(r)), KEY)
    assert np.isfinite(scores(model.of_histories(histories(wide)), everybody)).all()
    nobody = GfCf(singular_vectors=3).fit(graph_of(*np.zeros((2, 0), int)), KEY)
    assert np.isfinite(scores(nobody.of_histories(histories(wide)), everybody)).all()


def test_memory_is_what_the_scorer_says():
    num_users, num_items, queries = 3000, 2000, 50
    users, items = random_pairs(0, num_users, num_items, density=0.01)
    graph = graph_of(users, items, num_users, num_items)
    tensors = {"vectors": jnp.ones((num_items, 4))}
    for response in ("chebycf", "bspm"):
        model = Filter(response=response, low_pass_rank=4).rebuilt(tensors, graph, KEY)
        new = model.of_histories(histories(np.eye(queries, num_items)))
        compiled = scores.lower(new, np.zeros(queries, np.int32)).compile()
        temporary = compiled.memory_analysis().temp_size_in_bytes
        assert temporary <= queries * new.block_bytes_per_query + 40 * 4096, response
