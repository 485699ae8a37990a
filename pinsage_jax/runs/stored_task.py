"""A task in a run directory, with its features: resuming and evaluating need no other files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import polars as pl

from lightgcn_jax.arrays import check_array
from lightgcn_jax.data import Interactions
from lightgcn_jax.data.pairs import check_rows
from lightgcn_jax.data.parquet_files import read_parquet
from lightgcn_jax.errors import InputError
from lightgcn_jax.files import replacing
from lightgcn_jax.graph.bipartite import CsrRows
from lightgcn_jax.json_files import read_json, write_json
from pinsage_jax.config import PinSageConfig
from pinsage_jax.data.items import ItemData, checked_pairs
from pinsage_jax.features.columns import Column
from pinsage_jax.features.table import FeatureTable
from pinsage_jax.graph.structure import Structure
from pinsage_jax.runs.directory import PinSageRun, reading
from pinsage_jax.runs.memberships import write_memberships
from pinsage_jax.tasks.pairs import (
    CooccurrencePairs,
    ExplicitPairs,
    PairSource,
    UserHistories,
)
from pinsage_jax.tasks.task import HeldOut, Task

_PAIRS = ("contexts", "histories", "explicit")
_PARTS = ("valid", "test", "fresh")


def save_task(run: PinSageRun, task: Task) -> None:
    """Write a task into a run that is being made.

    Args:
        run: the run.
        task: the task.
    """
    data, train = task.data, task.train
    run.write_ids("items", train.items)
    run.write_ids("contexts", train.users)
    write_table(run.path, data.features)
    write_memberships(run.path, data.interactions)
    arrays: dict[str, np.ndarray] = {
        "item_rows": train.item_rows,
        "context_rows": train.user_rows,
        "train_items": task.train_items,
    }
    if train.timestamps is not None:
        arrays["timestamps"] = train.timestamps
    if task.fresh_edges is not None:
        arrays["fresh_items"], arrays["fresh_contexts"] = task.fresh_edges
    for part in _PARTS:
        held_out = getattr(task, part)
        if held_out is not None:
            arrays |= _held_out_arrays(part, held_out)
    arrays |= {f"label {name}": label for name, label in data.labels.items()}
    arrays |= _pair_arrays(task.pairs)
    run.write_arrays("task", arrays)


def load_task(run: PinSageRun) -> Task:
    """Read the task of a run.

    Args:
        run: the run.

    Raises:
        InputError: a file is missing or does not hold one.
    """
    arrays, path = run.read_arrays("task"), run.path / "task.safetensors"
    with reading(path):
        try:
            return _task_of(run, arrays)
        except KeyError as error:
            raise InputError(f"expected an array {error}, it is missing") from None


def read_structure(run: PinSageRun, config: PinSageConfig) -> Structure | None:
    """Read what items' structure is made of; None where the encoder reads none.

    Args:
        run: the run.
        config: its settings.

    Raises:
        InputError: the file is missing or holds something else.
    """
    if not config.structure:
        return None
    arrays, path = run.read_arrays("structure"), run.path / "structure.safetensors"
    with reading(path):
        if set(arrays) != {"contexts"}:
            raise InputError(f"expected the array contexts, got {sorted(arrays)}")
        shape = len(run.read_ids("contexts")), config.structure
        check_array("contexts", arrays["contexts"], shape, np.float32)
    return Structure(**arrays)


def _task_of(run: PinSageRun, arrays: dict[str, np.ndarray]) -> Task:
    items, contexts = run.read_ids("items"), run.read_ids("contexts")
    train = Interactions(
        users=contexts,
        items=items,
        user_rows=arrays["context_rows"],
        item_rows=arrays["item_rows"],
        timestamps=arrays.get("timestamps"),
    )
    labels = {
        name.removeprefix("label "): label
        for name, label in arrays.items()
        if name.startswith("label ")
    }
    name = str(run.record.get("data", {}).get("dataset", run.path.name))
    # Only the training edges are kept: the others are in the held-out pairs.
    data = ItemData(name, train, read_table(run), labels)
    parts: dict[str, Any] = {
        part: _held_out(part, arrays, len(items))
        for part in _PARTS
        if part != "fresh" or "fresh queries" in arrays
    }
    fresh_edges = None
    if "fresh_items" in arrays:
        fresh_edges = arrays["fresh_items"], arrays["fresh_contexts"]
        check_rows("fresh_items", fresh_edges[0], len(items))
        check_rows("fresh_contexts", fresh_edges[1], len(contexts))
        if len(fresh_edges[0]) != len(fresh_edges[1]):
            raise InputError("fresh_items and fresh_contexts: expected equal lengths")
    return Task(
        data=data,
        train=train,
        pairs=_pairs_of(train, arrays),
        train_items=arrays["train_items"],
        fresh_edges=fresh_edges,
        **parts,
    )


def _pair_arrays(pairs: PairSource) -> dict[str, np.ndarray]:
    if isinstance(pairs, CooccurrencePairs):
        return {"pairs": np.array(_PAIRS.index("contexts"))}
    if isinstance(pairs, UserHistories):
        return {"pairs": np.array(_PAIRS.index("histories")), "last": np.array(pairs.last)}
    if isinstance(pairs, ExplicitPairs):
        return {
            "pairs": np.array(_PAIRS.index("explicit")),
            "pair_queries": pairs.queries,
            "pair_positives": pairs.positives,
        }
    raise InputError(f"pairs: expected pairs that a run can keep, got {type(pairs).__name__}")


def _pairs_of(train: Interactions, arrays: dict[str, np.ndarray]) -> PairSource:
    place = int(arrays["pairs"])
    if place not in range(len(_PAIRS)):
        raise InputError(f"pairs: expected 0 to {len(_PAIRS) - 1}, got {place}")
    kind = _PAIRS[place]
    if kind == "contexts":
        return CooccurrencePairs(train.item_rows, train.user_rows, train.num_users)
    if kind == "histories":
        return UserHistories(train, last=int(arrays["last"]))
    given = arrays["pair_queries"], arrays["pair_positives"]
    return ExplicitPairs(*checked_pairs(*given, num_items=train.num_items))


def _held_out_arrays(part: str, held_out: HeldOut) -> dict[str, np.ndarray]:
    return {
        f"{part} queries": held_out.queries,
        **{
            f"{part} {name} {field}": np.asarray(getattr(rows, field))
            for name, rows in (("relevant", held_out.relevant), ("seen", held_out.seen))
            for field in ("offsets", "columns")
        },
    }


def _held_out(part: str, arrays: dict[str, np.ndarray], num_items: int) -> HeldOut:
    queries = arrays[f"{part} queries"]
    check_array(f"{part} queries", queries, (len(queries), None), np.int32)
    check_rows(f"{part} queries", queries.ravel() + 1, num_items + 1)  # -1 pads

    def rows(name: str) -> CsrRows:
        places, columns = f"{part} {name} offsets", f"{part} {name} columns"
        offsets, items = arrays[places], arrays[columns]
        check_array(places, offsets, (len(queries) + 1,), np.int32)
        check_rows(columns, items, num_items)
        lengths = np.diff(offsets)
        if offsets[0] != 0 or offsets[-1] != len(items) or (lengths < 0).any():
            raise InputError(f"{places}: expected places in {columns}, from 0 to {len(items)}")
        owners = np.repeat(np.arange(len(queries)), lengths)
        if ((np.diff(items) <= 0) & (np.diff(owners) == 0)).any():
            raise InputError(f"{columns}: expected each row's items once, in ascending order")
        return CsrRows(
            offsets=jax.device_put(offsets),
            columns=jax.device_put(items),
            longest=int(lengths.max(initial=0)),
        )

    return HeldOut(queries, rows("relevant"), rows("seen"))


_TABLE, _KINDS = "columns.parquet", "columns.json"
# Parquet has no rows without columns.
_ROW = " row"


def write_table(folder: Path, table: FeatureTable) -> None:
    """Write raw feature columns: ``columns.parquet``, and ``columns.json`` with their kinds.

    Args:
        folder: where the files are written.
        table: the columns.
    """
    series = [pl.Series(_ROW, range(table.num_rows), dtype=pl.Int64)]
    series += [stored_series(name, column) for name, column in table.columns.items()]
    with replacing(folder / _TABLE) as temporary:
        pl.DataFrame(series).write_parquet(temporary)
    write_json(folder / _KINDS, {name: column.kind for name, column in table.columns.items()})


def read_table(run: PinSageRun) -> FeatureTable:
    """Read what :func:`write_table` wrote.

    Args:
        run: the run.

    Raises:
        InputError: a file is missing or damaged, or the two do not fit each other.
    """
    path, kinds = run.sums.checked(_TABLE), read_json(run.sums.checked(_KINDS))
    frame = read_parquet(path)
    if not isinstance(kinds, dict) or frame.columns != [_ROW, *kinds]:
        raise InputError(f"{path}: expected the columns that {_KINDS} names, got {frame.columns}")
    columns = {name: frame.get_column(name) for name in kinds}
    with reading(path):
        return FeatureTable.from_mapping(columns, kinds, num_rows=frame.height, missing="zero")


def stored_series(name: str, column: Column) -> pl.Series:
    """Make the series that a column is stored as.

    Args:
        name: what it is called.
        column: its values.
    """
    if column.kind == "vector":
        width = column.values.shape[1]
        series = pl.Series(name, column.values, dtype=pl.Array(pl.Float32, width))
        if column.missing is None:
            return series
        return series.set(pl.Series(column.missing), None)
    if column.kind == "number":
        return pl.Series(name, column.values, dtype=pl.Float64)
    kind = pl.List(pl.String) if column.kind == "categories" else pl.String
    return pl.Series(name, column.values, dtype=kind)
