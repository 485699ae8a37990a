"""How far long work is: a bar on a terminal, with the rate and the time left; elsewhere a line for
each stage."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from lightgcn_jax.consoles import PlainConsole
from lightgcn_jax.meter import Meter


class ConsoleMeter(Meter):
    """Writes to stderr.

    Args:
        clock: seconds from some moment on.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._console, self._clock = PlainConsole(stderr=True), clock
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._stage, self._unit, self._done, self._since = "", "", 0, 0.0

    def started(self, stage: str, total: int | None, unit: str) -> None:
        self._stage, self._unit, self._done, self._since = stage, unit, 0, self._clock()
        if not self._console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=10),
            TextColumn("{task.percentage:>3.0f} %  {task.fields[rate]}  left"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._bar.start()
        self._task = self._bar.add_task(stage, total=total, rate="")

    def advanced(self, done: int) -> None:
        self._done = done
        if self._bar is not None:
            self._bar.update(self._task, completed=done, rate=self._rate())

    def stopped(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        elif self._stage:
            took = self._clock() - self._since
            self._console.print(
                f"{self._stage}: {self._done:,} {self._unit} in {took:.1f} s, {self._rate()}",
                soft_wrap=True,
            )
        self._stage = ""

    def _rate(self) -> str:
        took = max(self._clock() - self._since, 1e-9)
        return f"{self._done / took:,.0f} {self._unit}/s"
