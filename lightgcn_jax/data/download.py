"""Downloads that survive a poor connection, and extraction that trusts no archive."""

from __future__ import annotations

import email.utils
import http.client
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple, NoReturn

import rich.progress
from rich.console import Console

from lightgcn_jax.errors import InputError
from lightgcn_jax.files import locked, replacing
from lightgcn_jax.files import sha256 as sha256_of

_BLOCK = 1 << 18  # bytes
_LONGEST_WAIT_SECONDS = 60.0
_FIRST_ANSWER_SECONDS = 6.0
_PATIENCE_SECONDS = 12.0
"""How long a server that has not answered yet may be silent, and may be asked in all."""

_SAID_SHARE = 0.1
_SAID_BYTES = 10_000_000
"""Off a terminal a line is written after so much more of a file, of known and unknown size."""

_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})

_Report = Callable[[int, int | None], None]  # bytes so far, bytes in all where known


def download(
    url: str,
    target: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    retries: int = 5,
    timeout_seconds: float = 30.0,
    wait_seconds: float = 1.0,
    progress: bool = True,
) -> Path:
    """Fetch `url` to `target`, which appears only when it is whole.

    Bytes gather in `<target>.part`, which an interruption leaves behind. A later attempt, even of a
    later process, continues it, provided the server shows that the file is still the same one.

    Args:
        url: http or https.
        target: file to write; missing folders are made. An existing file is replaced.
        size: expected bytes, if known.
        sha256: expected digest in hexadecimal, if known; a mismatch is fetched once more from zero.
        retries: attempts after the first that may fail in a row without a byte of progress; a
            server that never answers, as when there is no network, is given up after 12 seconds.
        timeout_seconds: longest silence of the server; at most 6 before its first answer.
        wait_seconds: wait before the first new attempt; it doubles with each failure in a row.
        progress: draw bytes, rate and time left on stderr, or write a line now and then when that
            is no terminal.

    Returns:
        `target`.

    Raises:
        InputError: the URL and why it could not be had, or that the disk refused the bytes.
    """
    if not url.startswith(("http://", "https://")):
        raise InputError(f"{url}: can only download from http:// or https:// addresses.")
    part = target.with_name(f"{target.name}.part")
    lock = target.with_name(f".{target.name}.lock")
    busy = f"{url}: another process is writing {part}; wait for it, then try again."
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Until the file has its name: another process would take what is whole for its own.
        with locked(lock, busy, leave=False):
            with _open_partial(part) as partial, _progress_bar(target.name, progress) as report:
                _receive_all(
                    url, partial, size, sha256, retries, timeout_seconds, wait_seconds, report
                )
            os.replace(part, target)
            os.utime(target)
    except OSError as error:  # those of the network are handled within: this is the disk
        raise InputError(
            f"{url}: cannot write {error.filename or target}: {error.strerror or error}. Free"
            " space there or choose another folder, then try again."
        ) from error
    return target


def extract(
    archive: Path, members: Sequence[str], folder: Path, *, limit_bytes: int = 4 << 30
) -> list[Path]:
    """Write the named members of a zip archive into `folder`, each under its last name.

    Args:
        archive: zip file.
        members: full names inside the archive; everything else in it is left alone.
        folder: where to write; made if missing.
        limit_bytes: most bytes that the members together may unpack to.

    Returns:
        The files written, in the order of `members`.

    Raises:
        InputError: no zip file, damaged, a member is missing, unsafe or encrypted, or the members
            are larger than allowed. Then no file of `folder` was changed.
    """
    targets = [folder / _safe_name(archive, member) for member in members]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(archive) as contents, ExitStack() as whole:
            needed = sum(contents.getinfo(member).file_size for member in members)
            if needed > limit_bytes:
                raise InputError(
                    f"{archive}: its members unpack to {needed:,} bytes, more than the"
                    f" {limit_bytes:,} allowed; the archive is not what was expected."
                )
            for member, target in zip(members, targets, strict=True):
                temporary = whole.enter_context(replacing(target))
                # zipfile stops at the declared size, so the sum above bounds what is written.
                with contents.open(member) as source, temporary.open("wb") as sink:
                    shutil.copyfileobj(source, sink, _BLOCK)
    except KeyError as error:
        raise InputError(f"{archive}: {error.args[0]}; is it the right archive?") from error
    # zipfile raises the last two for an unknown compression and for an encrypted member.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise InputError(
            f"{archive}: cannot be unpacked ({error}); remove it and download it again."
        ) from error
    except FileNotFoundError as error:
        raise InputError(f"{archive}: {error.strerror}.") from error
    return targets


class _Version(NamedTuple):
    """What tells one state of a remote file from another; None where the server does not say."""

    etag: str | None
    modified: int | None  # seconds since 1970
    total: int | None  # bytes

    def agrees_with(self, other: _Version) -> bool:
        known = [pair for pair in zip(self, other, strict=True) if None not in pair]
        return bool(known) and all(mine == its for mine, its in known)


class _InterruptedTransferError(Exception):
    """An attempt failed in a way that another may not."""


class _UnreachableError(_InterruptedTransferError):
    """The server did not answer."""


@dataclass
class _Partial:
    """The bytes so far, and the version of the remote file that they belong to."""

    path: Path
    file: BinaryIO
    version: _Version | None

    def length(self) -> int:
        return self.file.seek(0, os.SEEK_END)

    def clear(self) -> None:
        self.file.truncate(0)
        self.version = None


def _receive_all(
    url: str,
    partial: _Partial,
    size: int | None,
    sha256: str | None,
    retries: int,
    timeout_seconds: float,
    wait_seconds: float,
    report: _Report,
) -> None:
    failures = furthest = mismatches = 0
    started, answered = time.monotonic(), False
    while True:
        silence = timeout_seconds
        if not answered:
            left = started + _PATIENCE_SECONDS - time.monotonic()
            silence = min(silence, _FIRST_ANSWER_SECONDS, max(left, 0.1))
        try:
            _receive(url, partial, size, silence, report)
        except _InterruptedTransferError as interruption:
            # Ends: furthest grows up to the file's length at most, and without growth it counts.
            failures = failures + 1 if partial.length() <= furthest else 0
            furthest = max(furthest, partial.length())
            wait = min(wait_seconds * 2.0**failures, _LONGEST_WAIT_SECONDS)
            answered = answered or not isinstance(interruption, _UnreachableError)
            in_vain = not answered and time.monotonic() + wait >= started + _PATIENCE_SECONDS
            if failures > retries or in_vain:
                raise InputError(
                    f"{url}: {interruption}; gave up after {failures} attempts in a row without"
                    " progress. Check the connection and try again, or fetch the file by other"
                    f" means and put it at {partial.path.with_suffix('')}."
                ) from interruption
            time.sleep(wait)
            continue
        answered = True
        found = sha256 and sha256_of(partial.path)
        if not sha256 or found == sha256.lower():
            return
        partial.clear()
        mismatches += 1
        if mismatches > 1:
            raise InputError(
                f"{url}: expected SHA-256 {sha256}, got {found}, twice."
                " The file has changed at its source, or something on the way alters it."
            )


def _receive(
    url: str, partial: _Partial, size: int | None, timeout_seconds: float, report: _Report
) -> None:
    """One attempt: append what is missing; returns once all of it is there."""
    if partial.version is None:
        partial.clear()
    have = partial.length()
    try:
        request = urllib.request.Request(url, headers=_headers(have, partial.version))
        response = urllib.request.urlopen(request, timeout=timeout_seconds)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and _full_length(error.headers) == have and size in (None, have):
                return  # nothing is missing: only the length stated earlier was wrong
            _raise_for_status(url, error, partial)
    except (http.client.InvalidURL, ValueError) as error:
        raise InputError(f"{url}: not a valid address ({error}).") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise _UnreachableError(f"cannot reach the server ({reason})") from error
    with response:
        offered = _offered(response)
        if response.status == 206:
            span = response.headers.get("Content-Range", "")
            same = partial.version is not None and partial.version.agrees_with(offered)
            if not (same and span.startswith(f"bytes {have}-")):
                partial.clear()
                raise _InterruptedTransferError("the file changed at its source meanwhile")
        else:
            partial.clear()
        total = size if offered.total is None else offered.total
        if size is not None and total != size:
            raise InputError(
                f"{url}: expected {size:,} bytes, the server offers {total:,}."
                " The file has changed at its source."
            )
        partial.version = offered
        _append(response, partial, total, report)
    have = partial.length()
    if total is not None and have < total:
        raise _InterruptedTransferError(f"the connection ended at {have:,} of {total:,} bytes")
    if total is not None and have > total:
        partial.clear()
        raise InputError(f"{url}: expected {total:,} bytes, the server sent {have:,}.")


def _append(
    response: http.client.HTTPResponse, partial: _Partial, total: int | None, report: _Report
) -> None:
    have = partial.length()
    report(have, total)
    while True:
        try:
            block = response.read1(_BLOCK)
        except (OSError, http.client.HTTPException) as error:
            raise _InterruptedTransferError(f"the connection broke ({error})") from error
        if not block:
            partial.file.flush()
            return
        partial.file.write(block)
        have += len(block)
        report(have, total)


def _raise_for_status(url: str, error: urllib.error.HTTPError, partial: _Partial) -> NoReturn:
    reason = f"the server answered {error.code} {error.reason}"
    if error.code == 416:
        partial.clear()
    if error.code == 416 or error.code in _TRANSIENT_STATUS:
        raise _InterruptedTransferError(reason) from error
    raise InputError(
        f"{url}: {reason}. The file may have moved: see the home page of its data set."
    ) from error


def _headers(have: int, version: _Version | None) -> dict[str, str]:
    headers = {"User-Agent": "lightgcn-jax", "Accept-Encoding": "identity"}
    if have and version is not None:
        headers["Range"] = f"bytes={have}-"
        if version.etag is not None and not version.etag.startswith("W/"):
            headers["If-Range"] = version.etag
        elif version.modified is not None:
            headers["If-Range"] = email.utils.formatdate(version.modified, usegmt=True)
    return headers


def _offered(response: http.client.HTTPResponse) -> _Version:
    modified = None
    with suppress(TypeError, ValueError):
        date = email.utils.parsedate_to_datetime(response.headers["Last-Modified"])
        modified = int(date.timestamp())
    if response.status == 206:
        total = _full_length(response.headers)
    else:
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
    return _Version(response.headers.get("ETag"), modified, total)


def _full_length(headers: Message) -> int | None:
    length = (headers.get("Content-Range") or "").rpartition("/")[2]
    return int(length) if length.isdecimal() else None


@contextmanager
def _open_partial(path: Path) -> Iterator[_Partial]:
    """The partial file.

    Its time on disk is the remote file's, the one mark that outlives the process without a second
    file; zero stands for none.
    """
    with path.open("ab") as file:
        found = path.stat()
        known = found.st_size > 0 and int(found.st_mtime) > 0
        version = _Version(None, int(found.st_mtime), None) if known else None
        partial = _Partial(path, file, version)
        try:
            yield partial
        finally:
            modified = partial.version.modified if partial.version else None
            with suppress(OSError):  # a full disk has been reported, or is about to be
                file.flush()
            os.utime(path, (modified or 0, modified or 0))
            if partial.version is None:
                path.unlink()


def _safe_name(archive: Path, member: str) -> str:
    path = PurePosixPath(member)
    if path.is_absolute() or ".." in path.parts or not path.name or set(member) & set("\\:\0"):
        raise InputError(f"{archive}: refusing the unsafe member name {member!r}.")
    return path.name


@contextmanager
def _progress_bar(name: str, wanted: bool) -> Iterator[_Report]:
    console = Console(stderr=True)
    if not wanted:
        yield lambda _have, _total: None
        return
    if not console.is_terminal:
        yield _lines(name)
        return
    columns = (
        rich.progress.BarColumn(),
        rich.progress.DownloadColumn(),
        rich.progress.TransferSpeedColumn(),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress("{task.description}", *columns, console=console) as bar:
        task = bar.add_task(name, total=None)
        yield lambda have, total: bar.update(task, completed=have, total=total)


def _lines(name: str) -> _Report:
    """What says how far a file is by lines on stderr."""
    said = -1
    print(f"{name}: asking the server", file=sys.stderr)

    def report(have: int, total: int | None) -> None:
        nonlocal said
        step = max(1, int(_SAID_SHARE * total)) if total else _SAID_BYTES
        if said < 0 or have - said >= step or (have == total and have > said):
            said = have
            of = f" of {total / 1e6:,.1f}" if total else ""
            print(f"{name}: {have / 1e6:,.1f}{of} MB", file=sys.stderr)

    return report
