"""The compiled kernels: where they are, and why they are not."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax

CALLS = (
    "multiply",
    "multiply_add",
    "multiply_transposed",
    "multiply_rows",
    "multiply_rows_transposed",
    "multiply_tall",
    "ngcf_layer",
    "ngcf_layer_gradient",
    "softmax",
    "top_k",
    "top_k_products",
)
_FOLDER = Path(__file__).parent
# From the lowest to the highest, as the library counts them.
_INSTRUCTION_SETS = ("baseline", "AVX2", "AVX-512")


_T = TypeVar("_T")


class Loaded(NamedTuple):
    """The library, or what is in its way.

    Attributes:
        library: the open library; None where there is none.
        obstacle: a sentence without its full stop; None where there is a library.
    """

    library: ctypes.CDLL | None
    obstacle: str | None


def extension_path(folder: Path, name: str) -> Path | None:
    """Where an extension of this interpreter lies; None where it was not compiled.

    Args:
        folder: of the package that it belongs to.
        name: its name in that package.
    """
    paths = (folder / f"{name}{suffix}" for suffix in EXTENSION_SUFFIXES)
    return next((path for path in paths if path.exists()), None)


def target_name(call: str) -> str:
    """What a call is named in a compiled program.

    Args:
        call: one of :data:`CALLS`.

    Returns:
        The name under which XLA knows it.
    """
    return f"lightgcn_jax_native_{call}"


@functools.cache
def load() -> Loaded:
    """Open the library and tell XLA its calls, once a process.

    Returns:
        The library or why there is none.
    """
    path = extension_path(_FOLDER, "_kernels")
    if path is None:
        return Loaded(
            None,
            "its C++ kernels were not compiled when the package was installed: install a C++17 "
            "compiler, for instance g++, and the package once more from its source",
        )
    try:
        library = ctypes.CDLL(str(path))
        for call in CALLS:
            capsule = jax.ffi.pycapsule(getattr(library, call))
            jax.ffi.register_ffi_target(target_name(call), capsule, platform="cpu")
    except Exception as error:
        return Loaded(None, f"its kernels do not fit this system or JAX {jax.__version__}: {error}")
    return Loaded(library, None)


def are_compiled() -> bool:
    """Whether there is a library, for programs on a CPU."""
    return load().library is not None


def on_platform(native: Callable[..., _T], other: Callable[..., _T]) -> Callable[..., _T]:
    """Make a function that calls the kernels in programs for a CPU, if they were compiled.

    Args:
        native: calls them, as ``gathered_sums`` does.
        other: the same by operations of XLA.
    """
    if not are_compiled():
        return other

    def chosen(*given: Any) -> Any:
        return jax.lax.platform_dependent(*given, cpu=native, default=other)

    return chosen


def runs_by_default() -> bool:
    """Whether programs call the kernels where nothing else is said of their device."""
    return are_compiled() and jax.default_backend() == "cpu"


def limit_instructions(highest: str = _INSTRUCTION_SETS[-1]) -> str:
    """Use no instruction set above a given one, in all programs of this process.

    Args:
        highest: ``baseline``, ``AVX2`` or ``AVX-512``.

    Returns:
        The one that is used: the highest that the processor has below that.

    Raises:
        RuntimeError: there is no library.
    """
    library, obstacle = load()
    if library is None:
        raise RuntimeError(obstacle)
    return _INSTRUCTION_SETS[library.limit_instructions(_INSTRUCTION_SETS.index(highest))]
