"""Recommendations and neighbours by external ids, from any model that scores items."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import overload

import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.data.pairs import Pairs, merge_pairs
from lightgcn_jax.data.splits import Split
from lightgcn_jax.data.titles import Titles
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.cold import PopularForCold
from lightgcn_jax.evaluation.ranking import (
    Ranking,
    ReadyScorer,
    ready_scorer,
    with_queries,
)
from lightgcn_jax.evaluation.scorer import FromHistories, Scorer, Tables
from lightgcn_jax.graph.bipartite import CsrRows, csr_rows
from lightgcn_jax.models import ClosedForm, Model, Score
from lightgcn_jax.runs import FitResult, RunDirectory, embeddings_of, load_scorer
from lightgcn_jax.serving.answers import (
    Answer,
    Asked,
    ExternalIds,
    Ranked,
    answer_for,
    best_of,
    cut_to,
    history_of,
    known_rows,
    nothing_known,
    ranked_rows,
)
from lightgcn_jax.serving.filters import Allowed, Filter
from lightgcn_jax.serving.neighbours import cosines, folded_user, neighbours
from lightgcn_jax.settings import model_name
from lightgcn_jax.shown import Shown


@dataclass(frozen=True, eq=False, repr=False)
class Recommender(Shown):
    """A model that scores items, with the ids of the outside world.

    Attributes:
        users: U external user ids.
        items: I external item ids.
        scorer: of U users and I items; ``InnerProduct(users, items)`` for embeddings.
        seen: row u holds the items that user u has, which are not recommended: in a run its
            training, validation and test items.
        model: the model's name, for messages.
        offset_columns: the last columns of the vectors that only add to scores (biases, popularity)
            and say nothing about who is like whom.
        train: row u holds the items of user u that the model was made from. Of users and items
            without any the model knows nothing: such users are recommended popular items, and
            neither has neighbours. None where the model knows everybody.
        titles: what people call the items, where that is known.

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
    train: CsrRows | None = None
    titles: Titles | None = None

    def __post_init__(self):
        if isinstance(self.scorer, Tables):
            self._check_tables(self.scorer)
        found = self.scorer.num_queries, self.scorer.num_items
        if found != (len(self.users), len(self.items)):
            raise InputError(
                f"scorer: expected {len(self.users)} users and {len(self.items)} items as there "
                f"are ids, got {found[0]} and {found[1]}"
            )
        for field, rows in (("seen", self.seen), ("train", self.train)):
            if rows is None:
                continue
            largest = np.asarray(rows.columns).max(initial=-1)
            if rows.num_rows != len(self.users) or largest >= len(self.items):
                raise InputError(
                    f"{field}: expected {len(self.users)} rows of items below {len(self.items)}, "
                    f"got {rows.num_rows} rows of items up to {largest}"
                )
        for path, leaf in jax.tree.leaves_with_path(self.scorer):
            if jnp.issubdtype(leaf.dtype, jnp.floating) and not np.isfinite(leaf).all():
                field = f"scorer{jax.tree_util.keystr(path)}"
                raise InputError(f"{field}: expected finite numbers, got NaN or infinity")

    def facts(self) -> dict[str, str]:
        """What recommends, and what it knows."""
        return {
            "model": self.model,
            "knows": f"{len(self.users):,} users, {len(self.items):,} items, "
            f"{len(self.seen.columns):,} seen pairs",
        }

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
        offer_test: bool = False,
        model: Model | ClosedForm | None = None,
        score: Score | None = None,
    ) -> Recommender:
        """Load a run directory.

        Args:
            path: the directory.
            offer_test: leave test items open to recommendation, as a judgement of the run does;
                by default nobody is offered what they have, test items included.
            model: the model that the run was made with, where it is a closed form of one's own.
            score: the score that the run was made with, where it is one of one's own.

        Raises:
            InputError: it is no run, it is not finished, or an object of one's own is missing.
        """
        run = RunDirectory.open(Path(path))
        config, split = run.config_with(model=model, score=score), run.split
        scorer, name = load_scorer(run, config), model_name(config)
        known = run.also_seen
        return cls._of(split, scorer, name, run.offset_columns, offer_test, known)

    @classmethod
    def from_fit(cls, result: FitResult, *, offer_test: bool = False) -> Recommender:
        """Takes what training returned.

        Args:
            result: of :func:`lightgcn_jax.fit` and its kind.
            offer_test: as in :meth:`from_run`.
        """
        config, split = result.config, result.split
        name, offsets = model_name(config), config.offset_columns
        known = result.also_seen
        return cls._of(split, result.scorer, name, offsets, offer_test, known)

    @classmethod
    def _of(
        cls,
        split: Split,
        scorer: Scorer,
        model: str,
        offsets: int,
        offer_test: bool,
        also_seen: Pairs | None,
    ) -> Recommender:
        parts = [split.train, split.valid, *([] if offer_test else [split.test])]
        seen = merge_pairs(*parts, *([] if also_seen is None else [also_seen]))
        train, num_users = split.train, len(split.users)
        seen_rows = csr_rows(seen.users, seen.items, num_users)
        train_rows = csr_rows(train.users, train.items, num_users, train.weights)
        return cls(
            split.users, split.items, scorer, seen_rows, model, offsets, train_rows, split.titles
        )

    def knows_user(self, users: Iterable[int | str]) -> np.ndarray:
        """Whether each user has training interactions to recommend by, ``bool[n]``.

        Args:
            users: n external ids, known or not.
        """
        rows = self.users.rows(list(users))
        return (rows >= 0) & ~self._cold_users[rows]

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
        k: int | None = None,
        exclude_seen: bool = True,
        among: Filter = None,
        exclude: Filter = None,
    ) -> Ranked: ...
    @overload
    def recommend(
        self,
        users: ExternalIds,
        k: int | None = None,
        exclude_seen: bool = True,
        among: Filter = None,
        exclude: Filter = None,
    ) -> list[Ranked | None]: ...
    def recommend(
        self,
        users: Asked,
        k: int | None = None,
        exclude_seen: bool = True,
        among: Filter = None,
        exclude: Filter = None,
    ) -> Answer:
        """The items of highest score for one user or for several.

        Args:
            users: one external id, or several.
            k: items for each user, 1 or more, by default 20; where fewer may be recommended, all
                of them are (and a UserWarning says so if k was given).
            exclude_seen: leave out the items that the user has.
            among: external ids; only these may be recommended, or each user's own items: a
                mapping from users to items, interactions, or a table of users and items. None
                allows all; somebody without items of their own is then recommended nothing.
            exclude: external ids to leave out for every user, or for each user.

        Returns:
            For one id its items; for several a list in their order, None where an id is unknown
            (one UserWarning names them all). A user without training interactions gets popular
            items, scored by their number of users (one UserWarning names all of these).

        Raises:
            InputError: the single user, or an item of a filter for everybody, is unknown, no pair
                of the other filters is known, or k is below 1.
        """
        allowed = Allowed(self.users, self.items, among, exclude)
        available, of_rows = allowed.available, allowed.of_rows if allowed.differs else None
        k = cut_to(k, available, "may be recommended")

        def best(rows: np.ndarray) -> Ranking:
            seen, cold = self.seen if exclude_seen else None, self._cold_users[rows]
            if cold.any():
                named = ", ".join(map(repr, self.users.external(np.unique(rows[cold]))))
                message = (
                    f"no training interaction names user {named}: popular items are the answer"
                )
                warnings.warn(message, UserWarning, stacklevel=5)
            ready = self._ready_for_cold if cold.any() else self._ready
            return best_of(ready, rows, k, seen, allowed.for_all, of_rows)

        return answer_for(users, self.users, self.items, best, "user", empty=not available)

    def recommend_from(
        self, items: Iterable[int | str], k: int | None = None, exclude_given: bool = True
    ) -> Ranked:
        """The items of highest score for somebody who was never seen, from items that they like.

        Models that score a row of interactions do it as they score their own users: `filter`,
        `gfcf` and `itemcf`. Those that score by vectors make one of the items' vectors
        (:func:`~lightgcn_jax.serving.neighbours.folded_user`).

        Args:
            items: external ids, each counted once.
            k: items wanted, as in :meth:`recommend`.
            exclude_given: leave out those given.

        Returns:
            At most k items.

        Raises:
            InputError: an item is unknown, k is below 1, no training interaction names any of the
                items, or the model scores no such list.
        """
        has_vectors = isinstance(self.scorer, Tables)
        if not has_vectors and not isinstance(self.scorer, FromHistories):
            raise InputError(
                f"recommend_from: expected a model with vectors, or one that scores a list of "
                f"items (filter, gfcf, itemcf), got {self.model}"
            )
        given = np.unique(known_rows(self.items, items, "items"))
        if len(given) and self._cold_items[given].all():
            raise InputError(nothing_known("items", self.items.external(given)))
        k = cut_to(k, len(self.items), "may be recommended")
        history = history_of(given)
        if isinstance(self.scorer, Tables):
            vector = folded_user(self.scorer, self.train, given, self.offset_columns)
            ready = with_queries(self._ready, self.scorer, jnp.asarray(vector[None]))
        else:
            assert isinstance(self.scorer, FromHistories)
            ready = ready_scorer(self.scorer.of_histories(history))

        def best(rows: np.ndarray) -> Ranking:
            return best_of(ready, rows, k, history if exclude_given else None, None)

        return ranked_rows(np.zeros(1, np.int32), self.items, best)[0]

    @overload
    def similar_items(self, items: int | str, k: int | None = None) -> Ranked: ...
    @overload
    def similar_items(self, items: ExternalIds, k: int | None = None) -> list[Ranked | None]: ...
    def similar_items(self, items: Asked, k: int | None = None) -> Answer:
        """The items with the highest cosine to one item or to several, itself left out.

        Cosines of the items' vectors, where a vector of zeros has the cosine 0 to all; those of
        `itemcf` are of the items' users, 0 where they were not kept.

        Args:
            items: one external id, or several.
            k: neighbours of each, as in :meth:`recommend`.

        Returns:
            For one id its neighbours; for several a list in their order, None where an id is
            unknown or no training interaction names it (a UserWarning names these).

        Raises:
            InputError: the single item is unknown or no training interaction names it, k is below
                1, or the model compares no items.
        """
        return neighbours(items, self.items, self._item_cosines, k, "item", self._cold_items)

    @overload
    def similar_users(self, users: int | str, k: int | None = None) -> Ranked: ...
    @overload
    def similar_users(self, users: ExternalIds, k: int | None = None) -> list[Ranked | None]: ...
    def similar_users(self, users: Asked, k: int | None = None) -> Answer:
        """The users with the highest cosine to one user or to several, itself left out.

        Args:
            users: one external id, or several.
            k: neighbours of each, as in :meth:`recommend`.

        Returns:
            As `similar_items`.

        Raises:
            InputError: the single user is unknown or no training interaction names it, k is below
                1, or the model has no vectors.
        """
        return neighbours(users, self.users, self._user_cosines, k, "user", self._cold_users)

    @cached_property
    def _ready(self) -> ReadyScorer:
        # Once, not at every call: it copies the items.
        return ready_scorer(self.scorer)

    @cached_property
    def _ready_for_cold(self) -> ReadyScorer:
        """Scores popular items for users of whom the model knows nothing."""
        assert self.train is not None
        return ready_scorer(PopularForCold.of(self.scorer, self.train))

    @cached_property
    def _cold_users(self) -> np.ndarray:
        """``bool[U]``, of whom the model knows nothing."""
        if self.train is None:
            return np.zeros(len(self.users), bool)
        return np.asarray(self.train.lengths()) == 0

    @cached_property
    def _cold_items(self) -> np.ndarray:
        """``bool[I]``, of which the model knows nothing."""
        cold = np.full(len(self.items), self.train is not None)
        if self.train is not None:
            cold[np.asarray(self.train.columns)] = False
        return cold

    @cached_property
    def _user_cosines(self) -> ReadyScorer:
        """Scores users for users."""
        return ready_scorer(cosines(self.user_embeddings, self.offset_columns))

    @cached_property
    def _item_cosines(self) -> ReadyScorer:
        own = getattr(self.scorer, "item_similarity", None)
        if own is None:
            return ready_scorer(cosines(self.item_embeddings, self.offset_columns))
        return ready_scorer(own())
