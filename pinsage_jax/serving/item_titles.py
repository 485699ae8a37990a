"""What people call the items of a run: a feature column that is called title or name."""

from __future__ import annotations

import polars as pl

from lightgcn_jax.data import IdMap
from lightgcn_jax.data.titles import Titles
from pinsage_jax.features.table import FeatureTable

_NAMES = ("title", "name")
_KINDS = ("text", "category")


def titles_of(features: FeatureTable, items: IdMap) -> Titles | None:
    """The titles of items; None where no column has them.

    Args:
        features: a row for each item.
        items: external ids of the rows.
    """
    for name, column in features.columns.items():
        if name.lower() in _NAMES and column.kind in _KINDS:
            texts = pl.Series([one or None for one in column.values], dtype=pl.String)
            known = texts.is_not_null()
            return Titles(IdMap(items.ids.filter(known)), texts.filter(known))
    return None
