"""A run as it is served: queries of all kinds by external ids, a batch in one call of the model."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from lightgcn_jax.arrays import power_of_two
from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.errors import InputError
from lightgcn_jax.service.catalogue import Catalogue
from lightgcn_jax.service.limits import Limits
from lightgcn_jax.service.ranker import Because, ExternalId, Ranker
from lightgcn_jax.serving.answers import Ranked

Kind = Literal["user", "items", "similar"]
Status = Literal["known", "cold", "unknown"]
# Cut-offs and lengths of lists are one of two, so that few programs are compiled before the first
# request and none after.
_USUAL_K, _USUAL_LENGTH = 32, 16
# Users and items among which one is looked for to warm up.
_TRIED = 4096
MODEL, POPULARITY, NOTHING = "model", "popularity", "nothing"


class Query(NamedTuple):
    """What one list is asked by.

    Attributes:
        kind: a user's recommendations, those of somebody with some items, or similar items.
        asked: the user, the items, or the item; external ids.
        k: how many items.
        exclude: external ids that are left out.
    """

    kind: Kind
    asked: Any
    k: int
    exclude: tuple[ExternalId, ...] = ()


class Answer(NamedTuple):
    """The list that a query gets.

    Attributes:
        status: whether the model knows who asks; ``cold`` are ids of the data that no training
            interaction names.
        source: what ranked: ``model``, ``popularity``, or ``nothing``.
        ranked: the items.
        unknown: of a list of items those that are unknown.
        cold: of a list of items those of which the model knows nothing.
        failed: why the model cannot answer; empty where it can.
        titles: of the items.
    """

    status: Status
    source: str
    ranked: Ranked
    unknown: tuple[ExternalId, ...] = ()
    cold: tuple[ExternalId, ...] = ()
    failed: str = ""
    titles: Sequence[str] = ()


_EMPTY = Ranked([], np.zeros(0, np.float32))


class Served:
    """A model and its catalogue. Queries are answered in one thread.

    Args:
        ranker: the model.
        limits: of requests.

    Attributes:
        batch: the most queries of one call, a power of two: of a large catalogue fewer than the
            limit, as many as are one block of scores.
    """

    def __init__(self, ranker: Ranker, limits: Limits):
        self.ranker, self.limits = ranker, limits
        self.catalogue = Catalogue(ranker.items, ranker.titles, ranker.popularity)
        at_once = max(1, ranker.at_once)
        self.batch = min(limits.batch, 1 << at_once.bit_length() - 1)
        self._ks = _levels(_USUAL_K, limits.k + limits.ids)
        self._lengths = _levels(_USUAL_LENGTH, limits.ids)

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """Answer queries of one kind in one call of the model.

        Args:
            queries: of one kind, at most as many as a batch has.
        """
        by = {"user": self._users, "items": self._lists, "similar": self._similar}
        answers = by[queries[0].kind](queries)
        # Titles are looked up for the whole batch at once.
        titles = self.catalogue.titles_of([item for one in answers for item in one.ranked.ids])
        ends = itertools.accumulate(len(one.ranked.ids) for one in answers)
        return [
            one._replace(titles=titles[end - len(one.ranked.ids) : end])
            for one, end in zip(answers, ends, strict=True)
        ]

    def _users(self, queries: Sequence[Query]) -> list[Answer]:
        asked, ranker = [one.asked for one in queries], self.ranker
        statuses = _statuses(asked, ranker.users, ranker.knows_user)

        def cold(query: Query, status: Status) -> Answer:
            own = self.history(query.asked) if status == "cold" else []
            return self._popular(query, status, own)

        return self._each(queries, statuses, self.ranker.recommend, cold)

    def _similar(self, queries: Sequence[Query]) -> list[Answer]:
        asked, ranker = [one.asked for one in queries], self.ranker
        statuses = _statuses(asked, ranker.items, ranker.compares)

        def cold(_: Query, status: Status) -> Answer:
            return Answer(status, NOTHING, _EMPTY)

        return self._each(queries, statuses, self.ranker.similar, cold)

    def _lists(self, queries: Sequence[Query]) -> list[Answer]:
        sorted_out = [self._sorted_out(one.asked) for one in queries]
        named = [one._replace(asked=tuple(found["known"])) for one, found in zip(
            queries, sorted_out, strict=True
        )]  # fmt: skip
        statuses: list[Status] = ["known" if one.asked else "cold" for one in named]

        def cold(query: Query, status: Status) -> Answer:
            return self._popular(query, status, query.asked)

        def rank(lists: Sequence[Any], k: int) -> list[Ranked]:
            longest = _level(self._lengths, max(map(len, lists)))
            return self.ranker.recommend_from(lists, k, longest)

        answers = self._each(named, statuses, rank, cold)
        return [
            one._replace(unknown=tuple(found["unknown"]), cold=tuple(found["cold"]))
            for one, found in zip(answers, sorted_out, strict=True)
        ]

    def _sorted_out(self, items: Sequence[Any]) -> dict[Status, list[Any]]:
        found: dict[Status, list[Any]] = {"known": [], "cold": [], "unknown": []}
        distinct = list(dict.fromkeys(items))
        statuses = _statuses(distinct, self.ranker.items, self.ranker.knows_item)
        for one, status in zip(distinct, statuses, strict=True):
            found[status].append(one)
        return found

    def _each(
        self,
        queries: Sequence[Query],
        statuses: Sequence[Status],
        rank: Callable[[list[Any], int], list[Ranked]],
        cold: Callable[[Query, Status], Answer],
    ) -> list[Answer]:
        """Rank for those that are known in one call, and answer the others in another way."""
        known = [one for one, status in zip(queries, statuses, strict=True) if status == "known"]
        failed, found = "", iter(())
        if known:
            most = _level(self._ks, max(one.k + len(one.exclude) for one in known))
            k = min(most, len(self.ranker.items))
            try:
                found = iter(rank([one.asked for one in known], k))
            except InputError as error:  # the model does not do that
                failed = str(error)
        answers = []
        for query, status in zip(queries, statuses, strict=True):
            if status != "known":
                answers.append(cold(query, status))
            elif failed:
                answers.append(Answer(status, NOTHING, _EMPTY, failed=failed))
            else:
                answers.append(Answer(status, MODEL, self._cut(next(found), query)))
        return answers

    def _cut(self, ranked: Ranked, query: Query) -> Ranked:
        if not query.exclude:
            return Ranked(ranked.ids[: query.k], ranked.scores[: query.k])
        # Ids compare as the run spells them, whichever of its spellings was given.
        items = self.ranker.items
        without = set(items.external(_known(items.rows(list(query.exclude)))))
        kept = [at for at, one in enumerate(ranked.ids) if one not in without][: query.k]
        return Ranked([ranked.ids[at] for at in kept], ranked.scores[kept])

    def _popular(self, query: Query, status: Status, own: Sequence[Any]) -> Answer:
        hidden = [*own, *query.exclude]
        rows = self.catalogue.items.rows(hidden) if hidden else np.zeros(0, np.int32)
        without = set(_known(rows).tolist())
        return Answer(status, POPULARITY, self.catalogue.popular(query.k, without))

    def history(self, user: Any) -> list[ExternalId]:
        """The items that a user has; none of an unknown one.

        Args:
            user: an external id.
        """
        return self.ranker.history(user) if self.ranker.users.rows([user])[0] >= 0 else []

    def because(self, given: Sequence[Any], items: Sequence[Any], user: Any | None) -> Because:
        """What of somebody's items speaks for some items; those that are unknown are left out.

        Args:
            given: external ids of their items.
            items: external ids.
            user: whose items they are; None of somebody new.

        Raises:
            InputError: nothing is known of any of theirs, or the model gives no reasons.
        """
        known = self._sorted_out(given)["known"][: self.limits.ids]
        if not known:
            raise InputError("nothing is known of any of the items that could be a reason")
        return self.ranker.because(known, items, user)

    def add(self, item: Mapping[str, Any]) -> str:
        """Add an item, which is ranked and found from now on.

        Args:
            item: of the ranker's schema.

        Returns:
            A sentence on what was made of it.

        Raises:
            InputError: it is known already, or nothing can be made of it.
        """
        said = self.ranker.add(item)
        self.catalogue = Catalogue(self.ranker.items, self.ranker.titles, self.ranker.popularity)
        return said

    def warm_up(self) -> float:
        """Compile all that requests will need, by asking it.

        Returns:
            The seconds that it took.
        """
        start = time.perf_counter()
        users = _some(self.ranker.users.ids.head(_TRIED).to_list(), self.ranker.knows_user)
        items = _some(self.ranker.items.ids.head(_TRIED).to_list(), self.ranker.knows_item)
        size = 1
        while size <= self.batch:
            for k in self._ks:
                # A level is asked for by the most that it serves.
                k = min(k, self.limits.k + self.limits.ids)
                if users:
                    self.answer([Query("user", users[at % len(users)], k) for at in range(size)])
                if not items:
                    continue
                self.answer([Query("similar", items[at % len(items)], k) for at in range(size)])
                for length in self._lengths:
                    asked = tuple(items[: min(length, self.limits.ids)])
                    self.answer([Query("items", asked, k)] * size)
            size *= 2
        if items:
            with contextlib.suppress(InputError):  # said to whoever asks for reasons
                self.because(items[:1], items[:1], None)
        self.ranker.warm_up()
        return time.perf_counter() - start


def _statuses(
    asked: Sequence[Any], ids: IdMap, known: Callable[[Sequence[Any]], np.ndarray]
) -> list[Status]:
    """What is known of some ids."""
    rows, warm = ids.rows(asked), known(asked)
    return [
        "known" if is_warm else "cold" if row >= 0 else "unknown"
        for row, is_warm in zip(rows.tolist(), warm.tolist(), strict=True)
    ]


def _some(ids: Sequence[Any], known: Callable[[Sequence[Any]], np.ndarray]) -> list[Any]:
    """Those of some ids that something is known of."""
    return [one for one, warm in zip(ids, known(ids), strict=True) if warm]


def _levels(usual: int, most: int) -> tuple[int, ...]:
    return tuple(sorted({min(usual, power_of_two(most)), power_of_two(most)}))


def _level(levels: Sequence[int], wanted: int) -> int:
    return next(one for one in levels if one >= wanted)


def _known(rows: np.ndarray) -> np.ndarray:
    return rows[rows >= 0]
