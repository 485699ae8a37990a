"""The best items of one block of queries, in one compiled program."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Bool, Ids
from lightgcn_jax.diffusion.native import (
    largest_of_columns,
    largest_products,
    multiplies,
    on_platform,
)
from lightgcn_jax.evaluation.scorer import InnerProduct, Scorer, exact_scores
from lightgcn_jax.evaluation.top_k import Ranking, exact_top_k
from lightgcn_jax.graph.bipartite import CsrRows, walk_rows


@functools.partial(jax.jit, static_argnames=("k", "width", "seen_capacity"))
def rank_block(
    rows: Ids,
    scorer: Scorer,
    excluded: Ids,
    places: Ids | None,
    seen: CsrRows | None,
    allowed: Bool[Array, " items"] | Bool[Array, "queries items"] | None = None,
    *,
    k: int,
    width: int,
    seen_capacity: int,
) -> Ranking:
    """Rank items for some queries of a scorer.

    Args:
        rows: ``int32[Q]``, the queries.
        scorer: of N rows of items.
        excluded: ``int32[X]``, rows that may not be ranked; those out of range mean nothing.
        places: ``int32[I]``, the row of each item; None where every item is its own row.
        seen: items to leave out, row r for query r; None leaves out nothing.
        allowed: which rows may be ranked, or which for each query; None for all.
        k: K.
        width: rows in a group of :func:`exact_top_k`.
        seen_capacity: at least as many items as all the queries have seen.

    Returns:
        The K best rows of each.
    """
    counts = {"k": k, "width": width, "seen_capacity": seen_capacity}
    return ranked_rows(rows, rows, scorer, excluded, places, seen, allowed, **counts)


def ranked_rows(
    rows: Ids,
    seen_rows: Ids,
    scorer: Scorer,
    excluded: Ids,
    places: Ids | None,
    seen: CsrRows | None,
    allowed: Bool[Array, " items"] | Bool[Array, "queries items"] | None = None,
    *,
    k: int,
    width: int,
    seen_capacity: int,
) -> Ranking:
    """What :func:`rank_block` compiles, for queries whose seen items stand in other rows.

    Args:
        rows: ``int32[Q]``, the queries.
        seen_rows: ``int32[Q]``, the row of ``seen`` that counts for each.
        scorer, excluded, places, seen, allowed, k, width, seen_capacity: as there.
    """
    if seen is not None and not seen.columns.shape[0]:
        seen = None

    def by_scores(rows):
        return _rank_scores(
            rows, seen_rows, scorer, excluded, places, seen, allowed, k=k, width=width,
            seen_capacity=seen_capacity,
        )  # fmt: skip

    tables = tables_of_one_pass(scorer, places)
    if tables is None:
        ranked = by_scores(rows)
    else:
        mask = allowed
        if excluded.shape[0]:
            free = jnp.ones(tables.num_items, bool).at[excluded].set(False, mode="drop")
            mask = free if mask is None else jnp.broadcast_to(free, mask.shape) & mask
        ranked = on_platform(
            lambda rows: Ranking(
                *largest_products(tables.items, tables.queries[rows], k, mask, seen, seen_rows)
            ),
            by_scores,
        )(rows)
    return Ranking(jnp.where(ranked.scores > -jnp.inf, ranked.items, -1), ranked.scores)


def tables_of_one_pass(scorer: Scorer, places: Ids | None) -> InnerProduct | None:
    """The tables whose products a kernel ranks without holding them, where programs run on a CPU.

    Args:
        scorer: scores items.
        places: the row of each item, where they are not their own rows.

    Returns:
        The scorer itself; None where its scores have to be written.
    """
    if places is not None or not isinstance(scorer, InnerProduct):
        return None
    # A subclass may score as it likes.
    fits = type(scorer) is InnerProduct and multiplies(scorer.items, scorer.queries)
    return scorer if fits else None


def _rank_scores(
    rows: Ids,
    seen_rows: Ids,
    scorer: Scorer,
    excluded: Ids,
    places: Ids | None,
    seen: CsrRows | None,
    allowed: Bool[Array, " items"] | Bool[Array, "queries items"] | None,
    *,
    k: int,
    width: int,
    seen_capacity: int,
) -> Ranking:
    scores = exact_scores(scorer, rows)
    # Exclusions are scatters. An elementwise mask, or a slice update of rows known at compile
    # time, is fused into each of the scores' two readers, which then copy the block: measured four
    # times slower.
    scores = scores.at[excluded].set(-jnp.inf, mode="drop")
    if allowed is not None:
        allowed = allowed[:, None] if allowed.ndim == 1 else allowed.T
        scores = jnp.where(allowed, scores, -jnp.inf)

    def hide(scores):
        if seen is None:
            return scores
        positions = jnp.arange(seen_capacity, dtype=jnp.int32)
        slots, columns, inside = walk_rows(seen, seen_rows, positions)
        if places is not None:
            columns = places[columns]
        columns = jnp.where(inside, columns, scores.shape[0])
        return scores.at[columns, slots].set(-jnp.inf, mode="drop")

    def by_kernel(scores):
        if places is None:  # it knows rows as items
            return Ranking(*largest_of_columns(scores, k, seen, seen_rows))
        return Ranking(*largest_of_columns(hide(scores), k))

    return on_platform(by_kernel, lambda scores: exact_top_k(hide(scores), k, width))(scores)
