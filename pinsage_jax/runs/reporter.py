"""What a person sees while a run trains."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from pinsage_jax.training.reporter import Reporter, SilentReporter


class ConsoleReporter(SilentReporter):
    """Shows a progress bar with loss and time left, and a line for each evaluation.

    Args:
        console: where it is shown.
        epochs: how many epochs the run has at most.
        metric: the metric of validation that is shown.
    """

    def __init__(self, console: Console, epochs: int, metric: str = "mrr"):
        self._console, self._epochs, self._metric = console, epochs, metric
        self._progress = Progress(
            BarColumn(bar_width=10),
            TextColumn("{task.fields[detail]}"),
            TimeRemainingColumn(),
            console=console,
            disable=console.quiet or not console.is_terminal,
        )
        self._task = None
        self._embedding: tuple[float, float] | None = None

    def __enter__(self) -> Reporter:
        self._progress.start()
        self._task = self._progress.add_task("", total=self._epochs, detail="preparing")
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def noted(self, message: str) -> None:
        self._console.print(f"  {message}", soft_wrap=True)

    def advanced(self, *, epoch: int, share: float, loss: float, seconds_a_step: float) -> None:
        assert self._task is not None
        detail = f"epoch {epoch}  loss {loss:.4f}  {seconds_a_step * 1e3:,.0f} ms a step"
        self._progress.update(self._task, completed=epoch - 1 + share, detail=detail)

    def evaluated(self, record: dict[str, Any]) -> None:
        valid = record.get("valid")
        figures = "" if valid is None else f"  valid {self._metric} {valid[self._metric]:.4f}"
        if record["epoch"]:
            figures = f"  loss {record['loss']:.4f}{figures}  {record['seconds']:.1f} s"
        self._console.print(f"epoch {record['epoch']}{figures}", soft_wrap=True)

    def embedded(self, *, share: float, items: int) -> None:
        assert self._task is not None
        now = time.monotonic()
        if self._embedding is None:  # what another process did, or compiling took, tells no rate
            self._embedding = share, now
            self._progress.reset(self._task, total=1, detail="embedding all items")
        before, since = self._embedding
        rate = items * (share - before) / max(now - since, 1e-9)
        detail = f"embedding all items  {rate:,.0f} items/s"
        self._progress.update(self._task, completed=share, detail=detail)
