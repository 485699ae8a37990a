"""Answers in external ids: what was asked for, what is known of it, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import polars as pl

from lightgcn_jax.arrays import power_of_two
from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.errors import InputError, warn
from lightgcn_jax.evaluation.ranking import (
    Ranking,
    ReadyScorer,
    rank,
    whole_number,
)
from lightgcn_jax.fields import scalar
from lightgcn_jax.graph.bipartite import CsrRows
from lightgcn_jax.shown import Shown

ExternalIds = list[Any] | tuple[Any, ...] | np.ndarray | pl.Series
"""Several external ids, integers or strings."""


_MOST = 2**31 - 1
# Rows that are ranked by one program whatever is asked of it.
_FEW_ROWS = 32
# Lower cut-offs take no less time, and would each be a program of their own.
_LEAST_K = 32


class Ranked(NamedTuple):
    """The best of what may be recommended, best first; equal scores in the order of rows.

    The rows of a run stand in an order that no id has a say in.

    Attributes:
        ids: k' ≤ k external ids; fewer than k where fewer are available.
        scores: ``float32[k']``, the model's own (inner products of embeddings), or cosines for
            similar users and items.
    """

    ids: list[int | str]
    scores: np.ndarray


Asked = int | str | ExternalIds
"""One external id, or several."""
Best = Callable[[np.ndarray], Ranking]
"""From rows ``int32[Q]`` to their ranking."""
Answer = Ranked | list[Ranked | None]
"""What one id is answered, or several."""


def answer_for(
    asked: Asked,
    ids: IdMap,
    ranked_ids: IdMap,
    best: Best,
    kind: str,
    *,
    empty: bool = False,
    cold: np.ndarray | None = None,
) -> Answer:
    """Ranks for the known ids among those asked for, and puts external ids on what comes back.

    Args:
        asked: one external id or several, of ``ids``.
        ids: of those that ask.
        ranked_ids: of what is ranked.
        best: from rows ``int32[Q]`` to their ranking, rows of ``ranked_ids``.
        kind: what an error calls those that ask.
        empty: nothing may be ranked, so that ``best`` cannot be called.
        cold: ``bool`` of each of ``ids``: nothing can be ranked for it, as no training interaction
            names it; None for nobody.

    Raises:
        InputError: the single id is unknown, or nothing can be ranked for it.
    """
    asked = scalar(asked)
    if isinstance(asked, str) or not isinstance(asked, Iterable):
        row = _row(ids, asked, kind)
        if cold is not None and cold[row]:
            raise InputError(nothing_known(kind, [asked]))
        return ranked_rows(np.array([row]), ranked_ids, best, empty)[0]
    asked = list(asked)
    rows = ids.rows(asked)
    unknown = [one for one, row in zip(asked, rows, strict=True) if row < 0]
    if unknown:
        message = f"unknown {kind} ids: {', '.join(map(repr, unknown))}"
        warn(message)
    if cold is not None:
        dropped = (rows >= 0) & cold[rows]
        if dropped.any():
            named = [one for one, out in zip(asked, dropped, strict=True) if out]
            warn(nothing_known(kind, named))
        rows = np.where(dropped, -1, rows)
    known = iter(ranked_rows(rows[rows >= 0], ranked_ids, best, empty))
    return [next(known) if row >= 0 else None for row in rows]


def nothing_known(kind: str, asked: Iterable[Any]) -> str:
    """What an error says of ids that no training interaction names.

    Args:
        kind: what it calls them.
        asked: the ids.
    """
    named = ", ".join(map(repr, asked))
    return f"{kind}: nothing is known of {named}: no training interaction names it"


def ranked_rows(
    rows: np.ndarray, ranked_ids: IdMap, best: Best, empty: bool = False
) -> list[Ranked]:
    """What is ranked for each row, in external ids.

    Args:
        rows: ``int[Q]``.
        ranked_ids: of what is ranked.
        best: from rows ``int32[Q]`` to their ranking, rows of ``ranked_ids``.
        empty: nothing may be ranked, so that ``best`` cannot be called.
    """
    if empty or not len(rows):
        return [Ranked([], np.zeros(0, np.float32)) for _ in rows]
    # Queries are filled up to a power of two, so that batches of many sizes share few programs.
    padding = power_of_two(len(rows)) - len(rows)
    ranking = best(np.pad(rows, (0, padding), mode="edge"))
    items, scores = (one[: len(rows)] for one in ranking)
    available = items >= 0
    # All ids at once: looking them up costs more than putting them into lists.
    ids, ends = ranked_ids.external(items[available]), np.cumsum(available.sum(axis=1)).tolist()
    starts = [0, *ends[:-1]]
    return [
        Ranked(ids[start:end], own[there])
        for start, end, own, there in zip(starts, ends, scores, available, strict=True)
    ]


def best_of(
    ready: ReadyScorer,
    rows: np.ndarray,
    k: int,
    seen: CsrRows | None,
    allowed: np.ndarray | None,
    of_rows: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Ranking:
    """The k best items of each row; for a few rows by a program that knows neither k nor filters.

    Of few rows k is filled up to a power of two, and every filter is a mask, so that asking in
    another way compiles nothing. Of many rows it pays to score the allowed items alone.

    Args:
        ready: what ranks.
        rows: ``int32[Q]``.
        k: at most as many as are allowed.
        seen: items to leave out, row r for query r; None leaves out nothing.
        allowed: ``bool[I]``, which items may be ranked; None for all.
        of_rows: in the place of ``allowed`` from n rows to ``bool[n, I]``, which items may be
            ranked for each; many rows are then ranked a few at a time. None where nobody has a
            filter of their own.
    """
    if of_rows is not None:
        parts = [
            _best_of_few(ready, part, k, seen, of_rows(part))
            for part in (rows[at : at + _FEW_ROWS] for at in range(0, len(rows), _FEW_ROWS))
        ]
        return Ranking(*map(np.concatenate, zip(*parts, strict=True)))
    if len(rows) > _FEW_ROWS:
        candidates = None if allowed is None or allowed.all() else np.flatnonzero(allowed)
        return rank(ready, rows, k, seen=seen, candidates=candidates)
    if allowed is None:
        allowed = np.ones(ready.all_items, bool)
    return _best_of_few(ready, rows, k, seen, allowed)


def _best_of_few(
    ready: ReadyScorer, rows: np.ndarray, k: int, seen: CsrRows | None, allowed: np.ndarray
) -> Ranking:
    most = min(power_of_two(max(k, _LEAST_K)), ready.all_items)
    ranking = rank(ready, rows, most, seen=seen, allowed=allowed)
    return Ranking(ranking.items[:, :k], ranking.scores[:, :k])


def histories_of(lists: Sequence[np.ndarray], longest: int | None = None) -> CsrRows:
    """A row of items for each list, filled up so that lists of many lengths share programs.

    Args:
        lists: ``int[n]`` for each of Q, ascending.
        longest: no list is longer; where it is given, entries are filled up to as many for every
            row, so that the shape tells nothing of the lists.

    Returns:
        As many rows as the lowest power of two that is no less than Q, the last ones empty; their
        entries are filled up to a power of two with −1.
    """
    lengths = np.zeros(power_of_two(len(lists)), np.int32)
    lengths[: len(lists)] = [len(one) for one in lists]
    items = np.concatenate([np.zeros(0, np.int32), *lists])
    entries = len(items) if longest is None else len(lengths) * longest
    columns = np.pad(items, (0, power_of_two(entries) - len(items)), constant_values=-1)
    offsets = jnp.asarray(np.concatenate([[0], np.cumsum(lengths)]), jnp.int32)
    longest = power_of_two(longest or int(lengths.max(initial=1)))
    return CsrRows(offsets, jnp.asarray(columns, jnp.int32), longest)


def cut_to(k: int | None, available: int, which: str, *, default: int = 20) -> int:
    """k, or as many as there are where these are fewer, which a UserWarning says.

    Args:
        k: how many were asked for; None asks for the default, or what there is of it.
        available: how many there are.
        which: what the warning says of them.
        default: as many as None asks for.

    Raises:
        InputError: k is no whole number of at least 1.
    """
    wanted = default if k is None else whole_number("k", k, 1, _MOST)
    if k is None or wanted <= available:
        return max(1, min(wanted, available))
    message = f"k: {wanted} were asked for, {available} {which}"
    warn(message)
    return max(1, available)


@dataclass(frozen=True, eq=False, repr=False)
class ItemSet(Shown):
    """Items that were looked up once, for the filters of many calls; iterates over their ids.

    Attributes:
        of: the ids among which they were looked up; among others they are looked up again.
        rows: ``int[n]``, their rows there.
    """

    of: IdMap
    rows: np.ndarray

    @classmethod
    def among(cls, ids: IdMap, wanted: Any) -> ItemSet:
        """Look items up.

        Args:
            ids: of all items.
            wanted: n external ids, or one.

        Raises:
            InputError: an item is unknown.
        """
        wanted = scalar(wanted)
        wanted = [wanted] if isinstance(wanted, (str, int)) else wanted
        return cls(ids, known_rows(ids, wanted, "items").astype(np.intp))

    def __iter__(self) -> Iterator[int | str]:
        return iter(self.of.external(self.rows))

    def __len__(self) -> int:
        return len(self.rows)

    def facts(self) -> dict[str, str]:
        """How many there are."""
        return {"items": f"{len(self):,} of {len(self.of):,}"}


def known_rows(ids: IdMap, wanted: Any, name: str, kind: str = "item") -> np.ndarray:
    """The rows of external ids, all of which must be known.

    Args:
        ids: the ids.
        wanted: n external ids.
        name: what an error calls them.
        kind: what an error calls one of them.

    Returns:
        ``int[n]``.

    Raises:
        InputError: an id is unknown, or a single string came.
    """
    if isinstance(wanted, str):
        raise InputError(f"{name}: expected several {kind} ids, got the string {wanted!r}")
    if isinstance(wanted, ItemSet):
        if wanted.of is ids:
            return wanted.rows
        wanted = list(wanted)
    # An array is looked up at once, without an object for each id.
    elif not isinstance(wanted, (np.ndarray, pl.Series)):
        wanted = wanted.to_numpy() if hasattr(wanted, "to_numpy") else list(wanted)
    rows = ids.rows(wanted)
    if (rows >= 0).all():
        return rows
    unknown = [repr(one) for one, row in zip(wanted, rows, strict=True) if row < 0]
    if unknown:
        raise InputError(f"{name}: unknown {kind} ids: {', '.join(unknown)}")
    return rows


def _row(ids: IdMap, asked: Any, kind: str) -> int:
    try:
        return ids.row(asked)
    except InputError as error:
        raise InputError(f"{kind}: {error}") from error
