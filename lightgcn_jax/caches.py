"""What is kept between processes in the user's cache folder: data sets, and what JAX compiled."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

_LARGEST = 2**30
_SHORTEST = 0.1
_READING_FAILED = "Error reading persistent compilation cache entry"
_WRITING_FAILED = "Error writing persistent compilation cache entry"


def user_cache() -> Path | None:
    """This package's folder in the user's cache folder; None where there is no home folder."""
    # The XDG rules: an empty or relative value counts as unset.
    configured = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not configured.is_absolute():
        try:
            configured = Path.home() / ".cache"
        except RuntimeError:
            return None
    return configured / "lightgcn-jax"


def keep_compiled(*, wanted: bool = True) -> None:
    """Let JAX keep what it compiles, and find it there when another process compiles the same.

    JAX reads the environment when it is imported, so this is called before. It is left alone where
    ``JAX_COMPILATION_CACHE_DIR`` or ``JAX_ENABLE_COMPILATION_CACHE`` is set. What takes less than a
    tenth of a second to compile is not kept; above 1 GiB what was not used for longest goes.

    Args:
        wanted: keep it; otherwise nothing is read or written, wherever it lies.
    """
    if not wanted:
        os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
        return
    cache = user_cache()
    named = {"JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE"} & os.environ.keys()
    if cache is None or named:
        return
    # A home folder may be shared by machines that do not have the same instructions.
    folder = cache / "compiled" / hashlib.sha256(_instructions().encode()).hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", str(_SHORTEST))
    os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(_LARGEST))


def is_of_the_cache(message: str) -> bool:
    """Whether a warning of JAX's says that something kept is damaged: it is compiled anew then.

    Args:
        message: the warning.
    """
    return message.startswith((_READING_FAILED, _WRITING_FAILED))


def _instructions() -> str:
    """What tells processors apart for which code is compiled."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    kinds = ("model name", "flags", "Features", "CPU part")
    return "\n".join([platform.machine(), *sorted({x for x in lines if x.startswith(kinds)})])
