"""Log-sums of exponentials of products and their gradients beside float64, on every instruction
set."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from lightgcn_jax.diffusion import obstacles
from lightgcn_jax.diffusion.native import LogSumTerms, log_sums

OBSTACLE = obstacles("cpu")["native"]
pytestmark = pytest.mark.skipif(OBSTACLE is not None, reason=f"native: {OBSTACLE}")

compiled = jax.jit(log_sums)


def random_terms(rows, count, dim, dtype=np.float32, seed=0):
    """Terms, of which every fifth query has none; which items count; factors."""
    rng = np.random.default_rng(seed)
    queries, items = rng.normal(size=(rows, dim)), rng.normal(size=(count, dim))
    first, valid = rng.normal(size=rows), rng.random((rows, count)) < 0.7
    first[::2], valid[::5] = -np.inf, False
    first[5::10] = 0.5
    terms = LogSumTerms(queries / np.sqrt(dim), items, rng.normal(size=count), first)
    return (
        LogSumTerms(*(one.astype(dtype) for one in terms)),
        valid,
        rng.normal(size=rows).astype(dtype),
    )


def written_out(terms, valid, factors):
    """The log-sums and the four gradients in float64."""
    queries, items, added, first = (one.astype(float) for one in terms)
    scores = np.where(valid, queries @ items.T + added, -np.inf)
    every = np.concatenate([first[:, None], scores], axis=1)
    empty = (every == -np.inf).all(axis=1)
    sums = np.where(empty, 0, scipy.special.logsumexp(every, axis=1))
    shares = factors.astype(float)[:, None] * np.exp(every - sums[:, None])
    by_first, of_items = shares[:, 0], shares[:, 1:]
    return [sums, of_items @ items, of_items.T @ queries, of_items.sum(axis=0), by_first]


@pytest.mark.usefixtures("x64", "instructions")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
# Nothing; less than a register, a tile, a block; all of them and a rest; sums of several runs.
@pytest.mark.parametrize(
    ("rows", "count", "dim"),
    [(0, 3, 2), (4, 0, 2), (1, 1, 1), (7, 5, 3), (50, 16, 17), (101, 70, 64), (1_000, 257, 100)],
)
def test_log_sums_and_gradients_are_those_of_the_equation(dtype, rows, count, dim):
    terms, valid, factors = random_terms(rows, count, dim, dtype)
    sums, slopes = compiled(terms, valid, factors)
    expected = written_out(terms, valid, factors)
    assert sums.dtype == dtype
    for number, (found, exact) in enumerate(zip([sums, *slopes], expected, strict=True)):
        # Those by items are sums over the queries.
        size = np.sqrt(max(1, rows)) if number in (2, 3) else 1
        bound = 60 * np.finfo(dtype).eps * size
        np.testing.assert_allclose(found, exact, rtol=20 * np.finfo(dtype).eps, atol=bound)


def test_what_does_not_count_has_a_gradient_of_zero_exactly():
    terms, valid, factors = random_terms(30, 40, 8)
    valid[:, 7] = False
    _, slopes = compiled(terms, valid, factors)
    assert (np.asarray(slopes.items)[7] == 0).all()
    assert slopes.added[7] == 0
    assert (np.asarray(slopes.items)[8] != 0).all()


@pytest.mark.parametrize("shift", [-1e4, 1e4])
def test_scores_of_any_size_neither_overflow_nor_vanish(shift):
    terms, valid, factors = random_terms(30, 40, 8)
    moved = terms._replace(added=terms.added + np.float32(shift), first=np.full(30, -np.inf, "f"))
    found, slopes = compiled(moved, valid, factors)
    expected = written_out(moved, valid, factors)
    np.testing.assert_allclose(found, expected[0], rtol=1e-6)
    # At such a score a float32 has three digits behind the point.
    np.testing.assert_allclose(slopes.queries, expected[1], rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_is_not_hidden(bad):
    terms, valid, factors = random_terms(30, 40, 8)
    valid[:] = True
    terms.queries[3, 2] = bad
    sums, slopes = compiled(terms, valid, factors)
    assert not np.isfinite(np.asarray(sums)[3])
    assert np.isfinite(np.delete(np.asarray(sums), 3)).all()
    assert not np.isfinite(np.asarray(slopes.items)).any()


def test_under_vmap_every_batch_is_its_own():
    batches = [random_terms(20, 30, 8, seed=seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)
    found = jax.jit(jax.vmap(log_sums))(*stacked)
    for number, batch in enumerate(batches):
        leaves = jax.tree.leaves(found), jax.tree.leaves(compiled(*batch))
        for one, other in zip(*leaves, strict=True):
            np.testing.assert_array_equal(one[number], other)


def test_shapes_that_do_not_fit_are_refused():
    terms, valid, factors = random_terms(4, 3, 2)
    with pytest.raises(jax.errors.JaxRuntimeError, match="valid: expected a row for each query"):
        jax.block_until_ready(log_sums(terms, valid[:, :2], factors))
    with pytest.raises(jax.errors.JaxRuntimeError, match="numbers: expected one for each query"):
        jax.block_until_ready(log_sums(terms._replace(added=terms.added[:2]), valid, factors))
