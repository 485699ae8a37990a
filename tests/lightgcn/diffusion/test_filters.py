import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from lightgcn_jax.diffusion import diffusion_operator, interaction_operator, operator_of
from lightgcn_jax.diffusion.filters import (
    chebyshev_coefficients,
    chebyshev_filter,
    heat_coefficients,
    heat_kernel,
    ideal_low_pass,
    low_pass_basis,
    personalized_pagerank,
)
from lightgcn_jax.diffusion.spectral import truncated_svd
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph import CsrMatrix
from tests.lightgcn.oracles import dense_interactions, dense_normalized_adjacency
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of, pair_sets, random_pairs

NODES = NUM_USERS + NUM_ITEMS
IDENTITY = np.eye(NODES)
PAIRS = random_pairs(1)
# Connected, and without repeated singular values.
CONNECTED = random_pairs(3)


pytestmark = pytest.mark.usefixtures("x64")


def operator(pairs=PAIRS, normalization="symmetric"):
    return diffusion_operator(graph_of(*pairs), dtype=jnp.float64, normalization=normalization)


def dense(pairs=PAIRS, normalization="symmetric"):
    if normalization == "symmetric":
        return dense_normalized_adjacency(*pairs, NUM_USERS, NUM_ITEMS)
    r = dense_interactions(*pairs, NUM_USERS, NUM_ITEMS)
    a = np.block([[np.zeros((NUM_USERS,) * 2), r], [r.T, np.zeros((NUM_ITEMS,) * 2)]])
    scale = 1 / np.maximum(a.sum(axis=1), 1)
    return scale[:, None] * a if normalization == "row" else a * scale[None, :]


def of_dense(matrix):
    """Stores zeros too: all graphs share one compiled program."""
    offsets, columns = np.arange(NODES + 1) * NODES, np.tile(np.arange(NODES), NODES)
    return operator_of(CsrMatrix(offsets, columns, matrix.ravel(), NODES), dtype=jnp.float64)


def function_of(matrix, function):
    """h(A) of a symmetric matrix by its eigenvectors."""
    values, vectors = np.linalg.eigh(matrix)
    return vectors * function(values) @ vectors.T


def spectral_norm(matrix):
    return np.linalg.norm(matrix, 2)


@pytest.mark.parametrize("normalization", ["symmetric", "row", "column"])
@pytest.mark.parametrize("degree", [0, 1, 2, 7])
def test_polynomials_and_their_derivative_are_exact(degree, normalization):
    coefficients = np.random.default_rng(degree).normal(size=degree + 1)
    matrix = dense(normalization=normalization)
    powers = np.polynomial.chebyshev.cheb2poly(coefficients)
    expected = sum(c * np.linalg.matrix_power(matrix, k) for k, c in enumerate(powers))
    chosen = operator(normalization=normalization)
    y, pullback = jax.vjp(lambda x: chebyshev_filter(chosen, x, coefficients), jnp.eye(NODES))
    np.testing.assert_allclose(y, expected, atol=1e-12)
    np.testing.assert_allclose(pullback(jnp.eye(NODES))[0], expected.T, atol=1e-12)


@pytest.mark.parametrize("degree", [4, 9])
def test_an_interpolated_function_errs_by_no_more_than_its_polynomial(degree):
    def function(eigenvalues):
        return 1 / (1.3 - eigenvalues)

    coefficients = chebyshev_coefficients(function, degree)
    points = np.linspace(-1, 1, 20_001)
    bound = np.abs(function(points) - np.polynomial.chebyshev.chebval(points, coefficients)).max()
    error = chebyshev_filter(operator(), jnp.eye(NODES), coefficients) - function_of(
        dense(), function
    )
    assert spectral_norm(error) <= bound + 1e-12
    # The bound is no idle one: eigenvalues ±1 are there, and the function is steep at 1.
    assert spectral_norm(error) > bound / 100


@given(pairs=pair_sets())
@settings(max_examples=15, deadline=None)
def test_heat_flows_as_the_exponential_says(pairs):
    with jax.enable_x64(True):
        y = heat_kernel(of_dense(dense(pairs)), jnp.eye(NODES), 4.0, tolerance=1e-9)
    expected = function_of(dense(pairs), lambda values: np.exp(-4.0 * (1 - values)))
    assert spectral_norm(y - expected) <= 1e-9


@pytest.mark.parametrize("tolerance", [1e-2, 1e-6, 1e-12])
@pytest.mark.parametrize("time", [0.0, 1e-3, 0.3, 30.0, 3000.0])
def test_heat_coefficients_keep_their_bound_and_are_no_longer_than_needed(time, tolerance):
    coefficients = heat_coefficients(time, tolerance)
    points = np.linspace(-1, 1, 2001)
    polynomial = np.polynomial.chebyshev.chebval(points, coefficients)
    error = np.abs(np.exp(-time * (1 - points)) - polynomial).max()
    assert error <= tolerance + 1e-14
    # All coefficients are positive, so the error is largest at 1, where it is their rest.
    without_last = 1 - coefficients[:-1].sum()
    assert len(coefficients) == 1 or without_last > tolerance


@pytest.mark.parametrize(
    ("normalization", "order"), [("symmetric", 2), ("column", 1), ("row", np.inf)]
)
@pytest.mark.parametrize("damping", [0.0, 0.5, 0.85])
def test_pagerank_solves_its_equation_to_the_tolerance(normalization, order, damping):
    matrix = dense(normalization=normalization)
    expected = (1 - damping) * np.linalg.inv(IDENTITY - damping * matrix)
    chosen = operator(normalization=normalization)
    y, pullback = jax.vjp(
        lambda x: personalized_pagerank(chosen, x, damping=damping, tolerance=1e-5),
        jnp.eye(NODES),
    )
    assert np.linalg.norm(y - expected, order) <= 1e-5
    np.testing.assert_allclose(pullback(jnp.eye(NODES))[0], y.T, atol=1e-12)


def test_pagerank_of_a_walk_keeps_its_probability():
    users, items = np.indices((NUM_USERS, NUM_ITEMS)).reshape(2, -1)
    chosen = operator((users, items), "column")
    reached = personalized_pagerank(chosen, jnp.eye(NODES), tolerance=1e-8)
    np.testing.assert_allclose(reached.sum(axis=0), 1, atol=1e-8)


@pytest.mark.parametrize("rank", [1, 4])
def test_the_ideal_low_pass_keeps_the_leading_eigenvectors(rank):
    svd = truncated_svd(
        interaction_operator(graph_of(*CONNECTED), dtype=jnp.float64),
        jax.random.key(0),
        rank=rank,
        dtype=jnp.float64,
    )
    matrix = dense(CONNECTED)
    leading = np.linalg.eigh(matrix)[1][:, ::-1][:, :rank]
    basis = np.asarray(low_pass_basis(svd))
    np.testing.assert_allclose(basis.T @ basis, np.eye(rank), atol=1e-12)
    np.testing.assert_allclose(matrix @ basis, basis * np.asarray(svd.values), atol=1e-9)
    filtered = ideal_low_pass(basis, jnp.eye(NODES))
    np.testing.assert_allclose(filtered, leading @ leading.T, atol=1e-9)
    np.testing.assert_allclose(ideal_low_pass(basis, filtered), filtered, atol=1e-12)


def test_memory_and_program_do_not_grow_with_the_degree():
    chosen = operator()

    def size(filter_):
        _, pullback = jax.vjp(filter_, jnp.asarray(IDENTITY))
        kept = sum(leaf.size for leaf in jax.tree.leaves(pullback))
        return kept, len(jax.make_jaxpr(filter_)(IDENTITY).eqns)

    def chebyshev(degree):
        return size(lambda x: chebyshev_filter(chosen, x, np.ones(degree + 1)))

    def pagerank(tolerance):
        return size(lambda x: personalized_pagerank(chosen, x, tolerance=tolerance))

    # The coefficients themselves are kept.
    assert chebyshev(50)[0] - chebyshev(10)[0] == 40
    assert chebyshev(50)[1] == chebyshev(10)[1]
    assert pagerank(1e-9) == pagerank(1e-2)


def test_bad_input_is_refused():
    chosen, x = operator(), jnp.asarray(IDENTITY)
    block = interaction_operator(graph_of(*PAIRS))
    for bad, message in [
        (lambda: chebyshev_coefficients(np.cos, -1), "degree: expected 0 or more, got -1"),
        (lambda: chebyshev_coefficients(lambda v: v * np.nan, 3), "function: expected finite"),
        (
            lambda: chebyshev_filter(block, x, [1.0]),
            r"operator: expected a square matrix, got shape \(7, 9\)",
        ),
        (lambda: chebyshev_filter(chosen, x, []), r"coefficients: expected .* got shape \(0,\)"),
        (lambda: heat_coefficients(-1.0), "time: expected 0 or more, got -1.0"),
        (lambda: heat_coefficients(1.0, 0.0), "tolerance: expected at least 1e-12"),
        (lambda: personalized_pagerank(block, x), "operator: expected a square matrix"),
        (lambda: personalized_pagerank(chosen, x, damping=1.0), "damping: expected at least 0"),
        (lambda: personalized_pagerank(chosen, x, tolerance=1.0), "tolerance: expected between"),
    ]:
        with pytest.raises(InputError, match=message):
            bad()


def test_projections_ask_for_whole_products():
    # Where nothing is asked for, TPU and recent GPU round float32 factors to fewer bits.
    program = jax.make_jaxpr(ideal_low_pass)(jnp.ones((NODES, 2)), jnp.ones((NODES, 3)))
    precisions = [
        eqn.params["precision"] for eqn in program.jaxpr.eqns if eqn.primitive.name == "dot_general"
    ]
    assert precisions == [(jax.lax.Precision.HIGHEST,) * 2] * 2


def test_filters_refuse_tables_that_do_not_fit_and_take_numpy():
    for function in (
        lambda x: chebyshev_filter(operator(), x, [0.5]),
        lambda x: heat_kernel(operator(), x, 0.0),
        lambda x: personalized_pagerank(operator(), x, damping=0.0),
    ):
        with pytest.raises(InputError, match="x: expected a floating-point type, got int64"):
            function(np.ones((NODES, 1), int))
        with pytest.raises(InputError, match=f"x: expected a table of {NODES} rows"):
            function(np.ones((NODES - 1, 1)))
        assert isinstance(function(np.ones((NODES, 1))), jax.Array)
