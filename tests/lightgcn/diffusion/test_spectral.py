import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from lightgcn_jax.diffusion import interaction_operator, operator_of
from lightgcn_jax.diffusion.spectral import truncated_svd
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph import CsrMatrix
from tests.lightgcn.oracles import dense_normalized_adjacency
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of, pair_sets, random_pairs

KEY = jax.random.key(0)
# Below this part of the largest, in float64, singular values count as zero.
NEGLIGIBLE = 4 * np.sqrt(np.finfo(np.float64).eps)


def dense_interaction_block(users, items):
    return dense_normalized_adjacency(users, items, NUM_USERS, NUM_ITEMS)[:NUM_USERS, NUM_USERS:]


def operator_of_dense(matrix, dtype):
    """Stores zeros too: matrices of one shape share their compiled programs."""
    rows, columns = matrix.shape
    stored = CsrMatrix(
        np.arange(rows + 1) * columns, np.tile(np.arange(columns), rows), matrix.ravel(), columns
    )
    return operator_of(stored, dtype=dtype)


def matrix_with(values, rows, columns, seed=0):
    """A dense matrix with given singular values, and its vectors."""
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(rng.normal(size=(rows, len(values))))[0]
    right = np.linalg.qr(rng.normal(size=(columns, len(values))))[0]
    return left * values @ right.T, left, right


def svd_arrays(operator, **settings_):
    return map(np.asarray, truncated_svd(operator, KEY, **settings_))


@given(pairs=pair_sets())
@settings(max_examples=40, deadline=None)
def test_of_full_rank_it_is_the_svd(pairs):
    """Isolated rows and columns, repeated and missing singular values included."""
    matrix = dense_interaction_block(*pairs)
    with jax.enable_x64(True):
        operator = operator_of_dense(matrix, jnp.float64)
        left, values, right = svd_arrays(operator, rank=NUM_USERS, dtype=jnp.float64)
    expected = np.linalg.svd(matrix, compute_uv=False)
    np.testing.assert_allclose(values, expected, atol=2 * NEGLIGIBLE)
    np.testing.assert_allclose(left * values @ right.T, matrix, atol=2 * NEGLIGIBLE)
    # Orthonormal where there is a value, zeros where there is none.
    present = np.diag((np.asarray(values) > 0).astype(float))
    np.testing.assert_allclose(left.T @ left, present, atol=1e-12)
    np.testing.assert_allclose(right.T @ right, present, atol=1e-12)


@given(pairs=pair_sets())
@settings(max_examples=20, deadline=None)
def test_whatever_was_captured_is_consistent(pairs):
    """Without oversampling or iterations: Mᵀ·left = right·values, and no value is too large."""
    matrix = dense_interaction_block(*pairs)
    with jax.enable_x64(True):
        operator = operator_of_dense(matrix, jnp.float64)
        left, values, right = svd_arrays(
            operator, rank=3, oversampling=0, iterations=0, dtype=jnp.float64
        )
    np.testing.assert_allclose(matrix.T @ left, right * values, atol=2 * NEGLIGIBLE)
    assert (np.diff(values) <= 0).all()
    assert (values <= np.linalg.svd(matrix, compute_uv=False)[:3] + 1e-12).all()


@pytest.mark.usefixtures("x64")
def test_iterations_converge_to_the_leading_subspaces():
    spectrum = 0.9 ** np.arange(30)
    matrix, *vectors = matrix_with(spectrum, 40, 60)
    operator = operator_of_dense(matrix, jnp.float64)

    def errors(iterations):
        left, values, right = svd_arrays(
            operator, rank=5, oversampling=3, iterations=iterations, dtype=jnp.float64
        )
        sines = [
            np.linalg.norm(found @ found.T - exact[:, :5] @ exact[:, :5].T, 2)
            for found, exact in zip((left, right), vectors, strict=True)
        ]
        return np.abs(values - spectrum[:5]).max(), max(sines)

    few, many = errors(1), errors(40)
    assert few[0] > many[0]
    # (σ_9/σ_5)^{2q+1} = 0.9^324 = 1.5e-15 for directions; values err by the square.
    assert many[0] < 1e-13
    assert many[1] < 1e-11


@pytest.mark.usefixtures("x64")
def test_accelerated_iterations_tell_close_values_apart():
    """Three of them capture what thirty others do not, and no value exceeds the true one."""
    spectrum = np.linspace(1, 0.7, 40)
    matrix, _, exact = matrix_with(spectrum, 50, 60)
    operator = operator_of_dense(matrix, jnp.float64)

    def captured(**settings_):
        _, values, right = svd_arrays(
            operator, rank=10, oversampling=10, dtype=jnp.float64, **settings_
        )
        assert (values <= spectrum[:10] + 1e-12).all()
        return np.square(exact[:, :10].T @ right).sum() / 10

    assert captured(iterations=3, accelerated=True) > max(0.999, captured(iterations=30))


@pytest.mark.parametrize("smallest", [1e-1, 1e-3, 0])
def test_accelerated_iterations_bear_any_span_of_values(smallest):
    """In float32, where a large growth would drown the small directions in rounding."""
    spectrum = np.geomspace(1, max(smallest, 1e-3), 12)
    spectrum[6:] *= smallest > 0
    matrix, _, exact = matrix_with(spectrum, 40, 60)
    found = truncated_svd(
        operator_of_dense(matrix, jnp.float32),
        KEY,
        rank=8,
        oversampling=2,
        iterations=4,
        accelerated=True,
    )
    np.testing.assert_allclose(found.values, spectrum[:8], atol=1e-5, rtol=2e-3)
    kept = np.asarray(found.right)[:, :5]
    np.testing.assert_allclose(np.square(exact[:, :5].T @ kept).sum(), 5, rtol=1e-4)


def test_float32_reaches_its_rounding():
    spectrum = np.array([1.0, 0.7, 0.5, 0.2, 0.1])
    matrix, _, right = matrix_with(spectrum, 40, 60)
    found = truncated_svd(operator_of_dense(matrix, jnp.float32), KEY, rank=5)
    assert {leaf.dtype for leaf in found} == {jnp.dtype(jnp.float32)}
    np.testing.assert_allclose(found.values, spectrum, atol=2e-6)
    np.testing.assert_allclose(found.right @ found.right.T, right @ right.T, atol=1e-4)


def test_rank_deficient_matrices_have_zeros_past_their_rank():
    # All users like all items: D_U^-½ R D_I^-½ is 1/√(UI) throughout, of rank 1 and value 1.
    users, items = np.indices((NUM_USERS, NUM_ITEMS)).reshape(2, -1)
    found = truncated_svd(interaction_operator(graph_of(users, items)), KEY, rank=4)
    np.testing.assert_allclose(found.values, [1, 0, 0, 0], atol=2e-6)
    np.testing.assert_allclose(found.left[:, 0], NUM_USERS**-0.5, rtol=1e-5)
    np.testing.assert_allclose(found.right[:, 0], NUM_ITEMS**-0.5, rtol=1e-5)
    assert not np.asarray(found.left)[:, 1:].any()
    assert not np.asarray(found.right)[:, 1:].any()


def test_the_largest_entry_of_each_right_vector_is_positive():
    right = np.asarray(
        truncated_svd(interaction_operator(graph_of(*random_pairs(1))), KEY, rank=5).right
    )
    largest = np.abs(right).argmax(axis=0)
    assert (right[largest, np.arange(5)] > 0).all()


def test_a_key_settles_the_result():
    matrix, _, _ = matrix_with(0.95 ** np.arange(30), 40, 60)
    operator = operator_of_dense(matrix, jnp.float32)

    def found(seed):
        return truncated_svd(operator, jax.random.key(seed), rank=5, oversampling=3, iterations=1)

    first, again, other = found(0), found(0), found(1)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert (np.asarray(first.values) != np.asarray(other.values)).any()


def test_the_operator_is_an_argument():
    operator = interaction_operator(graph_of(*random_pairs(1)))
    closed = jax.make_jaxpr(lambda op: truncated_svd(op, KEY, rank=3))(operator)
    assert all(np.size(constant) <= 1 for constant in closed.consts)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"rank": 0}, r"rank: expected 1 to 7 for an operator of shape \(7, 9\), got 0"),
        ({"rank": 8}, "rank: expected 1 to 7"),
        ({"rank": 2, "oversampling": -1}, "oversampling: expected 0 or more, got -1"),
        ({"rank": 2, "iterations": -1}, "iterations: expected 0 or more, got -1"),
    ],
)
def test_impossible_counts_are_refused(settings_, message):
    operator = interaction_operator(graph_of(*random_pairs(1)))
    with pytest.raises(InputError, match=message):
        truncated_svd(operator, KEY, **settings_)
