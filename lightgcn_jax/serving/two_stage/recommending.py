"""Recommendations of a run in the order of its second stage."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.ranking import Ranking
from lightgcn_jax.serving.answers import (
    Answer,
    Asked,
    ExternalIds,
    Ranked,
    answer_for,
    best_of,
    cut_to,
)
from lightgcn_jax.serving.filters import Filter
from lightgcn_jax.serving.recommender import Recommender
from lightgcn_jax.serving.two_stage.ranked_run import RankedRun, open_ranked


@dataclass(frozen=True, eq=False, repr=False)
class RankedRecommender(Recommender):
    """A recommender whose users are answered by two stages; all else is as its run has it.

    Attributes:
        ranked: both stages.
    """

    ranked: RankedRun | None = None

    @classmethod
    def from_run(cls, path: str | Path, *, offer_test: bool = False, **given: Any) -> Any:
        """Load a run directory with a second stage.

        Args:
            path: the directory.
            offer_test: leave test items open to recommendation.
            given: objects of one's own that the run was made with.

        Raises:
            InputError: it is no finished run, or has no second stage.
        """
        one_stage = super().from_run(path, offer_test=offer_test, **given)
        return dataclasses.replace(one_stage, ranked=open_ranked(path, one_stage.seen))

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
        """The best of each user's candidates.

        Args:
            users: one external id, or several.
            k: items for each user, by default 20; at most as many as there are candidates.
            exclude_seen: only True: what a user has is no candidate.
            among: only None: filters are of one stage.
            exclude: only None.

        Returns:
            As :meth:`Recommender.recommend`; scores are those of the second stage.

        Raises:
            InputError: the single user is unknown, k is below 1, or filters were given.
        """
        if not exclude_seen or among is not None or exclude is not None:
            raise InputError(
                "recommend: expected no filters and no seen items of two stages, whose candidates "
                "are chosen before; leave them out, or ask the run without its second stage"
            )
        assert self.ranked is not None
        stage, trained, _ = self.ranked
        k = cut_to(k, min(stage.total, len(self.items)), "candidates there are")

        def best(rows: np.ndarray) -> Ranking:
            found = Ranking(*trained.ranked(stage, rows, k))
            cold = self._cold_users[rows]
            self._tell_of(rows[cold])
            if cold.any():
                popular = best_of(self._ready_for_cold, rows[cold], k, self.seen, None)
                found.items[cold], found.scores[cold] = popular
            return found

        return answer_for(users, self.users, self.items, best, "user")
