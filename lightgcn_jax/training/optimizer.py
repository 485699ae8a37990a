"""Adam with a learning-rate schedule chosen by name."""

from __future__ import annotations

import optax

from lightgcn_jax.arrays import Scalar
from lightgcn_jax.settings.config import TrainConfig


def relative_schedule(config: TrainConfig, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate at each step as a share of ``learning_rate``: a linear rise over the
    warm-up, then the named schedule.

    ``constant``; ``cosine`` and ``linear`` fall to 0 at the last step of ``schedule_epochs``;
    ``exponential`` falls to a hundredth of the start.
    """
    warmup = round(config.warmup_epochs * steps_per_epoch)
    epochs = config.schedule_epochs or config.epochs
    steps = max(1, epochs * steps_per_epoch - warmup)
    after = {
        "constant": lambda: optax.constant_schedule(1.0),
        "cosine": lambda: optax.cosine_decay_schedule(1.0, steps),
        "linear": lambda: optax.linear_schedule(1.0, 0.0, steps),
        "exponential": lambda: optax.exponential_decay(1.0, steps, 0.01),
    }[config.schedule]()
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, 1.0, warmup), after], [warmup])


def make_optimizer(
    config: TrainConfig, steps_per_epoch: int, rate: Scalar | float | None = None
) -> optax.GradientTransformation:
    """Adam (Kingma and Ba 2015, with optax's defaults) under the configured schedule.

    Args:
        rate: in place of the configured learning rate; it may be traced.
    """
    rate = config.learning_rate if rate is None else rate
    relative = relative_schedule(config, steps_per_epoch)
    return optax.adam(lambda count: rate * relative(count))
