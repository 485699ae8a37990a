import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
from hypothesis import given, settings

from lightgcn_jax.diffusion import (
    STORAGES,
    choose_backend,
    diffuse,
    diffusion_operator,
    multiscale,
    uniform_alphas,
)
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph import BipartiteGraph
from tests.lightgcn.oracles import dense_multiscale, dense_normalized_adjacency
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of, pair_sets, random_pairs

NODES, DIM = NUM_USERS + NUM_ITEMS, 4
ALPHAS = (0.4, 0.3, 0.2, 0.1)

backends = pytest.mark.parametrize("backend", sorted(STORAGES))


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def table(seed=0, nodes=NODES, dim=DIM):
    return np.random.default_rng(seed).normal(size=(nodes, dim))


@backends
@given(pairs=pair_sets())
@settings(max_examples=25, deadline=None)
def test_application_is_the_dense_product(backend, pairs):
    operator = diffusion_operator(graph_of(*pairs), backend=backend)
    x = table().astype(np.float32)
    expected = dense_normalized_adjacency(*pairs, NUM_USERS, NUM_ITEMS) @ x
    for function in (diffuse, jax.jit(diffuse)):
        np.testing.assert_allclose(function(operator, x), expected, rtol=2e-6, atol=2e-6)


@backends
@pytest.mark.usefixtures("x64")
def test_multiscale_value_and_gradients_match_float64_oracle(backend):
    pairs = random_pairs(1)
    matrix = dense_normalized_adjacency(*pairs, NUM_USERS, NUM_ITEMS)
    operator = diffusion_operator(graph_of(*pairs), backend=backend, dtype=jnp.float64)
    x, cotangent = jnp.asarray(table(1)), table(2)
    y, pullback = jax.vjp(lambda x, a: multiscale(operator, x, a), x, jnp.array(ALPHAS))
    np.testing.assert_allclose(y, dense_multiscale(matrix, x, ALPHAS), rtol=1e-12)
    x_bar, alpha_bar = pullback(jnp.asarray(cotangent))
    # Ã is symmetric, so the transposed map is the same polynomial of Ã.
    np.testing.assert_allclose(x_bar, dense_multiscale(matrix, cotangent, ALPHAS), rtol=1e-11)
    powers = [np.linalg.matrix_power(matrix, k) @ np.asarray(x) for k in range(len(ALPHAS))]
    np.testing.assert_allclose(alpha_bar, [(cotangent * p).sum() for p in powers], rtol=1e-11)


@backends
@pytest.mark.usefixtures("x64")
def test_numerical_gradients_to_second_order(backend):
    operator = diffusion_operator(graph_of(*random_pairs(2)), backend=backend, dtype=jnp.float64)
    jax.test_util.check_grads(
        lambda x, a: jnp.tanh(multiscale(operator, x, a)),
        (jnp.asarray(table(3)), jnp.array(ALPHAS)),
        order=2,
        modes=("rev",),
    )


@backends
def test_edge_weights_have_no_gradient_and_say_so(backend):
    operator = diffusion_operator(graph_of(*random_pairs(2)), backend=backend)
    x = jnp.asarray(table(), jnp.float32)
    with pytest.raises(TypeError, match="edge weights are constants without a gradient"):
        jax.grad(lambda op: diffuse(op, x).sum(), allow_int=True)(operator)


@backends
def test_there_is_no_forward_mode(backend):
    operator = diffusion_operator(graph_of(*random_pairs(2)), backend=backend)
    x = jnp.asarray(table(), jnp.float32)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda x: diffuse(operator, x), (x,), (x,))


def all_equations(jaxpr):
    """Every equation that runs, those of inner programs each time they are called."""
    for eqn in jaxpr.eqns:
        yield eqn
        for value in eqn.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from all_equations(inner)


@backends
def test_vmap_over_tables_is_a_loop_in_one_wider_application(backend):
    operator = diffusion_operator(graph_of(*random_pairs(4)), backend=backend)
    tables = jnp.asarray(np.stack([table(s) for s in range(3)]), jnp.float32)

    def loss(x):
        return (multiscale(operator, x, ALPHAS) ** 2).sum()

    batched = jax.jit(jax.vmap(jax.value_and_grad(loss)))
    values, gradients = batched(tables)
    for index, x in enumerate(tables):
        value, gradient = jax.value_and_grad(loss)(x)
        np.testing.assert_allclose(values[index], value, rtol=1e-5)
        np.testing.assert_allclose(gradients[index], gradient, rtol=1e-4, atol=1e-5)
    # Six applications, each 3·D wide and none D wide: the tables were joined, not looped over.
    kernel = {"csr": "bcsr_dot_general", "segment": "scatter-add"}[backend]
    equations = list(all_equations(jax.make_jaxpr(batched)(tables).jaxpr))
    shapes = [eqn.outvars[0].aval.shape for eqn in equations if eqn.primitive.name == kernel]
    assert shapes == [(NODES, 3 * DIM)] * 6
    assert not {"scan", "while"} & {eqn.primitive.name for eqn in equations}


@backends
def test_nested_vmap_and_vmap_over_graphs(backend):
    graphs = [graph_of(*random_pairs(seed)) for seed in (5, 5)]
    operators = [diffusion_operator(graph, backend=backend) for graph in graphs]
    tables = jnp.asarray(np.stack([table(s) for s in range(4)]), jnp.float32).reshape(
        2, 2, NODES, DIM
    )
    expected = np.stack([[diffuse(operators[0], x) for x in row] for row in tables])
    nested = jax.vmap(jax.vmap(lambda x: diffuse(operators[0], x)))(tables)
    np.testing.assert_allclose(nested, expected, rtol=1e-5, atol=1e-6)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *operators)
    np.testing.assert_allclose(
        jax.vmap(diffuse)(stacked, tables[0]), expected[0], rtol=1e-5, atol=1e-6
    )


@backends
def test_renaming_nodes_renames_the_result(backend):
    users, items = random_pairs(6)
    rng = np.random.default_rng(0)
    new_user, new_item = rng.permutation(NUM_USERS), rng.permutation(NUM_ITEMS)
    place = np.concatenate([new_user, NUM_USERS + new_item])
    x = table().astype(np.float32)
    y = diffuse(diffusion_operator(graph_of(users, items), backend=backend), x)
    renamed = diffusion_operator(graph_of(new_user[users], new_item[items]), backend=backend)
    moved = np.zeros_like(x)
    moved[place] = x
    np.testing.assert_allclose(diffuse(renamed, moved)[place], y, rtol=1e-6, atol=1e-6)


@backends
def test_star_has_its_analytic_answer(backend):
    # One user with n items, degrees n and 1: every weight is 1/√n.
    n = 100_000
    graph = BipartiteGraph.from_pairs(np.zeros(n, int), np.arange(n), num_users=1, num_items=n)
    operator = diffusion_operator(graph, backend=backend)
    x = np.ones((n + 1, 1), np.float32)
    y = np.asarray(diffuse(operator, x))
    np.testing.assert_allclose(y[0], n**0.5, rtol=1e-4)
    np.testing.assert_allclose(y[1:], n**-0.5, rtol=1e-6)


@backends
def test_isolated_nodes_stay_finite(backend):
    graph = graph_of(np.array([2]), np.array([3]))
    y = diffuse(diffusion_operator(graph, backend=backend), table().astype(np.float32))
    assert np.isfinite(y).all()
    linked = [2, NUM_USERS + 3]
    assert not np.delete(np.asarray(y), linked, axis=0).any()


def test_the_graph_is_an_argument_not_a_constant():
    operator = diffusion_operator(graph_of(*random_pairs(1)))
    x = jnp.asarray(table(), jnp.float32)
    closed = jax.make_jaxpr(lambda op, x: multiscale(op, x, ALPHAS))(operator, x)
    assert all(np.size(constant) <= len(ALPHAS) for constant in closed.consts)


def test_gradient_keeps_no_residual_per_edge_or_layer():
    """What the backward pass keeps of x is nothing: its residuals are the graph's own arrays."""
    operator = diffusion_operator(graph_of(*random_pairs(1)))
    x = jnp.asarray(table(), jnp.float32)
    _, pullback = jax.vjp(lambda x: multiscale(operator, x, ALPHAS), x)
    graph_arrays = {leaf.shape for leaf in jax.tree.leaves(operator)}
    kept = [leaf.shape for leaf in jax.tree.leaves(pullback) if hasattr(leaf, "shape")]
    assert all(shape in graph_arrays or shape == () for shape in kept), kept


def test_csr_runs_the_native_kernel_on_cpu():
    operator = diffusion_operator(graph_of(*random_pairs(1)), backend="csr")
    x = jnp.asarray(table(), jnp.float32)
    compiled = jax.jit(diffuse).lower(operator, x).compile().as_text()
    assert "cpu_csr_sparse_dense" in compiled


def test_uniform_alphas_and_k_zero():
    assert uniform_alphas(3) == (0.25, 0.25, 0.25, 0.25)
    operator = diffusion_operator(graph_of(*random_pairs(1)))
    x = jnp.asarray(table(), jnp.float32)
    np.testing.assert_array_equal(multiscale(operator, x, uniform_alphas(0)), x)


def test_backends_by_name():
    assert choose_backend("auto", "cpu") == "csr"
    assert choose_backend("auto", "tpu") == "segment"
    assert choose_backend("segment", "cpu") == "segment"
    with pytest.raises(InputError, match=r"expected auto or one of .*got 'dense'"):
        choose_backend("dense")
