"""Stage one at a moment: what proposes items, and what the second stage is told of them.

Everything here is made of a history, the pairs known at that moment, and of their times where they
have any; nothing of what comes later enters.

==================  ============================================================================
source              proposes
==================  ============================================================================
``model``           the model's best: the neighbours of the user's vector
``recent``          the items nearest by cosine to the user's latest items; without times to all
``filter``          a graph filter in closed form (GF-CF)
``popular``         the items of the most users; with times those of the latest history
==================  ============================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from lightgcn_jax.data.pairs import Pairs
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.scorer import Embedded, Scorer, exact_pair_scores
from lightgcn_jax.graph.bipartite import BipartiteGraph, CsrRows, csr_rows
from lightgcn_jax.models import GfCf, ItemCf
from lightgcn_jax.models.trivial import PopularScorer
from lightgcn_jax.serving.two_stage.candidates import Candidates, Source, candidates_of

SIZES = {"model": 250, "recent": 100, "filter": 100, "popular": 50}
"""How many of 500 places each source has."""

_RECENT, _NEIGHBOURS = 10, 200
# The last part of the history, whose popularity is that of the moment.
_LATEST_SHARE = 0.1
# Places of a source count as 1 / (1 + place / _PLACE_SCALE).
_PLACE_SCALE = 10.0


@dataclass(frozen=True, eq=False)
class History:
    """What is known at a moment.

    Attributes:
        pairs: who has what.
        num_users: U.
        num_items: I.
        times: ``float64[E]``, when; None where nobody knows.
    """

    pairs: Pairs
    num_users: int
    num_items: int
    times: np.ndarray | None = None

    def rows(self) -> CsrRows:
        """The items of each user."""
        return csr_rows(self.pairs.users, self.pairs.items, self.num_users)

    def latest(self, count: int) -> CsrRows:
        """The latest items of each user; all of them where there are no times.

        Args:
            count: the most for each.
        """
        if self.times is None:
            return self.rows()
        order = np.lexsort((self.pairs.items, -self.times, self.pairs.users))
        users, items = self.pairs.users[order], self.pairs.items[order]
        kept = np.arange(len(users)) - np.searchsorted(users, users) < count
        return csr_rows(users[kept], items[kept], self.num_users)


@dataclass(frozen=True, eq=False)
class StageOne:
    """What proposes items, and what is known of users and items.

    Attributes:
        sources: what proposes; the first is the model alone, whose order the second stage improves.
        seen: what is never proposed.
        total: C, candidates for each user.
        users: ``float32[U, D]``, the model's vectors at a mean square of 1; D is 0 where it has
            none.
        items: ``float32[I, D]``.
        of_users: ``float32[U, G]``, what is known of each user.
        of_items: ``float32[I, F]``, what is known of each item.
    """

    sources: tuple[Source, ...]
    seen: CsrRows
    total: int
    users: np.ndarray
    items: np.ndarray
    of_users: np.ndarray
    of_items: np.ndarray

    def candidates(self, rows: np.ndarray) -> Candidates:
        """What is proposed to users.

        Args:
            rows: ``int[Q]``.
        """
        return candidates_of(self.sources, rows, self.total, self.seen)

    def told(self, rows: np.ndarray, candidates: Candidates) -> np.ndarray:
        """What sources say of candidates: scores, standardised among a user's, and places.

        Args:
            rows: ``int[Q]``, users.
            candidates: what was proposed to them.

        Returns:
            ``float32[Q, C, 2 S]``, the scores of all sources before the places in all.
        """
        items = candidates.items
        inside, safe = items >= 0, items.clip(0)
        asked = np.repeat(np.asarray(rows), items.shape[1]), safe.ravel()
        columns = [
            _standard(exact_pair_scores(one.scorer, *asked).reshape(items.shape), inside)
            for one in self.sources
        ]
        scaled = 1 / (1 + candidates.places / _PLACE_SCALE)
        places = np.where(candidates.places >= 0, scaled, 0).astype(np.float32)
        return np.concatenate([np.stack(columns, axis=2), places], axis=2)


def stage_one(
    scorer: Scorer,
    history: History,
    *,
    offset_columns: int = 0,
    sizes: Mapping[str, int] | None = None,
    seen: CsrRows | None = None,
    features: np.ndarray | None = None,
    like: StageOne | None = None,
    key: Any = None,
) -> StageOne:
    """Stage one of a model that was fitted on a history.

    Args:
        scorer: the model.
        history: what it was fitted on.
        offset_columns: how many last columns of its vectors only add to scores.
        sizes: places of each source, at least of ``model``; by default :data:`SIZES`.
        seen: what is never proposed, row u for user u; None for what the history holds.
        features: ``float32[I, X]``, what else is known of items.
        like: stage one at an earlier moment: the vectors are turned, which changes no score, so
            that they lie as its vectors do (orthogonal Procrustes on the items).
        key: of the filter's fit.

    Raises:
        InputError: a source is unknown, or ``model`` is missing.
    """
    sizes = dict(SIZES if sizes is None else sizes)
    if "model" not in sizes or set(sizes) - set(SIZES):
        raise InputError(
            f"sources: expected model and any of {', '.join(SIZES)}, got {', '.join(sizes)}"
        )
    pairs = history.pairs
    graph = BipartiteGraph.from_pairs(
        pairs.users, pairs.items, num_users=history.num_users, num_items=history.num_items
    )
    made = {"model": lambda: scorer, "recent": lambda: _recent(graph, history)}
    key = jax.random.key(0) if key is None else key
    made["filter"] = lambda: GfCf().fit(graph, key)
    made["popular"] = lambda: PopularScorer(jax.device_put(_popularity(history)), history.num_users)
    sources = tuple(Source(name, made[name](), size) for name, size in sizes.items())
    seen = history.rows() if seen is None else seen
    users, items = _vectors(scorer, history, offset_columns)
    if like is not None:
        turn = _turn(items, like.items)
        users, items = users @ turn, items @ turn
    of_users, of_items = _known(history)
    if features is not None:
        of_items = np.concatenate([of_items, _by_column(features)], axis=1)
    total = sum(sizes.values())
    return StageOne(sources, seen, total, users, items, of_users, of_items)


def _recent(graph: BipartiteGraph, history: History) -> Scorer:
    fitted = ItemCf(_NEIGHBOURS).fit(graph, jax.random.key(0))
    return fitted.of_histories(history.latest(_RECENT))


def _popularity(history: History) -> np.ndarray:
    """Users of each item in the latest history, those of all times deciding between equals."""
    items, count = history.pairs.items, history.num_items
    ever = np.bincount(items, minlength=count).astype(np.float32)
    if history.times is None:
        return ever
    late = history.times >= np.quantile(history.times, 1 - _LATEST_SHARE)
    return np.bincount(items[late], minlength=count) + ever / (1 + ever.max())


def _vectors(
    scorer: Scorer, history: History, offset_columns: int
) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(scorer, Embedded):
        none = np.zeros((max(history.num_users, history.num_items), 0), np.float32)
        return none[: history.num_users], none[: history.num_items]
    users, items = (
        np.asarray(table)[:, : table.shape[1] - offset_columns] for table in scorer.embeddings()
    )
    return _of_unit_square(users), _of_unit_square(items)


def _of_unit_square(table: np.ndarray) -> np.ndarray:
    """The table at a mean square of 1."""
    return table / max(float(np.sqrt(np.mean(table**2))), 1e-12)


def _turn(vectors: np.ndarray, onto: np.ndarray) -> np.ndarray:
    """The orthogonal matrix R of least ‖vectors R − onto‖ (Schönemann 1966)."""
    left, _, right = np.linalg.svd(vectors.T @ onto)
    return (left @ right).astype(np.float32)


def _known(history: History) -> tuple[np.ndarray, np.ndarray]:
    """Standardised columns of users and of items: how many they have, and when."""
    sides = []
    for rows, count in (
        (history.pairs.users, history.num_users),
        (history.pairs.items, history.num_items),
    ):
        degrees = np.bincount(rows, minlength=count)
        columns = [np.log1p(degrees)]
        if history.times is not None:
            when, mean = history.times, history.times.mean()
            sums = np.bincount(rows, when - mean, minlength=count)
            last = np.full(count, when.min())
            np.maximum.at(last, rows, when)
            columns += [sums / np.maximum(degrees, 1), last]
        sides.append(_by_column(np.stack(columns, axis=1)))
    return sides[0], sides[1]


def _by_column(table: np.ndarray) -> np.ndarray:
    table = np.asarray(table, np.float64)
    spread = table.std(axis=0)
    return ((table - table.mean(axis=0)) / np.where(spread > 0, spread, 1)).astype(np.float32)


def _standard(scores: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Each row's scores with mean 0 and variance 1 among those inside, 0 elsewhere."""
    count = np.maximum(inside.sum(axis=1, keepdims=True), 1)
    mean = np.where(inside, scores, 0).sum(axis=1, keepdims=True) / count
    centred = np.where(inside, scores - mean, 0)
    spread = np.sqrt((centred**2).sum(axis=1, keepdims=True) / count)
    return (centred / np.where(spread > 0, spread, 1)).astype(np.float32)
