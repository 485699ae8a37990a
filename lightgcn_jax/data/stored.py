"""Parquet tables -> columns of ids and numbers."""

from dataclasses import replace
from pathlib import Path

import polars as pl

from lightgcn_jax.data.cells import Columns, Rows, Unjudged, collected
from lightgcn_jax.data.reading import AUTO, NONE, Options, Reading
from lightgcn_jax.data.roles import roles_by_name
from lightgcn_jax.data.text import POLARS_ERRORS, refuse_foreign
from lightgcn_jax.data.times import dated
from lightgcn_jax.errors import InputError

_HEAD = 100  # rows that tell which columns hold dates
_TEXTS = (pl.String, pl.Categorical, pl.Enum)


def read_parquet(path: Path, options: Options) -> Columns:
    """Reads a Parquet table, whose cells are judged as those of a text file are.

    Args:
        path: The file.
        options: What the caller says of it.

    Raises:
        InputError: It is no such table, or a row does not fit.
    """
    return parquet_rows(path, options).judged()


def parquet_rows(path: Path, options: Options) -> Unjudged:
    """The rows of a Parquet table.

    Args:
        path: The file.
        options: What the caller says of it.

    Raises:
        InputError: It is no such table, or its columns do not fit.
    """
    options.refuse(path, "parquet", separator=None, header=AUTO, quoting=NONE, encoding=AUTO)
    try:
        table = pl.scan_parquet(path, glob=False)
        schema = table.collect_schema()
    except (OSError, *POLARS_ERRORS) as error:
        with path.open("rb") as file:
            head = file.read(64)
        if not head.startswith(b"PAR1"):
            refuse_foreign(path, head)
            raise InputError(f"{path}: expected a Parquet table, got {head[:20]!r} …") from error
        raise InputError(f"{path}: expected a Parquet table; this one is damaged") from error
    names = schema.names()
    head = collected(table.select(pl.col(pl.String, pl.Date, pl.Datetime)).head(_HEAD), path)
    roles = roles_by_name(path, names, options.columns, dated(head.to_dict(as_series=False)))
    notes, cells = list(roles.notes), {}
    settings, stored_times = {"format": "parquet"}, False
    for role, place in roles.places.items():
        name, type_ = names[place], schema[names[place]]
        fault = _type_fault(role, type_)
        if fault is not None and (role in ("user", "item") or role not in roles.assumed):
            raise InputError(f"{path}: column {name!r}: {fault}, got {type_}")
        if fault is not None:
            notes.append(f"column {name!r} is left out: {fault}, got {type_}")
            settings[f"{role}_column"] = NONE
            continue
        settings[f"{role}_column"] = name
        cell = pl.col(name)
        if type_.is_temporal():
            cell = cell.cast(pl.Datetime("us")).dt.epoch("us")
            options = replace(options, time_unit="microseconds")
            stored_times = True
        cells[role] = cell.cast(pl.String).alias(role)
    rows = Rows(
        path=path,
        table=table.select(**cells)
        .with_row_index("number", offset=1)
        .with_columns(fits=pl.lit(value=True)),
        names={role: f"column {names[roles.places[role]]!r}" for role in cells},
        explain=lambda _: "expected a row of the table",
        by_name=roles.assumed,
        place="row",
    )
    return Unjudged(rows, options, Reading(path.name, settings, notes=tuple(notes)), stored_times)


def _type_fault(role: str, type_: pl.DataType) -> str | None:
    """Why a column of a type cannot play a role."""
    if role in ("user", "item"):
        fits = type_.is_integer() or type_ in _TEXTS
        return None if fits else "expected integers or strings"
    if role in ("rating", "weight"):
        return None if type_.is_numeric() or type_ in _TEXTS else "expected numbers"
    fits = type_.is_numeric() or type_ in (*_TEXTS, pl.Date) or isinstance(type_, pl.Datetime)
    return None if fits else "expected seconds, a time or an ISO 8601 date"
