"""Exact ranks of held-out positives: the items of the pool that precede each are counted.

Counting needs no sorting and gives ranks far beyond any cut-off, which the mean reciprocal rank
needs. Equal scores, of which counts and degrees have many, are ordered by a hash of query and item:
the lower row first would favour the items that stand first in the data, often the oldest.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import Array, Ids, Int, ItemTable, Vectors
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import InnerProduct, Scorer
from lightgcn_jax.evaluation.scorer import exact_scores, restricted_to
from lightgcn_jax.graph.bipartite import CsrRows
from pinsage_jax.graph.hashing import salts, scrambled
from pinsage_jax.tasks.task import HeldOut

# How many bytes one block of queries may take.
_BLOCK_BYTES = 32_000_000
# Queries of a block come in multiples of this, so that a row of scores is whole vector registers.
_QUERIES_STEP = 32
# Capacities for seen items are rounded up to this, so that few programs are ever compiled.
_CAPACITY_STEP = 4096


@jax.jit
def compose_queries(vectors: ItemTable, queries: Int[Array, "queries items"]) -> Vectors:
    """Compose the vector of each query: the mean of its valid items' vectors.

    Args:
        vectors: ``float32[I, D]``.
        queries: ``int32[Q, n]``, item rows, −1 pads.

    Returns:
        ``float32[Q, D]``; zero for a query without a valid item.
    """

    def add(total, items):
        return total + jnp.where(items >= 0, 1.0, 0.0)[:, None] * vectors[jnp.maximum(items, 0)], ()

    # One item of every query at a time: Q × D in place of Q × n × D.
    blank = jnp.zeros((queries.shape[0], vectors.shape[1]), vectors.dtype)
    total, _ = jax.lax.scan(add, blank, queries.T)
    return total / jnp.maximum((queries >= 0).sum(axis=1), 1).astype(vectors.dtype)[:, None]


def ranks_of(
    model: Scorer | ItemTable | np.ndarray,
    held_out: HeldOut,
    *,
    candidates: np.ndarray | None = None,
    memory_bytes: int = _BLOCK_BYTES,
) -> np.ndarray:
    """Rank every held-out positive among the pool by score, with seen items left out.

    An item precedes the positive if its score is larger, or as large and its hash smaller. The hash
    depends on the rows of query and item, so the ranks of one model are the same every time. Other
    positives of the query count like any item.

    Args:
        model: a scorer of Q queries, or ``float32[I, D]`` item vectors, which are compared with
            the composed queries by inner product.
        held_out: Q queries, their positives and their seen items.
        candidates: ``int[C]``, the item rows of the pool, ascending; None for all. Rows that are
            kept free for later items, for instance, do not belong to the pool.
        memory_bytes: how much one block of queries may take; it has at least one query.

    Returns:
        ``int32[pairs]`` in the order of ``held_out.relevant.columns``, from 1; 0 for a positive
        that is seen or outside the pool.

    Raises:
        InputError: shapes do not fit, a vector is not finite, or the candidates do not ascend.
    """
    scorer = held_out_scorer(model, held_out)
    pool = pool_rows(scorer.num_items, candidates)
    rows = jax.device_put(pool)
    places = np.full(scorer.num_items, len(pool), np.int32)
    places[pool] = np.arange(len(pool), dtype=np.int32)
    if candidates is not None:
        scorer = restricted_to(scorer, rows)
    scorer = jax.device_put(scorer)
    relevant = _HostRows.of(held_out.relevant, places)
    seen = _HostRows.of(held_out.seen, places)
    ranks = np.zeros(len(relevant.places), np.int32)
    # Queries of about as many positives share a block: a block counts as often as its longest has.
    order = np.argsort(-relevant.lengths, kind="stable").astype(np.int32)
    order = order[relevant.lengths[order] > 0]
    size = _queries_at_once(scorer, len(order), memory_bytes)
    # The last block is filled up with its last query, so that one program serves all blocks.
    blocks = np.pad(order, (0, -len(order) % size), mode="edge" if order.size else "constant")
    blocks = blocks.reshape(-1, size)
    capacity = int(seen.lengths[blocks].sum(axis=1).max(initial=0))
    capacity = -(-capacity // _CAPACITY_STEP) * _CAPACITY_STEP
    for block in blocks:
        slots, entries = relevant.entries(block)
        steps = entries - relevant.starts[block][slots]
        positives = np.full((max(1, held_out.relevant.longest), size), len(pool), np.int32)
        positives[steps, slots] = relevant.places[entries]
        seen_slots, seen_entries = seen.entries(block)
        hidden = np.full((2, capacity), len(pool), np.int32)
        hidden[:, : len(seen_slots)] = seen.places[seen_entries], seen_slots
        found = _rank_block(block, scorer, rows, positives, int(steps.max()) + 1, *hidden)
        ranks[entries] = np.asarray(found)[steps, slots]
    return ranks


class _HostRows(NamedTuple):
    """Rows of places in the pool, C for an item outside, as host arrays.

    Attributes:
        starts: ``int[rows]``, where each row begins.
        lengths: ``int[rows]``.
        places: ``int32[E]``.
    """

    starts: np.ndarray
    lengths: np.ndarray
    places: np.ndarray

    @classmethod
    def of(cls, rows: CsrRows, places: np.ndarray) -> _HostRows:
        offsets = np.asarray(rows.offsets).astype(np.int64)
        return cls(offsets[:-1], np.diff(offsets), places[np.asarray(rows.columns)])

    def entries(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All entries of chosen rows: which of these rows each is in, and its place in E."""
        lengths = self.lengths[rows]
        slots = np.repeat(np.arange(len(rows)), lengths)
        within = np.arange(len(slots)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return slots, self.starts[rows][slots] + within


@jax.jit
def _rank_block(
    rows: Ids,
    scorer: Scorer,
    pool: Int[Array, " pool"],
    positives: Int[Array, "longest queries"],
    longest: int,
    seen_places: Int[Array, " seen"],
    seen_slots: Int[Array, " seen"],
) -> Int[Array, "longest queries"]:
    """Ranks of each query's j-th positive in row j, 0 where it may not be ranked.

    Args:
        rows: ``int32[B]``, queries.
        scorer: what scores the items.
        pool: ``int32[C]``, the items' rows.
        positives: places in the pool; C for none.
        longest: the most positives of a query of this block.
        seen_places: places that are left out; C for padding.
        seen_slots: the query of the block that each of them belongs to.
    """
    scores = exact_scores(scorer, rows)
    scores = scores.at[seen_places, seen_slots].set(-jnp.inf, mode="drop")
    slots = jnp.arange(rows.shape[0], dtype=jnp.int32)
    salt = salts(rows.astype(jnp.uint32))
    order = scrambled(pool.astype(jnp.uint32)[:, None], salt[None, :])

    def rank_next(step, ranks):
        places = positives[step]
        own = scores.at[places, slots].get(mode="fill", fill_value=-jnp.inf)
        own_order = order.at[places, slots].get(mode="fill", fill_value=0)
        before = scores > own[None, :]
        before |= (scores == own[None, :]) & (order < own_order[None, :])
        ranked = 1 + before.sum(axis=0, dtype=jnp.int32)
        return ranks.at[step].set(jnp.where(own > -jnp.inf, ranked, 0))

    return jax.lax.fori_loop(0, longest, rank_next, jnp.zeros_like(positives))


def reciprocal_ranks(ranks: np.ndarray, scale: int = 1) -> np.ndarray:
    """Compute 1 / ceil(R / scale) of each rank, ``float64``.

    Args:
        ranks: ``int[n]``, R from 1; 0, which is no rank, gives 0.
        scale: what a rank is divided by.
    """
    return np.where(ranks > 0, 1 / np.maximum(-(-ranks // scale), 1), 0.0)


def held_out_scorer(model: Scorer | ItemTable | np.ndarray, held_out: HeldOut) -> Scorer:
    """Make a scorer of the held-out queries, and check its shapes.

    Args:
        model: a scorer, or item vectors, as :func:`ranks_of` takes it.
        held_out: Q queries, their positives and their seen items.

    Raises:
        InputError: as for :func:`ranks_of`.
    """
    wanted = held_out.relevant.num_rows
    if held_out.seen.num_rows != wanted or len(held_out.queries) != wanted:
        raise InputError(
            f"held_out: expected {wanted} rows of queries, relevant and seen items alike, "
            f"got {len(held_out.queries)} queries and {held_out.seen.num_rows} rows of seen items"
        )
    if isinstance(model, np.ndarray | jax.Array):
        vectors = checked_vectors(model)
        model = InnerProduct(compose_queries(vectors, jax.device_put(held_out.queries)), vectors)
    if model.num_queries != wanted:
        raise InputError(f"model: expected a scorer of {wanted} queries, got {model.num_queries}")
    named = (held_out.queries, held_out.relevant.columns, held_out.seen.columns)
    largest = max(int(np.asarray(rows).max(initial=-1)) for rows in named)
    if largest >= model.num_items:
        raise InputError(f"held_out: expected item rows below {model.num_items}, got {largest}")
    return model


def checked_vectors(vectors: ItemTable | np.ndarray) -> ItemTable:
    """Check item vectors, and put them onto the device.

    Args:
        vectors: ``float[I, D]``.

    Raises:
        InputError: these are no vectors, or an entry is not finite.
    """
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating):
        raise InputError(
            f"vectors: expected float[items, dimensions], got {vectors.dtype}{list(vectors.shape)}"
        )
    host = np.asarray(vectors)
    odd = np.flatnonzero(~np.isfinite(host).all(axis=1))
    if odd.size:
        raise InputError(
            f"vectors: expected finite numbers, got others in {odd.size} rows, first row {odd[0]}"
        )
    return jax.device_put(vectors)


def pool_rows(num_items: int, candidates: np.ndarray | None) -> np.ndarray:
    """Check the item rows that may be ranked, and return them as ``int32[C]``.

    Args:
        num_items: I.
        candidates: ``int[C]``, ascending; None for all items.

    Raises:
        InputError: there is none, they do not ascend, or one is out of range.
    """
    if candidates is None:
        return np.arange(num_items, dtype=np.int32)
    pool = np.asarray(candidates)
    if pool.ndim != 1 or pool.dtype.kind not in "iu" or not pool.size:
        raise InputError(
            f"candidates: expected at least one item row, got {pool.dtype}{list(pool.shape)}"
        )
    if pool[0] < 0 or pool[-1] >= num_items or (np.diff(pool.astype(np.int64)) <= 0).any():
        raise InputError(f"candidates: expected ascending item rows of 0 to {num_items - 1}")
    return pool.astype(np.int32)


def _queries_at_once(scorer: Scorer, num_queries: int, memory_bytes: int) -> int:
    """Queries of a block: as many as their scores and the scorer's own arrays leave room for."""
    each = 4 * scorer.num_items + scorer.block_bytes_per_query
    most = max(1, min(-(-num_queries // _QUERIES_STEP) * _QUERIES_STEP, memory_bytes // each))
    return most if most < _QUERIES_STEP else most // _QUERIES_STEP * _QUERIES_STEP
