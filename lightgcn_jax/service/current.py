"""The run that is served now, and the one that takes its place."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from lightgcn_jax.errors import InputError
from lightgcn_jax.service.plane import Plane, plane_of
from lightgcn_jax.service.served import Served


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
        try:
            served, plane = await asyncio.to_thread(self._ready)
        finally:
            self._loading = False
        # One assignment after another without a pause: nobody sees one half.
        self.served, self.plane = served, plane
        self.loaded += 1
        return time.perf_counter() - start

    def _ready(self) -> tuple[Served, Plane | None]:
        try:
            served = self._load()
            served.warm_up()
            return served, plane_of(served)
        except (InputError, OSError, MemoryError) as error:
            raise InputError(str(error) or type(error).__name__) from error
