"""Folders: which files of one are read, and what each of them is.

A folder may be a split (a train and a test file), one file that is known by its name, or one log in
several files of the same columns: what Spark and Hive write, or a file a day.
"""

import bz2
import gzip
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote

import polars as pl

from lightgcn_jax.data.formats import SINGLE_FILES, known_formats, plain_name
from lightgcn_jax.data.interactions import TEST, TRAIN, VALID
from lightgcn_jax.data.roles import COLUMN_NAMES, usual_column
from lightgcn_jax.data.text import POLARS_ERRORS
from lightgcn_jax.errors import InputError

PREPARED = "prepared.json"
"""The file that tells of a prepared folder, which holds no files of interactions."""

_PART_FILES = (
    {TRAIN: "train.txt", VALID: "valid.txt", TEST: "test.txt"},
    {TRAIN: "data1.txt", VALID: "valid1.txt", TEST: "test1.txt"},
)
# Suffixes by which files are tables whose columns have names.
_TEXT_TABLES = (".csv", ".tsv")
_BINARY_TABLES = (".parquet", ".pq", ".arrow", ".feather")
_TABLES = (*_TEXT_TABLES, *_BINARY_TABLES, ".jsonl", ".ndjson")
_TEXT_PARTS = {name for names in _PART_FILES for name in names.values()}
_OPENERS = {"": open, ".csv": open, ".tsv": open, ".gz": gzip.open, ".bz2": bz2.open}
_LONGEST_HEADER = 1 << 16
_PART_NAMES = {"train": TRAIN, "valid": VALID, "validation": VALID, "val": VALID, "test": TEST}
_PARTITION = re.compile(r"[^=]+=.*")
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class FoundFiles:
    """The files that a path stands for.

    Attributes:
        parts: The files of each part of a split, in order; a log without a split is TRAIN alone.
        notes: What a user should know about how they were found.
        columns: Columns that stand in the names of a file's folders, and its value of each.
    """

    parts: dict[int, list[Path]]
    notes: tuple[str, ...] = ()
    columns: Mapping[Path, Mapping[str, str | None]] = field(default_factory=dict)

    @property
    def all(self) -> list[Path]:
        """All files, in the order of the parts."""
        return [file for files in self.parts.values() for file in files]

    @property
    def part_of_each(self) -> list[int]:
        """The part that each of all files is of."""
        return [part for part, files in self.parts.items() for _ in files]


def files_of(source: Path, format: str, named: Collection[str] = ()) -> FoundFiles:
    """The files to read.

    Args:
        source: A file, or a folder.
        format: A key of ``FORMATS``, or "auto".
        named: Columns that the caller asks for by their names.

    Raises:
        InputError: The folder holds no file that a folder is read by, or more than one could be
            meant.
    """
    if source.is_file():
        return FoundFiles({TRAIN: [source]})
    found = _in_folder(source, format)
    return _with_partitions(source, found, named)


def _in_folder(source: Path, format: str) -> FoundFiles:
    inside: dict[str, Path] = {}
    for path in sorted(source.iterdir()):
        if not _is_hidden(path):
            inside.setdefault(plain_name(path), path)
    files = {name: path for name, path in inside.items() if path.is_file()}
    split = _table_split(source, inside, format)
    found = [
        *_recbole(source, files, format),
        *_text_split(files, format),
        *_single(files, format),
    ]
    if TRAIN in split and TEST in split:
        found.append(FoundFiles({part: _log(split[part], format) for part in sorted(split)}))
    if len(found) > 1:
        ways = "; or ".join(", ".join(file.name for file in one.all) for one in found)
        raise InputError(
            f"{source}: can be read in several ways: {ways}; say which by format=… (--format …), "
            "or name the file"
        )
    if not found and split:
        raise InputError(
            f"{source}: holds {', '.join(path.name for path in split.values())}, a part of a "
            "split, but a split needs a train and a test file (train.csv, test.csv and perhaps "
            "valid.csv; .tsv and .parquet likewise); add what is missing, or name the one file "
            "that is to be read"
        )
    return found[0] if found else _one_log(source, format)


def _recbole(source: Path, files: dict[str, Path], format: str) -> Iterator[FoundFiles]:
    atomic = [name for name in files if name.endswith(".inter")]
    if format not in ("auto", "recbole") or not atomic:
        return
    parts = {
        part: [name for name in atomic if name.endswith(f".{suffix}.inter")]
        for part, suffix in ((TRAIN, "train"), (VALID, "valid"), (TEST, "test"))
    }
    found = {part: [files[names[0]]] for part, names in parts.items() if len(names) == 1}
    if len(found) == len(atomic) and TRAIN in found and TEST in found:
        yield FoundFiles(found)
    elif len(atomic) == 1:
        yield FoundFiles({TRAIN: [files[atomic[0]]]})
    else:
        raise InputError(
            f"{source}: expected one .inter file, or one each of .train.inter, .valid.inter "
            f"and .test.inter, got {', '.join(atomic)}; name the file"
        )


def _text_split(files: dict[str, Path], format: str) -> Iterator[FoundFiles]:
    """train.txt, test.txt and perhaps valid.txt, or data1.txt and test1.txt."""
    for names in _PART_FILES if format in ("auto", "adjacency", "triples") else ():
        if names[TRAIN] in files and names[TEST] in files:
            yield FoundFiles({at: [files[one]] for at, one in names.items() if one in files})
            return


def _single(files: dict[str, Path], format: str) -> Iterator[FoundFiles]:
    for name, known in SINGLE_FILES.items():
        if format in ("auto", known) and name in files:
            yield FoundFiles({TRAIN: [files[name]]})
            return


def _table_split(source: Path, inside: dict[str, Path], format: str) -> dict[int, Path]:
    """Tables called train, test or valid; each may be a folder of tables, as Spark writes it."""
    split: dict[int, Path] = {}
    for name, path in inside.items():
        part = _PART_NAMES.get(name.partition(".")[0].lower())
        if part is None or name in _TEXT_PARTS:
            continue
        if _within(path, format) if path.is_dir() else _kind(path, format):
            if part in split:
                raise InputError(
                    f"{source}: expected one table for each part of the split, got "
                    f"{split[part].name} and {name}; keep the one that is meant"
                )
            split[part] = path
    return split


def _one_log(source: Path, format: str) -> FoundFiles:
    log = _log(source, format)
    if not log:
        raise InputError(
            f"{source}: this folder holds no file that a folder is read by; "
            f"{known_formats(format)}; or name a file in it"
        )
    names = [str(file.relative_to(source)) for file in log]
    note = f"{len(log):,} files are read as one log: {names[0]} … {names[-1]}"
    return FoundFiles({TRAIN: log}, (note,) if len(log) > 1 else ())


def _log(source: Path, format: str) -> list[Path]:
    """The files of one log."""
    if source.is_file():
        return [source]
    found = _within(source, format)
    # Spark writes an empty file for a partition without rows.
    found = [file for file in found if file.stat().st_size] or found
    seen: dict[Path, Path] = {}
    for file in found:
        twin = seen.setdefault(file.with_name(plain_name(file)), file)
        if twin != file:
            raise InputError(
                f"{source}: {twin.name} and {file.name} may be the same file twice; keep one"
            )
    if len(found) > 1:
        columns = {file: names for file in found if (names := _columns_of(file, format))}
        _check_alike(source, "suffix", {file: _kind(file, format) for file in found})
        _check_alike(source, "columns", columns)
    return found


def _check_alike(source: Path, what: str, told: Mapping[Path, str]) -> None:
    """Refuse files that are not one log.

    Args:
        source: The folder.
        what: What is compared.
        told: That of each file.
    """
    for file, other in told.items():
        first, own = next(iter(told.items()))
        if other != own:
            raise InputError(
                f"{source}: several files could be meant, and they are not one log: {first.name} "
                f"has the {what} {own[:80]!r}, {file.name} has the {what} {other[:80]!r}; name the "
                "file that is to be read"
            )


def _within(folder: Path, format: str) -> list[Path]:
    """Tables in a folder and in its folders key=value, in the order that a person counts in."""
    found: list[Path] = []
    for path in sorted(folder.iterdir(), key=lambda path: _counted(path.name)):
        if _is_hidden(path):
            continue
        if path.is_dir() and _PARTITION.fullmatch(path.name):
            found += _within(path, format)
        elif path.is_file() and _kind(path, format):
            found.append(path)
    return found


def _with_partitions(source: Path, found: FoundFiles, named: Collection[str]) -> FoundFiles:
    """The files with those columns in the names of their folders that may be read."""
    columns: dict[Path, dict[str, str | None]] = {}
    left_out: dict[str, None] = {}
    for file in found.all:
        for folder in file.relative_to(source).parts[:-1]:
            key, is_partition, value = folder.partition("=")
            if not is_partition:
                continue
            if key in named or any(usual_column(role, [key]) is not None for role in COLUMN_NAMES):
                if Path(plain_name(file)).suffix.lower() not in _BINARY_TABLES:
                    raise InputError(
                        f"{file}: {key} stands in the names of folders, which are read as columns "
                        "of Parquet tables alone; write it into the files, or convert them"
                    )
                cell = None if value == _HIVE_NULL else unquote(value)
                columns.setdefault(file, {})[key] = cell
            else:
                left_out[key] = None
    notes = [*found.notes]
    if read := {key: None for cells in columns.values() for key in cells}:
        notes.append(f"{', '.join(read)}: read from the names of folders")
    if left_out:
        notes.append(f"{', '.join(left_out)}: in the names of folders, and not read")
    return replace(found, notes=tuple(notes), columns=columns)


def _is_hidden(path: Path) -> bool:
    """Hadoop's rule: _SUCCESS, _metadata, .part-0.crc are not data."""
    return path.name.startswith(("_", ".")) or path.suffix == ".crc"


def _counted(name: str) -> list[tuple[int, str]]:
    """A key by which day-2 comes before day-10."""
    cells = re.split(r"(\d+)", name)
    return [(int(cell), "") if at % 2 else (0, cell) for at, cell in enumerate(cells)]


def _kind(path: Path, format: str) -> str:
    """The suffix of a table that a format may read; empty for other files."""
    suffix = Path(plain_name(path)).suffix.lower()
    if format == "auto":
        is_spark = suffix == ".json" and path.name.startswith("part-")
        return suffix if suffix in _TABLES or is_spark else ""
    if format in ("movielens", "hetrec", "recbole"):
        return ""
    # What has no telling suffix may be what the user says that it is: part-00000, day1.txt.
    fits = (suffix in _BINARY_TABLES) == (format == "parquet") or not suffix
    return (suffix or "none") if fits else ""


def _columns_of(path: Path, format: str) -> str:
    """What tells one table's columns from another's: their names, or the header's line.

    Nothing where that cannot be seen: the reader has more to say about such a file.
    """
    suffix = Path(plain_name(path)).suffix.lower()
    with suppress(OSError, EOFError, TypeError, *POLARS_ERRORS):
        if suffix in (".parquet", ".pq") or format == "parquet":
            return ", ".join(sorted(pl.scan_parquet(path, glob=False).collect_schema().names()))
        has_header = format in ("csv", "tsv") or (format == "auto" and suffix in _TEXT_TABLES)
        opener = _OPENERS.get(path.suffix.lower())
        if has_header and opener:
            with opener(path, "rb") as file:
                return file.readline(_LONGEST_HEADER).decode("utf-8-sig", "replace").strip()
    return ""
