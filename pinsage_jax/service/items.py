"""A run of `pinsage-jax` behind the service: items from features, new ones among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lightgcn_jax.data.ids import IdMap, clean_ids
from lightgcn_jax.data.titles import Titles
from lightgcn_jax.service.limits import Limits
from lightgcn_jax.service.ranker import Because, ExternalId
from lightgcn_jax.serving import Ranked
from pinsage_jax.estimators.recommending import ContextRecommender
from pinsage_jax.features.columns import Column, Kind
from pinsage_jax.features.table import FeatureTable
from pinsage_jax.runs.finished import features_of, open_items, read_finished
from pinsage_jax.serving.live_items import LiveItems

_ROOM = 1024
_WIDEST, _LONGEST_TEXT = 10_000, 20_000
# Columns that say of what kind an item is, in the order in which they are looked for.
_GROUPS = ("genre", "genres", "category", "categories", "kind", "label")
_TYPES = {
    "vector": pl.List(pl.Float64),
    "text": pl.String,
    "category": pl.String,
    "categories": pl.List(pl.String),
    "number": pl.Float64,
}
_COSINE = "the cosine of the vectors of the two items; these do not add up to the score"


class ItemRanker:
    """What recommends to contexts and compares items, with room for items that come.

    Args:
        path: the run directory.
        recommender: recommends to contexts.
        live: all items.
        kinds: what the run's features are.
        limits: of requests.
    """

    def __init__(
        self,
        path: Path,
        recommender: ContextRecommender,
        live: LiveItems,
        kinds: Mapping[str, Kind],
        limits: Limits,
    ):
        self._path, self._recommender, self._live = path, recommender, live
        self._kinds, self._limits = kinds, limits

    @classmethod
    def open(cls, path: Path, limits: Limits) -> ItemRanker:
        """Open a run, with the items that were added to it.

        Args:
            path: a run directory.
            limits: of requests.

        Raises:
            InputError: it holds no finished run, or a damaged one.
        """
        run, live = read_finished(path), open_items(path, slack=_ROOM)
        kinds: dict[str, Kind] = {one.name: one.kind for one in run.schema.columns}
        return cls(path, ContextRecommender(path, run, live), live, kinds, limits)

    @property
    def model(self) -> str:
        """The model's name."""
        return "pinsage"

    @property
    def users(self) -> IdMap:
        """The contexts of the run."""
        return self._recommender.users

    @property
    def items(self) -> IdMap:
        """All items, added ones last."""
        return self._live.items

    @property
    def titles(self) -> Titles | None:
        """What a feature calls the items."""
        return self._recommender.titles

    @property
    def at_once(self) -> int:
        """How many queries are ranked in one block."""
        return self._recommender.at_once

    @property
    def popularity(self) -> np.ndarray:
        """How many contexts hold each item."""
        seen = np.asarray(self._recommender.seen.columns)
        counts = np.bincount(seen, minlength=self._live.trained)[: self._live.trained]
        added = [] if self._live.added is None else self._live.added.degrees()
        return np.concatenate([counts, added]).astype(int)

    @cached_property
    def _features(self) -> FeatureTable:
        return features_of(self._path, self._live)

    @cached_property
    def groups(self) -> list[str | None] | None:
        """The first value of a feature called genre or category; of the run's own items."""
        named = {name.lower(): column for name, column in self._features.columns.items()}
        column = next((named[one] for one in _GROUPS if one in named), None)
        if column is None or column.kind not in ("category", "categories"):
            return None
        return [_first(column, one) for one in column.values]

    def knows_user(self, users: Sequence[Any]) -> np.ndarray:
        """Whether each context holds an item.

        Args:
            users: external ids.
        """
        return self._recommender.knows_user(users)

    def knows_item(self, items: Sequence[Any]) -> np.ndarray:
        """Whether each item is there: all have vectors.

        Args:
            items: external ids.
        """
        return self.items.rows(list(items)) >= 0

    compares = knows_item

    def recommend(self, users: Sequence[Any], k: int) -> list[Ranked]:
        """As the recommender does.

        Args:
            users: external ids of contexts.
            k: at most so many for each.
        """
        found = self._recommender.recommend(list(users), min(k, self._live.trained))
        return [one or Ranked([], np.zeros(0, np.float32)) for one in found]

    def recommend_from(self, lists: Sequence[Sequence[Any]], k: int, longest: int) -> list[Ranked]:
        """As the recommender does.

        Args:
            lists: external ids of items.
            k: at most so many for each.
            longest: no list is longer.
        """
        most = min(k, self._live.trained)
        return self._recommender.recommend_from_each(lists, most, longest=longest)

    def similar(self, items: Sequence[Any], k: int) -> list[Ranked]:
        """The items of highest cosine.

        Args:
            items: external ids.
            k: at most so many for each.
        """
        most = max(1, min(k, self._live.trained - 1))
        return [Ranked(*one) for one in self._live.similar(list(items), most, "cosine")]

    def history(self, user: Any) -> list[ExternalId]:
        """What a context holds.

        Args:
            user: an external id that is known.
        """
        seen, row = self._recommender.seen, self.users.row(user)
        start, end = np.asarray(seen.offsets)[row : row + 2]
        return self.items.external(np.asarray(seen.columns)[start:end])

    def because(self, given: Sequence[Any], items: Sequence[Any], user: Any | None) -> Because:
        """Cosines of somebody's items to others.

        Args:
            given: external ids of their items.
            items: external ids, all known.
            user: does not matter.
        """
        del user
        vectors = self._live.vectors
        rows = [self.items.rows(list(one)) for one in (given, items)]
        theirs, others = (_unit(vectors[one]) for one in rows)
        return Because(list(given), theirs @ others.T, False, _COSINE)

    def coordinates(self) -> np.ndarray | None:
        """The items' vectors."""
        return self._live.vectors

    @property
    def addition(self) -> Mapping[str, Any] | None:
        """An id, the features that the run reads, and contexts."""
        limits, reference = self._limits, {"$ref": "#/components/schemas/Id"}
        features = {name: _schema_of(kind) for name, kind in self._kinds.items()}
        contexts = {"type": "array", "items": reference, "maxItems": limits.ids}
        return {
            "type": "object",
            "required": ["id", "features"],
            "properties": {
                "id": reference,
                "features": {
                    "type": "object",
                    "required": list(features),
                    "properties": features,
                    "additionalProperties": False,
                },
                "contexts": contexts,
            },
            "additionalProperties": False,
        }

    def add(self, item: Mapping[str, Any]) -> str:
        """Embed an item from its features and contexts.

        Args:
            item: its id, its features, and the contexts that hold it.

        Raises:
            InputError: it is known, no id, or its features do not fit; there is no room.
        """
        given, features = clean_ids([item["id"]], "id"), item["features"]
        columns = {
            name: pl.Series(name, [features[name]], dtype=_TYPES[kind])
            for name, kind in self._kinds.items()
        }
        table = FeatureTable.from_frame(pl.DataFrame(columns), self._kinds)
        added = self._live.add(given.to_list(), table, [item.get("contexts", [])])
        known = len(item.get("contexts", [])) - added.unknown_contexts
        held_by = "the contexts of items like it" if added.borrowing else f"{known} contexts"
        said = f"made from its features and {held_by}"
        unknown = added.unknown_contexts
        return said + (f"; nothing is known of the other {unknown}" if unknown else "")

    def warm_up(self) -> None:
        """Add items like the first one, in a context and in none, and remove them again."""
        first = self._features.take(np.zeros(1, int))
        made = _unknown(self.items.ids)
        contexts = self._live.contexts.ids.head(1).to_list()
        for held_by in (contexts, []):
            self._live.add([made], first, [held_by])
            self._live.remove([made])


def _unknown(ids: pl.Series) -> int | str:
    """An id that is none of some."""
    if ids.dtype == pl.String:
        name = "warm-up"
        while name in ids:
            name += "-"
        return name
    numbers = ids.to_numpy()
    highest = int(numbers.max(initial=0))
    return highest + 1 if highest < np.iinfo(np.int64).max else int(numbers.min()) - 1


def _first(column: Column, value: Any) -> str | None:
    chosen = value if column.kind == "category" else next(iter(value), None)
    return None if chosen is None else str(chosen)


def _schema_of(kind: Kind) -> Mapping[str, Any]:
    text = {"type": ["string", "null"], "maxLength": _LONGEST_TEXT}
    number = {"type": "number", "minimum": -1e30, "maximum": 1e30}
    return {
        "vector": {"type": "array", "items": number, "maxItems": _WIDEST},
        "text": text,
        "category": text,
        "categories": {
            "type": "array",
            "items": {"type": "string", "maxLength": _LONGEST_TEXT},
            "maxItems": _WIDEST,
        },
        "number": {**number, "type": ["number", "null"]},
    }[kind]


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)
