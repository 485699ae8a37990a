"""Text files as they come -> plain UTF-8 lines on disk, and what is known of all of them.

Whatever is compressed, in another encoding or has the line ends of old Macs is written once into a
temporary file, so that all readers see one kind of text. Every byte is looked at here: a file that
is none of text is refused before anything is taken for an id.
"""

import codecs
import errno
import gzip
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import polars as pl

from lightgcn_jax.data.reading import AUTO
from lightgcn_jax.errors import InputError
from lightgcn_jax.files import scratch_folder

POLARS_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""What polars raises of a damaged file; a panic is no ``Exception``."""
UNDECODABLE = "\ufffd"
"""What a lossy decoder leaves in the place of bytes that are no UTF-8."""
_CHUNK = 1 << 22
_ZSTD = b"\x28\xb5\x2f\xfd"
_GZIP = b"\x1f\x8b"
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_PAGE = "an HTML or XML page, such as a download leaves that has failed"
_FOREIGN = {
    b"version https://git-lfs": "a Git LFS pointer, no data; `git lfs pull` fetches the file",
    b"<!doctype": _PAGE,
    b"<html": _PAGE,
    b"<?xml": _PAGE,
    b"par1": "a Parquet table; pass format parquet, or name it X.parquet",
    b"%%matrixmarket": "a Matrix Market file; read it with scipy.io.mmread",
}


@dataclass(frozen=True)
class PlainText:
    """A text file that any reader can take.

    Attributes:
        source: the file that the user named, for messages.
        path: where its lines lie as UTF-8; the same file, or a temporary one.
        encoding: how the user's file is encoded.
        has_quotes: whether a quotation mark stands anywhere in it.
        has_returns: whether a carriage return stands within a line.
        has_runs: whether anything but single spaces may stand between words.
        notes: what is worth knowing, a line each.
    """

    source: Path
    path: Path
    encoding: str
    has_quotes: bool
    has_returns: bool
    has_runs: bool
    notes: tuple[str, ...] = ()

    def open_lines(self) -> Iterator[str]:
        """The lines with their ends; bytes that are no UTF-8 become ``UNDECODABLE``."""
        with self.path.open(encoding="utf-8-sig", errors="replace", newline="\n") as file:
            yield from file


@contextmanager
def plain_text(
    path: Path, encoding: str = AUTO, wanted: str = "interactions"
) -> Iterator[PlainText]:
    """Opens a text file; a temporary file that it needs is gone afterwards.

    Args:
        path: the file, compressed or not.
        encoding: a text encoding that Python knows; auto is UTF-8, or what a mark says.
        wanted: what the file should hold, for messages.

    Raises:
        InputError: it cannot be read, is no text or is empty.
    """
    _check_encoding(encoding)
    with scratch_folder() as folder:
        text, target = path, folder / "text"
        with explained(path):
            if not path.stat().st_size:
                raise InputError(f"{path}: expected {wanted}, but the file is empty")
            with path.open("rb") as file:
                magic = file.read(8)
            if magic.startswith(_ZSTD):
                text = _unpacked_by_polars(path, folder / "unpacked", encoding)
            elif _is_compressed(path, magic):
                text = _copied(_chunks(path, magic), folder / "unpacked")
            with text.open("rb") as file:
                head = file.read(64)
            refuse_foreign(path, head, wanted)
            if encoding == AUTO:
                marks = (name for mark, name in _MARKS.items() if head.startswith(mark))
                encoding = next(marks, "utf-8")
            if not _is_utf8(encoding):
                text = _decoded(path, text, encoding, target)
            seen = _examined(path, text)
            notes: tuple[str, ...] = ()
            if seen.returns and not seen.lines:
                text = _with_line_feeds(text, Path(folder) / "lines")
                seen = _examined(path, text)
                notes = ("lines end in carriage returns alone, as on old Macs",)
        yield PlainText(path, text, encoding, seen.quotes, bool(seen.returns), seen.runs, notes)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns what the libraries say of a file that cannot be read into words of our own.

    Args:
        path: the file that the user named.

    Raises:
        InputError: in the place of what was raised.
    """
    try:
        yield
    except EOFError as error:
        raise InputError(
            f"{path}: cannot be read: its compressed data end early; was it copied whole?"
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: cannot be read: its compressed data are damaged") from error
    except POLARS_ERRORS as error:
        raise InputError(f"{path}: cannot be read as text; is it damaged?") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise InputError(
                f"{path}: no space is left in {tempfile.gettempdir()} to unpack or decode it; "
                "TMPDIR names another folder"
            ) from error
        reason = error.strerror or "its compressed data are damaged"
        raise InputError(f"{path}: cannot be read: {reason}") from error


def _check_encoding(encoding: str) -> None:
    if encoding == AUTO:
        return
    try:
        known = codecs.lookup(encoding)
        "".encode(encoding)
    except (LookupError, ValueError, TypeError) as error:
        raise InputError(
            f"encoding={encoding!r}: expected a text encoding that Python knows, such as utf-8, "
            "latin-1, cp1252 or utf-16"
        ) from error
    if known.name in ("idna", "punycode", "undefined"):
        raise InputError(f"encoding={encoding!r}: expected one of text files, such as latin-1")


def _is_utf8(encoding: str) -> bool:
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii")


def _is_compressed(path: Path, magic: bytes) -> bool:
    return path.suffix == ".zlib" or magic.startswith(_GZIP)


def _chunks(path: Path, magic: bytes) -> Iterator[bytes]:
    """The bytes of a compressed file, piece by piece."""
    if magic.startswith(_GZIP):
        with gzip.open(path) as file:
            while chunk := file.read(_CHUNK):
                yield chunk
        return
    unpacker = zlib.decompressobj()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield unpacker.decompress(chunk)
    if not unpacker.eof:
        raise EOFError


def _copied(chunks: Iterator[bytes], target: Path) -> Path:
    with target.open("wb") as file:
        for chunk in chunks:
            file.write(chunk)
    return target


def _unpacked_by_polars(path: Path, target: Path, encoding: str) -> Path:
    """Zstandard, which Python has no module for before 3.14; polars decodes it as UTF-8."""
    if encoding != AUTO and not _is_utf8(encoding):
        raise InputError(f"{path}: encoding={encoding!r}: decompress it first (zstd -d)")
    lines = pl.scan_csv(
        path, has_header=False, encoding="utf8-lossy", glob=False, quote_char=None,
        separator="\0", schema={"line": pl.String},
    )  # fmt: skip
    lines.sink_csv(target, include_header=False, separator="\0", quote_style="never")
    return target


def refuse_foreign(path: Path, head: bytes, wanted: str = "interactions") -> None:
    """Refuses what stands in the place of a file of interactions.

    Args:
        path: The file.
        head: Its first bytes.
        wanted: What the file should hold, for messages.

    Raises:
        InputError: It is known to be something else.
    """
    start = head.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    what = next((what for mark, what in _FOREIGN.items() if start.startswith(mark)), None)
    if what is not None:
        raise InputError(f"{path}: expected {wanted}, got {what}")


def _decoded(path: Path, text: Path, encoding: str, target: Path) -> Path:
    """Writes a text of another encoding as UTF-8."""
    decoder = codecs.getincrementaldecoder(encoding)(errors="strict")
    lines = 1
    with text.open("rb") as file, target.open("wb") as plain:
        while True:
            chunk = file.read(_CHUNK)
            try:
                piece = decoder.decode(chunk, final=not chunk)
            except UnicodeError as error:
                at = getattr(error, "start", 0)
                odd = getattr(error, "object", b"")[at : at + 4]
                raise InputError(
                    f"{path}: expected text in {encoding}, got the bytes {bytes(odd)!r} at or "
                    f"behind line {lines}"
                ) from error
            lines += piece.count("\n")
            plain.write(piece.encode("utf-8", errors="replace"))
            if not chunk:
                return target


def _with_line_feeds(text: Path, target: Path) -> Path:
    with text.open("rb") as file, target.open("wb") as plain:
        while chunk := file.read(_CHUNK):
            plain.write(chunk.replace(b"\r", b"\n"))
    return target


@dataclass
class _Seen:
    lines: int = 0
    returns: int = 0
    quotes: bool = False
    runs: bool = False


def _examined(path: Path, text: Path) -> _Seen:
    """Looks at every byte."""
    seen = _Seen()
    with text.open("rb") as file:
        for chunk in _by_lines(file):
            if b"\0" in chunk:
                _refuse_nul(path, chunk, seen.lines)
            if b"\r" in chunk:
                # One at the very end of a file is half of a line end, and is of no matter.
                seen.returns += chunk.removesuffix(b"\r").count(b"\r") - chunk.count(b"\r\n")
            seen.lines += chunk.count(b"\n")
            seen.quotes = seen.quotes or b'"' in chunk
            seen.runs = seen.runs or b"  " in chunk or b"\t" in chunk
    return seen


def _by_lines(file: BinaryIO) -> Iterator[bytes]:
    """Pieces of a file; none ends between a carriage return and a line feed."""
    while chunk := file.read(_CHUNK):
        if chunk.endswith((b"\r", b" ", b"\t")):
            chunk += file.read(1)
        yield chunk


def _refuse_nul(path: Path, chunk: bytes, lines: int) -> None:
    at = chunk.index(b"\0")
    line = lines + chunk.count(b"\n", 0, at) + 1
    sample = chunk[at - at % 2 : at - at % 2 + 200]
    advice = ""
    for start, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if sample[start::2].count(0) > 0.6 * len(sample[start::2]):
            advice = f"; if it is UTF-16 without a mark, pass encoding {encoding}"
            break
    raise InputError(f"{path}:{line}: expected text, got a NUL byte{advice}")
