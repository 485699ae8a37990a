"""A task in a run directory, with its features: resuming and evaluating need no other files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import polars as pl

from lightgcn_jax.data import Interactions
from lightgcn_jax.errors import InputError
from lightgcn_jax.files import read_json, replacing, write_json
from lightgcn_jax.graph.bipartite import CsrRows
from pinsage_jax.config import PinSageConfig
from pinsage_jax.data.items import ItemData
from pinsage_jax.features.columns import Column
from pinsage_jax.features.raw_files import read_parquet
from pinsage_jax.features.table import FeatureTable
from pinsage_jax.graph.structure import Structure
from pinsage_jax.runs.directory import PinSageRun, reading
from pinsage_jax.runs.memberships import write_memberships
from pinsage_jax.tasks.pairs import CooccurrencePairs, ExplicitPairs, PairSource, UserHistories
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
    shape = len(run.read_ids("contexts")), config.structure
    got = {name: array.shape for name, array in arrays.items()}
    if got != {"contexts": shape}:
        raise InputError(f"{path}: expected contexts of shape {list(shape)}, got {got}")
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
        part: _held_out(part, arrays)
        for part in _PARTS
        if part != "fresh" or "fresh queries" in arrays
    }
    fresh_edges = None
    if "fresh_items" in arrays:
        fresh_edges = arrays["fresh_items"], arrays["fresh_contexts"]
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
    kind = _PAIRS[min(int(arrays["pairs"]), len(_PAIRS) - 1)]
    if kind == "contexts":
        return CooccurrencePairs(train.item_rows, train.user_rows, train.num_users)
    if kind == "histories":
        return UserHistories(train, last=int(arrays["last"]))
    return ExplicitPairs(arrays["pair_queries"], arrays["pair_positives"])


def _held_out_arrays(part: str, held_out: HeldOut) -> dict[str, np.ndarray]:
    return {
        f"{part} queries": held_out.queries,
        **{
            f"{part} {name} {field}": np.asarray(getattr(rows, field))
            for name, rows in (("relevant", held_out.relevant), ("seen", held_out.seen))
            for field in ("offsets", "columns")
        },
    }


def _held_out(part: str, arrays: dict[str, np.ndarray]) -> HeldOut:
    def rows(name: str) -> CsrRows:
        offsets = arrays[f"{part} {name} offsets"]
        return CsrRows(
            offsets=jnp.asarray(offsets),
            columns=jnp.asarray(arrays[f"{part} {name} columns"]),
            longest=int(np.diff(offsets).max(initial=0)),
        )

    return HeldOut(arrays[f"{part} queries"], rows("relevant"), rows("seen"))


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
