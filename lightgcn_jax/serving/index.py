"""Vectors by external id that are searched by inner product or cosine, grow and shrink.

Exactly: all products on the device, and the top K as in ranking. Approximately, to a recall that is
asked for: by inverted lists (:mod:`lightgcn_jax.serving.lists`), on a TPU by
``jax.lax.approx_max_k``. :mod:`lightgcn_jax.serving.index_files` keeps it in a folder.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import Array, Bool, Float, few_lengths
from lightgcn_jax.data.ids import IdMap, as_ids
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.ranking import Ranking, ReadyScorer, ready_scorer, with_queries
from lightgcn_jax.evaluation.scorer import InnerProduct
from lightgcn_jax.fields import checked
from lightgcn_jax.serving.answers import Ranked, best_of, cut_to, known_rows, ranked_rows
from lightgcn_jax.serving.blocks import BLOCK_ROWS, best_in_blocks
from lightgcn_jax.serving.index_files import (
    TARGET_RECALL,
    Measured,
    Metric,
    StoredIndex,
    read_index,
    write_index,
)
from lightgcn_jax.serving.lists import InvertedLists
from lightgcn_jax.shown import Shown

# What recall is measured by where nobody says: so many of the vectors themselves, at this cut-off.
_SAMPLE, _CUT_OFF = 256, 20


class Index(Shown):
    """Vectors that can be searched; :meth:`build` makes one.

    Args:
        ids: n external ids, deleted ones included.
        vectors: ``float32[n, D]``, of length 1 where cosines are compared.
        is_there: ``bool[n]``, which of them were not deleted.
        metric: ``inner`` or ``cosine``.
        target_recall: the recall that was asked for; None searches exactly.
        lists: the vectors in lists, where they are searched by them.
        measured: how well, where it is not exact.
    """

    def __init__(
        self,
        ids: IdMap,
        vectors: np.ndarray,
        is_there: np.ndarray,
        metric: Metric,
        target_recall: float | None = None,
        lists: InvertedLists | None = None,
        measured: Measured | None = None,
    ):
        self.ids, self.measured, self.target_recall = ids, measured, target_recall
        self.metric: Metric = metric
        self._vectors, self._is_there, self._lists = vectors, is_there, lists
        self._ready: ReadyScorer | None = None

    @classmethod
    def build(
        cls,
        ids: Any,
        vectors: np.ndarray,
        *,
        metric: Metric = "inner",
        target_recall: float | None = None,
        queries: np.ndarray | None = None,
        k: int = _CUT_OFF,
        seed: int = 0,
    ) -> Index:
        """Make an index.

        Args:
            ids: n distinct external ids, n of at least 1: an :class:`IdMap`, a list or an array.
            vectors: ``float32[n, D]``, a row for each.
            metric: ``inner`` for inner products, ``cosine``.
            target_recall: the share of the exact top k that is to be found; None searches exactly.
            queries: ``float32[Q, D]`` by which recall is measured, users' vectors for instance; by
                default some of the vectors themselves.
            k: the cut-off of that measurement.
            seed: of all draws.

        Raises:
            InputError: ids and vectors do not fit each other, a value is not finite, or what
                searches approximately is not installed.
        """
        if metric not in get_args(Metric):
            raise InputError(f"metric: expected one of {get_args(Metric)}, got {metric!r}")
        target_recall = checked("target_recall", target_recall, TARGET_RECALL)
        ids = ids if isinstance(ids, IdMap) else IdMap(as_ids(ids).rename("id"))
        if not len(ids):
            raise InputError("ids: expected at least one, got none")
        rows = _checked("vectors", vectors, len(ids), None, metric)
        index = cls(ids, rows, np.ones(len(ids), bool), metric, target_recall)
        if target_recall is not None:
            index._approximate(target_recall, queries, k, seed)
        return index

    def _approximate(self, target: float, queries: np.ndarray | None, k: int, seed: int) -> None:
        if queries is None:
            count = min(_SAMPLE, len(self.ids))
            chosen = np.random.default_rng(seed).choice(len(self.ids), count, replace=False)
            queries = self._vectors[chosen]
        queries = _checked("queries", queries, None, self._vectors.shape[1], self.metric)
        k = cut_to(k, len(self), "vectors there are")
        exact = self._exact(queries, k).items

        def recall() -> float:
            found = self._found(queries, k).items
            pairs = zip(found, exact, strict=True)
            return float(np.mean([len(np.intersect1d(one, right)) / k for one, right in pairs]))

        if _on_tpu():
            measured = recall()
        else:
            rows = np.arange(len(self.ids))
            self._lists = InvertedLists.of(rows, self._vectors, seed)
            measured = self._lists.tuned(recall, target)
        self.measured = Measured(measured, k, len(queries))

    def __len__(self) -> int:
        return int(np.count_nonzero(self._is_there))

    def facts(self) -> dict[str, str]:
        """What it holds, and how it is searched."""
        how = "exactly"
        if self.measured is not None:
            recall, k, queries = self.measured
            how = f"recall@{k} {recall:.4f} of the exact search, measured on {queries:,} queries"
        if self._lists is not None:
            how += f"; {self._lists.probes:,} of {self._lists.num_lists:,} lists are read"
        dim = self._vectors.shape[1]
        return {"holds": f"{len(self):,} vectors of {dim} dimensions, {self.metric}", "finds": how}

    def search(self, queries: np.ndarray, k: int | None = None) -> list[Ranked]:
        """The ids of highest score for each query, best first.

        Args:
            queries: ``float32[Q, D]``.
            k: how many for each, by default 20; where there are fewer, all of them.

        Returns:
            For each query its ids and scores; fewer than k where the lists that were read hold
            fewer.

        Raises:
            InputError: the queries do not fit, or k is below 1.
        """
        queries = _checked("queries", queries, None, self._vectors.shape[1], self.metric)
        k = cut_to(k, len(self), "vectors there are")

        def best(rows: np.ndarray) -> Ranking:
            return self._found(queries[rows], k)

        return ranked_rows(np.arange(len(queries)), self.ids, best, empty=not len(self))

    def upsert(self, ids: Any, vectors: np.ndarray) -> None:
        """Put vectors in, in the place of those that ids have.

        Args:
            ids: n distinct external ids, known or not.
            vectors: ``float32[n, D]``.

        Raises:
            InputError: ids and vectors do not fit each other, or a value is not finite.
        """
        added = IdMap(as_ids(ids).rename("id"))
        new = _checked("vectors", vectors, len(added), self._vectors.shape[1], self.metric)
        grown = self.ids.grow(added.ids)
        more = len(grown) - len(self.ids)
        rows, there = grown.rows(added.ids), np.pad(self._is_there, (0, more))
        table = np.pad(self._vectors, ((0, more), (0, 0)))
        table[rows] = new
        if self._lists is not None:
            self._lists.remove(rows[there[rows]])
            self._lists.add(rows, new)
        there[rows] = True
        self.ids, self._vectors, self._is_there, self._ready = grown, table, there, None

    def delete(self, ids: Sequence[int | str]) -> None:
        """Take vectors out.

        Args:
            ids: external ids.

        Raises:
            InputError: an id is unknown, or was deleted before; nothing is deleted then.
        """
        rows = known_rows(self.ids, ids, "ids", "vector")
        gone = self.ids.external(np.unique(rows[~self._is_there[rows]]))
        if gone:
            raise InputError(f"ids: deleted before: {', '.join(map(repr, gone))}")
        if self._lists is not None:
            self._lists.remove(rows)
        self._is_there = self._is_there.copy()
        self._is_there[rows] = False

    def _found(self, queries: np.ndarray, k: int) -> Ranking:
        if self._lists is not None:
            return self._lists.search(queries, k)
        if self.target_recall is not None and _on_tpu():
            ready, allowed = self._on_device()
            assert isinstance(ready.scorer, InnerProduct)
            items = ready.scorer.items
            return approximate_top_k(queries, items, allowed, k, self.target_recall)
        return self._exact(queries, k)

    def _exact(self, queries: np.ndarray, k: int) -> Ranking:
        if isinstance(self._vectors, np.memmap) and len(self.ids) > BLOCK_ROWS:
            return best_in_blocks(self._vectors, self._is_there, queries, k)
        ready, allowed = self._on_device()
        asked = with_queries(ready, None, jax.device_put(queries))
        return best_of(asked, np.arange(len(queries)), k, None, allowed[: ready.all_items])

    def _on_device(self) -> tuple[ReadyScorer, np.ndarray]:
        """The vectors, filled up to an eighth of a power of two so that a few more compile nothing,
        and which of the rows may be found."""
        if self._ready is None:
            padding = few_lengths(len(self.ids)) - len(self.ids)
            table = jax.device_put(np.pad(self._vectors, ((0, padding), (0, 0))))
            self._ready = ready_scorer(InnerProduct(table[:1], table))
        assert isinstance(self._ready.scorer, InnerProduct)
        rows = self._ready.scorer.num_items
        return self._ready, np.pad(self._is_there, (0, rows - len(self._is_there)))

    def save(self, path: Path | str) -> Path:
        """Write the index, whole or not at all.

        Args:
            path: the folder; an index that lies there is replaced.

        Returns:
            ``path``.

        Raises:
            InputError: something else lies there.
        """
        parts = self._is_there, self.metric, self.target_recall, self._lists, self.measured
        write_index(Path(path), StoredIndex(self.ids, self._vectors, *parts))
        return Path(path)

    @classmethod
    def load(cls, path: Path | str) -> Index:
        """Open what :meth:`save` wrote; the vectors stay on the disk until they are read.

        Args:
            path: the folder.

        Raises:
            InputError: it holds no index of this version, or a file of it is damaged.
        """
        return cls(*read_index(Path(path)))


def approximate_top_k(
    queries: np.ndarray, items: Array, allowed: np.ndarray, k: int, recall: float
) -> Ranking:
    """The rows of highest inner product by a TPU's own approximate maximum.

    Args:
        queries: ``float32[Q, D]``.
        items: ``float32[n, D]``.
        allowed: ``bool[n]``, which rows may be found.
        k: K.
        recall: what is asked of it; elsewhere than on a TPU it is exact.

    Returns:
        ``items int32[Q, K]`` and ``scores float32[Q, K]``.
    """
    best = _approximate_top_k(jax.device_put(queries), items, allowed, k=k, recall=recall)
    scores, rows = map(np.asarray, best)
    return Ranking(np.where(scores > -np.inf, rows, -1).astype(np.int32), scores)


@functools.partial(jax.jit, static_argnames=("k", "recall"))
def _approximate_top_k(
    queries: Float[Array, "queries dim"],
    items: Float[Array, "items dim"],
    allowed: Bool[Array, " items"],
    *,
    k: int,
    recall: float,
) -> tuple[Array, Array]:
    scores = jnp.matmul(queries, items.T, precision=jax.lax.Precision.HIGHEST)
    scores = jnp.where(allowed[None], scores, -jnp.inf)
    return jax.lax.approx_max_k(scores, k, recall_target=recall)


def _on_tpu() -> bool:
    return jax.default_backend() == "tpu"


def _checked(
    name: str, vectors: Any, rows: int | None, width: int | None, metric: Metric
) -> np.ndarray:
    """Finite float32, of length 1 where directions are compared."""
    table = np.asanyarray(vectors)
    shape = ["n" if rows is None else rows, "D" if width is None else width]
    fits = table.ndim == 2 and table.dtype.kind == "f"
    fits = fits and rows in (None, len(table)) and width in (None, table.shape[1])
    if not fits:
        expected = ", ".join(map(str, shape))
        raise InputError(
            f"{name}: expected float32[{expected}], got {table.dtype}{list(table.shape)}"
        )
    # What lies on the disk stays there.
    table = table.astype(np.float32, copy=not isinstance(vectors, np.memmap))
    if not np.isfinite(table).all():
        raise InputError(f"{name}: expected finite numbers, got NaN or infinity")
    if metric == "cosine":
        lengths = np.linalg.norm(table.astype(np.float64), axis=1, keepdims=True)
        table = (table / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return table
