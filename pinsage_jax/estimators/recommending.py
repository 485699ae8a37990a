"""What goes with all that a context holds: of a user, what may come next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lightgcn_jax.arrays import Array, power_of_two
from lightgcn_jax.data import IdMap, Interactions
from lightgcn_jax.data.titles import Titles
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import InnerProduct, Ranking, ready_scorer
from lightgcn_jax.evaluation.ranking import ReadyScorer, queries_at_once, with_queries
from lightgcn_jax.graph.bipartite import CsrRows, csr_rows
from lightgcn_jax.serving.answers import (
    Ranked,
    best_of,
    cut_to,
    histories_of,
    known_rows,
    ranked_rows,
)
from lightgcn_jax.serving.filters import Allowed, Filter
from pinsage_jax.evaluation.parts import query_scorer
from pinsage_jax.runs.directory import PinSageRun
from pinsage_jax.runs.finished import FinishedRun, features_of, open_items, read_finished
from pinsage_jax.runs.memberships import read_memberships
from pinsage_jax.serving.item_titles import titles_of
from pinsage_jax.serving.live_items import LiveItems


class ContextRecommender:
    """Recommends to contexts: users, baskets, boards.

    Args:
        path: the run directory.
        run: the encoder and the task that it was trained on.
        live: all items, those that were added included.
    """

    def __init__(self, path: Path, run: FinishedRun, live: LiveItems):
        self._path, self._run, self._live = path, run, live
        # Made of the items that there were at the time.
        self._of_table: tuple[Array, ReadyScorer] | None = None
        self._titled: tuple[IdMap, Titles | None] | None = None

    @classmethod
    def from_run(cls, path: Path) -> ContextRecommender:
        """Open a finished run.

        Args:
            path: its directory.

        Raises:
            InputError: it holds no finished run, or a damaged one.
        """
        return cls(path, read_finished(path), open_items(path, slack=0))

    @cached_property
    def known(self) -> Interactions:
        """All that is known of the contexts, what was held out included."""
        return read_memberships(PinSageRun.open(self._path), self._run.task.train)

    @property
    def users(self) -> IdMap:
        """External ids of the contexts."""
        return self.known.users

    @property
    def items(self) -> IdMap:
        """External ids of the items, those that were added last."""
        return self._live.items

    @property
    def titles(self) -> Titles | None:
        """What people call the items, where a feature says it."""
        if self._titled is None or self._titled[0] is not self.items:
            self._titled = self.items, titles_of(features_of(self._path, self._live), self.items)
        return self._titled[1]

    def knows_user(self, users: Sequence[Any]) -> np.ndarray:
        """Whether each context holds an item to recommend by, ``bool[n]``.

        Args:
            users: n external ids.
        """
        rows = self.users.rows(list(users))
        return (rows >= 0) & self._holds[rows]

    def recommend(
        self,
        users: list[Any],
        k: int | None = None,
        exclude_seen: bool = True,
        among: Filter = None,
        exclude: Filter = None,
    ) -> list[Ranked | None]:
        """The items that score highest for some contexts.

        Args:
            users: external ids of contexts.
            k: items for each, by default 20.
            exclude_seen: leave out the items that a context holds.
            among: only these items may be recommended, or each context's own
                (:data:`~lightgcn_jax.serving.filters.Filter`).
            exclude: items to leave out, for all or for each context.

        Returns:
            What each is recommended; None where an id is unknown or holds no item.

        Raises:
            InputError: an item of a filter is unknown, or k is below 1.
        """
        allowed = Allowed(self.users, self.items, among, exclude)
        most = cut_to(k, allowed.available, "may be recommended")
        seen = self.seen if exclude_seen else None

        def of_rows(rows: np.ndarray) -> np.ndarray:
            return self._padded(allowed.of_rows(rows))

        def best(rows: np.ndarray) -> Ranking:
            own = of_rows if allowed.differs else None
            return best_of(self._ready, rows, most, seen, self._padded(allowed.all_items), own)

        held = self.knows_user(users)
        rows = self.users.rows(users)[held] if len(users) else np.zeros(0, np.int32)
        answers = iter(ranked_rows(rows, self.items, best, empty=not allowed.available))
        return [next(answers) if fine else None for fine in held]

    def recommend_from(
        self,
        items: Iterable[Any],
        k: int | None = None,
        exclude_given: bool = True,
        among: Filter = None,
        exclude: Filter = None,
    ) -> Ranked:
        """The items that score highest for somebody who has some items.

        Args:
            items: external ids, each counted once.
            k: items wanted, by default 20.
            exclude_given: leave out those given.
            among: only these items may be recommended.
            exclude: items to leave out.

        Raises:
            InputError: an item is unknown, there is none, or k is below 1.
        """
        return self.recommend_from_each([items], k, exclude_given, among, exclude)[0]

    def recommend_from_each(
        self,
        lists: Sequence[Iterable[Any]],
        k: int | None = None,
        exclude_given: bool = True,
        among: Filter = None,
        exclude: Filter = None,
        longest: int | None = None,
    ) -> list[Ranked]:
        """As :meth:`recommend_from`, for several who have some items, in one call.

        Args:
            lists: external ids for each.
            k: items for each.
            exclude_given: leave out those given, to each their own.
            among: only these items may be recommended.
            exclude: items to leave out.
            longest: no list is longer; lists of all lengths up to it then share their programs.

        Raises:
            InputError: as :meth:`recommend_from`.
        """
        given = [np.unique(known_rows(self.items, items, "items")) for items in lists]
        if not all(map(len, given)):
            raise InputError("items: expected at least one item to recommend by, got none")
        allowed = Allowed(self.users, self.items, among, exclude)
        if allowed.differs:
            raise InputError("expected filters for everybody: nobody of the run is asked for")
        most = cut_to(k, allowed.available, "may be recommended")
        histories = histories_of(given, longest)
        wide = np.full((histories.num_rows, power_of_two(longest or max(map(len, given)))), -1)
        for row, one in zip(wide, given, strict=False):
            row[: len(one)] = one
        run, table = self._run, self._live.table
        query = query_scorer(run.model, run.params, table, wide.astype(np.int32)).queries
        ready = with_queries(self._ready, self._ready.scorer, query)
        seen = histories if exclude_given else None

        def best(rows: np.ndarray) -> Ranking:
            return best_of(ready, rows, most, seen, self._padded(allowed.all_items))

        rows = np.arange(len(given), dtype=np.int32)
        return ranked_rows(rows, self.items, best, empty=not allowed.available)

    def _padded(self, allowed: np.ndarray) -> np.ndarray:
        """A mask of the items as one of the table, whose spare rows nobody is recommended."""
        spare = (0, len(self._live.table) - len(self.items))
        return np.pad(allowed, [(0, 0)] * (allowed.ndim - 1) + [spare])

    @property
    def _ready(self) -> ReadyScorer:
        """What ranks the catalogue as it is now; made anew when items came or changed."""
        table = self._live.table
        if self._of_table is None or self._of_table[0] is not table:
            scorer = InnerProduct(jax.device_put(self._asking), table)
            self._of_table = table, ready_scorer(scorer)
        return self._of_table[1]

    @property
    def at_once(self) -> int:
        """How many queries are ranked in one block."""
        return queries_at_once(self._ready)

    @cached_property
    def _asking(self) -> np.ndarray:
        """A query for each context, ``float32[C, D]``, made of its latest items as the task makes
        queries; those of a context without any have no meaning."""
        run, known = self._run, self.known
        most = max(1, run.task.valid.queries.shape[1])
        queries = latest(known, np.arange(known.num_users), most)
        vectors = np.asarray(run.items.vectors)
        return np.asarray(query_scorer(run.model, run.params, vectors, queries).queries)

    @cached_property
    def _holds(self) -> np.ndarray:
        """Whether each context holds an item, ``bool[C]``."""
        return np.bincount(self.known.user_rows, minlength=len(self.users)) > 0

    @cached_property
    def seen(self) -> CsrRows:
        """Row c holds the items of context c, each once."""
        users, items = np.divmod(np.unique(self.known.pair_keys), self.known.num_items)
        return csr_rows(users.astype(np.int32), items.astype(np.int32), self.known.num_users)


def latest(known: Interactions, rows: np.ndarray, most: int) -> np.ndarray:
    """The latest items of some contexts, ``int32[n, most]``, −1 pads; without times, any of them.

    Args:
        known: all memberships.
        rows: ``int[n]``, contexts.
        most: how many items at most.
    """
    times = np.zeros(len(known)) if known.timestamps is None else known.timestamps
    order = np.lexsort((known.item_rows, -times, known.user_rows))
    users, items = known.user_rows[order], known.item_rows[order]
    places = np.searchsorted(users, rows)[:, None] + np.arange(most)
    inside = places < np.searchsorted(users, rows, side="right")[:, None]
    return np.where(inside, items[np.minimum(places, len(items) - 1)], -1).astype(np.int32)
