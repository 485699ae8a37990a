"""Parquet files as they are stored, none of which is trusted."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from lightgcn_jax.data.text import POLARS_ERRORS, refuse_foreign
from lightgcn_jax.errors import InputError


def read_parquet(path: Path) -> pl.DataFrame:
    """Read a Parquet file.

    Args:
        path: the file.

    Raises:
        InputError: it is missing, or holds something else.
    """
    try:
        with _silent():
            return pl.read_parquet(path, glob=False)
    except FileNotFoundError:
        raise InputError(f"{path}: expected this file, it is missing") from None
    except OSError as error:
        reason = error.strerror or "the disk refused"
        raise InputError(f"{path}: cannot be read: {reason}") from error
    except POLARS_ERRORS as error:
        with path.open("rb") as file:
            head = file.read(64)
        if not head.startswith(b"PAR1"):
            refuse_foreign(path, head, "a Parquet file")
        raise InputError(
            f"{path}: expected a Parquet file, got one that is damaged, cut off or no such file"
        ) from error


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep stderr of the process for itself: polars prints a panic before it raises it."""
    try:
        stderr = os.dup(2)
    except OSError:  # closed
        yield
        return
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
