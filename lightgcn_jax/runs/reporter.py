"""What a person sees while a run trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lightgcn_jax.consoles import PlainConsole
from lightgcn_jax.data.pairs import PARTS


def name_of_replica(record: Mapping[str, Any]) -> str:
    """What tells a record's run from those trained beside it: ``seed 3``, ``l2 0.01, seed 0``.

    Args:
        record: a record of metrics.jsonl.
    """
    rest = (name for name in record if name not in ("epoch", "loss", *PARTS))
    return ", ".join(f"{name} {record[name]}" for name in rest)


class Reporter(Protocol):
    """Receives a run's events; every method may do nothing."""

    def started(self, *, epochs: int, done: float) -> None:
        """Training begins or goes on.

        Args:
            epochs: the most epochs that the run has.
            done: epochs that lie behind it, as a fraction.
        """

    def advanced(self, *, epochs: float, loss: float, interactions_per_second: float) -> None:
        """A call of the compiled steps is done.

        Args:
            epochs: done in all, as a fraction.
            loss: the mean over the call's steps.
            interactions_per_second: rows of mini-batches a second, of all replicas together.
        """

    def epoch_ended(self, records: Sequence[Mapping[str, Any]]) -> None:
        """An epoch is done, its evaluation too where it has one.

        Args:
            records: one of each replica, as in metrics.jsonl.
        """

    def evaluated(self, records: Sequence[Mapping[str, Any]], *, improved: bool) -> None:
        """An evaluation is done.

        Args:
            records: one of each replica, as in metrics.jsonl.
            improved: whether any of them is its best so far.
        """

    def noted(self, message: str) -> None:
        """Something is worth a line.

        Args:
            message: the line.
        """

    def stopped(self) -> None:
        """Training ended or broke off."""


class SilentReporter(Reporter):
    """Says nothing."""


class ConsoleReporter(Reporter):
    """A progress bar on stderr with loss, interactions a second and time left, and a line an
    evaluation.

    Args:
        console: where to write; by default stderr.
        metric: the metric that a line shows.
    """

    def __init__(self, console: Console | None = None, *, metric: str = "recall@20"):
        self._console = console or PlainConsole(stderr=True)
        self._metric = metric
        self._progress = Progress(
            # Narrow enough for all of it to fit 80 columns.
            BarColumn(bar_width=10),
            MofNCompleteColumn(),
            TextColumn("epochs  {task.fields[detail]}  left"),
            TimeRemainingColumn(),
            console=self._console,
            # Off a terminal a bar is noise; the lines below say enough there.
            disable=not self._console.is_terminal,
        )
        self._task = None

    def started(self, *, epochs: int, done: float) -> None:
        self._progress.start()
        self._task = self._progress.add_task("", total=epochs, completed=int(done), detail="")

    def advanced(self, *, epochs: float, loss: float, interactions_per_second: float) -> None:
        assert self._task is not None
        detail = f"loss {loss:.4f}  {interactions_per_second:,.0f} interactions/s"
        self._progress.update(self._task, completed=round(epochs, 1), detail=detail)

    def evaluated(self, records: Sequence[Mapping[str, Any]], *, improved: bool) -> None:
        for record in records:
            figures = "  ".join(
                f"{part} {self._metric} {record[part][self._metric]:.4f}"
                for part in PARTS
                if self._metric in record.get(part, {})
            )
            which = f"  {name_of_replica(record)}" if len(records) > 1 else ""
            self._console.print(
                f"epoch {record['epoch']}{which}  loss {record['loss']:.4f}  {figures}"
                + ("  best so far" if improved and len(records) == 1 else ""),
                highlight=False,
                soft_wrap=True,
            )

    def noted(self, message: str) -> None:
        self._console.print(message, highlight=False, markup=False, soft_wrap=True)

    def stopped(self) -> None:
        self._progress.stop()
