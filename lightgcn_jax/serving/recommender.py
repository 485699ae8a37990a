"""Recommendations and neighbours by external ids, from any model that scores items."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import overload

import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.data.pairs import merge_pairs
from lightgcn_jax.data.splits import Split
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.ranking import Ranking, ReadyScorer, rank, ready_scorer, whole_number
from lightgcn_jax.evaluation.scorer import FromHistories, InnerProduct, Scorer, Tables
from lightgcn_jax.graph.bipartite import CsrRows, csr_rows
from lightgcn_jax.models import ClosedForm, Model, Score, unit_rows
from lightgcn_jax.runs import FitResult, RunDirectory, embeddings_of, load_scorer
from lightgcn_jax.serving.answers import (
    Answer,
    Asked,
    ExternalIds,
    Ranked,
    answer_for,
    known_rows,
    power_of_two,
    ranked_rows,
)
from lightgcn_jax.settings import model_name

Filter = Iterable[int | str] | None
"""External ids of items; None filters nothing."""


@dataclass(frozen=True, eq=False)
class Recommender:
    """A model that scores items, with the ids of the outside world.

    Attributes:
        users: U external user ids.
        items: I external item ids.
        scorer: of U users and I items; ``InnerProduct(users, items)`` for embeddings.
        seen: row u holds user u's training and validation items. Test items do not count as
            seen, so that the withheld ones can be recommended.
        model: the model's name, for messages.
        offset_columns: the last columns of the vectors that only add to scores (biases, popularity)
            and say nothing about who is like whom.

    Raises:
        InputError: scorer, ids and seen items do not fit each other, or the scorer holds a value
            that is not finite.
    """

    users: IdMap
    items: IdMap
    scorer: Scorer
    seen: CsrRows
    model: str = "a model of your own"
    offset_columns: int = 0

    def __post_init__(self):
        if isinstance(self.scorer, Tables):
            self._check_tables(self.scorer)
        found = self.scorer.num_queries, self.scorer.num_items
        if found != (len(self.users), len(self.items)):
            raise InputError(
                f"scorer: expected {len(self.users)} users and {len(self.items)} items as there "
                f"are ids, got {found[0]} and {found[1]}"
            )
        columns = np.asarray(self.seen.columns)
        if self.seen.num_rows != len(self.users) or columns.max(initial=-1) >= len(self.items):
            raise InputError(
                f"seen: expected {len(self.users)} rows of items below {len(self.items)}, got "
                f"{self.seen.num_rows} rows of items up to {columns.max(initial=-1)}"
            )
        for path, leaf in jax.tree.leaves_with_path(self.scorer):
            if jnp.issubdtype(leaf.dtype, jnp.floating) and not np.isfinite(leaf).all():
                field = f"scorer{jax.tree_util.keystr(path)}"
                raise InputError(f"{field}: expected finite numbers, got NaN or infinity")

    def _check_tables(self, tables: Tables) -> None:
        dims = tables.queries.shape[1:]
        for field, table, ids in (
            ("user_embeddings", tables.queries, self.users),
            ("item_embeddings", tables.items, self.items),
        ):
            if table.dtype != np.float32 or len(dims) != 1 or table.shape != (len(ids), *dims):
                raise InputError(
                    f"{field}: expected float32[{len(ids)}, D], one row for each id and one D for "
                    f"users and items, got {table.dtype}{list(table.shape)}"
                )
            odd = np.asarray(table)[~np.isfinite(table)]
            if odd.size:
                raise InputError(f"{field}: expected finite numbers, got {odd[0]}")

    @classmethod
    def from_run(
        cls,
        path: str | Path,
        *,
        model: Model | ClosedForm | None = None,
        score: Score | None = None,
    ) -> Recommender:
        """Load a run directory.

        Args:
            path: the directory.
            model: the model that the run was made with, where it is a closed form of one's own.
            score: the score that the run was made with, where it is one of one's own.

        Raises:
            InputError: it is no run, it is not finished, or an object of one's own is missing.
        """
        run = RunDirectory.open(Path(path))
        config, split = run.config_with(model=model, score=score), run.split
        scorer, seen = load_scorer(run, config), _seen(split)
        return cls(split.users, split.items, scorer, seen, model_name(config), run.offset_columns)

    @classmethod
    def from_fit(cls, result: FitResult) -> Recommender:
        """Takes what training returned.

        Args:
            result: of :func:`lightgcn_jax.fit` and its kind.
        """
        config, split = result.config, result.split
        model, offsets = model_name(config), config.offset_columns
        return cls(split.users, split.items, result.scorer, _seen(split), model, offsets)

    @cached_property
    def user_embeddings(self) -> np.ndarray:
        """``float32[U, D]``; InputError where the model has none."""
        return embeddings_of(self.scorer, self.model)[0]

    @cached_property
    def item_embeddings(self) -> np.ndarray:
        """``float32[I, D]``; InputError where the model has none."""
        return embeddings_of(self.scorer, self.model)[1]

    @overload
    def recommend(
        self,
        users: int | str,
        k: int = 20,
        exclude_seen: bool = True,
        items: Filter = None,
        filter_items: Filter = None,
    ) -> Ranked: ...
    @overload
    def recommend(
        self,
        users: ExternalIds,
        k: int = 20,
        exclude_seen: bool = True,
        items: Filter = None,
        filter_items: Filter = None,
    ) -> list[Ranked | None]: ...
    def recommend(
        self,
        users: Asked,
        k: int = 20,
        exclude_seen: bool = True,
        items: Filter = None,
        filter_items: Filter = None,
    ) -> Answer:
        """The items of highest score for one user or for several.

        Args:
            users: one external id, or several.
            k: items for each user, from 1 to I.
            exclude_seen: leave out the user's training and validation items.
            items: external ids; only these may be recommended. None allows all.
            filter_items: external ids to leave out for every user.

        Returns:
            For one id its items; for several a list in their order, None where an id is unknown
            (one UserWarning names them all).

        Raises:
            InputError: the single user, or an item of a filter, is unknown, or k does not fit.
        """
        candidates = self._candidates(items, filter_items)
        available = len(self.items) if candidates is None else len(candidates)
        k = whole_number("k", k, 1, len(self.items), ", the number of items")

        def best(rows: np.ndarray) -> Ranking:
            seen = self.seen if exclude_seen else None
            return rank(self._ready, rows, min(k, available), seen=seen, candidates=candidates)

        return answer_for(users, self.users, self.items, best, "user", empty=not available)

    def recommend_from(
        self, items: Iterable[int | str], k: int = 20, exclude_given: bool = True
    ) -> Ranked:
        """The items of highest score for somebody who was never seen, from items that they like.

        Models that score a row of interactions do it as they score their own users: `filter`,
        `gfcf` and `itemcf`.

        Args:
            items: external ids, each counted once.
            k: items wanted, from 1 to I.
            exclude_given: leave out those given.

        Returns:
            At most k items.

        Raises:
            InputError: an item is unknown, k does not fit, or the model scores no such list.
        """
        if not isinstance(self.scorer, FromHistories):
            raise InputError(
                f"recommend_from: expected a model that scores a list of items (filter, gfcf, "
                f"itemcf), got {self.model}"
            )
        given = np.unique(known_rows(self.items, items, "items"))
        k = whole_number("k", k, 1, len(self.items), ", the number of items")
        # Filled up to a power of two, so that lists of many lengths share few programs.
        columns = np.pad(given, (0, power_of_two(len(given)) - len(given)), constant_values=-1)
        offsets = jnp.array([0, len(given)], jnp.int32)
        history = CsrRows(offsets, jnp.asarray(columns, jnp.int32), longest=len(columns))
        scorer = self.scorer.of_histories(history)

        def best(rows: np.ndarray) -> Ranking:
            return rank(scorer, rows, k, seen=history if exclude_given else None)

        return ranked_rows(np.zeros(1, np.int32), self.items, best)[0]

    @overload
    def similar_items(self, items: int | str, k: int = 20) -> Ranked: ...
    @overload
    def similar_items(self, items: ExternalIds, k: int = 20) -> list[Ranked | None]: ...
    def similar_items(self, items: Asked, k: int = 20) -> Answer:
        """The items with the highest cosine to one item or to several, itself left out.

        Cosines of the items' vectors, where a vector of zeros has the cosine 0 to all; those of
        `itemcf` are of the items' users, 0 where they were not kept.

        Args:
            items: one external id, or several.
            k: neighbours of each, from 1 to I.

        Returns:
            As `recommend`.

        Raises:
            InputError: the single item is unknown, k does not fit, or the model compares no items.
        """
        return _neighbours(items, self.items, self._item_cosines, k, "item")

    @overload
    def similar_users(self, users: int | str, k: int = 20) -> Ranked: ...
    @overload
    def similar_users(self, users: ExternalIds, k: int = 20) -> list[Ranked | None]: ...
    def similar_users(self, users: Asked, k: int = 20) -> Answer:
        """The users with the highest cosine to one user or to several, itself left out.

        Args:
            users: one external id, or several.
            k: neighbours of each, from 1 to U.

        Returns:
            As `recommend`.

        Raises:
            InputError: the single user is unknown, k does not fit, or the model has no vectors.
        """
        return _neighbours(users, self.users, self._user_cosines, k, "user")

    @cached_property
    def _ready(self) -> ReadyScorer:
        # Once, not at every call: it copies the items.
        return ready_scorer(self.scorer)

    @cached_property
    def _user_cosines(self) -> ReadyScorer:
        """Scores users for users."""
        return ready_scorer(self._cosines(self.user_embeddings))

    @cached_property
    def _item_cosines(self) -> ReadyScorer:
        own = getattr(self.scorer, "item_similarity", None)
        return ready_scorer(self._cosines(self.item_embeddings) if own is None else own())

    def _cosines(self, table: np.ndarray) -> InnerProduct:
        """Inner products of the rows scaled to length 1; a row of zeros stays as it is."""
        vectors = table[:, : table.shape[1] - self.offset_columns]
        # A square of a very long or short row is beyond float32.
        largest = np.abs(vectors).max(axis=1, initial=0, keepdims=True)
        rows = unit_rows(jnp.asarray(vectors / np.where(largest > 0, largest, 1)))
        return InnerProduct(rows, rows)

    def _candidates(self, items: Filter, filter_items: Filter) -> np.ndarray | None:
        """The item rows that may be ranked, ascending ``int32[C]``; None for all."""
        if items is None and filter_items is None:
            return None
        allowed = np.arange(len(self.items), dtype=np.int32)
        if items is not None:
            allowed = np.unique(known_rows(self.items, items, "items"))
        if filter_items is not None:
            removed = known_rows(self.items, filter_items, "filter_items")
            allowed = np.setdiff1d(allowed, removed)
        return None if len(allowed) == len(self.items) else allowed


def _neighbours(asked: Asked, ids: IdMap, cosines: ReadyScorer, k: int, kind: str) -> Answer:
    k = whole_number("k", k, 1, len(ids), f", the number of {kind}s")
    # Each leaves out one row, its own.
    places = jnp.arange(len(ids) + 1, dtype=jnp.int32)
    itself = CsrRows(places, places[:-1], longest=1)

    def best(rows: np.ndarray) -> Ranking:
        ranking = rank(cosines, rows, k, seen=itself)
        # Rounding may lead a hair past 1.
        return ranking._replace(scores=np.minimum(ranking.scores, np.float32(1)))

    return answer_for(asked, ids, ids, best, kind)


def _seen(split: Split) -> CsrRows:
    """Training and validation items of each user."""
    known = merge_pairs(split.train, split.valid)
    return csr_rows(known.users, known.items, len(split.users))
