"""Compressed and packed files -> plain ones that a reader takes, or a word on what they are.

gzip and zstandard are read as they are. What polars does not read itself (.zip, .bz2, .xz, Arrow)
is written once into a temporary folder under its own name, so that formats are told as ever. No
archive is trusted: neither the names in it nor how long it gets.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import shutil
import zipfile
import zlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO

import polars as pl

from lightgcn_jax.data.text import POLARS_ERRORS
from lightgcn_jax.errors import InputError
from lightgcn_jax.files import replacing, scratch_folder

_OPENERS = {".bz2": bz2.open, ".xz": lzma.open}
_NO_TEXT = {
    b"\x93NUMPY": "an array of NumPy; pass its columns to Interactions.from_arrays",
    b"\x89HDF": "an HDF5 file; read it with pandas and pass the frame to Interactions.from_frame",
    b"SQLite format 3": "a SQLite database; read the table and pass the frame to "
    "Interactions.from_frame",
    b"\x80\x04": "a pickle of Python; pass what it holds to Interactions.from_frame",
    b"\x80\x05": "a pickle of Python; pass what it holds to Interactions.from_frame",
    b"FEA1": "a table of Feather's first version; convert it to Parquet",
    b"ORC": "an ORC file; convert it to Parquet",
    b"Obj\x01": "an Avro file; convert it to Parquet",
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"7z\xbc\xaf": "a 7z archive; unpack it",
    b"Rar!": "a RAR archive; unpack it",
    b"\xd0\xcf\x11\xe0": "an Excel workbook; save the sheet as CSV",
}
# zipfile raises RuntimeError for an unknown compression and for an encrypted member.
_DAMAGED = (EOFError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, RuntimeError)

_BLOCK = 1 << 20  # bytes
_MOST_TIMES, _ALWAYS_FINE = 200, 64 << 20
"""A file may unpack to so many times its size, or to so many bytes. Logs shrink to a tenth."""

_COUNTED = 16 << 20
"""Bytes of a gzip file that is unpacked once more than it needs, to see how long it gets."""


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
    except FileNotFoundError as error:
        raise InputError(f"{archive}: {error.strerror}.") from error
    except KeyError as error:
        raise InputError(f"{archive}: {error.args[0]}; is it the right archive?") from error
    except (OSError, *_DAMAGED) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's
            raise
        raise InputError(
            f"{archive}: cannot be unpacked ({error or type(error).__name__}); remove it and"
            " download it again."
        ) from error
    return targets


@contextmanager
def unpacked(
    files: Sequence[Path], columns: Mapping[Path, Mapping[str, str | None]] | None = None
) -> Iterator[list[Path]]:
    """Files that a reader takes, in place of packed ones; an error names the file as it was given.

    Args:
        files: As the user has them.
        columns: Columns that a table lacks, with their one value, by its file.

    Raises:
        InputError: A file holds no text and no table, several files, or is damaged.
    """
    with scratch_folder() as folder:
        plain = []
        for at, file in enumerate(files):
            place = folder / str(at)
            place.mkdir()
            table = _unpacked(_under_a_name(file, place), place)
            if columns and file in columns:
                table = _extended(file, table, place, columns[file])
            plain.append(table)
        try:
            yield plain
        except InputError as error:
            text = str(error)
            for file, temporary in zip(files, plain, strict=True):
                if temporary != file:
                    text = text.replace(str(temporary), str(file))
            if text == str(error):
                raise
            raise InputError(text) from error


def _under_a_name(file: Path, place: Path) -> Path:
    """The file, or a link to one whose name no library takes, for its bytes are no UTF-8."""
    try:
        str(file).encode()
    except UnicodeEncodeError:
        link = place / file.name.encode("utf-8", "replace").decode()
        link.symlink_to(file.absolute())
        return link
    return file


def _unpacked(file: Path, place: Path) -> Path:
    with file.open("rb") as opened:
        head = opened.read(512)
    try:
        if head.startswith(b"ARROW1"):
            return _as_parquet(file, place)
        if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            return _unpacked(_member(file, place), place)
        if open_packed := _OPENERS.get(file.suffix.lower()):
            target = place / file.stem
            with open_packed(file, "rb") as packed, target.open("wb") as plain:
                plain.writelines(_blocks(packed, file))
            return _unpacked(target, place)
    except (OSError, *_DAMAGED) as error:
        reason = getattr(error, "strerror", None)
        if reason is None or getattr(error, "errno", None) == errno.EINVAL:
            reason = "it is damaged, incomplete or encrypted"
        raise InputError(f"{file}: cannot be unpacked: {reason}") from error
    for mark, what in _NO_TEXT.items():
        if head.startswith(mark):
            raise InputError(f"{file}: expected a log of interactions, got {what}")
    if head.startswith(b"\x1f\x8b"):
        with suppress(OSError, *_DAMAGED), gzip.open(file) as packed:
            head = packed.read(512)
            if file.stat().st_size < _COUNTED:
                deque(_blocks(packed, file), maxlen=0)
    if head[257:262] == b"ustar":
        raise InputError(f"{file}: expected a log of interactions, got a tar archive; unpack it")
    return file


def _blocks(packed: IO[bytes] | io.BufferedIOBase, file: Path) -> Iterator[bytes]:
    """What a packed file holds, as long as it is no longer than a log can be."""
    most = max(_ALWAYS_FINE, _MOST_TIMES * file.stat().st_size)
    while block := packed.read(_BLOCK):
        most -= len(block)
        if most < 0:
            raise InputError(
                f"{file}: expected a log, got a file that unpacks to more than {_MOST_TIMES} times "
                "its size; unpack it yourself if it is meant so"
            )
        yield block


def _member(file: Path, place: Path) -> Path:
    """The one file of a zip archive; what macOS adds does not count."""
    with zipfile.ZipFile(file) as archive:
        names = [one for one in archive.namelist() if _is_data(one)]
        if any(name.startswith("xl/") for name in names):
            raise InputError(
                f"{file}: expected a log of interactions, got an Excel workbook; save the sheet "
                "as CSV"
            )
        if len(names) != 1:
            shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
            raise InputError(
                f"{file}: expected an archive of one file, got {len(names)}"
                f"{f' ({shown})' if names else ''}; unpack it, then name the file or the folder"
            )
        # Only the last part of a name: it may lead elsewhere.
        target = place / (Path(names[0]).name or "member")
        with archive.open(names[0]) as packed, target.open("wb") as plain:
            plain.writelines(_blocks(packed, file))
        return target


def _is_data(name: str) -> bool:
    hidden = name.startswith("__MACOSX/") or Path(name).name.startswith(".")
    return not (name.endswith("/") or hidden)


def _as_parquet(file: Path, place: Path) -> Path:
    """A table of Arrow (.arrow, .feather) as Parquet."""
    target = place / f"{file.stem}.parquet"
    with _explained(file, "a table of Arrow"):
        pl.scan_ipc(file, glob=False).sink_parquet(target)
    return target


def _extended(file: Path, table: Path, place: Path, cells: Mapping[str, str | None]) -> Path:
    """A Parquet table with more columns; one that is in the table stays as it is."""
    target = place / f"extended-{table.name}"
    with _explained(file, "a Parquet table"):
        found = pl.scan_parquet(table, glob=False)
        names = found.collect_schema().names()
        more = {key: pl.lit(cell, pl.String) for key, cell in cells.items() if key not in names}
        found.with_columns(**more).sink_parquet(target)
    return target


@contextmanager
def _explained(file: Path, expected: str) -> Iterator[None]:
    try:
        yield
    except (OSError, *POLARS_ERRORS) as error:
        # polars takes a disk that is full for a damaged file; only the number tells them apart.
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(f"{file}: expected {expected}, and it cannot be read") from error


def _safe_name(archive: Path, member: str) -> str:
    path = PurePosixPath(member)
    if path.is_absolute() or ".." in path.parts or not path.name or set(member) & set("\\:\0"):
        raise InputError(f"{archive}: refusing the unsafe member name {member!r}.")
    return path.name
