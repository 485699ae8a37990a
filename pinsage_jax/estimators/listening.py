"""Functions that hear of each epoch, and what is held out of data that anybody passed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from lightgcn_jax.errors import InputError
from lightgcn_jax.estimators.fitting import OnEpoch, figures_of
from pinsage_jax.data.items import ItemData
from pinsage_jax.tasks.holdout import cooccurrence_task, explicit_task, given_task, time_task
from pinsage_jax.tasks.task import Task
from pinsage_jax.training.reporter import Reporter, SilentReporter

TaskName = Literal["items", "users"]
"""What is held out and learnt: items of the same context, or what a user takes next."""


class Listening(SilentReporter):
    """Hands the figures of each epoch to functions, and everything to another reporter.

    Args:
        reporter: the other one.
        functions: each is called at the end of an epoch.
    """

    def __init__(self, reporter: Reporter, functions: Sequence[OnEpoch]):
        self._reporter, self._functions = reporter, functions

    def noted(self, message: str) -> None:
        self._reporter.noted(message)

    def advanced(self, *, epoch: int, share: float, loss: float, seconds_a_step: float) -> None:
        self._reporter.advanced(epoch=epoch, share=share, loss=loss, seconds_a_step=seconds_a_step)

    def evaluated(self, record: dict[str, Any]) -> None:
        self._reporter.evaluated(record)
        for function in self._functions:
            function(figures_of(record))

    def embedded(self, *, share: float, items: int) -> None:
        self._reporter.embedded(share=share, items=items)


def task_of(data: ItemData, name: TaskName | None) -> Task:
    """What is held out: by the data's own split or pairs where they have any.

    Args:
        data: the items and contexts.
        name: what is held out; None holds out items of contexts, or the pairs that the data have.

    Raises:
        InputError: the data do not fit the task.
    """
    if name == "users":
        if data.interactions.parts is not None:
            return given_task(data)
        if data.interactions.timestamps is None:
            raise InputError(
                "task: what a user takes next needs times; name their column, fit(…, timestamp=…), "
                "or leave task out to pair items of one context"
            )
        return time_task(data)
    if data.pairs is not None:
        return explicit_task(data)
    return cooccurrence_task(data, held_out_items=0.0)
