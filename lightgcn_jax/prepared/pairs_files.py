"""Pieces of a log -> distinct pairs of rows on disk, in ascending order of (user, item).

Ids get rows in ascending order, each piece becomes a sorted run, and runs are merged. Of a pair's
rows one counts, as in :meth:`lightgcn_jax.data.Interactions.deduplicated`: the one of the earliest
part, of these the latest by time, of these the last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.data.interactions import TEST
from lightgcn_jax.data.pairs import pair_keys
from lightgcn_jax.data.parquet_files import read_parquet
from lightgcn_jax.errors import InputError
from lightgcn_jax.files import replacing
from lightgcn_jax.memory import in_words
from lightgcn_jax.meter import Meter
from lightgcn_jax.prepared.pieces import Piece
from lightgcn_jax.prepared.sorting import KEY, Run, merged, write_run
from lightgcn_jax.prepared.stored_columns import Sliced, StoredColumn, column_writer

_TYPES = {"user": np.int32, "item": np.int32, "timestamp": np.float64, "part": np.uint8}
# What is held for each user and item while an order is made of them: hashes, places, degrees.
_BYTES_A_NODE = 96


class PairFiles(NamedTuple):
    """Distinct pairs, each column in a file.

    Attributes:
        folder: where they lie.
        columns: ``user`` and ``item``, and perhaps ``timestamp`` and ``part``.
    """

    folder: Path
    columns: tuple[str, ...]

    def column(self, name: str) -> StoredColumn:
        """One of the columns.

        Args:
            name: its name.
        """
        return StoredColumn(self.folder / f"pairs.{name}", np.dtype(_TYPES[name]))

    def sliced(self, name: str) -> Sliced:
        """One of the columns, to be read in slices.

        Args:
            name: its name.
        """
        return Sliced(self.column(name))

    def __len__(self) -> int:
        return self.column("user").size

    def blocks(self, size: int) -> Iterator[dict[str, np.ndarray]]:
        """The pairs in order, whole users at a time, about ``size`` pairs.

        Args:
            size: pairs of a block.
        """
        users, start, end = self.column("user").mapped(), 0, len(self)
        while start < end:
            stop = min(start + size, end)
            if stop < end:  # All of the last user's.
                stop = int(np.searchsorted(users, users[stop - 1], side="right"))
            yield {name: self.column(name).read(start, stop) for name in self.columns}
            start = stop

    def parted(
        self, codes: StoredColumn, size: int
    ) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
        """The blocks of :meth:`blocks`, and the part of each pair in them.

        Args:
            codes: the part of each pair.
            size: pairs of a block.
        """
        start = 0
        for block in self.blocks(size):
            part = codes.read(start, start + len(block["user"]))
            start += len(part)
            yield block, part

    @contextlib.contextmanager
    def writing(self) -> Iterator[_PairWriter]:
        """Write the columns; the last one to be there tells that all are."""
        with contextlib.ExitStack() as stack:
            writers = {
                name: stack.enter_context(column_writer(self.column(name).path, _TYPES[name]))
                for name in self.columns
            }
            yield _PairWriter(writers)


class _PairWriter(NamedTuple):
    writers: Mapping

    def add(self, columns: Mapping[str, np.ndarray]) -> None:
        for name, writer in self.writers.items():
            writer.add(columns[name])


def write_ids(pieces: Sequence[Piece], folder: Path, memory: int, meter: Meter) -> None:
    """Write the distinct ids of users and of items in ascending order.

    Args:
        pieces: the log.
        folder: where to.
        memory: bytes that may be taken.
        meter: receives progress.

    Raises:
        InputError: there are more of them than memory can hold.
    """
    meter.started("collecting ids", 2, "columns")
    nodes = 0
    for done, kind in enumerate(("user", "item"), 1):
        scans = [
            pl.scan_parquet(one.path, glob=False).select(pl.col(kind)) for one in pieces if one.rows
        ]
        types = {scan.collect_schema()[kind] for scan in scans}
        dtype = pl.String if pl.String in types else pl.Int64
        distinct = pl.concat([scan.select(pl.col(kind).cast(dtype)) for scan in scans]).unique()
        ids = distinct.collect(engine="streaming")[kind].sort().alias("id")
        nodes += len(ids)
        needed = _BYTES_A_NODE * nodes + 2 * int(ids.estimated_size())
        if needed > memory:
            raise InputError(
                f"memory: {nodes:,} users and items take {in_words(needed)}, of which there are "
                f"{in_words(memory)} (--memory)"
            )
        with replacing(folder / f"{kind}s.parquet") as temporary:
            ids.to_frame().write_parquet(temporary)
        meter.advanced(done)


def read_ids(folder: Path) -> tuple[IdMap, IdMap]:
    """The ids that :func:`write_ids` wrote.

    Args:
        folder: where they lie.
    """
    users, items = (IdMap(read_parquet(folder / f"{kind}s.parquet")["id"]) for kind in _KINDS)
    return users, items


_KINDS = ("user", "item")


def write_runs(
    pieces: Sequence[Piece],
    ids: tuple[IdMap, IdMap],
    columns: Sequence[str],
    least_rating: float | None,
    folder: Path,
    meter: Meter,
) -> int:
    """Write a sorted run for each piece, but for those that were written before a kill.

    Args:
        pieces: the log.
        ids: of users and items.
        columns: what of ``timestamp``, ``rating`` and ``part`` is kept beside the pair.
        least_rating: rows rated lower are left out; None keeps all.
        folder: where to.
        meter: receives progress.

    Returns:
        How many rows are rated high enough.
    """
    meter.started("sorting", sum(one.rows for one in pieces), "rows")
    done = kept = 0
    for piece in pieces:
        count = folder / f"{piece.path.stem}.count"
        if not count.exists():
            run = _run(piece, ids, columns, least_rating)
            rows = run.pop("rows")
            write_run(folder, piece.path.stem, _best_of_pairs(run))
            with replacing(count) as temporary:
                temporary.write_text(f"{len(rows)}\n")
        kept += int(count.read_text())
        done += piece.rows
        meter.advanced(done)
    return kept


def _run(
    piece: Piece, ids: tuple[IdMap, IdMap], columns: Sequence[str], least_rating: float | None
) -> dict[str, np.ndarray]:
    frame = read_parquet(piece.path)
    if least_rating is not None:
        # As float32, in which ratings are held everywhere.
        frame = frame.filter(pl.col("rating") >= pl.lit(least_rating, pl.Float32))
    keys = pair_keys(*(known.rows(frame[kind]) for kind, known in zip(_KINDS, ids, strict=True)))
    run = {KEY: keys, "rows": np.zeros(len(keys), bool)}
    for name in columns:
        if name == "part":
            run[name] = np.full(len(keys), piece.part, np.uint8)
        else:
            run[name] = frame[name].to_numpy()
    return run


def merge_pairs_of(
    runs: Sequence[Run], size: int, least_rating: float | None, target: PairFiles, meter: Meter
) -> int:
    """Merge runs into distinct pairs.

    Args:
        runs: sorted, in the order of the log.
        size: rows of a block.
        least_rating: pairs whose row is rated lower are left out; None keeps all.
        target: where to.
        meter: receives progress.

    Returns:
        How many distinct pairs there are, those rated lower too.
    """
    meter.started("merging", sum(run[KEY].size for run in runs), "rows")
    done = distinct = 0
    with target.writing() as out:
        for block in merged(runs, size):
            done += len(block[KEY])
            block = _best_of_pairs(block)
            distinct += len(block[KEY])
            if least_rating is not None:
                high = block["rating"] >= np.float32(least_rating)
                block = {name: one[high] for name, one in block.items()}
            keys = block.pop(KEY)
            block["user"] = (keys >> 32).astype(np.int32)
            block["item"] = (keys & 0xFFFFFFFF).astype(np.int32)
            out.add(block)
            meter.advanced(done)
    return distinct


def _best_of_pairs(block: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The row of each pair that counts, in ascending order of the pairs."""
    keys = block[KEY]
    if len(block) == 1:
        return {KEY: np.unique(keys)}
    by = [block["timestamp"]] if "timestamp" in block else []
    if "part" in block:
        by.append(TEST - block["part"])
    order = np.lexsort((*by, keys))
    ranked = keys[order]
    order = order[np.append(ranked[1:] != ranked[:-1], True)] if len(order) else order
    return {name: one[order] for name, one in block.items()}


def compacted(
    pairs: PairFiles, ids: tuple[IdMap, IdMap], size: int, target: PairFiles
) -> tuple[IdMap, IdMap]:
    """The pairs under the ids that are left of some.

    Args:
        pairs: distinct pairs.
        ids: of users and items, some perhaps without a pair.
        size: pairs of a block.
        target: where to.

    Returns:
        The ids with a pair.
    """
    there = [np.zeros(len(known), bool) for known in ids]
    for block in pairs.blocks(size):
        for kind, found in zip(_KINDS, there, strict=True):
            found[block[kind]] = True
    new = [np.cumsum(found, dtype=np.int32) - np.int32(1) for found in there]
    with target.writing() as out:
        for block in pairs.blocks(size):
            moved = {kind: rows[block[kind]] for kind, rows in zip(_KINDS, new, strict=True)}
            out.add({**block, **moved})
    users, items = (
        IdMap(known.ids.filter(pl.Series(found))) for known, found in zip(ids, there, strict=True)
    )
    return users, items
