"""Downloads that survive a poor connection, and trust no server."""

from __future__ import annotations

import email.utils
import http.client
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn
from urllib.parse import urlsplit

import rich.progress

from lightgcn_jax.consoles import PlainConsole
from lightgcn_jax.errors import InputError, printable
from lightgcn_jax.files import locked, publish
from lightgcn_jax.files import sha256 as sha256_of

_BLOCK = 1 << 18  # bytes
_LONGEST_WAIT_SECONDS = 60.0
_FIRST_ANSWER_SECONDS = 6.0
_PATIENCE_SECONDS = 12.0
"""How long a server that has not answered yet may be silent, and may be asked in all."""

_SAID_SHARE = 0.1
_SAID_BYTES = 10_000_000
"""Off a terminal a line is written after so much more of a file, of known and unknown size."""

_MOST_BYTES = 4 << 30
"""Of a file whose size is not known."""

_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})

_Report = Callable[[int, int | None], None]  # bytes so far, bytes in all where known


def download(
    url: str,
    target: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    most: int = _MOST_BYTES,
    retries: int = 5,
    timeout_seconds: float = 30.0,
    wait_seconds: float = 1.0,
    progress: bool = True,
) -> Path:
    """Fetch `url` to `target`, which appears only when it is whole.

    Bytes gather in `<target>.part`, which an interruption and a kill leave behind. A later attempt,
    even of a later process, continues it, provided the server shows that the file is still the same
    one. Other addresses that a server passes on to are http or https as well, and never less safe.

    Args:
        url: http or https.
        target: file to write; missing folders are made. An existing file is replaced.
        size: expected bytes, if known.
        sha256: expected digest in hexadecimal, if known; a mismatch is fetched once more from zero.
        most: bytes that are taken where `size` is not known.
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
                    url, partial, size, sha256, most, retries, timeout_seconds, wait_seconds, report
                )
            os.utime(part)
            publish(part, target)
    except OSError as error:  # those of the network are handled within: this is the disk
        raise InputError(
            f"{url}: cannot write {error.filename or target}: {error.strerror or error}. Free"
            " space there or choose another folder, then try again."
        ) from error
    return target


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


class _TooLongError(Exception):
    """The server sends more than it said, or than is taken."""


@dataclass
class _Partial:
    """The bytes so far, and the version of the remote file that they belong to.

    The file's time on disk is the remote file's, the one mark that outlives the process without a
    second file; zero stands for none. It is set after each block, so that a kill leaves it.
    """

    path: Path
    file: BinaryIO
    version: _Version | None

    def length(self) -> int:
        return self.file.seek(0, os.SEEK_END)

    def clear(self) -> None:
        self.file.truncate(0)
        self.version = None

    def append(self, block: bytes) -> None:
        self.file.write(block)
        self.mark()

    def mark(self) -> None:
        modified = self.version.modified if self.version else None
        os.utime(self.path, (modified or 0, modified or 0))


def _receive_all(
    url: str,
    partial: _Partial,
    size: int | None,
    sha256: str | None,
    most: int,
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
            _receive(url, partial, size, most, silence, report)
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


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows no server to another scheme, but from http to https."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str):
        if urlsplit(newurl).scheme not in ("https", urlsplit(req.full_url).scheme):
            raise InputError(f"{req.full_url}: the server passes on to {newurl}, which is refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_Redirects)


def _receive(
    url: str,
    partial: _Partial,
    size: int | None,
    most: int,
    timeout_seconds: float,
    report: _Report,
) -> None:
    """One attempt: append what is missing; returns once all of it is there."""
    if partial.version is None:
        partial.clear()
    have = partial.length()
    try:
        request = urllib.request.Request(url, headers=_headers(have, partial.version))
        response = _OPENER.open(request, timeout=timeout_seconds)
    except InputError:
        raise
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
        if (total or 0) > (size or most):
            raise InputError(
                f"{url}: expected at most {most:,} bytes, the server offers {total:,}."
            )
        partial.version = offered
        try:
            _append(response, partial, total, size or most, report)
        except _TooLongError:
            partial.clear()
            expected = f"{total:,}" if total else f"at most {most:,}"
            raise InputError(f"{url}: expected {expected} bytes, the server sent more.") from None
    have = partial.length()
    if total is not None and have < total:
        raise _InterruptedTransferError(f"the connection ended at {have:,} of {total:,} bytes")


def _append(
    response: http.client.HTTPResponse,
    partial: _Partial,
    total: int | None,
    most: int,
    report: _Report,
) -> None:
    have = partial.length()
    if have:
        partial.mark()
    report(have, total)
    while True:
        try:
            block = response.read1(_BLOCK)
        except (OSError, http.client.HTTPException) as error:
            raise _InterruptedTransferError(f"the connection broke ({error})") from error
        if not block:
            return
        have += len(block)
        if have > (most if total is None else total):
            raise _TooLongError
        partial.append(block)
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
    """The partial file; bytes are on their way to the disk as soon as they are written."""
    with path.open("ab", buffering=0) as file:
        found = path.stat()
        known = found.st_size > 0 and int(found.st_mtime) > 0
        version = _Version(None, int(found.st_mtime), None) if known else None
        partial = _Partial(path, file, version)
        try:
            yield partial
        finally:
            partial.mark()
            if partial.version is None:
                path.unlink()


@contextmanager
def _progress_bar(name: str, wanted: bool) -> Iterator[_Report]:
    console = PlainConsole(stderr=True)
    if not wanted:
        yield lambda _have, _total: None
        return
    if not console.is_terminal:
        yield _lines(printable(name))
        return
    columns = (
        rich.progress.BarColumn(),
        rich.progress.DownloadColumn(),
        rich.progress.TransferSpeedColumn(),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(
        rich.progress.TextColumn(printable(name), markup=False), *columns, console=console
    ) as bar:
        task = bar.add_task("", total=None)
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
