import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.polynomial import Chebyshev

from lightgcn_jax.errors import InputError
from lightgcn_jax.graph import csr_rows
from lightgcn_jax.models import Filter, FilterScorer, GfCf, filter_scorer
from lightgcn_jax.models.responses import bspm, chebycf, gfcf, turbo
from tests.lightgcn.oracles import dense_interactions
from tests.lightgcn.programs import multiplies_exactly
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of, random_pairs

KEY = jax.random.key(0)
EVERYBODY = np.arange(NUM_USERS, dtype=np.int32)
# Connected, and without repeated singular values.
PAIRS = random_pairs(3)
R = dense_interactions(*PAIRS, NUM_USERS, NUM_ITEMS)
LAMBDA = np.linspace(0, 1, 11)

traces = []


@jax.jit
def scores(model, rows):
    traces.append(rows.shape)
    return model.scores(rows)


def fitted(pairs=PAIRS, **settings):
    with jax.enable_x64(True):
        return Filter(**settings).fit(graph_of(*pairs), KEY, dtype=jnp.float64)


def scores_of(model, rows=EVERYBODY):
    with jax.enable_x64(True):
        return np.asarray(scores(model, jnp.asarray(rows)))


def clipped(degrees, power):
    return np.maximum(degrees, 1.0) ** power


def dense_parts(r, user_power, rank):
    """P and V Vᵀ of R̃ = D_U^-a R D_I^(a−1), by numpy.linalg.svd."""
    users = clipped(r.sum(axis=1), -user_power)
    block = users[:, None] * r * clipped(r.sum(axis=0), user_power - 1)
    _, values, right = np.linalg.svd(block)
    leading = right[:rank][values[:rank] > 1e-9]
    return block.T @ block, leading.T @ leading


def dense_sum(p, powers):
    return sum(c * np.linalg.matrix_power(p, k) for k, c in enumerate(powers))


# Each recipe as its paper puts it, from R, P, V Vᵀ and the items' degrees.


def dense_gfcf(r, p, low, d):
    return r @ p + 0.3 * (r * d**-0.5) @ low * d**0.5


def dense_bspm(r, p, low, d):
    y = r @ p + 0.2 * (r * d**-0.5) @ low * d**0.5
    h = 2.5

    def slope(y):
        return -y @ p

    k1 = slope(y)
    k2 = slope(y + h / 2 * k1)
    k3 = slope(y + h / 2 * k2)
    k4 = slope(y + h * k3)
    return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def dense_chebycf(r, p, low, d):
    """The recurrence on L = I − 2P of the signals divided by d^β."""
    degree, flatness, s = 8, 1.5, r * d**-0.4
    x = np.cos((degree - np.arange(degree + 1)) * np.pi / degree).round(3)
    g = [0.5 * (-v) ** flatness + 0.5 if v < 0 else 0.5 - 0.5 * v**flatness for v in x]
    g = np.round(g, 3)
    nodes = np.cos((degree + 1.5 - np.arange(1, degree + 2)) * np.pi / (degree + 1))
    laplacian = np.eye(len(p)) - 2 * p
    before, last, total = s, s @ laplacian, 0
    for k in range(degree + 1):
        c = 2 / (degree + 1) * sum(g * np.cos(k * np.arccos(nodes))) / (2 if k == 0 else 1)
        total = total + c * before
        before, last = last, 2 * last @ laplacian - before
    return (total + 0.2 * s @ low) * d**0.4


def dense_turbo(r, p, *_):
    """Yelp2018's of the paper: a = .6, powers of R̂ᵀR̂ not taken entry by entry."""
    return r @ (2 * p - p @ p)


PUBLISHED = {
    "gfcf": (dense_gfcf, {"low_pass_gain": 0.3, "item_power": 0, "low_pass_power": 0.5}),
    "bspm": (
        dense_bspm,
        {"sharpening": 2.5, "low_pass_gain": 0.2, "item_power": 0, "low_pass_power": 0.5},
    ),
    "chebycf": (
        dense_chebycf,
        {
            "polynomial_degree": 8,
            "flatness": 1.5,
            "low_pass_gain": 0.2,
            "item_power": 0.4,
            "low_pass_power": 0.4,
        },
    ),
    "turbo": (dense_turbo, {"low_pass_rank": 0, "item_power": 0, "user_power": 0.6}),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_settings_are_their_recipes(name):
    dense, settings = PUBLISHED[name]
    model = fitted(response=name, **{"low_pass_rank": 3} | settings)
    parts = dense_parts(R, settings.get("user_power", 0.5), 3)
    expected = dense(R, *parts, clipped(R.sum(axis=0), 1)).T
    np.testing.assert_allclose(scores_of(model), expected, atol=1e-9)
    # Any rows, in any order, more than once.
    rows = np.array([4, 0, 4, 6, 2, 2, 1], np.int32)
    np.testing.assert_allclose(scores_of(model, rows), expected[:, rows], atol=1e-9)


def test_its_gfcf_scores_as_gfcf_does():
    """Where nobody has an item: on a user's own items the recurrence rounds otherwise."""
    settings = PUBLISHED["gfcf"][1]
    model = Filter(response="gfcf", low_pass_rank=3, **settings).fit(graph_of(*PAIRS), KEY)
    other = GfCf(singular_vectors=3).fit(graph_of(*PAIRS), KEY)
    np.testing.assert_allclose(
        scores(model, jnp.asarray(EVERYBODY)), other.scores(jnp.asarray(EVERYBODY)), atol=2e-6
    )


@pytest.mark.parametrize("user_power", [0.5, 0.7])
@pytest.mark.parametrize("gamma", [0.5, 0.1])
def test_scores_are_those_of_the_dense_filter(user_power, gamma):
    p, low = dense_parts(R, user_power, 4)
    d, settings = clipped(R.sum(axis=0), 1), {"user_power": user_power, "low_pass_power": gamma}
    model = fitted(
        response="bspm",
        low_pass_rank=4,
        sharpening=0.7,
        item_power=0.3,
        low_pass_gain=2,
        **settings,
    )
    step = dense_sum(p, [1, -0.7, 0.7**2 / 2, -(0.7**3) / 6, 0.7**4 / 24])
    x, kept = R * d**-0.3, 2 * (R * d**-gamma) @ low * d ** (gamma - 0.3)
    np.testing.assert_allclose(scores_of(model), ((x @ p + kept) @ step * d**0.3).T, atol=1e-9)


def test_responses_are_their_functions():
    def of(coefficients):
        return Chebyshev(coefficients, domain=[0, 1])(LAMBDA)

    decay = sum((-0.8 * LAMBDA) ** k / [1, 1, 2, 6, 24][k] for k in range(5))
    np.testing.assert_allclose(of(gfcf().interactions), LAMBDA, atol=1e-15)
    np.testing.assert_allclose(of(turbo().interactions), 2 * LAMBDA - LAMBDA**2, atol=1e-15)
    np.testing.assert_allclose(of(bspm(0.8).interactions), LAMBDA * decay, atol=1e-15)
    np.testing.assert_allclose(of(bspm(0.8).low_pass), decay, atol=1e-15)
    assert len(bspm(0.8).low_pass) == len(bspm(0.8).interactions)
    # A line stays one but for how its places are spread; a plateau is flat in the middle.
    np.testing.assert_allclose(of(chebycf(1, 1.0).interactions), 0.5 + (LAMBDA - 0.5) * 2**0.5)
    plateau = of(chebycf(20, 9.0).interactions)
    np.testing.assert_allclose(plateau[4:7], 0.5, atol=0.02)
    assert plateau[0] < 0.05
    assert plateau[-1] > 0.95
    # Odd about ½, so that a last even coefficient is 0 and left out.
    assert len(chebycf(8, 1.5).interactions) == 8
    np.testing.assert_allclose(plateau + plateau[::-1], 1, atol=1e-12)


def test_rows_of_trained_users_are_scored_as_the_users_are():
    for settings in ({"response": "bspm"}, {"response": "chebycf", "low_pass_power": 0.5}):
        model = fitted(low_pass_rank=3, **settings)
        histories = csr_rows(*np.nonzero(R[::-1]), NUM_USERS)
        with jax.enable_x64(True):
            new = model.of_histories(histories, is_trained=True)
        np.testing.assert_allclose(scores_of(new), scores_of(model)[:, ::-1], atol=1e-12)
        # Weights too: the filter is linear.
        with jax.enable_x64(True):
            halves = model.filter(jnp.asarray(R.T / 2))
        np.testing.assert_allclose(halves, scores_of(model) / 2, atol=1e-12)


def test_the_low_pass_part_is_that_of_the_embeddings():
    settings = {"response": "chebycf", "low_pass_rank": 3}
    model = fitted(**settings, low_pass_gain=0.7)
    with jax.enable_x64(True):
        users, items = map(np.asarray, model.embeddings())
    without = scores_of(fitted(**settings, low_pass_gain=0.0))
    np.testing.assert_allclose(items @ users.T, scores_of(model) - without, atol=1e-12)


@pytest.mark.parametrize("response", ["gfcf", "bspm", "chebycf", "turbo"])
def test_users_and_items_without_edges(response):
    """They score 0 and are scored 0, whatever the powers of degrees; all others are as without."""
    pairs = tuple(column[(PAIRS[0] != 2) & (PAIRS[1] != 4)] for column in PAIRS)
    r = dense_interactions(*pairs, NUM_USERS, NUM_ITEMS)
    assert not r.sum(axis=1).all()
    assert not r.sum(axis=0).all()
    found = scores_of(fitted(pairs, response=response, item_power=-0.7, user_power=0.4))
    assert np.isfinite(found).all()
    assert not found[:, r.sum(axis=1) == 0].any()
    np.testing.assert_allclose(found[r.sum(axis=0) == 0], 0, atol=1e-12)
    assert not scores_of(fitted((np.zeros(0, int), np.zeros(0, int)), response=response)).any()


@pytest.mark.parametrize("response", ["gfcf", "bspm", "chebycf", "turbo"])
def test_alike_users_and_items_keep_a_constant(response):
    """Of a complete graph P keeps constant rows and sends all else to 0: p(1) is left of them."""
    pairs = np.divmod(np.arange(NUM_USERS * NUM_ITEMS), NUM_ITEMS)
    model = fitted(pairs, response=response, low_pass_gain=0.5, low_pass_rank=1)
    p = {"gfcf": gfcf, "turbo": turbo}.get(response, lambda: None)() or (
        bspm(2.5) if response == "bspm" else chebycf(5, 3.0)
    )
    at_one = p.interactions.sum() + 0.5 * p.low_pass.sum()
    np.testing.assert_allclose(scores_of(model), at_one, atol=1e-9)


def test_float32_scores_are_close():
    model = Filter(response="chebycf", low_pass_rank=3).fit(graph_of(*PAIRS), KEY)
    found = scores(model, jnp.asarray(EVERYBODY))
    assert found.dtype == jnp.float32
    exact = scores_of(fitted(response="chebycf", low_pass_rank=3))
    np.testing.assert_allclose(found, exact, atol=2e-5)


def test_products_have_the_highest_precision():
    """Accelerators would round float32 operands to fewer bits."""
    model = Filter(low_pass_rank=3).fit(graph_of(*PAIRS), KEY)
    assert multiplies_exactly(FilterScorer.scores, model, jnp.asarray(EVERYBODY))
    assert multiplies_exactly(FilterScorer.filter, model, jnp.ones((NUM_ITEMS, 2)))


def test_models_of_one_shape_share_a_program_for_each_block():
    settings = [{"low_pass_gain": 0.1, "item_power": 0.1}, {"sharpening": 2.0, "user_power": 0.6}]
    models = [Filter(low_pass_rank=3, **one).fit(graph_of(*PAIRS), KEY) for one in settings]
    scores(models[0], jnp.arange(5))
    before = len(traces)
    for model in models:
        scores(model, jnp.arange(5))
        scores(model, jnp.arange(3))
    assert traces[before:] == [(3,)]


def test_memory_is_what_the_model_says():
    """A block needs its columns of users and items, and nothing of I×I or of a user's length."""
    num_users, num_items, queries = 3000, 2000, 50
    users, items = random_pairs(0, num_users, num_items, density=0.01)
    graph = graph_of(users, items, num_users, num_items)
    tensors = {"vectors": jnp.ones((num_items, 4))}
    for response in ("chebycf", "bspm"):
        model = Filter(response=response, low_pass_rank=4).rebuilt(tensors, graph, KEY)
        compiled = scores.lower(model, np.zeros(queries, np.int32)).compile()
        # Beside the block: a chunk of interactions and its searches.
        allowance = 40 * filter_scorer._CHUNK
        temporary = compiled.memory_analysis().temp_size_in_bytes
        assert temporary <= queries * model.block_bytes_per_query + allowance, response
        assert temporary < num_items * num_items


def test_a_graph_of_nobody_is_refused():
    empty = graph_of(np.zeros(0, int), np.zeros(0, int), num_users=0)
    with pytest.raises(InputError, match="graph: expected users and items, got 0 and 9"):
        Filter().fit(empty, KEY)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("response", "ideal", r"one of \('gfcf', 'bspm', 'chebycf', 'turbo'\)"),
        ("polynomial_degree", 0, "a whole number of at least 1"),
        ("flatness", -1.0, "a number of at least 0"),
        ("sharpening", -0.5, "a number of at least 0"),
        ("low_pass_rank", -1, "a whole number of at least 0"),
        ("low_pass_gain", -0.1, "a number of at least 0"),
        ("item_power", float("nan"), "a number"),
        ("low_pass_power", float("inf"), "a number"),
        ("user_power", "half", "a number"),
        ("svd_refinements", -1, "a whole number of at least 0"),
    ],
)
def test_impossible_settings_are_refused(field, value, expected):
    with pytest.raises(InputError, match=f"{field}: expected {expected}, got "):
        Filter(**{field: value})
