"""Adam with a learning-rate schedule chosen by name."""

from __future__ import annotations

import optax

from lightgcn_jax.training.config import TrainConfig


def learning_rate_schedule(config: TrainConfig, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate at each step: a linear rise over the warm-up, then the named schedule.

    ``constant``; ``cosine`` and ``linear`` fall to 0 at the last step; ``exponential`` falls to a
    hundredth of the start.
    """
    warmup = round(config.warmup_epochs * steps_per_epoch)
    steps = max(1, config.epochs * steps_per_epoch - warmup)
    rate = config.learning_rate
    after = {
        "constant": lambda: optax.constant_schedule(rate),
        "cosine": lambda: optax.cosine_decay_schedule(rate, steps),
        "linear": lambda: optax.linear_schedule(rate, 0.0, steps),
        "exponential": lambda: optax.exponential_decay(rate, steps, 0.01),
    }[config.schedule]()
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, rate, warmup), after], [warmup])


def make_optimizer(config: TrainConfig, steps_per_epoch: int) -> optax.GradientTransformation:
    """Adam (Kingma and Ba 2015, with optax's defaults) under the configured schedule."""
    return optax.adam(learning_rate_schedule(config, steps_per_epoch))
