"""Adam and the schedules of its learning rate."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lightgcn_jax.training import Optimization, make_optimizer
from lightgcn_jax.training.optimizer import relative_schedule


@pytest.mark.parametrize(
    ("schedule", "half_way", "end"),
    [
        ("constant", 1.0, 1.0),
        ("cosine", 0.5, 0.0),
        ("linear", 0.5, 0.0),
        ("exponential", 0.1, 0.01),
    ],
)
def test_schedules_by_name(schedule, half_way, end):
    rate = relative_schedule(Optimization(epochs=10, schedule=schedule), steps_per_epoch=10)
    shares = [float(rate(step)) for step in (0, 50, 100)]
    assert shares == pytest.approx([1, half_way, end], abs=1e-6)


def test_warm_up_rises_linearly_then_the_schedule_starts():
    optimization = Optimization(epochs=12, schedule="linear", warmup_epochs=2)
    rate = relative_schedule(optimization, steps_per_epoch=10)
    shares = [float(rate(step)) for step in (0, 10, 20, 70, 120)]
    assert shares == pytest.approx([0, 0.5, 1, 0.5, 0])


def test_a_schedule_may_run_past_the_epochs():
    optimization = Optimization(epochs=5, schedule="linear", schedule_epochs=10)
    assert float(relative_schedule(optimization, steps_per_epoch=10)(50)) == pytest.approx(0.5)


def test_the_rate_of_adam_may_be_traced():
    optimization = Optimization(epochs=2, learning_rate=0.5, schedule="cosine")
    gradient = jnp.array([1.0, -2.0])

    @jax.jit
    def updates(rate):
        optimizer = make_optimizer(optimization, 3, rate)
        return optimizer.update(gradient, optimizer.init(gradient))[0]

    own = make_optimizer(optimization, 3)
    expected = own.update(gradient, own.init(gradient))[0]
    np.testing.assert_allclose(updates(0.5), expected, rtol=1e-6)
    np.testing.assert_allclose(updates(1.0), 2 * expected, rtol=1e-6)


def test_accumulated_gradients_are_averaged_and_the_schedule_goes_by_mini_batches():
    """Two by two: Adam on the means, at the rates of mini-batches 0 and 2 of four."""
    gradients = jnp.array([[1.0, -2.0], [3.0, 4.0], [0.5, 0.5], [-1.5, 2.5]])
    optimization = Optimization(epochs=1, learning_rate=0.5, schedule="linear", accumulate=2)
    found = make_optimizer(optimization, 4)
    by_hand = optax.adam(lambda count: jnp.array([0.5, 0.25])[count])
    state, expected_state = found.init(gradients[0]), by_hand.init(gradients[0])
    for pair in gradients.reshape(2, 2, 2):
        first, state = found.update(pair[0], state)
        assert not first.any()
        second, state = found.update(pair[1], state)
        expected, expected_state = by_hand.update(pair.mean(axis=0), expected_state)
        np.testing.assert_allclose(second, expected, rtol=1e-6)
