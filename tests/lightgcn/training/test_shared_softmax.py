"""Softmax losses of negatives that a batch shares: the mean of the rows' own losses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lightgcn_jax.diffusion import obstacles
from lightgcn_jax.diffusion.native import LogSumTerms
from lightgcn_jax.fields import with_traced
from lightgcn_jax.models import MLP, Cosine, Inner
from lightgcn_jax.training import (
    BPR,
    BilateralSoftmax,
    HardNegatives,
    InBatchNegatives,
    PerUserNegatives,
    SharedNegatives,
    Softmax,
    batch_loss,
)
from lightgcn_jax.training import shared_softmax as module
from lightgcn_jax.training.batch_terms import batch_mean, row_factors
from lightgcn_jax.training.shared_softmax import (
    SharedProducts,
    has_kernel,
    shared_softmax,
    weighted_log_sums,
)
from tests.lightgcn.steps import changed, draw, inputs_of, start

OBSTACLE = obstacles("cpu")["native"]
compiled_here = pytest.mark.skipif(OBSTACLE is not None, reason=f"native: {OBSTACLE}")
ROWS, SHARED = 23, 14
LOSSES = [
    Softmax(temperature=0.3),
    Softmax(temperature=0.3, sampling_correction=True),
    BilateralSoftmax(temperature=0.3, negative_weight=0.7),
]


def random_batch(loss, seed=0):
    """Scores of positives, products of negatives, what is valid, weights and expected counts."""
    rng = np.random.default_rng(seed)
    tables = (rng.normal(size=(rows, 5)) for rows in (ROWS, SHARED))
    products = SharedProducts(*tables, rng.normal(size=SHARED))
    valid = rng.random((ROWS, SHARED)) < 0.7
    valid[3] = False
    weights = (np.arange(ROWS) < ROWS - 4).astype(float)
    correction = rng.normal(size=SHARED) if getattr(loss, "sampling_correction", False) else None
    given = rng.normal(size=ROWS), products, valid, weights, correction, rng.random(ROWS) + 0.5
    return jax.tree.map(jnp.asarray, given)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@pytest.mark.parametrize("way", [pytest.param("kernel", marks=compiled_here), "xla"])
def test_value_and_gradient_are_those_of_the_mean_of_rows(loss, way, monkeypatch):
    positives, products, valid, weights, correction, importance = random_batch(loss)
    if way == "xla":
        monkeypatch.setattr(module, "on_platform", lambda _, other: other)

    def shared(positives, products, temperature):
        own = with_traced(loss, temperature=temperature)
        factors = row_factors(valid, weights, importance)
        return shared_softmax(own, positives, products, valid, factors, correction)

    def of_rows(positives, products, temperature):
        own = with_traced(loss, temperature=temperature)
        negatives = products.queries @ products.items.T + products.added[None]
        return batch_mean(own, positives, negatives, valid, weights, correction, importance)

    given = positives, products, jnp.asarray(loss.temperature)
    found = jax.jit(jax.value_and_grad(shared, (0, 1, 2)))(*given)
    expected = jax.jit(jax.value_and_grad(of_rows, (0, 1, 2)))(*given)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-13)


class Halved(Softmax):
    def __call__(self, *given):
        return 0.5 * super().__call__(*given)


class Squared(Inner):
    def __call__(self, head, users, items):
        return super().__call__(head, users, items) ** 2


@compiled_here
def test_only_known_losses_of_inner_products_have_a_kernel():
    assert has_kernel(Inner(), Softmax())
    assert has_kernel(Cosine(popularity_offset=0.1), BilateralSoftmax())
    assert not has_kernel(Inner(), BPR())
    assert not has_kernel(Inner(), Halved())
    assert not has_kernel(Squared(), Softmax())
    assert not has_kernel(MLP(), Softmax())


@compiled_here
@pytest.mark.parametrize(
    ("score", "loss", "negatives", "shares"),
    [
        (Inner(0.3), LOSSES[0], SharedNegatives(6), True),
        (Cosine(), LOSSES[1], SharedNegatives(6, popularity_power=0.5), True),
        (Cosine(0.3), LOSSES[2], InBatchNegatives(), True),
        (Inner(), LOSSES[0], PerUserNegatives(3), False),
        (Inner(0.3), LOSSES[2], HardNegatives(2, 6), False),
        (Squared(), LOSSES[0], SharedNegatives(6), False),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_step_takes_it_where_negatives_are_shared_and_agrees(
    score, loss, negatives, shares, monkeypatch
):
    strategies = changed(score=score, loss=loss, negatives=negatives)
    inputs = inputs_of(strategies)
    batch = draw(jax.random.key(0), inputs, jnp.arange(200), jnp.int32(0), strategies=strategies)
    given = start(optax.sgd(0.5)).params, batch, inputs
    step = jax.value_and_grad(functools.partial(batch_loss, strategies=strategies), has_aux=True)
    compiled = jax.jit(step).lower(*given).compile()
    # A jitted function of its own, which has not been traced.
    monkeypatch.setattr("lightgcn_jax.training.step.has_kernel", lambda *_: False)
    expected = jax.jit(lambda *given: step(*given))(*given)
    assert ("lightgcn_jax_native_softmax" in compiled.as_text()) == shares
    for one, other in zip(*map(jax.tree.leaves, (compiled(*given), expected)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("way", [pytest.param("kernel", marks=compiled_here), "xla"])
def test_in_64_bit_mode_types_may_differ(dtype, way, monkeypatch):
    """Offsets are float64 there, weights float32, and tables either."""
    strategies = changed(score=Inner(0.3), loss=LOSSES[0], negatives=SharedNegatives(6))
    inputs = inputs_of(strategies, dtype)
    batch = draw(jax.random.key(0), inputs, jnp.arange(200), jnp.int32(0), strategies=strategies)
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), start(optax.sgd(0.5)).params)
    if way == "xla":
        monkeypatch.setattr(module, "on_platform", lambda _, other: other)
    step = jax.value_and_grad(functools.partial(batch_loss, strategies=strategies), has_aux=True)
    (found, _), gradient = jax.jit(step)(params, batch, inputs)
    monkeypatch.setattr("lightgcn_jax.training.step.has_kernel", lambda *_: False)
    (expected, _), other = jax.jit(lambda *given: step(*given))(params, batch, inputs)
    tolerance = 100 * jnp.finfo(dtype).eps
    np.testing.assert_allclose(found, expected, rtol=tolerance)
    assert gradient.model.table.dtype == dtype
    np.testing.assert_allclose(
        gradient.model.table, other.model.table, rtol=tolerance, atol=tolerance
    )


@compiled_here
def test_scores_are_never_a_table():
    terms = LogSumTerms(jnp.ones((640, 4)), jnp.ones((96, 4)), jnp.ones(96), jnp.ones(640))
    valid = jnp.ones((640, 96), bool)
    compiled = jax.jit(jax.grad(weighted_log_sums)).lower(terms, valid, jnp.ones(640)).compile()
    assert "f32[640,96]" not in compiled.as_text()
