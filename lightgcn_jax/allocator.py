"""How the C library gives memory back: a setting of a whole process, for those that own theirs."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

# Parameters of glibc's mallopt.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_KEPT = 2**30


def keep_freed_memory() -> bool:
    """Let glibc keep freed blocks below 1 GiB for the next program that asks for one.

    XLA asks for the temporaries of a program when it runs and frees them after it. glibc gives
    blocks above 32 MiB back to the system each time, which then clears them page by page: of three
    layers forward and backward on Gowalla that takes a quarter of the time. The process stays as
    large as it has been at most. To be called before JAX starts its threads. Nothing is done
    where the environment sets malloc up, or where the C library is another.

    Returns:
        Whether it is done.
    """
    mallopt = _function("mallopt")
    set_up = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if mallopt is None or set_up:
        return False
    # One arena: those that glibc makes for threads hold no block of that size.
    settings = {_MMAP_THRESHOLD: _KEPT, _TRIM_THRESHOLD: _KEPT, _ARENA_MAX: 1}
    return all(mallopt(name, value) for name, value in settings.items())


def give_back_unused() -> None:
    """Give the system all pages that hold nothing: what a compiler leaves behind, for instance.

    Nothing happens where the C library is not glibc.
    """
    malloc_trim = _function("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def _function(name: str) -> Callable[..., int] | None:
    """A function of the C library; None where it has none of that name."""
    return getattr(ctypes.CDLL(None), name, None) if os.name == "posix" else None
