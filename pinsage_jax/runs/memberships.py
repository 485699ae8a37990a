"""All memberships of a run's items: it trains on some, and holds the others out."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import polars as pl

from lightgcn_jax.data import Interactions
from lightgcn_jax.data.parquet_files import read_parquet
from lightgcn_jax.files import replacing
from pinsage_jax.runs.directory import PinSageRun, reading

_FILE = "memberships.parquet"


def write_memberships(path: Path, interactions: Interactions) -> None:
    """Keep all memberships beside a run, which itself keeps those that it trained on.

    Args:
        path: the run directory.
        interactions: in the rows of the run.
    """
    columns = {"context": interactions.user_rows, "item": interactions.item_rows}
    if interactions.timestamps is not None:
        columns["time"] = interactions.timestamps
    with replacing(path / _FILE) as temporary:
        pl.DataFrame(columns).write_parquet(temporary)


def read_memberships(run: PinSageRun, trained: Interactions) -> Interactions:
    """All memberships that are known of a run: where none were kept, those that it trained on.

    Args:
        run: the run.
        trained: the memberships that it trained on.

    Raises:
        InputError: the file is damaged.
    """
    path = run.sums.checked(_FILE)
    if not path.exists():
        return trained
    frame = read_parquet(path)
    with reading(path):
        times = frame["time"].to_numpy() if "time" in frame.columns else None
        return dataclasses.replace(
            trained,
            user_rows=frame["context"].to_numpy(),
            item_rows=frame["item"].to_numpy(),
            timestamps=times,
        )
