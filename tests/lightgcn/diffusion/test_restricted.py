"""The rows of a mini-batch: the same values and gradients as the whole table's."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from lightgcn_jax.diffusion import (
    Restriction,
    diffusion_operator,
    multiscale,
    multiscale_rows,
    obstacles,
)
from lightgcn_jax.errors import InputError
from tests.lightgcn.covering import covering
from tests.lightgcn.programs import all_equations
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of, random_pairs

NODES, DIM = NUM_USERS + NUM_ITEMS, 4
ALPHAS = (0.4, 0.3, 0.2, 0.1)
# Node 3 twice.
ROWS = jnp.array([3, 3, 0, 12, 9], jnp.int32)

# Those that can multiply single rows.
BACKENDS = [name for name in ("native", "csr") if obstacles("cpu")[name] is None]

pytestmark = pytest.mark.usefixtures("x64")


def table(seed, rows=NODES):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(rows, DIM)))


def restricted(operator, restriction):
    return dataclasses.replace(operator, restriction=restriction)


def loss_of(operator, restriction):
    operator, weights = restricted(operator, restriction), table(1, len(ROWS))

    def rows_alone(x, alphas):
        return (jnp.tanh(multiscale_rows(operator, x, alphas, ROWS)) * weights).sum()

    def whole_table(x, alphas):
        return (jnp.tanh(multiscale(operator, x, alphas)[ROWS]) * weights).sum()

    return rows_alone, whole_table


# The whole table, room for the batch's entries, for the forward pass alone, and too little room.
RESTRICTIONS = {
    "whole": None,
    "picked": Restriction(100, True),
    "picked-forward": Restriction(100, False),
    "overflow": Restriction(2, True),
}


@functools.partial(jax.jit, static_argnames="restriction")
def gradients(operator, restriction, x, alphas):
    """Of the rows alone and of the whole table by both, and of the rows alone by x."""
    rows_alone, whole_table = loss_of(operator, restriction)
    by_both = [jax.value_and_grad(loss, (0, 1))(x, alphas) for loss in (rows_alone, whole_table)]
    # Constant alphas take another way: nothing of the table is kept.
    return *by_both, jax.grad(rows_alone)(x, alphas)


@pytest.mark.parametrize(
    ("restriction", "backend", "normalization"),
    covering(
        RESTRICTIONS,
        {name: name for name in BACKENDS},
        {"symmetric": "symmetric", "left": "left"},
    ),
)
def test_rows_alone_are_the_rows_of_the_whole(restriction, normalization, backend):
    operator = diffusion_operator(
        graph_of(*random_pairs(1)),
        backend=backend,
        dtype=jnp.float64,
        normalization=normalization,
    )
    for alphas in (ALPHAS, (0.3, 0.7), (0.5,)):
        got, expected, by_x = gradients(operator, restriction, table(0), jnp.array(alphas))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), got, expected)
        np.testing.assert_allclose(by_x, expected[1][0], rtol=1e-9, atol=1e-15)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("restriction", [None, Restriction(100, True)], ids=["whole", "picked"])
def test_numerical_gradients_to_second_order(restriction, backend):
    operator = diffusion_operator(graph_of(*random_pairs(2)), backend=backend, dtype=jnp.float64)
    rows_alone, _ = loss_of(operator, restriction)
    jax.test_util.check_grads(
        jax.jit(rows_alone), (table(0), jnp.array(ALPHAS)), order=2, modes=("rev",)
    )


def test_nothing_of_the_size_of_the_table_is_kept_for_the_gradient():
    operator = diffusion_operator(graph_of(*random_pairs(1)), backend="csr", dtype=jnp.float64)
    for alphas in (ALPHAS, 2 * ALPHAS):
        _, pullback = jax.vjp(
            lambda x, a: multiscale_rows(operator, x, a, ROWS), table(0), jnp.array(alphas)
        )
        kept = [leaf.shape for leaf in jax.tree.leaves(pullback) if hasattr(leaf, "shape")]
        assert (NODES, DIM) not in kept


def test_a_restricted_application_reads_no_more_than_its_capacity():
    operator = diffusion_operator(graph_of(*random_pairs(1)), backend="csr", dtype=jnp.float64)
    capacity = int(operator.storage.row_lengths(ROWS).sum())
    degrees = np.diff(np.asarray(operator.storage.offsets))
    assert capacity == degrees[np.asarray(ROWS)].sum()
    exact = restricted(operator, Restriction(capacity, True))
    got = multiscale_rows(exact, table(0), ALPHAS, ROWS)
    expected = multiscale(operator, table(0), ALPHAS)[ROWS]
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    program = jax.make_jaxpr(multiscale_rows)(exact, table(0), jnp.array(ALPHAS), ROWS)
    products = [
        eqn.invars[0].aval.shape
        for eqn in all_equations(program.jaxpr)
        if eqn.primitive.name == "bcsr_dot_general"
    ]
    # The loop's body, then both branches of the condition.
    assert sorted(products) == sorted([operator.storage.weights.shape] * 2 + [(capacity,)])


def test_the_rule():
    operator = diffusion_operator(graph_of(*random_pairs(1)), backend="csr", dtype=jnp.float64)
    entries = len(operator.storage.columns)
    assert operator.restriction is None
    assert operator.planned_for(entries / 2).restriction is None
    planned = operator.planned_for(entries / 4)
    assert planned.restriction == Restriction(int(np.ceil(entries / 3.2)), False)
    assert planned.planned_for(entries / 32).restriction.backward
    # A second plan takes the place of the first, and the other ways to an operator keep it.
    assert planned.planned_for(entries).restriction is None
    assert planned.transpose().restriction == planned.restriction
    # A kernel that reads single rows at little cost is asked to more often.
    assert all(
        diffusion_operator(graph_of(*random_pairs(1)), backend=name)
        .planned_for(entries / 4)
        .restriction.backward
        for name in BACKENDS
        if name != "csr"
    )
    other = diffusion_operator(graph_of(*random_pairs(1)), backend="segment", dtype=jnp.float64)
    assert other.planned_for(0).restriction is None


def test_operators_that_are_planned_alike_share_a_program_and_others_do_not():
    operator = diffusion_operator(graph_of(*random_pairs(1)), backend="csr", dtype=jnp.float64)
    entries, traces = operator.storage.num_entries, []

    @jax.jit
    def rows_alone(operator, x):
        traces.append(operator.restriction)
        return multiscale_rows(operator, x, ALPHAS, ROWS)

    for expected in (entries / 4, entries / 4, entries, 2 * entries):
        rows_alone(operator.planned_for(expected), table(0))
    assert traces == [operator.planned_for(entries / 4).restriction, None]


def test_cotangents_of_a_row_that_is_read_often_add_up_in_float32():
    operator = diffusion_operator(graph_of(*random_pairs(1)), backend="csr")
    rows = jnp.full(3000, 2, jnp.int32)
    x = jnp.ones((NODES, DIM), jnp.bfloat16)
    of_sum = jax.jit(jax.grad(lambda x: multiscale_rows(operator, x, ALPHAS, rows).sum()))
    gradient, exact = of_sum(x), of_sum(x.astype(float))
    # A rounding of 2^-9 at each of four scales, where bfloat16 sums would end at 256.
    np.testing.assert_allclose(gradient.astype(float), exact, rtol=2.0**-6)


def test_no_rows():
    operator = diffusion_operator(graph_of(*random_pairs(1)), backend="csr", dtype=jnp.float64)
    none = jnp.zeros(0, jnp.int32)
    planned = restricted(operator, Restriction(10, True))
    assert multiscale_rows(planned, table(0), ALPHAS, none).shape == (0, 4)


def test_sums_over_scales_ask_for_whole_products():
    # Where nothing is asked for, TPU and recent GPU round float32 factors to fewer bits.
    operator = diffusion_operator(graph_of(*random_pairs(1)), backend="csr")
    x, alphas = table(0).astype(jnp.float32), jnp.array(ALPHAS, jnp.float32)
    gradient = jax.value_and_grad(
        lambda x, alphas: multiscale_rows(operator, x, alphas, ROWS).sum(), (0, 1)
    )
    products = [
        eqn.params["precision"]
        for eqn in all_equations(jax.make_jaxpr(gradient)(x, alphas).jaxpr)
        if eqn.primitive.name == "dot_general"
    ]
    # One for the value, one for the gradient of alphas.
    assert len(products) == 2
    assert set(products) == {(jax.lax.Precision.HIGHEST,) * 2}


@pytest.mark.parametrize("number", [float, np.float32, np.int64, jnp.float32], ids=str)
def test_expected_entries_are_any_number(number):
    operator = diffusion_operator(graph_of(*random_pairs(1)), backend="csr", dtype=jnp.float64)
    expected = operator.planned_for(4).restriction
    assert expected == Restriction(5, False)
    assert operator.planned_for(number(4)).restriction == expected
    assert hash(operator.planned_for(number(4)).restriction) == hash(expected)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((NODES, DIM), np.int32), "x: expected a floating-point type, got int32"),
        (np.ones((NODES - 1, DIM)), rf"x: expected a table of {NODES} rows .* \({NODES - 1}, 4\)"),
        (np.ones(NODES), rf"x: expected a table of {NODES} rows .*got shape \({NODES},\)"),
    ],
)
@pytest.mark.parametrize("alphas", [(0.5,), ALPHAS])
def test_tables_that_do_not_fit_are_refused_however_few_the_layers(x, message, alphas):
    operator = diffusion_operator(graph_of(*random_pairs(1)), dtype=jnp.float64)
    for function in (multiscale, lambda *arguments: multiscale_rows(*arguments, ROWS)):
        with pytest.raises(InputError, match=message):
            function(operator, x, alphas)
