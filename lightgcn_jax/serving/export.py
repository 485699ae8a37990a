"""Embeddings and ids -> one file that other programs read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import safetensors.numpy

from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.scorer import Embedded, InnerProduct, Scorer
from lightgcn_jax.files import replacing
from lightgcn_jax.meter import Meter, SilentMeter
from lightgcn_jax.models.heads import HeadScorer
from lightgcn_jax.parted import write_parts
from lightgcn_jax.serving.recommender import Recommender

ROWS_OF_A_PART = 1 << 16
"""Rows of a file of vectors in parts: some MB."""


def export(run: str | Path | Recommender, target: str | Path) -> Path:
    """Writes final embeddings and external ids to one file; the suffix decides the format.

    Row r of a table belongs to id r. Inner products of the rows are the scores. A model whose
    scores are no inner products, a network or a graph filter for instance, is refused.

    - ``.npz``: arrays ``users float32[U, D]``, ``items float32[I, D]``, ``user_ids`` and
      ``item_ids``, int64 or unicode; numpy loads it with ``allow_pickle=False``.
    - ``.safetensors``: tensors of the same names. Ids that are strings are a ``uint8`` tensor,
      the UTF-8 text of one JSON list: ``json.loads(tensors["item_ids"].tobytes())``.
    - ``.parquet``: columns ``kind`` ("user" or "item"), ``id`` (Int64 where the ids of both kinds
      are integers, else String) and ``embedding`` (list of Float32); users first.

    Args:
        run: a run directory, or a recommender.
        target: the file; one that is there is replaced once the new one is whole.

    Returns:
        ``target``.

    Raises:
        InputError: another suffix, no such folder, no finished run, a model without embeddings, or
            one whose scores are not made of inner products of them.
        OSError: the file cannot be written; one that was there before is untouched.
    """
    target = Path(target)
    check_target(target)
    recommender = run if isinstance(run, Recommender) else Recommender.from_run(run)
    _check_scorer(recommender)
    users = recommender.users, recommender.user_embeddings
    items = recommender.items, recommender.item_embeddings
    return write_tables(target, {"user": users, "item": items})


def export_parts(
    run: str | Path | Recommender,
    folder: Path,
    about: Mapping[str, Any],
    meter: Meter | None = None,
) -> int:
    """Writes final embeddings and external ids as Parquet files of :data:`ROWS_OF_A_PART` rows.

    The rows are those of :func:`export` with ``.parquet``, in the same order; ``parts.json`` says
    how many each file has. A call that was killed makes, when it is repeated, the parts that are
    missing, with the same bytes.

    Args:
        run: a run directory, or a recommender.
        folder: new, empty, or what a killed call left.
        about: what tells this run from others, a JSON value.
        meter: receives progress.

    Returns:
        How many rows were written.

    Raises:
        InputError: as :func:`export`, or the folder holds anything else.
        OSError: the disk refused.
    """
    recommender = run if isinstance(run, Recommender) else Recommender.from_run(run)
    _check_scorer(recommender)
    users, items = recommender.user_embeddings, recommender.item_embeddings
    blocks = [
        Block("user", recommender.users.ids, users.__getitem__),
        Block("item", recommender.items.ids, items.__getitem__),
    ]
    return write_blocks(folder, blocks, about, meter)


class Block(NamedTuple):
    """Vectors of one kind that are written part by part.

    Attributes:
        kind: ``user`` or ``item``.
        ids: external ids of its n rows.
        rows: from a slice of these rows to their vectors, ``float32[s, D]``.
    """

    kind: str
    ids: pl.Series
    rows: Callable[[slice], np.ndarray]


def write_blocks(
    folder: Path, blocks: Sequence[Block], about: Mapping[str, Any], meter: Meter | None = None
) -> int:
    """Writes vectors as Parquet files of :data:`ROWS_OF_A_PART` rows, laid out as :func:`export`
    says; a part is all that is asked for and held at a time.

    Args:
        folder: new, empty, or what a killed call left.
        blocks: what is written, one after another; no part holds rows of two.
        about: what tells these vectors from others, a JSON value.
        meter: receives progress.

    Returns:
        How many rows were written.

    Raises:
        InputError: the folder holds anything else.
        OSError: the disk refused.
    """
    dtype = _id_type([block.ids for block in blocks])
    parts = [
        (block, slice(at, min(at + ROWS_OF_A_PART, len(block.ids))))
        for block in blocks
        for at in range(0, len(block.ids), ROWS_OF_A_PART)
    ]

    def make(part: int) -> pl.DataFrame:
        block, here = parts[part]
        return _vector_frame(block.kind, block.ids[here], block.rows(here), dtype)

    made = {"table": "vectors", **about}
    for kind, ids, _ in blocks:
        made[f"{kind}s"] = made.get(f"{kind}s", 0) + len(ids)
    made |= {"dim": blocks[0].rows(slice(0)).shape[1], "rows_of_a_part": ROWS_OF_A_PART}
    sizes = [here.stop - here.start for _, here in parts]
    return write_parts(folder, made, sizes, make, meter or SilentMeter(), "rows")


def is_exportable(scorer: Scorer) -> bool:
    """Whether a model's scores are the inner products of its vectors, so that those say it all.

    Args:
        scorer: what ranks.
    """
    # A class of one's own that derives from InnerProduct may score as it likes.
    return type(scorer) is InnerProduct


def _check_scorer(recommender: Recommender) -> None:
    scorer = recommender.scorer
    if is_exportable(scorer):
        return
    expected = "export: expected a model whose scores are inner products of its embeddings, got"
    if isinstance(scorer, HeadScorer):
        raise InputError(
            f"{expected} the score {scorer.score}; a run directory holds its vectors in "
            "embeddings.safetensors and what its score learnt in model.safetensors"
        )
    remedy = "recommend answers from the run itself"
    if isinstance(scorer, Embedded):
        remedy += "; Recommender.from_run(…).item_embeddings hold what similar compares, no scores"
    raise InputError(f"{expected} {recommender.model}, whose scores are no such products; {remedy}")


Tables = Mapping[str, tuple[IdMap, np.ndarray]]
"""What is written, by kind (``user``, ``item``): external ids and ``float32[n, D]``."""


def check_target(target: Path) -> None:
    """Refuses a file name that does not fit, before any work.

    Args:
        target: the file.

    Raises:
        InputError: no format has that suffix, or the folder is missing.
    """
    if target.suffix.lower() not in _WRITERS:
        raise InputError(
            f"{target}: expected a file name that ends in {', '.join(EXPORT_SUFFIXES)}, "
            f"got {target.suffix or 'no suffix'}"
        )
    if not target.parent.is_dir():
        raise InputError(f"{target}: expected an existing folder, there is no {target.parent}")


def write_tables(target: Path, tables: Tables) -> Path:
    """Writes tables with their ids to one file, laid out as :func:`export` says.

    Args:
        target: the file; one that is there is replaced once the new one is whole.
        tables: what is written.

    Returns:
        ``target``.

    Raises:
        InputError: another suffix, or no such folder.
        OSError: the file cannot be written; one that was there before is untouched.
    """
    check_target(target)
    with replacing(target) as temporary:
        _WRITERS[target.suffix.lower()](tables, temporary)
    return target


def _write_npz(tables: Tables, path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, **_arrays(tables, id_array))


def _write_safetensors(tables: Tables, path: Path) -> None:
    # Ids not in the metadata: a header is read whole and must stay below 100 MB.
    safetensors.numpy.save_file(_arrays(tables, _id_tensor), path)


def _write_parquet(tables: Tables, path: Path) -> None:
    dtype = _id_type([ids.ids for ids, _ in tables.values()])
    frames = [_vector_frame(kind, ids.ids, table, dtype) for kind, (ids, table) in tables.items()]
    pl.concat(frames).write_parquet(path)


def _id_type(ids: Sequence[pl.Series]) -> Any:
    """Integers where all ids are."""
    return pl.Int64 if all(one.dtype == pl.Int64 for one in ids) else pl.String


def _vector_frame(kind: str, ids: pl.Series, table: np.ndarray, dtype: Any) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "kind": pl.repeat(kind, len(ids), eager=True),
            "id": ids.cast(dtype),
            "embedding": pl.Series(table).cast(pl.List(pl.Float32)),
        }
    )


_WRITERS = {".npz": _write_npz, ".safetensors": _write_safetensors, ".parquet": _write_parquet}
EXPORT_SUFFIXES = tuple(_WRITERS)
"""What a file name may end in."""


def _arrays(tables: Tables, array_of: Callable[[IdMap], np.ndarray]) -> dict[str, Any]:
    """The tables and their ids by the names that files give them."""
    arrays = {f"{kind}s": np.ascontiguousarray(table) for kind, (_, table) in tables.items()}
    return arrays | {f"{kind}_ids": array_of(ids) for kind, (ids, _) in tables.items()}


def id_array(ids: IdMap) -> np.ndarray:
    """Ids as ``int64[n]`` or ``str[n]``, never as Python objects.

    Args:
        ids: n external ids.
    """
    return ids.ids.to_numpy() if ids.ids.dtype == pl.Int64 else np.array(ids.ids.to_list(), str)


def _id_tensor(ids: IdMap) -> np.ndarray:
    if ids.ids.dtype == pl.Int64:
        return np.ascontiguousarray(id_array(ids))
    return np.frombuffer(json.dumps(ids.ids.to_list(), ensure_ascii=False).encode(), np.uint8)
