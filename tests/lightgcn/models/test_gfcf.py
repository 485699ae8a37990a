import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from lightgcn_jax.data import given_split, load_dataset
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import evaluate
from lightgcn_jax.graph import BipartiteGraph, csr_rows
from lightgcn_jax.models import GfCf, GfCfScorer, Spectral, filter_scorer
from tests.lightgcn.oracles import dense_interactions
from tests.lightgcn.programs import multiplies_exactly
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of, random_pairs

KEY = jax.random.key(0)
EVERYBODY = np.arange(NUM_USERS, dtype=np.int32)
# Connected, and without repeated singular values.
PAIRS = random_pairs(3)

scores = jax.jit(GfCfScorer.scores)


def normalized(r):
    """D_U^-½ R D_I^-½, and D_I's diagonal with 1 for items without users."""
    users, items = (np.where(sums > 0, sums, 1) for sums in (r.sum(axis=1), r.sum(axis=0)))
    return r / np.sqrt(users[:, None] * items[None, :]), items


def dense_filter(r, rank, weight):
    """R̃ᵀR̃ + w D_I^-½ V Vᵀ D_I^½, I×I, with numpy.linalg.svd's V."""
    block, degrees = normalized(r)
    _, values, right = np.linalg.svd(block)
    leading = right[:rank][values[:rank] > 1e-9].T
    return block.T @ block + weight * np.diag(degrees**-0.5) @ leading @ leading.T @ np.diag(
        degrees**0.5
    )


def fitted(graph, **settings_):
    with jax.enable_x64(True):
        return GfCf(**settings_).fit(graph, KEY, dtype=jnp.float64)


def scores_of(model, rows=EVERYBODY):
    with jax.enable_x64(True):
        return np.asarray(scores(model, jnp.asarray(rows)))


@pytest.mark.parametrize(("rank", "weight"), [(1, 0.3), (3, 0.3), (3, 0.0), (3, 2.0)])
def test_scores_are_those_of_the_dense_filter(rank, weight):
    r = dense_interactions(*PAIRS, NUM_USERS, NUM_ITEMS)
    model = fitted(graph_of(*PAIRS), singular_vectors=rank, low_pass_weight=weight)
    assert (model.num_queries, model.num_items) == r.shape
    expected = (r @ dense_filter(r, rank, weight)).T
    np.testing.assert_allclose(scores_of(model), expected, atol=1e-9)
    # Any rows, in any order, more than once.
    rows = np.array([4, 0, 4, 6, 2, 2, 1], np.int32)
    np.testing.assert_allclose(scores_of(model, rows), expected[:, rows], atol=1e-9)


# One number of interactions, so that examples share compiled programs.
@given(st.sets(st.integers(0, NUM_USERS * NUM_ITEMS - 1), min_size=12, max_size=12))
@settings(max_examples=15, deadline=None)
def test_with_all_vectors_the_filter_keeps_every_row(cells):
    """Isolated users and items included, whose scores are 0; more vectors than there are."""
    pairs = np.divmod(np.array(sorted(cells)), NUM_ITEMS)
    r = dense_interactions(*pairs, NUM_USERS, NUM_ITEMS)
    model = fitted(graph_of(*pairs), singular_vectors=256, low_pass_weight=0.3)
    block, _ = normalized(r)
    # V Vᵀ projects on the rows of R̃, and R D_I^-½ = D_U^½ R̃ is made of them.
    expected = (r @ block.T @ block + 0.3 * r).T
    found = scores_of(model)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert not found[:, r.sum(axis=1) == 0].any()
    assert not found[r.sum(axis=0) == 0].any()


def test_new_users_are_filtered_as_known_ones_are():
    r = dense_interactions(*PAIRS, NUM_USERS, NUM_ITEMS)
    model = fitted(graph_of(*PAIRS), singular_vectors=3)
    new = np.random.default_rng(1).random((NUM_ITEMS, 2))
    with jax.enable_x64(True):
        signals = model.signals(jnp.asarray(EVERYBODY))
        known, unknown = model.filter(signals), model.filter(jnp.asarray(new))
    np.testing.assert_array_equal(signals, r.T)
    np.testing.assert_allclose(known, scores_of(model), atol=1e-12)
    np.testing.assert_allclose(unknown, dense_filter(r, 3, 0.3).T @ new, atol=1e-9)


def test_embeddings_are_the_low_pass_part():
    model = fitted(graph_of(*PAIRS), singular_vectors=3)
    with jax.enable_x64(True):
        users, items = map(np.asarray, model.embeddings())
    linear = scores_of(fitted(graph_of(*PAIRS), singular_vectors=3, low_pass_weight=0.0))
    np.testing.assert_allclose(items @ users.T, scores_of(model) - linear, atol=1e-12)


def test_float32_scores_are_close():
    r = dense_interactions(*PAIRS, NUM_USERS, NUM_ITEMS)
    model = GfCf(singular_vectors=3).fit(graph_of(*PAIRS), KEY)
    found = scores(model, jnp.asarray(EVERYBODY))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, (r @ dense_filter(r, 3, 0.3)).T, atol=5e-6)


def test_products_have_the_highest_precision():
    """Accelerators would round float32 operands to fewer bits."""
    model = GfCf(singular_vectors=3).fit(graph_of(*PAIRS), KEY)
    assert multiplies_exactly(GfCfScorer.scores, model, jnp.asarray(EVERYBODY))
    assert multiplies_exactly(GfCfScorer.filter, model, jnp.ones((NUM_ITEMS, 2)))


def test_memory_is_what_the_model_says():
    """A block needs its columns of users and items, and nothing of I×I or of a user's length."""
    num_users, num_items, queries = 3000, 2000, 50
    users, items = random_pairs(0, num_users, num_items, density=0.01)
    shapes = {"vectors": (num_items, 4), "users": (num_users, 4), "item_roots": (num_items,)}
    tensors = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    model = GfCf().rebuilt(tensors, graph_of(users, items, num_users, num_items), KEY)
    compiled = scores.lower(model, np.zeros(queries, np.int32)).compile()
    # Beside the block: a chunk of interactions and its searches.
    allowance = 40 * filter_scorer._CHUNK
    temporary = compiled.memory_analysis().temp_size_in_bytes
    assert temporary <= queries * model.block_bytes_per_query + allowance
    assert temporary < num_items * num_items


def test_no_interactions_no_scores():
    graph = graph_of(np.zeros(0, int), np.zeros(0, int))
    assert not scores_of(fitted(graph)).any()
    empty = graph_of(np.zeros(0, int), np.zeros(0, int), num_users=0)
    for model in (GfCf(), Spectral()):
        with pytest.raises(InputError, match="graph: expected users and items, got 0 and 9"):
            model.fit(empty, KEY)


@pytest.mark.parametrize(("power", "degree_power"), [(0.0, 0.0), (0.5, 0.5), (1.0, 0.0)])
def test_spectral_factors_multiply_to_the_truncated_matrix(power, degree_power):
    r = dense_interactions(*PAIRS, NUM_USERS, NUM_ITEMS)
    left, values, right = np.linalg.svd(normalized(r)[0], full_matrices=False)
    with jax.enable_x64(True):
        model = Spectral(dim=3, singular_value_power=power, degree_power=degree_power)
        factors = model.fit(graph_of(*PAIRS), KEY, dtype=jnp.float64)
    users, items = map(np.asarray, factors.embeddings())
    scale = r.sum(axis=0)[:, None] ** degree_power
    expected = left[:, :3] * values[:3] ** (2 * power) @ right[:3] * scale.T
    np.testing.assert_allclose(users @ items.T, expected, atol=1e-9)
    # Both tables carry the same share of the values.
    lengths = np.linalg.norm(users, axis=0), np.linalg.norm(items / scale, axis=0)
    np.testing.assert_allclose(lengths, [values[:3] ** power] * 2, rtol=1e-9)


@pytest.mark.parametrize(
    ("model", "field", "value", "expected"),
    [
        (GfCf, "singular_vectors", 0, "a whole number of at least 1"),
        (GfCf, "low_pass_weight", -0.1, "a number of at least 0"),
        (GfCf, "low_pass_weight", float("nan"), "a number of at least 0"),
        (GfCf, "oversampling", -1, "a whole number of at least 0"),
        (GfCf, "svd_iterations", -1, "a whole number of at least 0"),
        (Spectral, "dim", 0, "a whole number of at least 1"),
        (Spectral, "singular_value_power", -1.0, "a number of at least 0"),
        (Spectral, "degree_power", float("inf"), "a number of at least 0"),
        (Spectral, "svd_iterations", -1, "a whole number of at least 0"),
        (Spectral, "oversampling", 2.5, "a whole number of at least 0"),
    ],
)
def test_impossible_settings_are_refused(model, field, value, expected):
    with pytest.raises(InputError, match=f"{field}: expected {expected}, got {value}"):
        model(**{field: value})


@pytest.mark.slow
def test_gowalla(real_data):
    """Above the .1849/.1518 of exact vectors, which is what the paper gives (see GfCf)."""
    split = given_split(load_dataset("gowalla", data_dir=real_data))
    num_users, num_items = len(split.users), len(split.items)
    graph = BipartiteGraph.from_pairs(
        split.train.users, split.train.items, num_users=num_users, num_items=num_items
    )
    relevant = csr_rows(split.test.users, split.test.items, num_users)
    model = GfCf().fit(graph, KEY)
    metrics = evaluate(model, relevant, ks=(20,), seen=graph.items_of_user).metrics
    assert metrics["recall@20"] >= 0.186
    assert metrics["ndcg@20"] >= 0.153
