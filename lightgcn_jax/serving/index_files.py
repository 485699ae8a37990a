"""An index in a folder, which is foreign input when it is read.

=================  ==============================================================================
index.json         metric, target, what was measured; format version
vectors.npy        ``float32[n, D]``, a row for each id, those of deleted ids included
ids.parquet        external ids in row order, and whether each is there
lists.safetensors  inverted lists, where there are any (:mod:`lightgcn_jax.serving.lists`)
sums.json          SHA-256 sums of these files
=================  ==============================================================================

faiss has a format of its own, whose reader believes whatever sizes a file states; so lists are kept
as arrays, whose shapes are checked before faiss sees them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl
import safetensors.numpy

from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.data.parquet_files import read_parquet
from lightgcn_jax.errors import InputError
from lightgcn_jax.fields import (
    SWITCH,
    at_least,
    document,
    number,
    one_of,
    optional,
    record,
    whole,
)
from lightgcn_jax.files import replaceable, whole_folder
from lightgcn_jax.json_files import read_json
from lightgcn_jax.paths import refuse_links
from lightgcn_jax.runs.stored_split import reading
from lightgcn_jax.serving.lists import InvertedLists
from lightgcn_jax.sums import LARGE, Sums, write_last

Metric = Literal["inner", "cosine"]

_FORMAT = 2
_JSON, _VECTORS, _IDS, _LISTS = "index.json", "vectors.npy", "ids.parquet", "lists.safetensors"


class Measured(NamedTuple):
    """How well an approximate index finds what the exact one finds.

    Attributes:
        recall: the mean share of the exact top k.
        k: the cut-off.
        queries: how many were asked.
    """

    recall: float
    k: int
    queries: int


class StoredIndex(NamedTuple):
    """What an index is made of.

    Attributes:
        ids: n external ids, deleted ones included.
        vectors: ``float32[n, D]``.
        is_there: ``bool[n]``, which of them were not deleted.
        metric: ``inner`` or ``cosine``.
        target_recall: the recall that was asked for; None searches exactly.
        lists: the vectors in lists, where they are searched by them.
        measured: how well, where it is not exact.
    """

    ids: IdMap
    vectors: np.ndarray
    is_there: np.ndarray
    metric: Metric
    target_recall: float | None
    lists: InvertedLists | None
    measured: Measured | None


TARGET_RECALL = optional(number(lambda share: 0 < share <= 1, "a share above 0"))
"""The recall that may be asked for."""

_ABOUT = record(
    {
        "metric": one_of(Metric),
        "target_recall": TARGET_RECALL,
        "measured": optional(
            record({"recall": at_least(0), "k": whole(1), "queries": whole(1)}, closed=True)
        ),
        "has_lists": SWITCH,
    }
)


def write_index(path: Path, index: StoredIndex) -> None:
    """Write an index, whole or not at all.

    Args:
        path: the folder; an index that lies there is replaced.
        index: what it is made of.

    Raises:
        InputError: something else lies there.
    """
    if path.exists() and any(path.iterdir()) and not (path / _JSON).exists():
        raise InputError(f"{path}: expected a new folder or one of an index")
    about = {
        "format": _FORMAT,
        "metric": index.metric,
        "target_recall": index.target_recall,
        "measured": None if index.measured is None else index.measured._asdict(),
        "has_lists": index.lists is not None,
    }
    with replaceable(path), whole_folder(path) as folder:
        np.save(folder / _VECTORS, index.vectors)
        frame = pl.DataFrame({"id": index.ids.ids, "is_there": index.is_there})
        frame.write_parquet(folder / _IDS)
        if index.lists is not None:
            safetensors.numpy.save_file(index.lists.arrays(), folder / _LISTS)
        write_last(folder / _JSON, about)


def read_index(path: Path) -> StoredIndex:
    """Read what :func:`write_index` wrote; the vectors stay on the disk until they are needed.

    Args:
        path: the folder.

    Raises:
        InputError: it holds no index of this version, or a file of it is damaged.
    """
    refuse_links(path)
    sums = Sums(path)
    about = read_json(sums.checked(_JSON))
    if not isinstance(about, dict) or about.get("format") != _FORMAT:
        raise InputError(f"{path / _JSON}: expected an index of format {_FORMAT}; build it anew")
    about = document(path / _JSON, about, _ABOUT)
    with reading(sums.checked(_IDS), "ids and whether each is there"):
        frame = read_parquet(path / _IDS)
        ids, is_there = IdMap(frame["id"]), frame["is_there"]
        if is_there.dtype != pl.Boolean or is_there.null_count():
            raise InputError("is_there: expected true or false in each row")
    vectors = _read_vectors(sums.checked(_VECTORS, mapped=True), len(ids))
    lists = None
    if about["has_lists"]:
        file = sums.checked(_LISTS)
        with reading(file, "inverted lists"):
            there = is_there.to_numpy()
            lists = InvertedLists.of_arrays(safetensors.numpy.load_file(file), vectors, there)
    metric, target, measured = (about[one] for one in ("metric", "target_recall", "measured"))
    measured = measured and Measured(**measured)
    return StoredIndex(ids, vectors, is_there.to_numpy(), metric, target, lists, measured)


def _read_vectors(path: Path, rows: int) -> np.ndarray:
    try:
        vectors: Any = np.load(path, mmap_mode="r", allow_pickle=False)
        found = f"{vectors.dtype}{list(vectors.shape)}"
    except Exception:  # the header is parsed as Python, which can fail in any way
        found = "a file that is damaged, cut off or another"
        vectors = np.empty(0)
    if vectors.dtype != np.float32 or vectors.ndim != 2 or len(vectors) != rows:
        raise InputError(
            f"{path}: expected float32[{rows}, D], a row for each of the ids, got {found}"
        )
    # As with sums: to read what is long would take longer than to open it.
    if vectors.nbytes <= LARGE and not np.isfinite(vectors).all():
        raise InputError(f"{path}: expected finite numbers, got NaN or infinity")
    return vectors
