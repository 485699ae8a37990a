"""A run of `lightgcn-jax` behind the service, with items that were added while it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from lightgcn_jax.data.ids import IdMap, clean_ids
from lightgcn_jax.data.titles import Titles
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.scorer import Embedded, InnerProduct
from lightgcn_jax.service.limits import Limits
from lightgcn_jax.service.ranker import Because, ExternalId
from lightgcn_jax.serving import Ranked, Recommender
from lightgcn_jax.serving.neighbours import cosines
from lightgcn_jax.serving.reasons import reasons

# Room for added items, and users of whom one is looked for to warm up.
_MOST_ADDED, _TRIED = 1024, 1024
_NONE = Ranked([], np.zeros(0, np.float32))


class _Added(NamedTuple):
    """An added item: rows of the users who have it."""

    users: np.ndarray


class CollaborativeRanker:
    """A recommender, and the items that came after it.

    Added items are few. They are scored beside the others on the host, so that nothing is compiled
    for them, and are forgotten when the process ends or the run is loaded anew.

    Args:
        recommender: the model.
        limits: of requests.
    """

    def __init__(self, recommender: Recommender, limits: Limits):
        self._recommender, self._limits = recommender, limits
        self.items, self.titles = recommender.items, recommender.titles
        self._trained = len(recommender.items)
        self._added: list[_Added] = []

    @classmethod
    def open(cls, path: Path, limits: Limits) -> CollaborativeRanker:
        """Open a run.

        Args:
            path: a run directory, or a folder to pass on.
            limits: of requests.

        Raises:
            InputError: it is neither, or damaged.
        """
        return cls(Recommender.load(path), limits)

    @property
    def model(self) -> str:
        """The model's name."""
        return self._recommender.model

    @cached_property
    def _vectors(self) -> np.ndarray:
        """Vectors of the added items, ``float32[added, D]``."""
        return self._recommender.item_embeddings[:0]

    @cached_property
    def _unit(self) -> np.ndarray:
        """All items' vectors at length 1, those of added items last, ``float32[I, D']``."""
        table, offsets = self._recommender.item_embeddings, self._recommender.offset_columns
        return np.asarray(cosines(table, offsets).items)

    @property
    def users(self) -> IdMap:
        """Users of the run."""
        return self._recommender.users

    @cached_property
    def _counts(self) -> np.ndarray:
        train = self._recommender.train
        rows = self._recommender.seen if train is None else train
        return np.bincount(np.asarray(rows.columns), minlength=len(self._recommender.items))

    @property
    def at_once(self) -> int:
        """How many queries are ranked in one block."""
        return self._recommender.at_once

    @property
    def popularity(self) -> np.ndarray:
        """How many training users each item has."""
        return np.concatenate([self._counts, [len(one.users) for one in self._added]]).astype(int)

    @property
    def groups(self) -> None:
        """The data of such a run say nothing of kinds."""
        return None

    def knows_user(self, users: Sequence[Any]) -> np.ndarray:
        """Whether training interactions name each user.

        Args:
            users: external ids.
        """
        return self._recommender.knows_user(users)

    def knows_item(self, items: Sequence[Any]) -> np.ndarray:
        """Whether training interactions name each item.

        Args:
            items: external ids.
        """
        return self._recommender.knows_item(items)

    def compares(self, items: Sequence[Any]) -> np.ndarray:
        """Whether each item was trained on or added.

        Args:
            items: external ids.
        """
        return self.knows_item(items) | (self.items.rows(items) >= self._trained)

    def recommend(self, users: Sequence[Any], k: int) -> list[Ranked]:
        """As the recommender does, added items among its own.

        Args:
            users: external ids.
            k: at most so many for each.
        """
        found = self._recommender.recommend(list(users), min(k, self._trained))
        ranked = [one or _NONE for one in found]
        if not self._added:
            return ranked
        rows = self.users.rows(list(users))
        scores = self._recommender.user_embeddings[rows] @ self._vectors.T
        for at, added in enumerate(self._added):
            scores[np.isin(rows, added.users), at] = -np.inf
        return self._merged(ranked, scores, k)

    def recommend_from(self, lists: Sequence[Sequence[Any]], k: int, longest: int) -> list[Ranked]:
        """As the recommender does, added items among its own.

        Args:
            lists: external ids.
            k: at most so many for each.
            longest: no list is longer.
        """
        k_trained = min(k, self._trained)
        ranked = self._recommender.recommend_from_each(lists, k_trained, longest=longest)
        if not self._added:
            return ranked
        given = [np.unique(self.items.rows(list(one))) for one in lists]
        vectors = self._recommender.fold_in.users.vectors(given, longest)
        return self._merged(ranked, vectors @ self._vectors.T, k)

    def similar(self, items: Sequence[Any], k: int) -> list[Ranked]:
        """Neighbours by cosine, added items among them.

        Args:
            items: external ids.
            k: at most so many for each.
        """
        rows = self.items.rows(list(items))
        trained = [one for one, row in zip(items, rows, strict=True) if row < self._trained]
        found = iter(())
        if trained:
            found = iter(self._recommender.similar_items(trained, min(k, self._trained)))
        if not self._added:
            return [one or _NONE for one in found]
        table, added = self._unit, self._unit[self._trained :]
        ranked = []
        for row in rows.tolist():
            scores = table[row] @ table.T if row >= self._trained else table[row] @ added.T
            if row < self._trained:
                ranked += self._merged([next(found) or _NONE], scores[None], k)
                continue
            scores[row] = -np.inf
            best = np.argsort(-scores, kind="stable")[: min(k, len(scores) - 1)]
            ranked.append(Ranked(self.items.external(best), scores[best]))
        return ranked

    def history(self, user: Any) -> list[ExternalId]:
        """The user's items, those held out included.

        Args:
            user: an external id that is known.
        """
        row = self.users.row(user)
        start, end = self._seen_offsets[row : row + 2]
        own = [self._trained + at for at, one in enumerate(self._added) if row in one.users]
        return self.items.external(np.append(self._seen_columns[start:end], own).astype(int))

    @cached_property
    def _seen_offsets(self) -> np.ndarray:
        return np.asarray(self._recommender.seen.offsets)

    @cached_property
    def _seen_columns(self) -> np.ndarray:
        return np.asarray(self._recommender.seen.columns)

    def because(self, given: Sequence[Any], items: Sequence[Any], user: Any | None) -> Because:
        """What of somebody's items speaks for some items, added ones left out.

        Args:
            given: external ids of their items.
            items: external ids, all known.
            user: whose items they are; None of somebody new.
        """
        known, wanted = self.items.rows(list(given)), self.items.rows(list(items))
        known = np.unique(known[known < self._trained])
        row = None if user is None else self.users.row(user)
        values = np.zeros((len(known), len(items)), np.float32)
        old = wanted < self._trained
        found = reasons(self._recommender, known, wanted[old], row)
        values[:, old] = found.values
        return Because(self.items.external(known), values, found.adds_up, found.number)

    def coordinates(self) -> np.ndarray | None:
        """The items' vectors without columns that only add to scores."""
        scorer, offsets = self._recommender.scorer, self._recommender.offset_columns
        if not isinstance(scorer, Embedded):
            return None
        vectors = np.asarray(scorer.embeddings()[1])
        return vectors[:, : vectors.shape[1] - offsets]

    @property
    def addition(self) -> Mapping[str, Any] | None:
        """An id, and the users that have it; of a model whose scores are inner products."""
        scorer = self._recommender.scorer
        if type(scorer) is not InnerProduct:
            return None
        limits, reference = self._limits, {"$ref": "#/components/schemas/Id"}
        users = {"type": "array", "items": reference, "minItems": 1, "maxItems": limits.ids}
        title = {"type": "string", "maxLength": limits.id_length}
        return {
            "type": "object",
            "required": ["id", "users"],
            "properties": {"id": reference, "users": users, "title": title},
            "additionalProperties": False,
        }

    def add(self, item: Mapping[str, Any]) -> str:
        """Give an item a vector by the users that have it.

        Args:
            item: its id, its users, and a title where it has one.

        Raises:
            InputError: it is known, no id, or nothing is known of its users; there is no room.
        """
        if len(self._added) >= _MOST_ADDED:
            raise InputError(f"{_MOST_ADDED:,} items were added, which is all there is room for")
        given = clean_ids([item["id"]], "id")
        if self.items.rows(given)[0] >= 0:
            raise InputError(f"id: item {item['id']!r} is known already")
        grown = self.items.grow(given)
        if grown.ids.dtype != self.items.ids.dtype:
            raise InputError(
                f"id: expected an integer, as all items of the run have "
                f"({self.items.ids[0]}, …), got {item['id']!r}"
            )
        known = self.knows_user(item["users"])
        users = [one for one, fine in zip(item["users"], known, strict=True) if fine]
        if not users:
            raise InputError("users: nothing is known of any of them")
        rows = np.unique(self.users.rows(users))
        vector, unit = self._made(rows)
        self.items = grown
        self._added.append(_Added(rows))
        self._vectors = np.concatenate([self._vectors, vector])
        self._unit = np.concatenate([self._unit, unit])
        if title := item.get("title"):
            named = Titles(IdMap(given), pl.Series([title]))
            self.titles = named if self.titles is None else self.titles.joined(named)
        left_out = len(item["users"]) - len(users)
        said = f"made from {len(users)} of its users"
        return said + (f"; nothing is known of the other {left_out}" if left_out else "")

    def _made(self, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """An item's vector from rows of users, as it is and at length 1, ``float32[1, D]`` each."""
        vector = self._recommender.fold_in.items.vectors([users], self._limits.ids)
        return vector, np.asarray(cosines(vector, self._recommender.offset_columns).items)

    def warm_up(self) -> None:
        """Compile what adding an item needs."""
        known = np.flatnonzero(self.knows_user(self.users.ids.head(_TRIED).to_list()))
        if self.addition is not None and len(known):
            self._made(known[:1])

    def _merged(self, ranked: Sequence[Ranked], scores: np.ndarray, k: int) -> list[Ranked]:
        """Lists with the added items where their scores put them."""
        ids = self.items.external(range(self._trained, len(self.items)))
        merged = []
        for one, own in zip(ranked, scores, strict=True):
            both = np.concatenate([one.scores, own])
            order = np.argsort(-both, kind="stable")[:k]
            order = order[both[order] > -np.inf]
            names = [*one.ids, *ids]
            merged.append(Ranked([names[at] for at in order], both[order]))
        return merged
