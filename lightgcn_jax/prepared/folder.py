"""A prepared folder: a split whose rows are mapped from disk.

==============================  =============================================================
users.parquet, items.parquet    external ids in row order
train-items-of-user.npy         int32[E], the items of each user in ascending order; beside it
                                ``…-offsets.npy``, int32[U + 1], where each user's begin
train-users-of-item.npy         int32[E], the same pairs by item, likewise
valid-…, test-items-of-user.npy the withheld pairs by user, likewise
prepared.json                   counts, settings, how files were read; written last
sums.json                       SHA-256 sums of the files
.state.json, work               only while it is being made
==============================  =============================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lightgcn_jax.begun import STATE
from lightgcn_jax.data.changes import CHANGE
from lightgcn_jax.data.described import unseen_notes
from lightgcn_jax.data.folders import PREPARED
from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.data.pairs import PARTS, MappedPairs, Pairs, SortedRows
from lightgcn_jax.data.parquet_files import read_parquet
from lightgcn_jax.data.splits import Split
from lightgcn_jax.errors import InputError, naming
from lightgcn_jax.fields import ANYTHING, TEXT, document, list_of, one_of, record, whole
from lightgcn_jax.json_files import read_json
from lightgcn_jax.paths import refuse_links
from lightgcn_jax.prepared.arranged import BY_ITEM, BY_USER
from lightgcn_jax.processes.agreement import several
from lightgcn_jax.sums import Sums

MANIFEST, VERSION = PREPARED, 1
"""The file that tells that a folder is finished, and the version of its format."""

_COUNT = whole(0, None)
_MANIFEST = record(
    {
        "prepared": _COUNT,
        "users": _COUNT,
        "items": _COUNT,
        "pairs": record(dict.fromkeys(PARTS, _COUNT)),
        "rows_read": _COUNT,
        "ordering": one_of(("none", "degree", "dealt")),
        "split": TEXT,
        "split_notes": list_of(TEXT),
        "notes": list_of(TEXT),
        "report": list_of(CHANGE),
        "readings": list_of(ANYTHING),
        "settings": ANYTHING,
        "source": list_of(ANYTHING),
    }
)
# Numbers that are looked at once, so that a long column is never in memory as a whole.
_AT_ONCE = 1 << 22


@dataclass(frozen=True, eq=False)
class Prepared:
    """A prepared folder that was opened.

    Attributes:
        path: the folder.
        manifest: what is said of it, as a JSON value.
        sums: of its files.
    """

    path: Path
    manifest: dict[str, Any]
    sums: Sums

    @property
    def bytes_an_edge(self) -> float:
        """Bytes of the rows of train, both ways with their offsets, for each pair."""
        names = [f"train-{way}{end}.npy" for way in (BY_USER, BY_ITEM) for end in ("", "-offsets")]
        total = sum((self.path / name).stat().st_size for name in names)
        return total / self.manifest["pairs"]["train"]

    @cached_property
    def split(self) -> Split:
        """What it holds; the training pairs are mapped both ways.

        The sums of files that are not large are checked, and the order of all rows; by one of
        several processes that of the rows which it reads, when it reads them.

        Raises:
            InputError: a file is missing or damaged.
        """
        with naming(self.path):
            return self._read()

    def _read(self) -> Split:
        users, items = (self._ids(name) for name in ("users", "items"))
        train, valid, test = (self._pairs(part, len(users), len(items)) for part in PARTS)
        said = *self.manifest["notes"], *self.manifest["split_notes"]
        return Split(
            users,
            items,
            train,
            valid,
            test,
            description=self.manifest["split"],
            notes=(*said, *unseen_notes(train, {"valid": valid, "test": test})),
            report=tuple(self.manifest["report"]),
        )

    def _ids(self, name: str) -> IdMap:
        file, count = self.sums.checked(f"{name}.parquet", mapped=True), self.manifest[name]
        frame = read_parquet(file)
        if frame.columns != ["id"] or frame.height != count:
            raise InputError(
                f"{file}: expected a column of {count:,} ids, got {frame.height:,} rows "
                f"of {', '.join(frame.columns)}"
            )
        return IdMap(frame["id"])

    def _pairs(self, part: str, users: int, items: int) -> Pairs:
        count = self.manifest["pairs"][part]
        by_user = _rows(self.sums, f"{part}-{BY_USER}", users, items, count)
        if part != "train":
            rows = np.repeat(np.arange(users, dtype=np.int32), np.diff(by_user.offsets))
            return Pairs(rows, by_user.columns)
        by_item = _rows(self.sums, f"{part}-{BY_ITEM}", items, users, count)
        digest = self.sums.listed(f"{part}-{BY_USER}.npy")
        return MappedPairs(by_user, by_item, self.manifest["ordering"], digest)


def is_prepared(path: Path) -> bool:
    """Whether a folder was made by a preparation, finished or not.

    Args:
        path: any path.
    """
    return (path / MANIFEST).is_file() or (path / STATE).is_file()


def open_prepared(path: Path | str) -> Prepared:
    """Open a prepared folder; its rows are looked at when its split is asked for.

    Args:
        path: the folder.

    Raises:
        InputError: it is none, not finished, of another version, or damaged.
    """
    path = Path(path)
    if not (path / MANIFEST).is_file():
        if (path / STATE).is_file():
            raise InputError(
                f"{path}: this folder is not finished; repeat the command that was broken off, "
                "and it goes on"
            )
        raise InputError(f"{path}: expected a prepared folder, which has a file {MANIFEST}")
    refuse_links(path)
    sums = Sums(path)
    manifest = read_json(sums.checked(MANIFEST))
    version = manifest.get("prepared") if isinstance(manifest, dict) else None
    if version != VERSION:
        raise InputError(
            f"{path / MANIFEST}: expected version {VERSION}, got {version!r}; prepare it anew"
        )
    return Prepared(path, document(path / MANIFEST, manifest, _MANIFEST), sums)


def _rows(sums: Sums, name: str, rows: int, columns: int, count: int) -> SortedRows:
    """Rows as they are mapped, checked: the device will not check them again."""
    offsets = _mapped(sums.checked(f"{name}-offsets.npy", mapped=True), rows + 1)
    path = sums.checked(f"{name}.npy", mapped=True)
    entries = _mapped(path, count)
    offsets = np.array(offsets)
    if offsets[0] or offsets[-1] != count or (offsets[1:] < offsets[:-1]).any():
        raise _damaged(path, f"offsets from 0 to {count:,} that do not fall")
    for start in range(0, 0 if several() else count, _AT_ONCE):
        end = min(start + _AT_ONCE, count)
        here = np.array(entries[start:end])
        if here.min() < 0 or here.max() >= columns:
            raise _damaged(path, f"rows below {columns:,}")
        rises = here[1:] > here[:-1]
        first, last = np.searchsorted(offsets, [start + 1, end])
        is_start = np.zeros(len(here), bool)
        is_start[offsets[first:last] - start] = True
        if not (rises | is_start[1:]).all():
            raise _damaged(path, "rising entries in each row")
    return SortedRows(offsets, entries)


def _mapped(path: Path, count: int) -> np.ndarray:
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{path}: expected this file, it is missing") from None
    except Exception as error:  # the header is parsed as Python, which can fail in any way
        raise _damaged(path, "an array of NumPy") from error
    if not isinstance(found, np.ndarray) or found.dtype != np.int32 or found.shape != (count,):
        raise _damaged(path, f"int32[{count}]")
    return found


def _damaged(path: Path, expected: str) -> InputError:
    return InputError(
        f"{path}: expected {expected}, got another or damaged file; put it back from a copy, or "
        "prepare the folder anew"
    )
