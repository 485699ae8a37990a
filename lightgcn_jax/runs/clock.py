"""How long XLA has compiled in this process, so that it can be told apart from running."""

from __future__ import annotations

import jax

_EVENT = "/jax/core/compile/backend_compile_duration"
_total = 0.0


def _add(event: str, duration_secs: float, **_) -> None:
    global _total
    if event == _EVENT:
        _total += duration_secs


jax.monitoring.register_event_duration_secs_listener(_add)


def compile_seconds() -> float:
    """Seconds that XLA's compiler has taken since this module was imported."""
    return _total
