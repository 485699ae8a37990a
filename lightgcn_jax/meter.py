"""What a person sees while long work goes on."""

from __future__ import annotations

from typing import Protocol


class Meter(Protocol):
    """Receives how far work is; every method may do nothing."""

    def started(self, stage: str, total: int | None, unit: str) -> None:
        """A stage begins.

        Args:
            stage: what it does.
            total: how much there is to do; None where that is not known.
            unit: what is counted.
        """

    def advanced(self, done: int) -> None:
        """Some of it is done.

        Args:
            done: how much in all.
        """

    def stopped(self) -> None:
        """The stage ended or broke off."""


class SilentMeter(Meter):
    """Says nothing."""
