"""The one kind of error that a user can mend, and how text stands in it."""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Iterator
from pathlib import Path

_PACKAGES = ("lightgcn_jax", "pinsage_jax")


class InputError(ValueError):
    """Input, settings or files that do not fit.

    The message is one sentence or two: which file, line or field; what was expected; what came.
    The command line prints it alone and exits with status 2.
    """


def printable(text: str) -> str:
    """Text for a message, with what nobody sees written out.

    Args:
        text: any.
    """
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def warn(message: str) -> None:
    """A UserWarning at the line of whoever called the packages, however deep this is.

    Args:
        message: one sentence or two.
    """
    frame, level = inspect.currentframe(), 0
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] in _PACKAGES:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level + 1)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put a file's name before what an error says, where it is not there.

    Args:
        path: the file.
    """
    try:
        yield
    except InputError as error:
        raise error if str(path) in str(error) else InputError(f"{path}: {error}") from None


@contextlib.contextmanager
def naming_refused(path: Path) -> Iterator[None]:
    """Make what a disk refuses name a file, and not the one that is written in its place.

    Args:
        path: the file that the user knows.
    """
    try:
        yield
    except OSError as error:  # which names no file at all where an open one is full
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


_LONGEST_SAID = 300


def first_line(error: BaseException) -> str:
    """What an error of somebody else's says, in a line; its type where it says nothing.

    Args:
        error: the error.
    """
    return [*str(error).splitlines(), type(error).__name__][0][:_LONGEST_SAID]
