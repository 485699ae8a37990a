"""What memory there is, and settings that need more of it than the device has."""

from __future__ import annotations

import os
from pathlib import Path

import jax

from lightgcn_jax.errors import InputError

# A container's limit, by the newer and by the older interface of Linux.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")


def device_memory() -> int:
    """The bytes of the device that arrays are put on; without bounds where they are not known."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"]
    try:
        known = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return 2**62
    for path in _LIMITS:
        try:
            known.append(int(Path(path).read_text()))
        except (OSError, ValueError):  # another system, or no limit
            continue
    return min(known)


def check_memory(least: int, smaller: str) -> None:
    """Refuse settings that cannot fit, before anything is compiled for them: XLA ends the process
    where an array is too long for it.

    Args:
        least: bytes that are held at once, whatever else is.
        smaller: the settings that decide them, for the message.

    Raises:
        InputError: it is more than the device has.
    """
    if least > (available := device_memory()):
        raise InputError(
            f"memory: the settings take at least {in_words(least)}, of which there are "
            f"{in_words(available)}; try a smaller {smaller}"
        )


def in_words(count: float) -> str:
    """Bytes as people write them, ``1.6 GB``.

    Args:
        count: how many.
    """
    power = 0
    while count >= 1000 and power < len(_UNITS) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.3g} {_UNITS[power]}"
