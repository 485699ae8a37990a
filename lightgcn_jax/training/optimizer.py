"""Optimisation: its settings, and Adam with a learning-rate schedule chosen by name."""

from __future__ import annotations

import dataclasses
from typing import Literal

import optax

from lightgcn_jax.arrays import Scalar
from lightgcn_jax.errors import InputError
from lightgcn_jax.fields import POSITIVE, SWITCH, Checked, at_least, one_of, setting, whole

Sampling = Literal["interactions", "users"]
Schedule = Literal["constant", "cosine", "linear", "exponential"]


@dataclasses.dataclass(frozen=True)
class Optimization(Checked):
    """How long and in which steps a model is trained.

    Attributes:
        epochs: epochs at most; an epoch draws as many rows as there are training interactions.
        batch_size: rows B of a mini-batch.
        accumulate: mini-batches whose gradients are averaged for one update of the parameters; each
            draws negatives of its own. What the last ones of a run leave unfinished is not applied.
        sampling: ``interactions`` takes each training interaction once an epoch, shuffled;
            ``users`` draws users uniformly with replacement and one positive for each.
        lazy_adam: update the rows of the batch alone, and leave parameters and Adam's moments of
            all others as they are; for ``mf``, where no other row has a gradient.
        learning_rate: Adam's, at the start of the schedule.
        schedule: of the learning rate: ``constant``, ``cosine`` (to 0), ``linear`` (to 0) or
            ``exponential`` (to 1/100).
        schedule_epochs: epochs over which the schedule runs; 0 takes the epochs of the run.
        warmup_epochs: epochs over which the learning rate rises linearly from 0.
        l2: λ, weight of the L2 penalty on the layer-0 embeddings of the batch.
    """

    epochs: int = setting(100, whole(1))
    batch_size: int = setting(2048, whole(1))
    accumulate: int = setting(1, whole(1))
    lazy_adam: bool = setting(False, SWITCH)
    sampling: Sampling = setting("interactions", one_of(Sampling))
    learning_rate: float = setting(5e-3, POSITIVE)
    schedule: Schedule = setting("constant", one_of(Schedule))
    schedule_epochs: int = setting(0, whole(0))
    warmup_epochs: float = setting(0.0, at_least(0))
    l2: float = setting(1e-4, at_least(0))

    def __post_init__(self):
        super().__post_init__()
        if 0 < self.schedule_epochs < self.epochs:
            raise InputError(
                f"schedule_epochs: expected 0 or at least the {self.epochs} epochs of the run, "
                f"got {self.schedule_epochs}"
            )


def of_program(optimization: Optimization) -> Optimization:
    """The settings of which the compiled steps know: runs that agree in them share a program.

    The learning rate and λ enter it as numbers, and a constant rate knows no end; each has its
    default in what is returned.

    Args:
        optimization: a run's settings.
    """
    default = Optimization()
    traced = dataclasses.replace(optimization, learning_rate=default.learning_rate, l2=default.l2)
    if optimization.schedule != "constant":
        return traced
    return dataclasses.replace(traced, epochs=default.epochs, schedule_epochs=0)


def relative_schedule(optimization: Optimization, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate at each step as a share of ``learning_rate``: a linear rise over the
    warm-up, then the named schedule.

    ``constant``; ``cosine`` and ``linear`` fall to 0 at the last step of ``schedule_epochs``;
    ``exponential`` falls to a hundredth of the start.

    Args:
        optimization: the settings.
        steps_per_epoch: ⌈E / B⌉.
    """
    warmup = round(optimization.warmup_epochs * steps_per_epoch)
    epochs = optimization.schedule_epochs or optimization.epochs
    steps = max(1, epochs * steps_per_epoch - warmup)
    after = {
        "constant": lambda: optax.constant_schedule(1.0),
        "cosine": lambda: optax.cosine_decay_schedule(1.0, steps),
        "linear": lambda: optax.linear_schedule(1.0, 0.0, steps),
        "exponential": lambda: optax.exponential_decay(1.0, steps, 0.01),
    }[optimization.schedule]()
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, 1.0, warmup), after], [warmup])


def make_optimizer(
    optimization: Optimization, steps_per_epoch: int, rate: Scalar | float | None = None
) -> optax.GradientTransformation:
    """Adam (Kingma and Ba 2015, with optax's defaults) under the named schedule.

    Where the gradients of A mini-batches are averaged, the schedule still goes by mini-batches:
    update u takes the rate of mini-batch A·u.

    With ``lazy_adam`` a step hands it the rows of its batch alone. Two things differ from Adam. A
    row that a batch does not read stays where it is, whereas Adam's moments would decay and move it
    on. The moments are corrected for their start by the count t of all steps, not of those that
    read the row: the first update of a row at a late step is (1 − β₁) / √(1 − β₂) ≈ 3 times the
    learning rate. Where every batch reads all rows the two are one.

    Args:
        optimization: the settings.
        steps_per_epoch: ⌈E / B⌉.
        rate: in place of ``learning_rate``; it may be traced.

    References:
        Kingma and Ba 2015, algorithm 1. The lazy form is that of ``LazyAdam`` of TensorFlow Addons
        and ``SparseAdam`` of PyTorch, but for ε, which those add before the moments are corrected.
    """
    rate = optimization.learning_rate if rate is None else rate
    relative = relative_schedule(optimization, steps_per_epoch)
    every = optimization.accumulate
    adam = optax.adam(lambda count: rate * relative(every * count))
    return adam if every == 1 else optax.MultiSteps(adam, every).gradient_transformation()
