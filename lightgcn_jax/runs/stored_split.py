"""A split on disk, in a run directory: ids and titles as Parquet, pairs as rows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import safetensors
import safetensors.numpy

from lightgcn_jax.data import PARTS, IdMap, Pairs, Split
from lightgcn_jax.data.pairs import check_rows
from lightgcn_jax.data.parquet_files import read_parquet
from lightgcn_jax.data.text import POLARS_ERRORS
from lightgcn_jax.data.titles import Titles
from lightgcn_jax.errors import InputError
from lightgcn_jax.files import replacing

STORED = ("users.parquet", "items.parquet", "pairs.safetensors")
"""The files of a split."""

_TITLE = "title"
_PAIRS = "pairs.safetensors"
_ALSO_SEEN = "also_seen"
_DAMAGED = (safetensors.SafetensorError, *POLARS_ERRORS)


@contextlib.contextmanager
def reading(path: Path, expected: str) -> Iterator[None]:
    """Whatever is wrong with a file is one error that names it.

    Args:
        path: the file.
        expected: what it should hold.
    """
    try:
        yield
    except InputError as error:
        named = str(error).startswith(str(path))
        raise InputError(str(error) if named else f"{path}: {error}") from None
    except FileNotFoundError:
        raise InputError(f"{path}: expected {expected}, the file is missing") from None
    except _DAMAGED as error:  # whose words tell nobody what to do
        raise InputError(
            f"{path}: expected {expected}, got a file that is damaged, cut off or another"
        ) from error
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path}: expected {expected}, got {error}") from None


def write_ids(folder: Path, split: Split) -> None:
    """Write the users' and the items' external ids in row order, and the items' titles.

    Args:
        folder: the run directory.
        split: what they are of.
    """
    for name, ids in (("users", split.users), ("items", split.items)):
        columns = [ids.ids.alias("id")]
        if name == "items" and split.titles is not None:
            columns.append(split.titles.of(ids.ids))
        with replacing(folder / f"{name}.parquet") as file:
            pl.DataFrame(columns).write_parquet(file)


def read_ids(folder: Path, name: str) -> IdMap:
    """External ids in row order.

    Args:
        folder: the run directory.
        name: ``users`` or ``items``.
    """
    path = folder / f"{name}.parquet"
    with reading(path, "a Parquet file of ids"):
        return IdMap(read_parquet(path)["id"])


def read_titles(folder: Path) -> Titles | None:
    """What people call the items; None where that is not known.

    Args:
        folder: the run directory.
    """
    path = folder / "items.parquet"
    with reading(path, "a Parquet file of ids and titles"):
        frame = read_parquet(path)
        if _TITLE not in frame.columns:
            return None
        known = frame.drop_nulls(_TITLE)
        return Titles(IdMap(known["id"]), known[_TITLE])


def pair_arrays(split: Split, also_seen: Pairs | None) -> dict[str, np.ndarray]:
    """The arrays of ``pairs.safetensors``: ``int32[n]`` rows of users and of items by part, and
    ``float32[n]`` weights where the split has them.

    Args:
        split: whose train, valid and test these are.
        also_seen: what users know beyond the split.
    """
    parts = {part: getattr(split, part) for part in PARTS}
    if also_seen is not None:
        parts[_ALSO_SEEN] = also_seen
    arrays = {}
    for part, rows in parts.items():
        arrays |= {f"{part}_users": rows.users, f"{part}_items": rows.items}
        if rows.weights is not None:
            arrays[f"{part}_weights"] = rows.weights
    return arrays


def read_parts(folder: Path) -> list[Pairs]:
    """Train, valid and test, with their weights if they have any.

    Args:
        folder: the run directory.
    """
    path = folder / _PAIRS
    with reading(path, "train, valid and test pairs"):
        stored = safetensors.numpy.load_file(path)
        return [
            Pairs(stored[f"{part}_users"], stored[f"{part}_items"], stored.get(f"{part}_weights"))
            for part in PARTS
        ]


def read_also_seen(folder: Path, num_users: int, num_items: int) -> Pairs | None:
    """What users know beyond the split; None where nothing was kept.

    Args:
        folder: the run directory.
        num_users: how many users the split has.
        num_items: likewise of items.
    """
    path = folder / _PAIRS
    with reading(path, "pairs"):
        stored = safetensors.numpy.load_file(path)
        users, items = (stored.get(f"{_ALSO_SEEN}_{column}") for column in ("users", "items"))
        if users is None or items is None:
            return None
        check_rows("users", users, num_users)
        check_rows("items", items, num_items)
        return Pairs(users, items)
