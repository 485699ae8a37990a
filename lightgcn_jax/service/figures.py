"""What Prometheus reads of the service."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Figures:
    """Counters of one service.

    Args:
        waiting: how many queries wait.
        loaded: how many runs were loaded.
    """

    def __init__(self, waiting: Callable[[], float], loaded: Callable[[], float]):
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        labels = ("operation",)
        self._answered = Counter(
            "requests", "Answered requests.", ("operation", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "request_seconds", "Seconds that requests took.", labels, buckets=_SECONDS,
            registry=self._registry,
        )  # fmt: skip
        self._sizes = Histogram(
            "batch_size", "Queries of a call of the model.", buckets=_SIZES,
            registry=self._registry,
        )  # fmt: skip
        refused = "Runs that did not load."
        self.refused = Counter("reloads_refused", refused, registry=self._registry)
        Gauge("queries_waiting", "Queries that wait.", registry=self._registry).set_function(
            waiting
        )
        Gauge("runs_loaded", "Runs that were loaded.", registry=self._registry).set_function(loaded)
        # Labels are looked up once each: that takes longer than to count.
        self._known: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def answered(self, operation: str, status: int, seconds: float) -> None:
        """Count a request.

        Args:
            operation: its name.
            status: of the answer.
            seconds: that it took.
        """
        key = operation, status
        if key not in self._known:
            counter = self._answered.labels(operation, str(status))
            self._known[key] = counter, self._seconds.labels(operation)
        counter, histogram = self._known[key]
        counter.inc()
        histogram.observe(seconds)

    def batch(self, size: int) -> None:
        """Count a call of the model.

        Args:
            size: its queries.
        """
        self._sizes.observe(size)

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self._registry)
