"""What the service knows of users and items without the model: titles, search, popularity."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import polars as pl

from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.data.titles import Titles
from lightgcn_jax.serving.answers import Ranked


class Catalogue:
    """The items of a run as people look for them.

    Args:
        items: I external ids.
        titles: what people call them; None where nobody says it.
        popularity: ``int[I]``, how many have each item.
    """

    def __init__(self, items: IdMap, titles: Titles | None, popularity: np.ndarray):
        self.items, self.has_titles = items, titles is not None
        ids = items.ids.cast(pl.String)
        shown = ids if titles is None else titles.of(items.ids).fill_null(ids)
        # Twice the text, and no search that reads a title character by character in Python.
        self._shown, self._ids = shown.to_list(), ids
        self._folded = shown.str.to_lowercase()
        self._popularity = popularity
        self._order = np.argsort(-popularity, kind="stable").astype(np.int32)

    def titles_of(self, ids: Sequence[Any]) -> list[str]:
        """What people call some items; their ids where nobody says it.

        Args:
            ids: external ids; one that is unknown is its own title.
        """
        if not ids or not self.has_titles:
            return [*map(str, ids)]
        rows = self.items.rows(ids).tolist()
        shown = self._shown
        return [shown[row] if row >= 0 else str(one) for one, row in zip(ids, rows, strict=True)]

    def popular(self, k: int, without: Collection[int]) -> Ranked:
        """The items that most have, scored by how many.

        Args:
            k: how many.
            without: rows that are left out.
        """
        rows = []
        for row in self._order.tolist():
            if len(rows) == k:
                break
            if row not in without:
                rows.append(row)
        return Ranked(self.items.external(rows), self._popularity[rows].astype(np.float32))

    def search(self, text: str, limit: int) -> list[Any]:
        """External ids of items by their title or id: those that begin so first, then popular ones.

        Args:
            text: a part of a title, in any case, or an id; empty for the most popular items.
            limit: at most so many.
        """
        if not text.strip():
            return self.popular(limit, ()).ids
        folded = text.strip().lower()
        found = self._folded.str.contains(folded, literal=True)
        begins = self._folded.str.starts_with(folded) | (self._ids == text.strip())
        rows = np.flatnonzero((found | begins).to_numpy())
        order = np.lexsort((-self._popularity[rows], ~begins.to_numpy()[rows]))
        return self.items.external(rows[order[:limit]])
