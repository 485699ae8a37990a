"""What hears of a run's events while it trains."""

from __future__ import annotations

from typing import Any, Protocol


class Reporter(Protocol):
    """Receives a run's events; every method may do nothing."""

    def noted(self, message: str) -> None:
        """Something is worth a line.

        Args:
            message: the line.
        """

    def advanced(self, *, epoch: int, share: float, loss: float, seconds_a_step: float) -> None:
        """A call of the compiled steps is done.

        Args:
            epoch: the epoch, from 1.
            share: how much of it is done, from 0 to 1.
            loss: the mean over the steps of the call.
            seconds_a_step: how long one of them took.
        """

    def evaluated(self, record: dict[str, Any]) -> None:
        """An epoch is done, and evaluated where that was due.

        Args:
            record: the line of metrics.jsonl.
        """

    def embedded(self, *, share: float, items: int) -> None:
        """Some more rows of the layers of all items are computed, after training.

        Args:
            share: how much is done, from 0 to 1; from more than 0 on where a killed run goes on.
            items: how many items there are.
        """


class SilentReporter(Reporter):
    """Says nothing."""

    def noted(self, message: str) -> None: ...

    def advanced(self, *, epoch: int, share: float, loss: float, seconds_a_step: float) -> None: ...

    def evaluated(self, record: dict[str, Any]) -> None: ...

    def embedded(self, *, share: float, items: int) -> None: ...
