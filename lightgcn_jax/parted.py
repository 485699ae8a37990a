"""Long tables as folders of Parquet files, made part by part: a kill undoes one part at most.

``part-00000.parquet`` and so on hold the rows, ``parts.json`` says how the table was made and how
many rows each part has, and is written last, with ``sums.json``. Until then ``.state.json`` says
how it is made, so that only the same command goes on with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from lightgcn_jax.begun import STATE, begun
from lightgcn_jax.files import replacing
from lightgcn_jax.meter import Meter
from lightgcn_jax.sums import write_last

PARTED = "parts.json"
"""The file that tells that a table is whole."""


def part_name(at: int) -> str:
    """The name of a part.

    Args:
        at: its number, from 0 on.
    """
    return f"part-{at:05}.parquet"


def write_parts(
    folder: Path,
    about: Mapping[str, Any],
    sizes: list[int],
    make: Callable[[int], pl.DataFrame],
    meter: Meter,
    unit: str,
) -> int:
    """Write a table, but for parts that were written before a kill.

    Args:
        folder: new, empty, or what a killed process left of the same table.
        about: what its bytes depend on, a JSON value.
        sizes: how much there is to do for each part.
        make: from the number of a part to its rows, the same each time.
        meter: receives progress.
        unit: what ``sizes`` count.

    Returns:
        How many rows the table has.

    Raises:
        InputError: the folder holds anything else.
    """
    about = dict(about) | {"parts": len(sizes)}
    with begun(folder, about, "table"):
        meter.started("writing parts", sum(sizes), unit)
        try:
            done, rows = 0, []
            for at, size in enumerate(sizes):
                path = folder / part_name(at)
                length = _length(path)
                if length is None:
                    table = make(at)
                    with replacing(path) as temporary:
                        table.write_parquet(temporary)
                    length = table.height
                rows.append(length)
                done += size
                meter.advanced(done)
        finally:
            meter.stopped()
        write_last(folder / PARTED, {**about, "rows": rows})
        (folder / STATE).unlink()
    return sum(rows)


def _length(path: Path) -> int | None:
    """How many rows a part has; None where it is missing, or too damaged to tell."""
    if not path.is_file():
        return None
    try:
        return pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None
