"""Score all items, leave out the seen ones, keep the top K: exact, in blocks, on the device.

Ties are broken by the lower item row, as a stable sort of all items by descending score does.
"""

from __future__ import annotations

import functools
import math
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import Array, Float, Ids, RankedIds
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.scorer import Scorer, among
from lightgcn_jax.graph.bipartite import CsrRows, walk_rows

# Scores of one block, in elements: 16 MB, below the size from which the C allocator maps fresh
# pages for every block, which made the matrix product three times slower.
_BLOCK_SCORES = 4_000_000
# What a scorer may hold for a block beside the scores.
_BLOCK_BYTES = 32_000_000
# Queries of a block come in multiples of this, so that a row of scores is whole vector registers:
# 96 in place of 97 made inner products a tenth to a third faster, sparse products a third.
_QUERIES_STEP = 32
# Blocks under way at once: sorting keeps one core busy, so the next block multiplies meanwhile.
# Two cores gain a third; more blocks gain nothing and hold more memory.
_WORKERS = 2
# Capacities for seen items are rounded up to this, so that few programs are ever compiled.
_CAPACITY_STEP = 4096


class Ranking(NamedTuple):
    """The K best items of each query, best first.

    Attributes:
        items: ``int32[Q, K]``; −1 where fewer than K items may be recommended.
        scores: ``float32[Q, K]``; −inf there.
    """

    items: RankedIds | np.ndarray
    scores: Float[Array, "queries cutoff"] | np.ndarray


def group_width(num_items: int, k: int) -> int:
    """Items in a group of :func:`exact_top_k`: about √(I/K), which sorts the fewest elements."""
    return max(1, math.isqrt(num_items // k))


def exact_top_k(scores: Float[Array, "items queries"], k: int, width: int) -> Ranking:
    """The K largest of each column with ties to the lower row, as a stable full sort gives them.

    Rows are cut into G groups of neighbours. Only the K groups with the largest maxima (ties to
    the lower group) can hold one of a column's K largest: against any other group stand K groups
    with an element each that is larger, or as large and earlier. Those K groups, put back in row
    order, are ranked: the scores are read once for the maxima, and sorting touches about 2√(K·I)
    elements in place of I. Items run along the first axis so that the maxima are taken over whole
    cache lines of queries.

    Args:
        scores: ``float[I, Q]`` with I a multiple of ``width`` (pad with −inf).
        k: K ≤ I.
        width: rows in a group; :func:`group_width` names the best.
    """
    num_items, queries = scores.shape
    groups = num_items // width
    if width == 1 or groups <= k:
        best_scores, best = jax.lax.top_k(scores.T, k)
        return Ranking(best.astype(jnp.int32), best_scores)
    grouped = scores.reshape(groups, width, queries)
    _, best_groups = jax.lax.top_k(grouped.max(axis=1).T, k)
    best_groups = jnp.sort(best_groups, axis=1).astype(jnp.int32)
    candidates = grouped[
        best_groups[:, :, None], jnp.arange(width), jnp.arange(queries)[:, None, None]
    ]
    best_scores, best = jax.lax.top_k(candidates.reshape(queries, k * width), k)
    group = jnp.take_along_axis(best_groups, best // width, axis=1)
    return Ranking((group * width + best % width).astype(jnp.int32), best_scores)


class _Catalogue(NamedTuple):
    """The items that may be ranked, as :func:`_rank_block` wants them.

    Attributes:
        scorer: of the C candidates in row order, then of P rows of padding.
        padding: ``int32[P]``, the rows of the padding.
        places: ``int32[I]``, each item's row among the scores, out of range for those that may not
            be ranked; None where every item is its own row.
    """

    scorer: Scorer
    padding: Ids
    places: Ids | None


@functools.partial(jax.jit, static_argnames=("k", "width", "seen_capacity"))
def _rank_block(
    rows: Ids,
    catalogue: _Catalogue,
    seen: CsrRows | None,
    *,
    k: int,
    width: int,
    seen_capacity: int,
) -> Ranking:
    scores = catalogue.scorer.scores(rows)
    # Both exclusions are scatters. An elementwise mask, or a slice update of rows known at compile
    # time, is fused into each of the scores' two readers, which then copy the block: measured four
    # times slower.
    scores = scores.at[catalogue.padding].set(-jnp.inf)
    if seen is not None and seen.columns.shape[0]:
        positions = jnp.arange(seen_capacity, dtype=jnp.int32)
        slots, columns, inside = walk_rows(seen, rows, positions)
        if catalogue.places is not None:
            columns = catalogue.places[columns]
        columns = jnp.where(inside, columns, scores.shape[0])
        scores = scores.at[columns, slots].set(-jnp.inf, mode="drop")
    ranked = exact_top_k(scores, k, width)
    return Ranking(jnp.where(ranked.scores > -jnp.inf, ranked.items, -1), ranked.scores)


def rank(
    scorer: Scorer,
    rows: np.ndarray,
    k: int,
    *,
    seen: CsrRows | None = None,
    candidates: np.ndarray | None = None,
) -> Ranking:
    """Rank items for chosen queries of a scorer, block by block.

    Args:
        scorer: R queries and I items; :class:`InnerProduct` for embeddings.
        rows: ``int[Q]``, the queries to rank for.
        k: cut-off K.
        seen: items to leave out, row r for query r; None leaves out nothing.
        candidates: ``int[C]``, the item rows that may be ranked, ascending; None for all.

    Returns:
        Host arrays: ``items int32[Q, K]`` and ``scores float32[Q, K]``.

    Raises:
        InputError: K is not in [1, I], K exceeds the candidates, or a row is out of range.
    """
    rows = np.asarray(rows, np.int32)
    num_candidates = scorer.num_items if candidates is None else len(candidates)
    if not 1 <= k <= num_candidates:
        raise InputError(f"k: expected 1 to {num_candidates} (items to rank), got {k}")
    if not rows.size:
        return Ranking(np.zeros((0, k), np.int32), np.zeros((0, k), np.float32))
    if rows.min() < 0 or rows.max() >= scorer.num_queries:
        raise InputError(
            f"rows: expected 0 to {scorer.num_queries - 1}, got {rows.min()} to {rows.max()}"
        )
    width = group_width(num_candidates, k)
    catalogue = _catalogue(scorer, candidates, width)
    block_size = min(len(rows), _queries_at_once(catalogue.scorer, num_candidates))
    # The last block is filled up with its last row, so that one program serves all blocks.
    blocks = np.pad(rows, (0, -len(rows) % block_size), mode="edge").reshape(-1, block_size)
    capacity = 0
    if seen is not None:
        most = np.diff(np.asarray(seen.offsets))[blocks].sum(axis=1).max()
        capacity = -(-int(most) // _CAPACITY_STEP) * _CAPACITY_STEP

    wide_types = jnp.asarray(0.0).dtype == jnp.float64

    def rank_one(block: np.ndarray) -> Ranking:
        # A worker does not inherit what a context manager has set for the calling thread.
        with jax.enable_x64(wide_types):
            ranked = _rank_block(
                jnp.asarray(block), catalogue, seen, k=k, width=width, seen_capacity=capacity
            )
            return Ranking(np.asarray(ranked.items), np.asarray(ranked.scores))

    with ThreadPoolExecutor(_WORKERS) as workers:
        ranked = list(workers.map(rank_one, blocks))
    best = np.concatenate([block.items for block in ranked])[: len(rows)]
    scores = np.concatenate([block.scores for block in ranked])[: len(rows)]
    if candidates is not None:
        best = np.where(best >= 0, np.asarray(candidates, np.int32)[best], -1)
    return Ranking(best, scores)


def _queries_at_once(scorer: Scorer, num_candidates: int) -> int:
    """Queries of a block: as many as its scores and the scorer's own arrays leave room for."""
    most = _BLOCK_BYTES // max(1, scorer.block_bytes_per_query)
    most = max(1, min(_BLOCK_SCORES // num_candidates, most))
    return most if most < _QUERIES_STEP else most // _QUERIES_STEP * _QUERIES_STEP


def _catalogue(scorer: Scorer, candidates: np.ndarray | None, width: int) -> _Catalogue:
    chosen = places = None
    count = scorer.num_items
    if candidates is not None:
        inverse = np.full(count, np.iinfo(np.int32).max, np.int32)
        inverse[candidates] = np.arange(len(candidates), dtype=np.int32)
        places, chosen, count = jnp.asarray(inverse), jnp.asarray(candidates), len(candidates)
    padding = -count % width
    return _Catalogue(
        # On the device once, not with every block.
        jax.device_put(among(scorer, chosen, padding)),
        jnp.arange(count, count + padding, dtype=jnp.int32),
        places,
    )
