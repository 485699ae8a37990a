"""Files and folders that are either whole or not there."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import polars as pl
import safetensors

from lightgcn_jax.errors import InputError


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Write a file whole or not at all.

    Args:
        target: the file, in a folder that exists; what stood there stays until the block has ended
            without an error (a full disk, Ctrl-C), and for good where it has not.

    Yields:
        A temporary path beside it, which then takes its name.

    Raises:
        OSError: the disk refused the bytes; the error names ``target``.
    """
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    temporary.touch()
    mode = temporary.stat().st_mode
    try:
        yield temporary
        temporary.chmod(mode)  # what a plain open() gives; some writers make private files
        temporary.replace(target)
    except OSError as error:
        # The user knows the target's name, not the temporary one, which most errors lack anyway.
        raise OSError(error.errno, error.strerror or str(error), str(target)) from error
    except (safetensors.SafetensorError, pl.exceptions.PolarsError) as error:
        raise OSError(errno.EIO, f"cannot be written: {error}", str(target)) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(target: Path, kind: str | None = None) -> Iterator[Path]:
    """Write a folder whole or not at all.

    Args:
        target: the folder; nothing, or an empty folder, may stand there when the block ends.
            Missing parents are made.
        kind: what is to lie there, to refuse a folder that is taken at once.

    Yields:
        A temporary folder beside it to fill, ``.NAME.….tmp``. It takes the name of ``target`` when
        the block ends without an error, and is removed otherwise; only a killed process leaves it.

    Raises:
        InputError: ``target`` holds something, and ``kind`` is given.
        OSError: ``target`` holds something, or the disk refused.
    """
    if kind is not None:
        refuse_taken(target, kind)
    target.parent.mkdir(parents=True, exist_ok=True)
    name = tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    temporary = Path(name)
    try:
        yield temporary
        # mkdtemp makes private folders; this one is to be as readable as its surroundings.
        temporary.chmod(target.parent.stat().st_mode)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def refuse_taken(path: Path, kind: str = "run") -> None:
    """Refuse a directory in which something new would overwrite what it holds.

    Args:
        path: the directory.
        kind: what is to lie there, for the message.

    Raises:
        InputError: it is no directory, or not empty.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(
            f"{path}: expected a new or empty directory, it already holds something; "
            f"go on with a {kind} by resuming it, or choose another name"
        )


def write_text(target: Path, text: str) -> None:
    """Write UTF-8 text atomically.

    Args:
        target: the file; one that is there is replaced.
        text: all that it is to hold.
    """
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path, value: Any) -> None:
    """Write indented JSON atomically.

    Args:
        target: the file; one that is there is replaced.
        value: a JSON value.

    Raises:
        ValueError: the value holds a NaN or an infinity, which JSON lacks.
    """
    write_text(target, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Args:
        path: the file.

    Raises:
        InputError: the file is missing, unreadable or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: expected this file, it is missing") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: expected JSON, got {error}") from None


@contextlib.contextmanager
def locked(path: Path, message: str, *, leave: bool = True) -> Iterator[None]:
    """Hold a lock while the block runs, so that one process at a time does what it guards.

    Args:
        path: the lock's file; it holds nothing else.
        message: what the error says.
        leave: whether that file stays where it is, or goes with the lock.

    Raises:
        InputError: another process, or another block of this one, holds the lock.
    """
    lock = filelock.FileLock(path, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise InputError(message) from error
    try:
        yield
    finally:
        if not leave:
            with contextlib.suppress(OSError):  # some systems remove no open file
                path.unlink()
        lock.release()


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal.

    Args:
        path: the file.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
