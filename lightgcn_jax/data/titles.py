"""What people call items: titles by external id, kept with the data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import polars as pl

from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.errors import InputError


@dataclass(frozen=True, eq=False)
class Titles:
    """The titles of some items, whatever rows these have.

    Attributes:
        ids: n external item ids.
        texts: String [n], their titles.
    """

    ids: IdMap
    texts: pl.Series

    def __post_init__(self) -> None:
        if self.texts.dtype != pl.String or len(self.texts) != len(self.ids):
            raise InputError(
                f"titles: expected String[{len(self.ids)}], one for each id, "
                f"got {self.texts.dtype}[{len(self.texts)}]"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, items: Iterable[Any]) -> pl.Series:
        """The titles of items, String [m]; null where there is none.

        Args:
            items: m external ids.
        """
        items = items if isinstance(items, pl.Series) else list(items)
        if not len(items):
            return pl.Series("title", [], dtype=pl.String)
        rows = pl.Series(self.ids.rows(items))
        return self.texts.gather(rows.replace(-1, None)).alias("title")

    def joined(self, others: Titles | None) -> Titles:
        """These titles and others, which count where an item has both.

        Args:
            others: more titles; None for none.
        """
        if others is None or not len(others):
            return self
        kept = pl.Series(others.ids.rows(self.ids.ids) < 0)
        own = Titles(IdMap(self.ids.ids.filter(kept)), self.texts.filter(kept))
        ids = own.ids.grow(others.ids.ids)
        return Titles(ids, others.of(ids.ids).fill_null(own.of(ids.ids)))
