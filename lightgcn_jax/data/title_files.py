"""Titles of items, read from a table by the readers of interactions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.data.readers import read_interactions
from lightgcn_jax.data.titles import Titles
from lightgcn_jax.errors import InputError

_RECBOLE = ".item"


def read_titles(
    path: Path, id_column: str | int = 1, title_column: str | int = 2, **reading: Any
) -> Titles:
    """Read the titles of items from a table.

    Lines without a title, or with one that holds signs that nobody sees, are left out. Of several
    titles of an item the first counts.

    Args:
        path: a CSV, TSV or Parquet file, or RecBole's of items, with a line for each item.
        id_column: the column of item ids, by its name or its place from 1 on.
        title_column: the column of titles, likewise.
        reading: further arguments of :func:`~lightgcn_jax.data.readers.read_interactions`; text
            files have a header unless it says otherwise.

    Raises:
        InputError: the file cannot be read, or a column is not there.
    """
    guessed: dict[str, Any] = {}
    if path.suffix == _RECBOLE:
        guessed = {"format": "recbole"}
    elif path.suffix != ".parquet":
        guessed = {"header": "yes"}
    try:
        found = read_interactions(
            path,
            item_column=id_column,
            user_column=title_column,
            rating_column="none",
            timestamp_column="none",
            **({"null_ids": "keep", "user_ids": "text", "skip_bad_rows": True} | guessed | reading),
        )
    except InputError as error:
        # To the readers titles are what users are elsewhere.
        told = str(error).replace("item_column", "id_column").replace("user_column", "title_column")
        raise InputError(told) from None
    pairs = pl.DataFrame({"item": found.item_rows, "title": found.user_rows})
    first = pairs.unique("item", keep="first", maintain_order=True)
    ids = found.items.ids.gather(first["item"])
    return Titles(IdMap(ids), found.users.ids.gather(first["title"]).cast(pl.String))
