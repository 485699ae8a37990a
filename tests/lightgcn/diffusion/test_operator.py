"""The operator and its derivative are the dense products, whatever the storage."""

import contextlib
from collections import Counter

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
from hypothesis import given, settings

from lightgcn_jax.diffusion import diffuse, diffusion_operator, interaction_operator, operator_of
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph import TRANSPOSED, BipartiteGraph
from tests.lightgcn.covering import covering
from tests.lightgcn.diffusion.conftest import RUNNABLE
from tests.lightgcn.oracles import dense_normalized_adjacency, rounding_bound
from tests.lightgcn.programs import all_equations
from tests.lightgcn.worlds import (
    NUM_ITEMS,
    NUM_USERS,
    csr_of,
    graph_of,
    pair_sets,
    random_pairs,
    skewed_pairs,
)

NODES, DIM = NUM_USERS + NUM_ITEMS, 4
USERS, ITEMS = 10, 24  # of the skewed graph
PRECISIONS = [  # of weights and tables
    ("float32", "float32"),
    ("bfloat16", "bfloat16"),
    ("float32", "bfloat16"),
    ("bfloat16", "float32"),
    ("float64", "float64"),
]

every_normalization = pytest.mark.parametrize("normalization", TRANSPOSED)


@jax.jit
def applied(operator, x, cotangent):
    """M x, the derivative's Mᵀ g, and M x again by the transposed operator's derivative."""
    y, pullback = jax.vjp(lambda x: diffuse(operator, x), x)
    (x_bar,) = pullback(cotangent)
    _, pullback = jax.vjp(lambda g: diffuse(operator.transpose(), g), cotangent)
    return y, x_bar, pullback(x)[0]


once = jax.jit(diffuse)


@jax.jit
def squashed(operator, x):
    return jnp.tanh(diffuse(operator, x))


def bits(precision):
    """The mode that JAX must be in for numbers of this precision."""
    return jax.enable_x64(True) if "float64" in precision else contextlib.nullcontext()


def table(seed, nodes=NODES, dim=DIM):
    return np.random.default_rng(seed).normal(size=(nodes, dim))


def float32_table(seed, nodes=NODES):
    return jnp.asarray(table(seed, nodes), jnp.float32)


def skewed(normalization):
    """The graph of long, short and empty rows, and its normalised matrix by definition."""
    pairs = skewed_pairs(USERS, ITEMS)
    matrix = dense_normalized_adjacency(*pairs, USERS, ITEMS, normalization)
    return graph_of(*pairs, USERS, ITEMS), matrix


def check_products(operator, matrix, precision):
    rows, columns = matrix.shape
    assert operator.shape == (rows, columns)
    assert operator.transpose().shape == (columns, rows)
    x, cotangent = table(1, columns), table(2, rows)
    got = applied(operator, jnp.asarray(x, precision[1]), jnp.asarray(cotangent, precision[1]))
    for result, (factor, argument) in zip(
        got, [(matrix, x), (matrix.T, cotangent), (matrix, x)], strict=True
    ):
        assert result.dtype == precision[1]
        error = np.abs(np.asarray(result, np.float64) - factor @ argument)
        assert (error <= rounding_bound(factor, argument, *precision)).all(), error.max()


@pytest.mark.parametrize(
    ("normalization", "backend", "precision"),
    covering(
        {name: name for name in TRANSPOSED},
        {name: name for name in RUNNABLE},
        {f"{weights}-{tables}": (weights, tables) for weights, tables in PRECISIONS},
    ),
)
def test_value_and_gradient_are_the_dense_products(backend, precision, normalization):
    graph, matrix = skewed(normalization)
    with bits(precision):
        operator = diffusion_operator(
            graph, backend=backend, dtype=precision[0], normalization=normalization
        )
        check_products(operator, matrix, precision)


@every_normalization
def test_interactions_are_a_block_and_its_transpose(backend, normalization):
    graph, matrix = skewed(normalization)
    operator = interaction_operator(graph, backend=backend, normalization=normalization)
    check_products(operator, matrix[:USERS, USERS:], PRECISIONS[0])


def test_any_matrix_with_signs_and_empty_rows_and_columns(backend):
    rng = np.random.default_rng(5)
    matrix = rng.normal(size=(6, 11)) * (rng.random((6, 11)) < 0.4)
    matrix[2], matrix[:, 4] = 0, 0
    check_products(operator_of(csr_of(matrix), backend=backend), matrix, PRECISIONS[0])


# The exact derivative of every pair is tested above: here every storage and every normalisation is.
@pytest.mark.parametrize(
    ("backend", "normalization"),
    [
        pytest.param(
            backend,
            normalization,
            marks=() if backend == "csr" or normalization == "left" else pytest.mark.slow,
        )
        for backend in RUNNABLE
        for normalization in TRANSPOSED
    ],
)
@pytest.mark.usefixtures("x64")
def test_numerical_gradients(backend, normalization):
    pairs = random_pairs(2, 3, 4, density=0.5)
    graph = graph_of(*pairs, 3, 4)
    operator = diffusion_operator(
        graph, backend=backend, dtype=jnp.float64, normalization=normalization
    )
    jax.test_util.check_grads(
        lambda x: squashed(operator, x),
        (jnp.asarray(table(3, 7, 2)),),
        order=2 if normalization in ("symmetric", "left") else 1,
        modes=("rev",),
    )


@given(pairs=pair_sets(), normalization=st.sampled_from(list(TRANSPOSED)))
@settings(max_examples=10, deadline=None)
def test_random_graphs(backend, pairs, normalization):
    matrix = dense_normalized_adjacency(*pairs, NUM_USERS, NUM_ITEMS, normalization)
    operator = diffusion_operator(graph_of(*pairs), backend=backend, normalization=normalization)
    check_products(operator, matrix, PRECISIONS[0])


def test_jit_and_no_jit_agree(backend):
    pairs = random_pairs(2, 3, 4, density=0.5)
    operator = diffusion_operator(graph_of(*pairs, 3, 4), backend=backend, normalization="row")
    x = float32_table(1, 7)
    expected = dense_normalized_adjacency(*pairs, 3, 4, "row") @ np.asarray(x)
    for function in (diffuse, once):
        np.testing.assert_allclose(function(operator, x), expected, rtol=1e-5, atol=1e-6)


def test_one_edge_and_no_edge(backend):
    x = float32_table(0)
    y = once(diffusion_operator(graph_of(np.array([2]), np.array([3])), backend=backend), x)
    expected = np.zeros_like(x)
    expected[[2, NUM_USERS + 3]] = x[jnp.array([NUM_USERS + 3, 2])]  # both degrees are 1
    np.testing.assert_array_equal(y, expected)
    nothing = graph_of(np.array([], int), np.array([], int))
    for normalization in TRANSPOSED:
        operator = diffusion_operator(nothing, backend=backend, normalization=normalization)
        np.testing.assert_array_equal(once(operator, x), np.zeros_like(x))


@pytest.mark.parametrize("precision", [PRECISIONS[0], PRECISIONS[1], PRECISIONS[4]])
def test_star_has_its_analytic_answer(backend, precision):
    # One user with n items, degrees n and 1: every weight is 1/√n, and sums that ran in bfloat16
    # would stop growing after a few hundred items.
    n = 100_000
    star = BipartiteGraph.from_pairs(np.zeros(n, int), np.arange(n), num_users=1, num_items=n)
    with bits(precision):
        operator = diffusion_operator(star, backend=backend, dtype=precision[0])
        y = once(operator, jnp.ones((n + 1, 1), precision[1])).astype(float)
    unit = max(float(jnp.finfo(dtype).eps) for dtype in precision)
    # Sums of n positive terms, one after another, lose at most n units, mostly about √n.
    np.testing.assert_allclose(y[0], n**0.5, rtol=max(2 * unit, 1e-4))
    np.testing.assert_allclose(y[1:], n**-0.5, rtol=2 * unit)


@every_normalization
def test_renaming_nodes_renames_the_result(backend, normalization):
    users, items = random_pairs(6)
    rng = np.random.default_rng(0)
    new_user, new_item = rng.permutation(NUM_USERS), rng.permutation(NUM_ITEMS)
    place = np.concatenate([new_user, NUM_USERS + new_item])
    names = {"backend": backend, "normalization": normalization}
    x = np.asarray(float32_table(0))
    y = once(diffusion_operator(graph_of(users, items), **names), x)
    renamed = graph_of(new_user[users], new_item[items])
    moved = np.zeros_like(x)
    moved[place] = x
    moved_y = np.asarray(once(diffusion_operator(renamed, **names), moved))
    np.testing.assert_allclose(moved_y[place], y, rtol=1e-5, atol=1e-6)


def work(function, *arguments):
    """How often each kind of operation is done, but for moves of whole arrays."""
    moves = {"transpose", "reshape", "broadcast_in_dim", "jit", "pjit", "custom_vjp_call"}
    equations = all_equations(jax.make_jaxpr(function)(*arguments).jaxpr)
    return Counter(eqn.primitive.name for eqn in equations if eqn.primitive.name not in moves)


def test_vmap_over_tables_is_a_loop_in_one_wider_application(backend):
    graph, _ = skewed("left")
    operator = diffusion_operator(graph, backend=backend, normalization="left")
    tables = jnp.stack([float32_table(seed, USERS + ITEMS) for seed in range(3)])

    def value_and_gradient(x):
        y, pullback = jax.vjp(lambda x: diffuse(operator, x), x)
        return y, pullback(y)[0]

    batched = jax.jit(jax.vmap(value_and_gradient))
    for got, wanted in zip(
        batched(tables),
        zip(*(jax.jit(value_and_gradient)(x) for x in tables), strict=True),
        strict=True,
    ):
        np.testing.assert_allclose(got, np.stack(wanted), rtol=1e-5, atol=1e-6)
    # The operations of one application to a table of 3·D columns, none of them done three times.
    wide = jnp.concatenate(list(tables), axis=1)
    assert work(batched, tables) == work(value_and_gradient, wide)
    widths = {
        eqn.outvars[0].aval.shape[-1]
        for eqn in all_equations(jax.make_jaxpr(batched)(tables).jaxpr)
        if eqn.primitive.name in {"gather", "scatter-add", "bcsr_dot_general", "bcoo_dot_general"}
        and eqn.outvars[0].aval.ndim == 2
    }
    assert widths <= {3 * DIM}


def test_nested_vmap(backend):
    operator = diffusion_operator(graph_of(*random_pairs(5)), backend=backend)
    tables = jnp.stack([float32_table(seed) for seed in range(6)]).reshape(3, 2, NODES, DIM)
    nested = jax.jit(jax.vmap(jax.vmap(lambda x: diffuse(operator, x))))
    expected = np.stack([[once(operator, x) for x in row] for row in tables])
    np.testing.assert_allclose(nested(tables), expected, rtol=1e-5, atol=1e-6)
    assert work(nested, tables) == work(diffuse, operator, jnp.concatenate([*tables[:, 0]], axis=1))


def test_vmap_over_operators_is_a_loop(backend):
    # One structure, two sets of weights, alone and beside an outer vmap over tables.
    graph = graph_of(*random_pairs(5))
    operators = [
        diffusion_operator(graph, backend=backend, normalization=normalization)
        for normalization in ("row", "left")
    ]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *operators)
    tables = jnp.stack([float32_table(seed) for seed in range(4)]).reshape(2, 2, NODES, DIM)
    expected = [[once(m, x) for m, x in zip(operators, row, strict=True)] for row in tables]
    got = jax.jit(jax.vmap(jax.vmap(diffuse), (None, 0)))(stacked, tables)
    np.testing.assert_allclose(got, np.array(expected), rtol=1e-5, atol=1e-6)
    shared = jax.jit(jax.vmap(diffuse, (0, None)))(stacked, tables[0, 0])
    expected = [once(m, tables[0, 0]) for m in operators]
    np.testing.assert_allclose(shared, np.array(expected), rtol=1e-5, atol=1e-6)


def test_edge_weights_have_no_gradient_and_say_so(backend):
    operator = diffusion_operator(graph_of(*random_pairs(2)), backend=backend)
    x = float32_table(0)
    with pytest.raises(TypeError, match="edge weights are constants without a gradient"):
        jax.eval_shape(jax.grad(lambda op: diffuse(op, x).sum(), allow_int=True), operator)


def test_there_is_no_forward_mode():
    operator = diffusion_operator(graph_of(*random_pairs(2)))
    x = float32_table(0)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda x: diffuse(operator, x), (x,), (x,))


@pytest.mark.parametrize(
    ("shape", "rows"), [((NUM_USERS, 3), NUM_ITEMS), ((NUM_ITEMS,), NUM_ITEMS)]
)
def test_tables_of_another_shape_are_refused(shape, rows):
    operator = interaction_operator(graph_of(*random_pairs(2)))
    with pytest.raises(
        InputError, match=rf"x: expected a table of {rows} rows .* got shape \({shape[0]},"
    ):
        diffuse(operator, jnp.ones(shape))


def test_unknown_normalization_is_refused():
    with pytest.raises(InputError, match=r"normalization: expected one of .*'column'.*got 'mean'"):
        diffusion_operator(graph_of(*random_pairs(2)), normalization="mean")


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.bool_])
def test_weights_that_are_not_numbers_with_fractions_are_refused(backend, dtype):
    with pytest.raises(InputError, match=r"dtype: expected a floating-point type"):
        diffusion_operator(graph_of(*random_pairs(2)), backend=backend, dtype=dtype)


def test_tables_of_whole_numbers_are_refused():
    operator = diffusion_operator(graph_of(*random_pairs(2)))
    with pytest.raises(InputError, match=r"x: expected a floating-point type, got int32"):
        diffuse(operator, jnp.ones((NODES, DIM), jnp.int32))


def test_what_is_not_finite_stays_with_its_neighbours(backend):
    users, items = skewed_pairs()
    operator = diffusion_operator(graph_of(users, items, 10, 24), backend=backend)
    x = np.ones((34, DIM), np.float32)
    # Node 10 + i: the first entry of the whole matrix is read by whoever pads with entry 0.
    first = 10 + items[users == users.min()].min()
    x[first] = np.nan
    lost = np.isnan(np.asarray(once(operator, x))).any(axis=1)
    expected = np.zeros(34, bool)
    expected[users[items == first - 10]] = True
    np.testing.assert_array_equal(lost, expected)
