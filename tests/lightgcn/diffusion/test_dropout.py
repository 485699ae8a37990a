import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from lightgcn_jax.diffusion import bucketed, diffuse, diffusion_operator, drop_edges
from lightgcn_jax.errors import InputError
from tests.lightgcn.covering import covering
from tests.lightgcn.diffusion.conftest import RUNNABLE
from tests.lightgcn.oracles import materialised
from tests.lightgcn.programs import all_equations
from tests.lightgcn.worlds import graph_of, random_pairs

RATE = 0.3
PAIRS = random_pairs(0)
EDGES = len(PAIRS[0])

both_ways = pytest.mark.parametrize("directed", [False, True], ids=["undirected", "directed"])


def operator_of(backend="csr", normalization="symmetric", dtype=jnp.float32):
    graph = graph_of(*PAIRS)
    return diffusion_operator(
        graph, backend=backend, normalization=normalization, dtype=dtype, edge_dropout=True
    )


dropped = jax.jit(drop_edges, static_argnames=("rate", "directed"))


@jax.jit
def pulled_back(operator, g):
    _, pullback = jax.vjp(lambda x: diffuse(operator, x), jnp.zeros_like(g))
    return pullback(g)[0]


@pytest.fixture(scope="module", params=[False, True], ids=["undirected", "directed"])
def draws(request):
    """Whether it is directed, Ã, and 4,000 draws of it."""
    operator = operator_of()
    keys = jax.random.split(jax.random.key(7), 4000)

    @jax.jit
    @jax.vmap
    def draw(key):
        return materialised(drop_edges(key, operator, RATE, directed=request.param))

    return request.param, np.asarray(materialised(operator)), np.asarray(draw(keys))


def test_the_expectation_is_the_whole_matrix(draws):
    _, whole, drawn = draws
    # An entry's standard deviation is its size times √(rate / (1 − rate)). Six of them: one alarm
    # in 10^7 runs over these entries, and the key is fixed.
    bound = 6 * np.abs(whole) * np.sqrt(RATE / (1 - RATE) / len(drawn))
    assert (np.abs(drawn.mean(axis=0, dtype=float) - whole) <= bound + 1e-6).all()


def test_the_share_of_kept_edges_is_binomial(draws):
    directed, whole, drawn = draws
    rows, columns = np.nonzero(whole if directed else np.triu(whole))
    counts = (drawn[:, rows, columns] != 0).sum(axis=1)
    edges = len(rows)
    assert edges == (2 if directed else 1) * EDGES
    # Chi-square over counts, the rare ones put together: the edges are dropped independently.
    expected = len(drawn) * scipy.stats.binom.pmf(np.arange(edges + 1), edges, 1 - RATE)
    common = expected >= 20
    observed = np.bincount(counts, minlength=edges + 1)
    test = scipy.stats.chisquare(
        [*observed[common], observed[~common].sum()], [*expected[common], expected[~common].sum()]
    )
    assert test.pvalue > 1e-4, test


def test_an_edge_and_its_reverse_share_a_draw_only_if_undirected(draws):
    directed, whole, drawn = draws
    rows, columns = np.nonzero(np.triu(whole))
    there, back = drawn[:, rows, columns] != 0, drawn[:, columns, rows] != 0
    if directed:
        both = scipy.stats.binomtest(int((there & back).sum()), there.size, (1 - RATE) ** 2)
        assert both.pvalue > 1e-4, both
    else:
        np.testing.assert_array_equal(there, back)


@pytest.mark.parametrize(
    ("backend", "normalization", "directed"),
    covering(
        {name: name for name in RUNNABLE},
        {name: name for name in ("symmetric", "left", "column")},
        {"undirected": False, "directed": True},
    ),
)
def test_kept_entries_are_scaled_and_the_derivative_is_the_transpose(
    backend, normalization, directed
):
    operator = operator_of(backend, normalization)
    whole = materialised(operator)
    fewer = dropped(jax.random.key(1), operator, rate=RATE, directed=directed)
    matrix = np.asarray(materialised(fewer))
    kept = matrix != 0
    assert 0 < kept.sum() < (np.asarray(whole) != 0).sum()
    np.testing.assert_allclose(matrix, np.where(kept, whole / (1 - RATE), 0), rtol=1e-6)
    assert (kept == kept.T).all() == (not directed)
    if normalization == "symmetric" and not directed:
        np.testing.assert_array_equal(matrix, matrix.T)
        assert fewer.adjoint is None
    np.testing.assert_array_equal(materialised(fewer.transpose()), matrix.T)
    g = np.random.default_rng(0).normal(size=(len(matrix), 3)).astype(np.float32)
    np.testing.assert_allclose(pulled_back(fewer, g), matrix.T @ g, rtol=1e-5, atol=1e-6)
    # Another storage drops the same edges.
    other = dropped(jax.random.key(1), operator_of("csr", normalization), RATE, directed=directed)
    np.testing.assert_array_equal(kept, materialised(other) != 0)


@both_ways
def test_rate_zero_is_the_identity(backend, directed):
    operator = operator_of(backend, "left")
    same = dropped(jax.random.key(0), operator, rate=0.0, directed=directed)
    for got, wanted in zip(jax.tree.leaves(same), jax.tree.leaves(operator), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_rows_in_pieces_lose_edges_alike(backend, monkeypatch):
    monkeypatch.setattr(bucketed, "LONGEST_PIECE", 2)
    fewer = dropped(jax.random.key(1), operator_of(backend), rate=RATE)
    expected = dropped(jax.random.key(1), operator_of("segment"), rate=RATE)
    np.testing.assert_allclose(materialised(fewer), materialised(expected), rtol=1e-6)


def test_scaling_rounds_once(backend):
    # The factor lies halfway between two numbers of bfloat16: rounded before it is applied it
    # would shift every entry the same way, and the product would be rounded on top.
    rate, factor = 3 / 259, 259 / 256
    operator = operator_of(backend, dtype=jnp.bfloat16)
    whole = np.asarray(materialised(operator), float)
    matrix = np.asarray(materialised(dropped(jax.random.key(0), operator, rate=rate)), float)
    kept = matrix != 0
    error = np.abs(matrix[kept] / (factor * whole[kept]) - 1)
    assert error.max() <= 2.0**-8 * (1 + 1e-4)


@pytest.mark.usefixtures("x64")
def test_scaling_keeps_64_bits(backend):
    operator = operator_of(backend, dtype=jnp.float64)
    whole = np.asarray(materialised(operator))
    matrix = np.asarray(materialised(dropped(jax.random.key(0), operator, rate=0.1)))
    np.testing.assert_allclose(matrix, np.where(matrix != 0, whole / 0.9, 0), rtol=1e-14)


@pytest.mark.parametrize(
    ("backend", "directed"),
    [
        pytest.param(one, way, marks=pytest.mark.slow if way and one != "csr" else ())
        for one in RUNNABLE
        for way in (False, True)
    ],
)
def test_vmap_over_keys_is_a_loop_that_shares_the_structure(backend, directed):
    operator = operator_of(backend)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(operator.shape[1], 3)), jnp.float32)

    def apply(key):
        return diffuse(drop_edges(key, operator, RATE, directed=directed), x)

    keys = jax.random.split(jax.random.key(3), 5)
    batched = jax.jit(jax.vmap(apply))
    single = jax.jit(apply)
    expected = np.stack([single(key) for key in keys])
    np.testing.assert_allclose(batched(keys), expected, rtol=1e-5, atol=1e-6)
    # What goes through the loop one by one is weights: indices are shared.
    equations = all_equations(jax.make_jaxpr(batched)(keys).jaxpr)
    (loop,) = (
        eqn for eqn in equations
        if eqn.primitive.name == "scan" and eqn.params["length"] == len(keys)
    )  # fmt: skip
    one_turn = loop.params["jaxpr"].in_avals
    sliced = [
        outside.aval
        for outside, inside in zip(loop.invars, one_turn, strict=True)
        if outside.aval.shape == (len(keys), *inside.shape)
    ]
    assert sliced
    assert all(jnp.issubdtype(aval.dtype, jnp.floating) for aval in sliced)
    if backend == "csr":
        assert "cpu_csr_sparse_dense" in batched.lower(keys).compile().as_text()


def test_another_key_compiles_nothing(backend):
    traces = []

    @jax.jit
    def apply(key, operator, x):
        traces.append(key)
        return diffuse(drop_edges(key, operator, RATE), x)

    operator = operator_of(backend)
    results = [apply(jax.random.key(seed), operator, jnp.eye(16)) for seed in range(3)]
    assert len(traces) == 1
    assert (results[0] != results[1]).any()
    # What comes out is an operator of the same kind: dropping from it compiles nothing either.
    apply(jax.random.key(0), drop_edges(jax.random.key(1), operator, RATE), jnp.eye(16))
    assert len(traces) == 1


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_rates_out_of_range_are_refused(rate):
    with pytest.raises(InputError, match=r"rate: expected 0 ≤ rate < 1, got"):
        drop_edges(jax.random.key(0), operator_of(), rate)


def test_operators_not_made_for_it_are_refused():
    with pytest.raises(InputError, match="operator: expected one made with edge_dropout=True"):
        drop_edges(jax.random.key(0), diffusion_operator(graph_of(*PAIRS)), RATE)
