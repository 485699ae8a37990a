"""What people pass: contexts in any of the forms that interactions have, features as frames."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lightgcn_jax.data import Interactions, Split
from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.errors import InputError
from lightgcn_jax.estimators.given import Given, Named, given_data, names_of
from pinsage_jax.features.columns import Kind
from pinsage_jax.features.files import load_features


def given_contexts(contexts: Any, named: Named) -> tuple[Interactions, Given]:
    """The memberships of items in contexts, whose contexts stand where others have users.

    Args:
        contexts: whatever :func:`lightgcn_jax.estimators.given.given_data` takes.
        named: the columns of contexts (as ``user``), of items and of times.

    Raises:
        InputError: it is none of these, or does not fit.
    """
    if isinstance(contexts, Split):
        raise InputError(
            "contexts: expected the memberships of items, got a Split; pass the interactions "
            "that it was made of, fit holds some of them out by itself"
        )
    try:
        given = given_data(contexts, None, named)
    except InputError as error:
        raise InputError(
            str(error).replace("user:", "context:").replace("user=", "context=")
        ) from None
    # Every row counts: an item that stands twice in a context is walked to twice as often.
    assert given.interactions is not None
    told = (line for line in given.lines if "weight=" not in line)
    lines = tuple(line.replace("user=", "context=") for line in told)
    return given.interactions, given._replace(lines=lines)


def feature_frame(
    features: Any, id_column: str | None, item: str, kinds: Mapping[str, Kind] | None
) -> tuple[pl.DataFrame, str | None, list[str]]:
    """A table of items' features as polars has it.

    Args:
        features: a pandas or polars frame (lazy too), an Arrow table, a mapping of columns, or the
            path of a file.
        id_column: the column of items' ids; None takes the one that is called like that of the
            contexts, else ``item``, ``id`` or the first.
        item: what the column of items is called among the contexts.
        kinds: kinds by column, which decide how a file is read.

    Returns:
        The frame, the column of ids, and what is worth telling.

    Raises:
        InputError: it is no such table.
    """
    if isinstance(features, (str, os.PathLike)):
        found = load_features(Path(features), id_column=id_column, kinds=kinds)
        return found.frame, found.id_column, list(found.notes)
    if isinstance(features, pl.LazyFrame):
        frame = features.collect()
    elif hasattr(features, "iloc") and hasattr(features, "columns"):
        frame = _of_pandas(features)
    else:
        try:
            frame = pl.DataFrame(features)
        except (TypeError, ValueError, pl.exceptions.PolarsError):
            raise InputError(
                "features: expected a frame (pandas, polars, Arrow), a mapping of columns or a "
                f"path, with a row for each item, got {type(features).__name__}"
            ) from None
    if id_column is None and item in frame.columns:
        id_column = item
    return frame, id_column, []


def _of_pandas(frame: Any) -> pl.DataFrame:
    """A pandas frame; an index with a name is a column, as ids often are one."""
    if getattr(frame.index, "name", None) is not None:
        frame = frame.reset_index()
    return pl.DataFrame([_series(str(name), frame[name]) for name in frame.columns])


def _series(name: str, column: Any) -> pl.Series:
    missing = np.asarray(column.isna(), bool)
    is_category = str(column.dtype) == "category"
    if getattr(column.dtype, "kind", "O") in "biufmM" and isinstance(column.dtype, np.dtype):
        values = column.to_numpy()
        if values.dtype.kind == "M":
            values = values.astype("datetime64[us]")
        made = pl.Series(name, values)
        return made.fill_nan(None) if made.dtype.is_float() else made
    cells = [None if gone else one for one, gone in zip(column, missing, strict=True)]
    cells = [one.tolist() if isinstance(one, np.ndarray) else one for one in cells]
    made = pl.Series(name, cells, strict=False)
    return made.cast(pl.Categorical) if is_category and made.dtype == pl.String else made


def lists_of(contexts: Any, ids: pl.Series, columns: tuple[str, str]) -> list[list[Any]] | None:
    """The contexts that hold each of some items.

    Args:
        contexts: a mapping from items to lists of contexts, a list of such lists, a table of
            memberships in the columns that the run was fitted with, or None for no context.
        ids: n ids.
        columns: what contexts and items are called.

    Returns:
        n lists of ids, or None.

    Raises:
        InputError: it is none of these.
    """
    if contexts is None:
        return None
    if isinstance(contexts, Mapping) and not set(columns) <= set(contexts):
        given = {str(item): held for item, held in contexts.items()}
        strange = sorted(given.keys() - set(ids.cast(pl.String)))
        if strange:
            raise InputError(f"contexts: item {strange[0]!r} is not among the {len(ids):,} items")
        return [_listed(given.get(str(one), ())) for one in ids]
    if isinstance(contexts, (list, tuple)) and not isinstance(contexts[:1], Mapping):
        is_lists = all(isinstance(one, (list, tuple, set, str, int)) for one in contexts)
        if is_lists and len(contexts) == len(ids):
            return [_listed(one) for one in contexts]
    named = Named(*columns) if set(columns) <= set(names_of(contexts) or ()) else Named()
    held, _ = given_contexts(contexts, named)
    rows = IdMap(ids).rows(held.items.ids)[held.item_rows]
    lists: list[list[Any]] = [[] for _ in ids]
    for row, context in zip(rows, held.users.external(held.user_rows), strict=True):
        if row >= 0:
            lists[row].append(context)
    return lists


def _listed(held: Any) -> list[Any]:
    return [held] if isinstance(held, (str, int)) else list(held)
