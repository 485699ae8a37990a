"""An operator is open: storages of one's own, the matrix itself, and products with any array."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightgcn_jax.diffusion import (
    diffuse,
    diffusion_operator,
    drop_edges,
    interaction_operator,
    multiscale,
    multiscale_rows,
    operator_of,
)
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph import TRANSPOSED
from tests.lightgcn.oracles import dense_multiscale, dense_normalized_adjacency
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, csr_of, graph_of, random_pairs

PAIRS, NODES = random_pairs(1), NUM_USERS + NUM_ITEMS
ALPHAS = (0.5, 0.3, 0.2)
GRAPH = graph_of(*PAIRS)


@flax.struct.dataclass
class DenseStorage:
    """The least that a storage needs."""

    matrix: jax.Array
    shape: tuple[int, int] = flax.struct.field(pytree_node=False)

    @classmethod
    def from_csr(cls, matrix, dtype, *, rescalable=False):
        del rescalable
        return cls(jnp.asarray(matrix.as_scipy().toarray(), dtype), matrix.shape)

    def multiply(self, x):
        return (self.matrix @ x).astype(x.dtype)


class Scaled:
    """A maker with settings: an instance makes storages of another class."""

    def __init__(self, factor):
        self.factor = factor

    def from_csr(self, matrix, dtype, *, rescalable=False):
        del rescalable
        return DenseStorage(
            self.factor * jnp.asarray(matrix.as_scipy().toarray(), dtype), matrix.shape
        )


def dense(normalization="symmetric"):
    return dense_normalized_adjacency(*PAIRS, NUM_USERS, NUM_ITEMS, normalization)


def table(seed=0, rows=NODES, dim=3):
    return np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)


@pytest.mark.parametrize("normalization", TRANSPOSED)
def test_every_storage_materialises_its_matrix_and_the_transpose(backend, normalization):
    operator = diffusion_operator(GRAPH, backend=backend, normalization=normalization)
    np.testing.assert_allclose(operator.materialise(), dense(normalization), rtol=1e-6)
    transposed = operator.transpose().materialise()
    np.testing.assert_allclose(transposed, dense(normalization).T, rtol=1e-6)


def test_a_block_materialises_with_rows_for_users(backend):
    block = interaction_operator(GRAPH, backend=backend).materialise()
    assert block.shape == (NUM_USERS, NUM_ITEMS)
    np.testing.assert_allclose(block, dense()[:NUM_USERS, NUM_USERS:], rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_in_64_bit_mode_the_matrix_is_exact():
    matrix = diffusion_operator(GRAPH, dtype=jnp.float64).materialise()
    assert matrix.dtype == jnp.float64
    np.testing.assert_allclose(matrix, dense(), rtol=1e-15)


def test_products_take_arrays_of_numpy_and_jax_and_lists(backend):
    operator, x = diffusion_operator(GRAPH, backend=backend), table()
    expected = dense() @ x
    for argument in (x, jnp.asarray(x), x.astype(np.float64), x.tolist()):
        for product in (operator @ argument, diffuse(operator, argument)):
            assert isinstance(product, jax.Array)
            assert product.dtype == jnp.float32
            np.testing.assert_allclose(product, expected, rtol=1e-5, atol=1e-6)
        few = multiscale_rows(operator, argument, np.array(ALPHAS), [2, 5])
        whole = multiscale(operator, argument, np.array(ALPHAS))
        np.testing.assert_allclose(
            whole, dense_multiscale(dense(), x, ALPHAS), rtol=1e-5, atol=1e-6
        )
        np.testing.assert_allclose(few, whole[np.array([2, 5])], rtol=1e-5, atol=1e-6)


def test_what_is_no_table_of_numbers_is_refused():
    operator = diffusion_operator(GRAPH)
    with pytest.raises(InputError, match=rf"x: expected a table of {NODES} rows .* \({NODES},\)"):
        _ = operator @ np.ones(NODES)
    with pytest.raises(InputError, match="x: expected a floating-point type, got int32"):
        _ = operator @ np.ones((NODES, 2), np.int32)


@pytest.mark.parametrize("normalization", ["symmetric", "row"])
def test_a_storage_of_ones_own_gives_values_and_gradients(normalization):
    operator = diffusion_operator(GRAPH, backend=DenseStorage, normalization=normalization)
    matrix, x, cotangent = dense(normalization), table(0), table(1)
    np.testing.assert_allclose(operator.materialise(), matrix, rtol=1e-6)
    y, pullback = jax.vjp(lambda x: multiscale(operator, x, ALPHAS), jnp.asarray(x))
    np.testing.assert_allclose(y, dense_multiscale(matrix, x, ALPHAS), rtol=1e-5, atol=1e-6)
    expected = dense_multiscale(matrix.T, cotangent, ALPHAS)
    np.testing.assert_allclose(pullback(cotangent)[0], expected, rtol=1e-5, atol=1e-6)
    # It can't multiply single rows: nothing is restricted, and rows are read from the whole.
    planned = operator.planned_for(1)
    assert planned.restriction is None
    rows = multiscale_rows(planned, x, ALPHAS, np.array([3, 3, 0]))
    np.testing.assert_allclose(rows, y[np.array([3, 3, 0])], rtol=1e-6, atol=1e-7)


def test_operators_of_any_matrix_take_a_storage_of_ones_own():
    matrix = np.random.default_rng(0).normal(size=(4, 6))
    operator = operator_of(csr_of(matrix), backend=DenseStorage)
    np.testing.assert_allclose(operator.materialise(), matrix, rtol=1e-6)
    np.testing.assert_allclose(operator.transpose().materialise(), matrix.T, rtol=1e-6)
    block = interaction_operator(GRAPH, backend=DenseStorage)
    np.testing.assert_allclose(block.materialise(), dense()[:NUM_USERS, NUM_USERS:], rtol=1e-6)


def test_an_instance_with_settings_makes_storages():
    operator = diffusion_operator(GRAPH, backend=Scaled(2.0))
    np.testing.assert_allclose(operator.materialise(), 2 * dense(), rtol=1e-6)


class Unregistered:
    """JAX sees no arrays in it."""

    shape = (NODES, NODES)

    @classmethod
    def from_csr(cls, *_, **__):
        return cls()

    def multiply(self, x):
        return x


class WrongShape(DenseStorage):
    @classmethod
    def from_csr(cls, *_, **__):
        return DenseStorage(jnp.zeros((3, 3)), (3, 3))


class Elsewhere(DenseStorage):
    @classmethod
    def obstacle(cls, platform):
        return None if platform == "tpu" else "this kernel is for tpu"


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        (3, r"backend: expected auto, one of \['native'.* or a storage with a method .*, got 3"),
        (Unregistered, r"from_csr of .*Unregistered.* to make a pytree of arrays"),
        (WrongShape, rf"a storage of shape \({NODES}, {NODES}\) .*, got shape \(3, 3\)"),
        (Elsewhere, r"Elsewhere.* can't run on cpu: this kernel is for tpu"),
    ],
)
def test_what_is_no_storage_is_refused(backend, message):
    with pytest.raises(InputError, match=message):
        diffusion_operator(GRAPH, backend=backend)


def test_edge_dropout_needs_a_storage_that_can_be_scaled():
    with pytest.raises(InputError, match=r"a method scaled for edge dropout, got .*DenseStorage"):
        diffusion_operator(GRAPH, backend=DenseStorage, edge_dropout=True)
    with pytest.raises(InputError, match="operator: expected one made with edge_dropout=True"):
        drop_edges(jax.random.key(0), diffusion_operator(GRAPH, backend=DenseStorage), 0.5)
