"""Items that were added to a run, as its folder ``fresh`` keeps them: one file, whole or not there.

======================  =======================================================
`` id``                 external ids in row order, behind those of training
`` growth``             how many times as many contexts each counts as in
`` contexts``           the rows of the run's contexts that hold each
`` layer 0`` …          the stored layers, and last the vectors
any other name          a feature column that the run reads
======================  =======================================================

Names of features have no blank in front, so that they are none of the others.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.data.parquet_files import read_parquet
from lightgcn_jax.errors import InputError
from lightgcn_jax.files import sha256
from lightgcn_jax.sums import replace_listed
from pinsage_jax.features.columns import Kind
from pinsage_jax.features.table import FeatureTable
from pinsage_jax.runs.directory import PinSageRun, reading
from pinsage_jax.runs.stored_task import stored_series
from pinsage_jax.serving.added_items import AddedItems

_FILE = "added.parquet"
_ID, _GROWTH, _CONTEXTS, _LAYER = " id", " growth", " contexts", " layer "


def state_of(folder: Path) -> str:
    """Tell one state of the added items from another; empty where there are none.

    Args:
        folder: the folder of a run's added items.
    """
    path = folder / _FILE
    return sha256(path) if path.is_file() else ""


def write_added(
    run: PinSageRun, ids: pl.Series, layers: Sequence[np.ndarray], added: AddedItems | None
) -> None:
    """Write all added items; what stood there goes in one moment.

    Args:
        run: the run, which this process holds, and whose folder of added items exists.
        ids: their external ids.
        layers: their layers and vectors, ``float32[n, …]`` each.
        added: what is known of them; None for no item.
    """
    name = f"{run.fresh.name}/{_FILE}"
    if added is None:
        replace_listed(run.path, name, None)
        return
    columns = [
        ids.alias(_ID),
        pl.Series(_GROWTH, added.growth, dtype=pl.Float64),
        pl.Series(_CONTEXTS, [one.tolist() for one in added.contexts], dtype=pl.List(pl.Int32)),
    ]
    for step, layer in enumerate(layers):
        kind = pl.Array(pl.Float32, layer.shape[1])
        columns.append(pl.Series(f"{_LAYER}{step}", layer, dtype=kind))
    columns += [stored_series(name, one) for name, one in added.table.columns.items()]
    content = io.BytesIO()
    pl.DataFrame(columns).write_parquet(content)
    replace_listed(run.path, name, content.getvalue())


def read_added(
    run: PinSageRun, known: IdMap, kinds: dict[str, Kind], layers: int
) -> tuple[IdMap, list[np.ndarray], AddedItems] | None:
    """Read what :func:`write_added` wrote.

    Args:
        run: the run.
        known: the items of training.
        kinds: the feature columns that the run reads, and their kinds.
        layers: how many layers are stored, the vectors counted.

    Returns:
        All items, the added ones last, their layers, and what is known of them; None without any.

    Raises:
        InputError: the file is damaged, or does not fit the run.
    """
    folder = run.fresh
    path = run.sums.checked(f"{folder.name}/{_FILE}")
    if (folder / "items.parquet").exists():
        raise InputError(
            f"{folder}: expected {_FILE}, got the files of an earlier version, which kept no "
            "features of added items; remove the folder and add them again"
        )
    if not path.exists():
        return None
    frame = read_parquet(path)
    names = [_ID, _GROWTH, _CONTEXTS, *(f"{_LAYER}{step}" for step in range(layers)), *kinds]
    if frame.columns != names:
        raise InputError(f"{path}: expected the columns {names}, got {frame.columns}")
    with reading(path):
        return _added_of(frame, known, kinds, layers)


def _added_of(
    frame: pl.DataFrame, known: IdMap, kinds: dict[str, Kind], layers: int
) -> tuple[IdMap, list[np.ndarray], AddedItems]:
    types = {_GROWTH: pl.Float64, _CONTEXTS: pl.List(pl.Int32)}
    for name in frame.columns[: 3 + layers]:
        column = frame[name]
        wanted = types.get(name, pl.Array) if name != _ID else known.ids.dtype
        fine = column.dtype == wanted or (isinstance(column.dtype, pl.Array) and wanted == pl.Array)
        if name == _ID and column.dtype == pl.String:
            fine = True  # ids of an item that is no integer
        if not fine or column.null_count():
            raise InputError(
                f"column {name!r}: expected {wanted} without nulls, got {column.dtype}"
            )
    given = frame[_ID]
    ids = IdMap(known.ids.cast(given.dtype).append(given).rename("id"))
    contexts = [np.array(one, np.int32) for one in frame[_CONTEXTS].to_list()]
    growth = frame[_GROWTH].to_numpy()
    if not ((growth >= 1) & np.isfinite(growth)).all():
        raise InputError(f"column {_GROWTH!r}: expected numbers from 1 on")
    arrays = []
    for step in range(layers):
        layer = frame[f"{_LAYER}{step}"].to_numpy()
        if layer.dtype != np.float32 or layer.ndim != 2 or not np.isfinite(layer).all():
            raise InputError(f"column {_LAYER}{step}: expected finite vectors of float32")
        arrays.append(layer)
    columns = {name: frame[name] for name in kinds}
    table = FeatureTable.from_mapping(columns, kinds, num_rows=frame.height, missing="zero")
    return ids, arrays, AddedItems(table, contexts, growth)
