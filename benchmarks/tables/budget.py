"""Training for a number of seconds, which is what the rows of one table have in common.

A short run tells how long an epoch or a step takes; the settings of the long run follow. Seconds
are those of training steps: reading, preparing, compiling and evaluating come on top. Every trained
row is evaluated about twenty times and never stops early, so that its epoch is chosen among equally
many, and the learning rate goes through its whole schedule.
"""

from __future__ import annotations

import collections
import dataclasses
import statistics

from lightgcn_jax.data import Split
from lightgcn_jax.runs import fit as fit_users
from lightgcn_jax.settings import TrainConfig
from pinsage_jax import PinSageConfig, fit
from pinsage_jax.tasks.task import Task
from pinsage_jax.training.preparation import Prepared
from pinsage_jax.training.reporter import SilentReporter

EVALUATIONS = 20
_PROBED_EPOCHS, _PROBED_STEPS = 3, 10


class StepClock(SilentReporter):
    """A reporter of PinSAGE runs that adds up the seconds of the steps.

    The first epoch is not counted, for its first steps wait for the compiler.

    Args:
        steps: training steps of an epoch.
    """

    def __init__(self, steps: int):
        self._steps = steps
        self._seconds: dict[int, float] = collections.defaultdict(float)
        self._share: dict[int, float] = collections.defaultdict(float)

    def advanced(
        self,
        *,
        epoch: int,
        share: float,
        loss: float,  # noqa: ARG002, part of the protocol
        seconds_a_step: float,
    ) -> None:
        """Take note of some steps.

        Args:
            epoch: the epoch that they belong to, from 1.
            share: the part of the epoch that is done.
            loss: their mean loss.
            seconds_a_step: what each of them took.
        """
        self._seconds[epoch] += seconds_a_step * self._steps * (share - self._share[epoch])
        self._share[epoch] = share

    @property
    def seconds_a_step(self) -> float:
        """The mean of all epochs but the first; of the first where there is no other."""
        later = [seconds for epoch, seconds in self._seconds.items() if epoch > 1]
        return statistics.fmean(later or self._seconds.values()) / self._steps

    @property
    def train_seconds(self) -> float:
        """The seconds of all steps, those of the first epoch as if they were of a later one."""
        return self.seconds_a_step * self._steps * len(self._seconds)


def seconds_an_epoch(split: Split, config: TrainConfig) -> float:
    """Train a few epochs and measure one, without compiling and evaluating.

    Args:
        split: what is trained on.
        config: settings of a trained model.

    Returns:
        The mean over the epochs.
    """
    short = _with_epochs(config, _PROBED_EPOCHS, _PROBED_EPOCHS)
    return fit_users(split, short).summary["train_seconds"] / _PROBED_EPOCHS


def seconds_a_step(task: Task, config: PinSageConfig, prepared: Prepared | None = None) -> float:
    """Train a few steps and measure one, without compiling and evaluating.

    All hard negatives count in them, as they do in most epochs of a long run.

    Args:
        task: what is trained on.
        config: the settings.
        prepared: what ``prepare`` gives for them, where it is there already.

    Returns:
        The mean over the steps of all epochs but the first.
    """
    short = dataclasses.replace(
        config,
        epochs=_PROBED_EPOCHS,
        steps_per_epoch=_PROBED_STEPS,
        evaluate_every=_PROBED_EPOCHS,
        patience=0,
        curriculum="none" if config.curriculum == "none" else "all",
    )
    clock = StepClock(_PROBED_STEPS)
    fit(task, short, reporter=clock, prepared=prepared)
    return clock.seconds_a_step


def epochs_within(config: TrainConfig, seconds: float, pace: float) -> TrainConfig:
    """The settings with as many epochs as the budget holds, at least one.

    Args:
        config: settings of a trained model.
        seconds: the budget for training steps.
        pace: seconds of an epoch.

    Returns:
        The settings of the long run.
    """
    epochs = max(1, round(seconds / pace))
    return _with_epochs(config, epochs, max(1, round(epochs / EVALUATIONS)))


def steps_within(config: PinSageConfig, seconds: float, pace: float) -> PinSageConfig:
    """The settings with twenty epochs of as many steps as the budget holds, at least one each.

    The learning rate decays and the hard negatives increase from epoch to epoch, so that their
    number stays and the steps of an epoch change.

    Args:
        config: the settings.
        seconds: the budget for training steps.
        pace: seconds of a step.

    Returns:
        The settings of the long run.
    """
    steps = max(1, round(seconds / EVALUATIONS / pace))
    return dataclasses.replace(
        config, epochs=EVALUATIONS, steps_per_epoch=steps, evaluate_every=1, patience=0
    )


def _with_epochs(config: TrainConfig, epochs: int, every: int) -> TrainConfig:
    return dataclasses.replace(
        config,
        optimization=dataclasses.replace(config.optimization, epochs=epochs),
        selection=dataclasses.replace(config.selection, evaluate_every=every, patience=0),
    )
