"""How the C library gives memory back: a setting of a whole process, for those that own theirs."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

# Parameters of glibc's mallopt.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_KEPT = 2**30
_HUGE_PAGE, _MADV_HUGEPAGE = 2**21, 14


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
    done = all(mallopt(name, value) for name, value in settings.items())
    if done:
        _use_huge_pages()
    return done


def _use_huge_pages() -> None:
    """Ask for pages of 2 MiB in the memory that glibc will give out first.

    Rows of a table that are read at random lie on more pages than the processor keeps addresses of.
    The heap is grown by what it keeps, told so, and freed again; nothing is touched.
    """
    library = ctypes.CDLL(None)
    if not all(hasattr(library, name) for name in ("malloc", "free", "madvise")):
        return
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    block = library.malloc(_KEPT - _HUGE_PAGE)
    if block:
        first = -(-block // _HUGE_PAGE) * _HUGE_PAGE
        library.madvise(first, _KEPT - 2 * _HUGE_PAGE, _MADV_HUGEPAGE)
        library.free(block)


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
