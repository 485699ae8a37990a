"""The files of a log, judged in slices and kept as pieces: Parquet tables of ids and numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from lightgcn_jax.data.cells import Columns, Unjudged
from lightgcn_jax.data.folders import files_of
from lightgcn_jax.data.formats import recognised_format
from lightgcn_jax.data.interactions import TEST, TRAIN
from lightgcn_jax.data.layouts import separated_rows
from lightgcn_jax.data.readers import check_source
from lightgcn_jax.data.reading import AUTO
from lightgcn_jax.data.stored import parquet_rows
from lightgcn_jax.data.text import PlainText, explained, plain_text
from lightgcn_jax.data.unpacking import unpacked
from lightgcn_jax.errors import InputError
from lightgcn_jax.files import replacing
from lightgcn_jax.json_files import read_json, write_json
from lightgcn_jax.meter import Meter
from lightgcn_jax.prepared.preparation import Preparation

_TEXTS = ("csv", "tsv", "movielens", "hetrec", "triples")
# Text files of so many bytes are written as a table once, which can be read in slices.
_LARGE_TEXT = 32 << 20


class SourceFile(NamedTuple):
    """A file to read.

    Attributes:
        path: as the user has it.
        part: TRAIN, VALID or TEST; TRAIN where there is no split.
        columns: columns that stand in the names of its folders.
    """

    path: Path
    part: int
    columns: Mapping[str, str | None]

    def print(self) -> dict[str, Any]:
        """What tells whether it is the same file still."""
        about = self.path.stat()
        return {"file": str(self.path), "bytes": about.st_size, "changed_ns": about.st_mtime_ns}


class Piece(NamedTuple):
    """A slice of a file, judged.

    Attributes:
        path: a Parquet table of ``user`` and ``item``, and perhaps ``rating`` and ``timestamp``.
        rows: how many it holds.
        part: that of its file.
        settings: how the slice was read.
        notes: what else is worth knowing of it.
        labels: whether all its ratings are 0 or 1.
    """

    path: Path
    rows: int
    part: int
    settings: Mapping[str, str]
    notes: tuple[str, ...]
    labels: bool


def source_files(plan: Preparation) -> tuple[list[SourceFile], tuple[str, ...]]:
    """All files of a preparation, and notes on how they were found.

    Args:
        plan: the settings.

    Raises:
        InputError: one is missing, or what a folder holds can be read in several ways.
    """
    asked, files, notes = plan.asked, [], []
    for source in map(Path, plan.sources):
        check_source(source)
        found = files_of(source, asked.format, asked.options.columns.values())
        notes += found.notes
        for path, part in zip(found.all, found.part_of_each, strict=True):
            files.append(SourceFile(path.resolve(), part, found.columns.get(path, {})))
    seen: set[Path] = set()
    for file in files:
        if file.path in seen:
            raise InputError(f"{file.path}: expected each file once, it is named twice")
        seen.add(file.path)
    parts = {file.part for file in files}
    if parts != {TRAIN} and not {TRAIN, TEST} <= parts:
        raise InputError("sources: expected one log, or a split with a train and a test file")
    if plan.split == "given" and parts == {TRAIN}:
        raise InputError(
            "the files gave no split (a train and a test file); "
            "choose a ratio, leave-k-out or temporal split"
        )
    return files, tuple(notes)


def write_pieces(
    plan: Preparation, files: list[SourceFile], folder: Path, meter: Meter
) -> list[Piece]:
    """Read all files, but for slices that were read before a kill.

    Args:
        plan: the settings.
        files: the files.
        folder: where pieces are kept.
        meter: receives progress.

    Raises:
        InputError: a row does not fit, or files were read in several ways.
    """
    total = sum(file.path.stat().st_size for file in files)
    meter.started("reading files", total, "bytes")
    pieces, done = [], 0
    for number, file in enumerate(files):
        size = file.path.stat().st_size
        for piece, share in _pieces_of(plan, file, folder, f"{number:06}"):
            pieces.append(piece)
            meter.advanced(done + int(share * size))
        done += size
        meter.advanced(done)
    _check_alike(files, pieces)
    return pieces


def stored_pieces(folder: Path) -> list[Piece]:
    """The pieces that lie in a folder, in order.

    Args:
        folder: the folder.
    """
    return [_stored(path.with_suffix("")) for path in sorted(folder.glob("piece-*.json"))]


def _pieces_of(
    plan: Preparation, file: SourceFile, folder: Path, name: str
) -> Iterator[tuple[Piece, float]]:
    """The pieces of a file, each with the share of the file that is done with it."""
    whole = folder / f"file-{name}.json"
    if whole.exists():
        for at in range(read_json(whole)["pieces"]):
            yield _stored(folder / f"piece-{name}-{at:06}"), 0.0
        return
    with _opened(plan, file, folder) as slices:
        for at, unjudged in enumerate(slices):
            base = folder / f"piece-{name}-{at:06}"
            if not base.with_suffix(".json").exists():
                _write(unjudged.judged(), file.part, base)
            yield _stored(base), (at + 1) / len(slices)
        write_json(whole, {"pieces": len(slices)})


@contextmanager
def _opened(plan: Preparation, file: SourceFile, folder: Path) -> Iterator[list[Unjudged]]:
    """The slices of a file; errors name it as the user has it."""
    asked, given = plan.asked, {file.path: file.columns} if file.columns else None
    with unpacked([file.path], given) as [plain], ExitStack() as stack:

        def text_of(path: Path) -> PlainText:
            return stack.enter_context(plain_text(path, asked.options.encoding))

        kind = asked.format
        if kind == AUTO:
            kind = recognised_format([plain], file.path, asked.options, text_of)
        if kind == "parquet":
            yield parquet_rows(plain, asked.options).slices(plan.rows_judged)
            return
        if kind not in _TEXTS:
            raise InputError(
                f"{file.path}: expected a Parquet table, or text with a row for each interaction "
                f"({', '.join(_TEXTS)}), got format {kind}; write it as one of these"
            )
        text = text_of(plain)
        unjudged = separated_rows(text, kind, asked.options)
        if text.path.stat().st_size > _LARGE_TEXT:
            unjudged = _as_table(unjudged, folder / "text.parquet")
        yield unjudged.slices(plan.rows_judged)


def _as_table(unjudged: Unjudged, target: Path) -> Unjudged:
    """The same rows from a Parquet table, which unlike text can be read in slices."""
    with explained(unjudged.rows.path), replacing(target) as temporary:
        unjudged.rows.table.sink_parquet(temporary, compression="lz4")
    table = pl.scan_parquet(target, glob=False)
    return unjudged._replace(rows=unjudged.rows._replace(table=table))


def _write(columns: Columns, part: int, base: Path) -> None:
    held = {"user": columns.users, "item": columns.items}
    if columns.ratings is not None:
        held["rating"] = columns.ratings
    if columns.timestamps is not None:
        held["timestamp"] = columns.timestamps
    labels = columns.ratings is not None and bool(np.isin(columns.ratings.to_numpy(), (0, 1)).all())
    with replacing(base.with_suffix(".parquet")) as temporary:
        pl.DataFrame({name: one.rename(name) for name, one in held.items()}).write_parquet(
            temporary, compression="lz4"
        )
    record = {
        "rows": len(columns.users),
        "part": part,
        "settings": dict(columns.reading.settings),
        "notes": list(columns.reading.notes),
        "labels": labels,
    }
    write_json(base.with_suffix(".json"), record)


def _stored(base: Path) -> Piece:
    record = read_json(base.with_suffix(".json"))
    record["notes"] = tuple(record["notes"])
    return Piece(path=base.with_suffix(".parquet"), **record)


def _check_alike(files: list[SourceFile], pieces: list[Piece]) -> None:
    """Refuse slices that were guessed to be of several kinds, for each was judged by itself."""
    if not any(piece.rows for piece in pieces):
        notes = [note for piece in pieces for note in piece.notes if "left out" in note]
        why = f": {notes[0]}" if notes else ""
        raise InputError(f"{files[0].path}: expected interactions, but the files hold none{why}")
    filled = [piece for piece in pieces if piece.rows]
    for name, what in (
        ("time_unit", "times"),
        ("rating_column", "ratings"),
        ("timestamp_column", "times"),
    ):
        found = dict.fromkeys(piece.settings.get(name, "none") for piece in filled)
        if len(found) > 1 and (name == "time_unit" or "none" in found):
            flag = f"--{name.replace('_', '-')}"
            raise InputError(
                f"{files[0].path}: expected {what} to be read alike in all rows, got "
                f"{' and '.join(found)} in several files or parts of them; say which by {flag}"
            )
