"""Vectors of all items of a finished run -> a folder of Parquet files, in bounded memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lightgcn_jax.meter import Meter
from lightgcn_jax.serving.export import Block, write_blocks
from lightgcn_jax.sums import fingerprint_of
from pinsage_jax.features.columns import Kind
from pinsage_jax.runs.directory import PinSageRun
from pinsage_jax.runs.finished import check_finite, map_layer
from pinsage_jax.runs.kept_items import read_added


def export_parts(path: Path, folder: Path, meter: Meter | None = None) -> int:
    """Write the vectors and ids of all items, added ones last, as Parquet files of some rows each.

    Columns are ``kind`` ("item"), ``id`` and ``embedding``; ``parts.json`` says how many rows each
    file has. No more than one file's rows are in memory, beside the ids. A call that was killed
    makes, when it is repeated, the files that are missing, with the same bytes.

    Args:
        path: the run directory.
        folder: new, empty, or what a killed call left.
        meter: receives progress.

    Returns:
        How many rows were written.

    Raises:
        InputError: the directory holds no finished run or a damaged one, or the folder anything
            else than a part of the same vectors.
        OSError: the disk refused.
    """
    run = PinSageRun.open(path)
    run.summary  # noqa: B018, refuses a run that is not finished
    config, ids = run.config, run.read_ids("items")
    layers = max(1, config.layers)

    def vectors(rows: slice) -> np.ndarray:
        # Mapped for these rows alone: what was read of a mapping stays in memory as long as it.
        layer = map_layer(run, config, layers, len(ids))
        check_finite(layer, rows)
        return np.array(layer[rows])

    blocks = [Block("item", ids.ids, vectors)]
    kinds: dict[str, Kind] = {one.name: one.kind for one in run.read_schema().columns}
    added = read_added(run, ids, kinds, layers + 1)
    if added is not None:
        items, (*_, theirs), _ = added
        blocks.append(Block("item", items.ids.slice(len(ids)), theirs.__getitem__))
    return write_blocks(folder, blocks, {"run": fingerprint_of(path)}, meter)
