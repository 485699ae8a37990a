"""Recommendations and neighbours by external ids, from any model that scores items."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np

from lightgcn_jax.data.pairs import Pairs, merge_pairs
from lightgcn_jax.data.splits import Split
from lightgcn_jax.errors import InputError, warn
from lightgcn_jax.evaluation.cold import PopularForCold
from lightgcn_jax.evaluation.ranking import (
    Ranking,
    ReadyScorer,
    ready_scorer,
)
from lightgcn_jax.evaluation.scorer import InnerProduct, Scorer
from lightgcn_jax.graph.bipartite import csr_rows
from lightgcn_jax.models import ClosedForm, Model, Score
from lightgcn_jax.runs import FitResult, RunDirectory, embeddings_of, load_params, load_scorer
from lightgcn_jax.serving.answers import (
    Answer,
    Asked,
    ExternalIds,
    ItemSet,
    Ranked,
    answer_for,
    best_of,
    cut_to,
)
from lightgcn_jax.serving.filters import Allowed, Filter
from lightgcn_jax.serving.fold_in import Learnt, learnt_of
from lightgcn_jax.serving.folder import as_run
from lightgcn_jax.serving.index import Index, Metric
from lightgcn_jax.serving.neighbours import cosines, neighbours
from lightgcn_jax.serving.newcomers import Newcomers
from lightgcn_jax.settings import model_name

# Users by whose vectors the recall of an index is measured.
_MEASURED_ON = 256


@dataclass(frozen=True, eq=False, repr=False)
class Recommender(Newcomers):
    """A model that scores items, with the ids of the outside world; its parts are those of
    :class:`~lightgcn_jax.serving.parts.Parts`.
    """

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
        learnt = learnt_of(config, load_params(run, config), split)
        known, name = run.also_seen, model_name(config)
        scorer = load_scorer(run, config)
        return cls._of(split, scorer, name, run.offset_columns, offer_test, known, learnt)

    @classmethod
    def load(cls, path: str | Path) -> Recommender:
        """Open a folder that was made to be passed on, or a run directory.

        Args:
            path: what :func:`~lightgcn_jax.serving.folder.save_folder` wrote, or a run directory.

        Raises:
            InputError: it is neither, or damaged.
        """
        with ExitStack() as stack:
            return cls.from_run(as_run(Path(path), stack))

    @classmethod
    def from_fit(cls, result: FitResult, *, offer_test: bool = False) -> Recommender:
        """Takes what training returned.

        Args:
            result: of :func:`lightgcn_jax.fit` and its kind.
            offer_test: as in :meth:`from_run`.
        """
        config, split = result.config, result.split
        name, offsets = model_name(config), config.offset_columns
        known, learnt = result.also_seen, learnt_of(config, result.params, split)
        return cls._of(split, result.scorer, name, offsets, offer_test, known, learnt)

    @classmethod
    def _of(
        cls,
        split: Split,
        scorer: Scorer,
        model: str,
        offsets: int,
        offer_test: bool,
        also_seen: Pairs | None,
        learnt: Learnt | None,
    ) -> Recommender:
        parts = [split.train, split.valid, *([] if offer_test else [split.test])]
        seen = merge_pairs(*parts, *([] if also_seen is None else [also_seen]))
        train, num_users = split.train, len(split.users)
        seen_rows = csr_rows(seen.users, seen.items, num_users)
        train_rows = csr_rows(train.users, train.items, num_users, train.weights)
        ids, titles = (split.users, split.items), split.titles
        return cls(*ids, scorer, seen_rows, model, offsets, train_rows, titles, learnt)

    def knows_user(self, users: Iterable[int | str]) -> np.ndarray:
        """Whether each user has training interactions to recommend by, ``bool[n]``.

        Args:
            users: n external ids, known or not.
        """
        rows = self.users.rows(list(users))
        return (rows >= 0) & ~self._cold_users[rows]

    def knows_item(self, items: Iterable[int | str]) -> np.ndarray:
        """Whether some training interaction names each item, ``bool[n]``.

        Args:
            items: n external ids, known or not.
        """
        rows = self.items.rows(list(items))
        return (rows >= 0) & ~self._cold_items[rows]

    def item_set(self, items: Any) -> ItemSet:
        """Items for the filters of many calls, which need not look them up each time.

        Args:
            items: external ids, as ``among`` and ``exclude`` take them.

        Raises:
            InputError: an item is unknown.
        """
        return ItemSet.among(self.items, items)

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
            self._tell_of(rows[cold])
            ready = self._ready_for_cold if cold.any() else self._ready
            return best_of(ready, rows, k, seen, allowed.for_all, of_rows)

        return answer_for(users, self.users, self.items, best, "user", empty=not available)

    def _tell_of(self, cold: np.ndarray) -> None:
        """Warn whoever asked for cold users, by their rows, that popular items are the answer."""
        if len(cold):
            named = ", ".join(map(repr, self.users.external(np.unique(cold))))
            message = f"no training interaction names user {named}: popular items are the answer"
            warn(message)

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

    def index(self, metric: Metric = "inner", target_recall: float | None = None) -> Index:
        """An index of the items' vectors, which new items can be put into.

        Args:
            metric: ``inner`` finds what users are recommended, by their vectors; ``cosine`` similar
                items.
            target_recall: as :meth:`Index.build` takes it, measured on users' vectors.

        Raises:
            InputError: the model has no vectors, or its scores are no inner products of them.
        """
        users, items = self.user_embeddings, self.item_embeddings
        if metric == "inner" and type(self.scorer) is not InnerProduct:
            raise InputError(
                f"index: expected a model whose scores are inner products, got {self.model}; "
                "metric='cosine' indexes what similar compares"
            )
        width = items.shape[1] - self.offset_columns * (metric == "cosine")
        known = np.flatnonzero(~self._cold_users)[:_MEASURED_ON]
        queries = users[known] if metric == "inner" and len(known) else None
        return Index.build(
            self.items,
            items[:, :width],
            metric=metric,
            target_recall=target_recall,
            queries=queries,
        )

    @cached_property
    def _ready_for_cold(self) -> ReadyScorer:
        """Scores popular items for users of whom the model knows nothing."""
        assert self.train is not None
        return ready_scorer(PopularForCold.of(self.scorer, self.train))

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
