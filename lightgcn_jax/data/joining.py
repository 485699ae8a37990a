"""Files of one log or of one split -> interactions under one map of users and one of items."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from lightgcn_jax.data.cells import Columns
from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.data.interactions import TRAIN, Interactions
from lightgcn_jax.data.pairs import PARTS
from lightgcn_jax.data.spellings import UnknownIds, check_fit, twice_written
from lightgcn_jax.errors import InputError


class ReadFile(NamedTuple):
    """One file that was read.

    Attributes:
        path: As the user has it, for messages.
        part: TRAIN, VALID or TEST; TRAIN where there is no split.
        columns: What it holds.
    """

    path: Path
    part: int
    columns: Columns


def joined(
    files: Sequence[ReadFile], source: Path, unknown_ids: UnknownIds = "refuse"
) -> Interactions:
    """The files' columns under common rows, in the order of the files.

    Args:
        files: Those of a log, or of each part of a split.
        source: What the user named, for messages.
        unknown_ids: Whether files may be joined where most of a part's ids are unknown to train.

    Raises:
        InputError: No file holds an interaction, ratings or times stand in some files only, or the
            ids of a part are not those of train.
    """
    edges = sum(len(file.columns.users) for file in files)
    if not edges:
        notes = [note for file in files for note in file.columns.reading.notes]
        why = next((f": {note}" for note in notes if "left out" in note), "")
        raise InputError(f"{source}: expected interactions, but the files hold none{why}")
    columns = {kind: [_ids(file, kind) for file in files] for kind in ("users", "items")}
    parts = sorted({file.part for file in files})
    notes: list[str] = []
    for kind, ids in columns.items():
        notes += _type_notes(kind, files, ids)
        for part in parts[1:]:
            train, other = (_of_part(files, ids, one) for one in (TRAIN, part))
            names = _name_of(files, TRAIN), _name_of(files, part)
            notes += check_fit(kind, train, other, *names, unknown_ids)
    user_map = IdMap.from_values(_stacked(columns["users"]))
    item_map = IdMap.from_values(_stacked(columns["items"]))
    notes += [*twice_written("users", user_map.ids), *twice_written("items", item_map.ids)]
    codes = None
    if len(parts) > 1:
        lengths = [len(file.columns.users) for file in files]
        codes = np.repeat([file.part for file in files], lengths).astype(np.uint8)
    return Interactions(
        user_map,
        item_map,
        user_map.rows(_stacked([file.columns.users for file in files])),
        item_map.rows(_stacked([file.columns.items for file in files])),
        _numbers(files, "ratings", source),
        _numbers(files, "timestamps", source),
        codes,
        notes=tuple(notes),
        weights=_numbers(files, "weights", source),
    )


def _ids(file: ReadFile, kind: str) -> pl.Series:
    """All ids of a kind that a file names, users without items among them."""
    ids, idle = getattr(file.columns, kind), file.columns.idle_users
    return _stacked([ids, idle]) if kind == "users" and idle is not None else ids


def _of_part(files: Sequence[ReadFile], ids: Sequence[pl.Series], part: int) -> pl.Series:
    return _stacked([one for file, one in zip(files, ids, strict=True) if file.part == part])


def _name_of(files: Sequence[ReadFile], part: int) -> str:
    names = [file.path.name for file in files if file.part == part]
    return names[0] if len(names) == 1 else PARTS[part]


def _type_notes(kind: str, files: Sequence[ReadFile], ids: Sequence[pl.Series]) -> Iterator[str]:
    """A note where ids are integers in one file and strings in another."""
    first: dict[pl.DataType, tuple[str, object]] = {}
    for file, column in zip(files, ids, strict=True):
        if len(column):
            odd = column.head(1)
            if column.dtype == pl.String:
                # The one for which the whole column is text.
                is_text = column.cast(pl.Int64, strict=False).cast(pl.String).ne_missing(column)
                odd = column.filter(is_text).head(1) if is_text.any() else odd
            first.setdefault(column.dtype, (file.path.name, odd[0]))
    if len(first) > 1:
        where = [f"{type_} in {name} ({one!r})" for type_, (name, one) in first.items()]
        shown = " and ".join(where).replace("Int64", "integers").replace("String", "strings")
        yield f"ids of {kind} are {shown}; all are taken as strings"


def _numbers(files: Sequence[ReadFile], name: str, source: Path) -> np.ndarray | None:
    columns = [getattr(file.columns, name) for file in files]
    lacking = [file.path.name for file, one in zip(files, columns, strict=True) if one is None]
    if len(lacking) == len(files):
        return None
    if lacking:
        raise InputError(
            f"{source}: expected {name} in every file or in none, but {lacking[0]} has none"
        )
    return pl.concat([column.rename(name) for column in columns]).to_numpy()


def _stacked(columns: Sequence[pl.Series]) -> pl.Series:
    """Columns of ids one below the other, as strings if one of them holds strings."""
    if any(column.dtype == pl.String for column in columns):
        columns = [column.cast(pl.String) for column in columns]
    return pl.concat([column.rename("id") for column in columns])
