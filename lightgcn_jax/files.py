"""Files and folders that are either whole or not there."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import polars as pl
import safetensors

from lightgcn_jax.errors import InputError, naming_refused
from lightgcn_jax.interrupts import before_exit
from lightgcn_jax.paths import refuse_no_text, refuse_odd_name

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None

_YOUNGEST_LEFT = 1.0
"""Seconds: between making a temporary file and locking it nobody takes it for abandoned."""

_LONGEST_NAME = 200  # bytes, which leave room for what a temporary name adds; disks take 255

_TEMPORARY = re.compile(r"^\..+\.[0-9a-f]{8}\.tmp$")
"""What :func:`_beside` calls files and folders while they are written."""

_AT_CURRENT_FOLDER, _EXCHANGE = -100, 2
"""What Linux's ``renameat2`` calls the current folder, and taking each other's names."""

_TRIES = 5  # how often what another thread writes into is removed

_temporaries: set[Path] = set()
_replaceable: dict[Path, Path | None] = {}
"""Folders that may be replaced, and where the old one lies once it was."""


@before_exit
def _remove_temporaries() -> None:
    for target in [*_replaceable]:
        _settle(target)
    for path in [*_temporaries]:
        for _ in range(_TRIES):  # the main thread may still write there
            _remove(path)
            if not path.exists():
                break


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Write a file whole or not at all, and to the disk before it takes its name.

    Args:
        target: the file, in a folder that exists; what stood there stays until the block has ended
            without an error (a full disk, Ctrl-C), and for good where it has not.

    Yields:
        A temporary path beside it, which then takes its name. What a killed process left there for
        the same target is removed.

    Raises:
        OSError: the disk refused the bytes; the error names ``target``.
    """
    with naming_refused(target), _temporary(target, Path.touch) as temporary, _written(target):
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # what a plain open() gives; some writers make private files
        publish(temporary, target)


@contextlib.contextmanager
def whole_folder(target: Path, kind: str | None = None) -> Iterator[Path]:
    """Write a folder whole or not at all, and to the disk before it takes its name.

    Args:
        target: the folder; nothing, an empty folder, or one that is :func:`replaceable` may stand
            there when the block ends. Missing parents are made.
        kind: what is to lie there, to refuse a folder that is taken at once.

    Yields:
        A temporary folder beside it to fill, ``.NAME.….tmp``. It takes the name of ``target`` when
        the block ends without an error, and is removed otherwise. Only a killed process leaves it,
        until the same folder is written again.

    Raises:
        InputError: ``target`` holds something or has an odd name, and ``kind`` is given.
        OSError: ``target`` holds something, or the disk refused.
    """
    if kind is not None:
        refuse_odd_name(target)
        refuse_taken(target, kind)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(target, Path.mkdir) as temporary:
        plain = stat.S_IMODE(temporary.stat().st_mode) & 0o666
        with _written(target):
            yield temporary
        if target.is_dir():  # one that is private stays so
            temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        for folder, _, names in os.walk(temporary, topdown=False):
            for name in names:
                Path(folder, name).chmod(plain)  # some writers make private files
                _flush(Path(folder, name))
            _flush(Path(folder))
        if target in _replaceable and _holds_something(target):
            _take_the_place(temporary, target)
        else:
            temporary.rename(target)
        _flush(target.parent)


@contextlib.contextmanager
def replaceable(target: Path) -> Iterator[None]:
    """Let a folder that is written whole take the place of the one that lies there.

    The old one stays until the new one takes its name, and is kept aside until the block ends. It
    comes back where the new one is gone by then, after an error or a signal too.

    Args:
        target: the folder, as :func:`whole_folder` gets it.
    """
    _replaceable[target] = None
    try:
        # The lock goes with the folder to its other name, where it tells that it is not abandoned.
        with _lock_of(target):
            yield
    finally:
        _settle(target)
        del _replaceable[target]


@contextlib.contextmanager
def _written(target: Path) -> Iterator[None]:
    """Raise what libraries raise on a full disk as an OSError."""
    try:
        yield
    except (safetensors.SafetensorError, pl.exceptions.PolarsError) as error:
        raise OSError(errno.EIO, f"cannot be written: {error}", str(target)) from error


def _take_the_place(temporary: Path, target: Path) -> None:
    """Give a folder the name of another one, which keeps a temporary name."""
    _replaceable[target] = temporary
    if not _exchange(temporary, target):
        _replaceable[target] = aside = _beside(target)
        target.rename(aside)
        temporary.rename(target)


def _exchange(one: Path, other: Path) -> bool:
    """Have two folders take each other's names at once, so that neither is ever missing; whether
    the system can."""
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:  # an old C library
        return False
    here = _AT_CURRENT_FOLDER
    return rename(here, os.fsencode(one), here, os.fsencode(other), _EXCHANGE) == 0


def _settle(target: Path) -> None:
    """Remove the old folder where a new one took its place, or else bring it back."""
    aside = _replaceable.get(target)
    if aside is None or not aside.exists():
        return
    if target.exists():
        _remove(aside)
    else:
        aside.rename(target)


@contextlib.contextmanager
def _temporary(target: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """A file or folder beside the target; gone when the block ends, if it has no other name then.

    It is locked while it is written, so that what nobody writes any more can be told.
    """
    refuse_no_text(str(target))
    remove_abandoned(target)
    temporary = _beside(target)
    _temporaries.add(temporary)
    try:
        make(temporary)
        with _lock_of(temporary):
            yield temporary
    finally:
        if temporary not in _replaceable.values():
            _remove(temporary)
        _temporaries.discard(temporary)


def remove_abandoned(target: Path) -> None:
    """Remove what killed processes left beside a file or folder that they were writing.

    Args:
        target: the file or folder.
    """
    for left in _named_like(target.parent, f".{_short_name(target)}.", ".tmp"):
        _remove_if_abandoned(left)


def _remove_if_abandoned(left: Path) -> None:
    with _lock_of(left) as free:
        if free and time.time() - left.lstat().st_mtime > _YOUNGEST_LEFT:
            _remove(left)


def _beside(target: Path) -> Path:
    """A new temporary name beside a file or folder."""
    return target.with_name(f".{_short_name(target)}.{secrets.token_hex(4)}.tmp")


def _short_name(target: Path) -> str:
    name = os.fsencode(target.name)
    return target.name if len(name) <= _LONGEST_NAME else hashlib.sha256(name).hexdigest()


def _named_like(folder: Path, start: str, end: str) -> list[Path]:
    """What a folder holds whose name begins and ends so, characters of patterns as they are."""
    if not folder.is_dir():
        return []
    names = (entry.name for entry in os.scandir(folder))
    return [folder / one for one in names if one.startswith(start) and one.endswith(end)]


@contextlib.contextmanager
def _lock_of(path: Path) -> Iterator[bool]:
    """Whether nobody else holds this file or folder, which is held while the block runs."""
    if fcntl is None:  # not a POSIX system: nothing is taken for abandoned
        yield False
        return
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:  # somebody removed it meanwhile, or it is a link
        yield False
        return
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(opened)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def publish(whole: Path, target: Path) -> None:
    """Give a file that is whole its name, once its bytes are on the disk.

    Args:
        whole: the file under another name, in the same folder.
        target: its name; a file of that name is replaced.
    """
    _flush(whole)
    whole.replace(target)
    _flush(target.parent)


@contextlib.contextmanager
def scratch_folder(within: Path | None = None) -> Iterator[Path]:
    """A temporary folder, which goes when the block ends, by a signal too.

    Args:
        within: where it is made; None for the system's place.
    """
    with tempfile.TemporaryDirectory(prefix="lightgcn-jax-", dir=within) as folder:
        _temporaries.add(Path(folder))
        try:
            yield Path(folder)
        finally:
            _temporaries.discard(Path(folder))


def _flush(path: Path) -> None:
    """Have the disk keep what was written, so that a power cut does not take it."""
    if os.name == "nt" and path.is_dir():  # which has no handle there
        return
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def refuse_taken(path: Path, kind: str = "run") -> None:
    """Refuse a directory in which something new would overwrite what it holds.

    Args:
        path: the directory.
        kind: what is to lie there, for the message.

    Raises:
        InputError: it is no directory, or not empty, and not :func:`replaceable`.
    """
    if path not in _replaceable and _holds_something(path):
        way_on = f"go on with a {kind} by resuming it, or " if kind in ("run", "sweep") else ""
        raise InputError(
            f"{path}: expected a new or empty directory, it already holds something; {way_on}"
            "choose another name"
        )


def _holds_something(path: Path) -> bool:
    return path.exists() and (not path.is_dir() or any(path.iterdir()))


def write_text(target: Path, text: str) -> None:
    """Write UTF-8 text atomically.

    Args:
        target: the file; one that is there is replaced.
        text: all that it is to hold.
    """
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def locked(path: Path, message: str, *, leave: bool = True) -> Iterator[None]:
    """Hold a lock while the block runs, so that one process at a time does what it guards.

    Args:
        path: the lock's file; it holds nothing else.
        message: what the error says.
        leave: whether that file stays where it is, or goes with the lock.

    Raises:
        InputError: another process, or another block of this one, holds the lock; or a link lies
            there, for what it leads to would be emptied.
    """
    if path.is_symlink():
        raise InputError(f"{path}: expected a file that is a lock, got a link")
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


@contextlib.contextmanager
def held(folder: Path, message: str) -> Iterator[None]:
    """Hold a directory while the block runs, by its file ``.lock``, as :func:`locked` does. What
    killed processes left under temporary names beside it and in it goes.

    Args:
        folder: the directory.
        message: what the error says.

    Raises:
        InputError: another process, or another block of this one, holds it.
    """
    remove_abandoned(folder)
    with locked(folder / ".lock", message):
        for place, folders, names in os.walk(folder):
            for name in filter(_TEMPORARY.search, [*folders, *names]):
                _remove_if_abandoned(Path(place, name))
        yield


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal.

    Args:
        path: the file.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
