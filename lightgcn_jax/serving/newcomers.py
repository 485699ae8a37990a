"""Users and items that come after training: what they are recommended, and their vectors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import jax
import numpy as np

from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.ranking import Ranking, ready_scorer, with_queries
from lightgcn_jax.evaluation.scorer import FromHistories, Tables
from lightgcn_jax.serving.answers import (
    Ranked,
    best_of,
    cut_to,
    histories_of,
    known_rows,
    nothing_known,
    ranked_rows,
)
from lightgcn_jax.serving.fold_in import FoldIn, fold_in_of
from lightgcn_jax.serving.parts import Parts


@dataclass(frozen=True, eq=False, repr=False)
class Newcomers(Parts):
    """What recommends to people who were never seen, and gives vectors to them and to new items."""

    def recommend_from(
        self, items: Iterable[int | str], k: int | None = None, exclude_given: bool = True
    ) -> Ranked:
        """The items of highest score for somebody who was never seen, from items that they like.

        `filter` and `gfcf` score the list as the last user of a graph with one row more, `itemcf`
        as it scores its own users. Models that score by vectors make one of the items'
        (:mod:`lightgcn_jax.serving.fold_in`).

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
        return self.recommend_from_each([items], k, exclude_given)[0]

    def recommend_from_each(
        self,
        lists: Sequence[Iterable[int | str]],
        k: int | None = None,
        exclude_given: bool = True,
        longest: int | None = None,
    ) -> list[Ranked]:
        """As :meth:`recommend_from`, for several who were never seen, in one call.

        Args:
            lists: a list of external ids of items for each.
            k: items for each.
            exclude_given: leave out those given, to each their own.
            longest: no list is longer; lists of all lengths up to it then share their programs.

        Raises:
            InputError: as :meth:`recommend_from`.
        """
        has_vectors = isinstance(self.scorer, Tables)
        if not has_vectors and not isinstance(self.scorer, FromHistories):
            raise InputError(
                f"recommend_from: expected a model with vectors, or one that scores a list of "
                f"items (filter, gfcf, itemcf), got {self.model}"
            )
        given = [self._touched(items, self.items, "items") for items in lists]
        k = cut_to(k, len(self.items), "may be recommended")
        histories = histories_of(given, longest)
        if isinstance(self.scorer, Tables):
            vectors = self.fold_in.users.vectors(given, longest or 0)
            padding = (0, histories.num_rows - len(given)), (0, 0)
            ready = with_queries(self._ready, self.scorer, jax.device_put(np.pad(vectors, padding)))
        else:
            assert isinstance(self.scorer, FromHistories)
            ready = ready_scorer(self.scorer.of_histories(histories))

        def best(rows: np.ndarray) -> Ranking:
            return best_of(ready, rows, k, histories if exclude_given else None, None)

        return ranked_rows(np.arange(len(given), dtype=np.int32), self.items, best)

    def new_user_vectors(self, items_of: Sequence[Iterable[int | str]]) -> np.ndarray:
        """Vectors of users who come after training, beside :attr:`user_embeddings`.

        Args:
            items_of: the items of each of Q users, external ids.

        Returns:
            ``float32[Q, D]``.

        Raises:
            InputError: an item is unknown, no training interaction names any of a user's items, or
                the model has no vectors.
        """
        return self._newcomers("new_user_vectors").users.vectors(
            [self._touched(items, self.items, "items") for items in items_of]
        )

    def new_item_vectors(self, users_of: Sequence[Iterable[int | str]]) -> np.ndarray:
        """Vectors of items that come after training, beside :attr:`item_embeddings`.

        Args:
            users_of: the users of each of Q items, external ids.

        Returns:
            ``float32[Q, D]``.

        Raises:
            InputError: as :meth:`new_user_vectors`.
        """
        return self._newcomers("new_item_vectors").items.vectors(
            [self._touched(users, self.users, "users") for users in users_of]
        )

    def _newcomers(self, what: str) -> FoldIn:
        if not isinstance(self.scorer, Tables):
            raise InputError(f"{what}: expected a model with vectors, got {self.model}")
        return self.fold_in

    def _touched(self, wanted: Iterable[int | str], ids: IdMap, name: str) -> np.ndarray:
        """Distinct rows of known ids, of some of which training knows something."""
        rows = np.unique(known_rows(ids, wanted, name, name[:-1]))
        cold = self._cold_items if name == "items" else self._cold_users
        if len(rows) and cold[rows].all():
            raise InputError(nothing_known(name, ids.external(rows)))
        return rows

    @cached_property
    def fold_in(self) -> FoldIn:
        """What makes vectors of newcomers, of a model with vectors."""
        assert isinstance(self.scorer, Tables)
        return fold_in_of(self.scorer, self.train, self.offset_columns, self.learnt)
