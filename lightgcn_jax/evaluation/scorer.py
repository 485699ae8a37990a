"""What ranking asks of a model: the scores of all items for a block of queries.

A model whose scores are inner products is ranked from its two tables, any other computes a block of
scores as it likes. Ranking, metrics and recommendations know no other difference between them.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import Array, Float, Ids, ItemTable, UserTable
from lightgcn_jax.diffusion.storage import exact_product
from lightgcn_jax.graph.bipartite import CsrRows


class Scorer(Protocol):
    """A pytree that scores items; it enters compiled functions as an argument.

    Attributes:
        num_queries: U, the users (or whatever asks).
        num_items: I.
        block_bytes_per_query: bytes that :meth:`scores` holds for each query beyond what it
            returns; ranking takes blocks of as many queries as fit.

    A scorer that compares items in a way of its own has a method ``item_similarity() -> Scorer``
    too, whose queries are the I items. One that scores anybody from a list of items is
    :class:`FromHistories`. One that scores a pair for less than all of a query's items has a method
    ``pair_scores(rows, items) -> float[P]`` (:func:`exact_pair_scores`).
    """

    @property
    def num_queries(self) -> int: ...

    @property
    def num_items(self) -> int: ...

    @property
    def block_bytes_per_query(self) -> int: ...

    def scores(self, rows: Ids) -> Float[Array, "items queries"]:
        """Scores of all items; traced, and a query's must not depend on the others of its block.

        Args:
            rows: ``int32[Q]``, queries.

        Returns:
            ``float[I, Q]``, finite.
        """
        ...


@runtime_checkable
class FromHistories(Protocol):
    """A model that scores a list of items, as that of somebody who was never seen."""

    def of_histories(
        self, histories: CsrRows, whole: CsrRows | None = None, is_trained: bool = False
    ) -> Scorer:
        """A scorer of the same items for lists of items, each by itself.

        Args:
            histories: a row of items for each; they are the queries.
            whole: a row for each, all that they have, where `histories` holds parts of it: the
                scores of parts add up to the score of the whole. None where they are whole.
            is_trained: the rows belong to users whom training knows.
        """
        ...


@runtime_checkable
class Embedded(Protocol):
    """A model with a vector for each query and each item, whatever it scores by."""

    def embeddings(self) -> tuple[UserTable, ItemTable]:
        """``float[U, D]`` and ``float[I, D]``."""
        ...


@flax.struct.dataclass
class Tables:
    """A vector for each query and each item.

    Attributes:
        queries: ``float[U, D]``, for instance the users' final embeddings.
        items: ``float[I, D]``.
    """

    queries: UserTable
    items: ItemTable

    @property
    def num_queries(self) -> int:
        """U."""
        return self.queries.shape[0]

    @property
    def num_items(self) -> int:
        """I."""
        return self.items.shape[0]

    def embeddings(self) -> tuple[UserTable, ItemTable]:
        """``float[U, D]`` and ``float[I, D]``."""
        return self.queries, self.items


@flax.struct.dataclass
class InnerProduct(Tables):
    """Scores ⟨query, item⟩; fields as in :class:`Tables`."""

    @property
    def block_bytes_per_query(self) -> int:
        """The query's vector."""
        return self.queries.shape[1] * self.queries.dtype.itemsize

    def scores(self, rows: Ids) -> Float[Array, "items queries"]:
        """Scores of all items for some queries.

        Args:
            rows: ``int32[Q]``, queries.
        """
        return exact_product(self.items, self.queries[rows].T)

    def pair_scores(self, rows: Ids, items: Ids) -> Float[Array, " pairs"]:
        """Scores of single pairs.

        Args:
            rows: ``int32[P]``, queries.
            items: ``int32[P]``.
        """
        return (self.queries[rows] * self.items[items]).sum(axis=1)


@flax.struct.dataclass
class _Subset:
    """The scores of chosen items: all are computed, some are taken."""

    scorer: Any
    chosen: Ids

    @property
    def num_queries(self) -> int:
        return self.scorer.num_queries

    @property
    def num_items(self) -> int:
        return self.chosen.shape[0]

    @property
    def block_bytes_per_query(self) -> int:
        return self.scorer.block_bytes_per_query + 4 * self.scorer.num_items

    def scores(self, rows: Ids) -> Float[Array, "items queries"]:
        return self.scorer.scores(rows)[self.chosen]


def restricted_to(scorer: Scorer, chosen: Ids | None, padding: int = 0) -> Scorer:
    """A scorer of chosen items, filled up with rows whose scores mean nothing.

    Args:
        scorer: of I items.
        chosen: ``int32[C]``, item rows; None chooses all.
        padding: P, rows to add, of any finite scores.

    Returns:
        A scorer of C + P items in that order. Of an :class:`InnerProduct` it computes no others; a
        subclass may score as it likes, so all of its scores are computed and some are taken.
    """
    if type(scorer) is InnerProduct:
        items = jnp.asarray(scorer.items)
        items = items if chosen is None else items[chosen]
        return InnerProduct(scorer.queries, jnp.pad(items, ((0, padding), (0, 0))))
    if chosen is None and not padding:
        return scorer
    if chosen is None:
        chosen = jnp.arange(scorer.num_items, dtype=jnp.int32)
    return _Subset(scorer, jnp.pad(chosen, (0, padding)))


def exact_scores(scorer: Scorer, rows: Ids) -> Float[Array, "items queries"]:
    """Scores for ranking: float32 is multiplied as float32.

    Unless told otherwise JAX multiplies float32 as bfloat16 on a TPU and as TF32 on recent GPUs,
    which changes most lists of recommendations. Training keeps that default.

    Args:
        scorer: of I items.
        rows: ``int32[Q]``, queries.

    Returns:
        ``float[I, Q]``.
    """
    with jax.default_matmul_precision("highest"):
        return scorer.scores(rows)


# What is held at once of pairs, and of the tables that pairs are taken from.
_PAIRS_AT_ONCE = 1 << 14
_TABLE_ENTRIES_AT_ONCE = 1 << 24


def exact_pair_scores(scorer: Scorer, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Scores of single pairs, as ranking has them but for rounding.

    Of a scorer without ``pair_scores`` all items are scored for the queries that are asked, a block
    of queries at a time.

    Args:
        scorer: of U queries and I items.
        rows: ``int[P]``, queries.
        items: ``int[P]``.

    Returns:
        ``float32[P]``.
    """
    scores = np.zeros(len(rows), np.float32)
    if _scores_pairs(scorer):
        for start in range(0, len(rows), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            asked = _padded(rows[part]), _padded(items[part])
            scores[part] = _pair_scores(scorer, *asked)[: len(rows[part])]
        return scores
    distinct, places = np.unique(rows, return_inverse=True)
    width = max(1, _TABLE_ENTRIES_AT_ONCE // max(1, scorer.num_items))
    for start in range(0, len(distinct), width):
        block = distinct[start : start + width]
        inside = (places >= start) & (places < start + len(block))
        table = np.asarray(_table(scorer, _padded(block)))
        scores[inside] = table[items[inside], places[inside] - start]
    return scores


_table = jax.jit(exact_scores)


@jax.jit
def _pair_scores(scorer: Any, rows: Ids, items: Ids) -> Float[Array, " pairs"]:
    with jax.default_matmul_precision("highest"):
        return scorer.pair_scores(rows, items)


def _padded(rows: np.ndarray) -> np.ndarray:
    """Rows, filled up with row 0 to a power of two, so that few programs are compiled."""
    size = 1 << max(0, len(rows) - 1).bit_length()
    return np.pad(rows.astype(np.int32), (0, size - len(rows)))


def _scores_pairs(scorer: Scorer) -> bool:
    """Whether the class that scores scores pairs too; one that scores otherwise than the class it
    is made from does not score pairs as that one does."""
    scoring = next(made for made in type(scorer).__mro__ if "scores" in vars(made))
    return "pair_scores" in vars(scoring)
