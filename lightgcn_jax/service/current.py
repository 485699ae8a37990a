"""The run that is served now, and the one that takes its place."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from lightgcn_jax.errors import InputError
from lightgcn_jax.service.plane import Plane, plane_of
from lightgcn_jax.service.served import Served

# What a thread that loads adds to its priority, as `nice` counts: it gets a tenth of a busy core.
_NICER = 10


class Loading(Exception):
    """A run is being loaded already."""


class Current:
    """Holds the run that is served; another takes its place between two batches.

    Args:
        load: opens the run, checked whole; called in a thread.

    Attributes:
        served: the run; None before the first is ready.
        plane: a map of its items, where it has one.
        loaded: how many runs were loaded.
    """

    def __init__(self, load: Callable[[], Served]):
        self._load, self._loading = load, False
        self.served: Served | None = None
        self.plane: Plane | None = None
        self.loaded = 0

    async def load(self) -> float:
        """Load the run, warm it up, and serve it from then on; the old one is served meanwhile.

        Returns:
            The seconds that it took.

        Raises:
            Loading: that is under way already.
            InputError: it does not load; the old one stays.
        """
        if self._loading:
            raise Loading
        self._loading, start = True, time.perf_counter()
        # A thread of its own: a priority that was lowered is not raised again.
        thread = ThreadPoolExecutor(1, "loading", self._make_way)
        try:
            loop = asyncio.get_running_loop()
            served, plane = await loop.run_in_executor(thread, self._ready)
        finally:
            self._loading = False
            thread.shutdown(wait=False)  # a load that is given up must not hold up the loop
        # One assignment after another without a pause: nobody sees one half.
        self.served, self.plane = served, plane
        self.loaded += 1
        return time.perf_counter() - start

    def _make_way(self) -> None:
        """Let those who are served go first, where threads have priorities of their own."""
        if self.served is not None and sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICER)

    def _ready(self) -> tuple[Served, Plane | None]:
        try:
            served = self._load()
            served.warm_up()
            return served, plane_of(served)
        except (InputError, OSError, MemoryError) as error:
            raise InputError(str(error) or type(error).__name__) from error
