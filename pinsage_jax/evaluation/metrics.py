"""How good item vectors are, by the ranks of held-out positives and by triplets.

Every ranked figure comes from the exact ranks of :mod:`pinsage_jax.evaluation.ranks`. With R the
rank of p, from 1, for a held-out pair (q, p):

============  ============================================================================
hit_rate@K    share of pairs with R ≤ K (Ying et al. 2018, section 4.2)
mrr           mean over pairs of 1 / ceil(R / scale), section 4.2; scale 1 unless named
recall@K      share of a query's positives with R ≤ K, a mean over queries
ndcg@K        binary gains, a mean over queries, as ``lightgcn_jax.evaluation`` defines it
============  ============================================================================

The first two are means over *pairs*: a query of two positives counts twice. The paper ranks a
positive among a sample of the catalogue with scale 100; here it stands among the whole pool.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import Array, Float, Ids, Int, ItemTable, PRNGKey
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import Scorer, user_metrics
from pinsage_jax.config import CUTOFFS
from pinsage_jax.encoder.pinsage import unit
from pinsage_jax.evaluation.ranks import (
    checked_vectors,
    compose_queries,
    held_out_scorer,
    pool_rows,
    ranks_of,
    reciprocal_ranks,
)
from pinsage_jax.tasks.new_partners import NewPartners
from pinsage_jax.tasks.task import HeldOut

# How many bytes the distances of one block of pairs may take.
_BLOCK_BYTES = 32_000_000


class ItemMetrics(NamedTuple):
    """Figures of held-out pairs, made of their ranks.

    Attributes:
        metrics: ``{"hit_rate@10": …, "mrr": …, "recall@10": …, "ndcg@10": …}``; a scale other than
            1 is part of the name, ``mrr/100``.
        per_query: the same names, ``float32[evaluated queries]`` each, for paired tests; metrics of
            pairs are means over the query's pairs.
        queries: ``int32``, the rows of the evaluated queries.
        ranks: ``int32[pairs]``, as :func:`ranks_of` gives them.
        pool: how many items are ranked, the seen ones included.
        mrr_scale: the scale of ``mrr``.
        queries_without_positives: how many queries are left out because nothing is relevant.
        empty_queries: how many evaluated queries have no valid item; their vector is zero.
        unranked: how many positives are seen or outside the pool; they count as misses.
    """

    metrics: dict[str, float]
    per_query: dict[str, np.ndarray]
    queries: np.ndarray
    ranks: np.ndarray
    pool: int
    mrr_scale: int
    queries_without_positives: int
    empty_queries: int
    unranked: int


class TripletAccuracy(NamedTuple):
    """How often a positive is nearer than a random item.

    Attributes:
        accuracy: the mean of ``per_pair``; ½ by chance.
        per_pair: ``float32[pairs]``, the share of a pair's triplets that are right.
        left_out: how many pairs are left out because their query has no valid item.
    """

    accuracy: float
    per_pair: np.ndarray
    left_out: int


def evaluate_items(
    model: Scorer | ItemTable | np.ndarray,
    held_out: HeldOut,
    *,
    ks: Sequence[int] = CUTOFFS,
    mrr_scale: int = 1,
    candidates: np.ndarray | None = None,
) -> ItemMetrics:
    """Compute hit-rate, MRR, recall and NDCG of held-out pairs from one exact ranking.

    Args:
        model: a scorer of Q queries, or item vectors, as :func:`ranks_of` takes it.
        held_out: Q queries, their positives and their seen items.
        ks: cut-offs, each at most the pool.
        mrr_scale: what MRR divides a rank by before rounding up; 100 in the paper.
        candidates: ``int[C]``, the pool, ascending; None for all items.

    Raises:
        InputError: a cut-off or the scale is out of range, no query has a positive, or as for
            :func:`ranks_of`.
    """
    counts = np.asarray(held_out.relevant.lengths())
    rows = np.flatnonzero(counts).astype(np.int32)
    if not rows.size:
        raise InputError("held_out: expected at least one query with a positive, got none")
    if mrr_scale < 1:
        raise InputError(f"mrr_scale: expected a whole number of at least 1, got {mrr_scale}")
    scorer = held_out_scorer(model, held_out)
    pool, ks = len(pool_rows(scorer.num_items, candidates)), tuple(sorted(set(ks)))
    if not ks or ks[0] < 1 or ks[-1] > pool:
        raise InputError(f"ks: expected cut-offs of 1 to {pool} (items of the pool), got {ks}")
    ranks = ranks_of(scorer, held_out, candidates=candidates)
    positives, ranked = counts[rows], ranks > 0
    owners = np.repeat(np.arange(len(rows)), positives)
    per_pair: dict[str, np.ndarray] = {f"hit_rate@{k}": ranked & (ranks <= k) for k in ks}
    mrr = "mrr" if mrr_scale == 1 else f"mrr/{mrr_scale}"
    per_pair[mrr] = reciprocal_ranks(ranks, mrr_scale)
    per_query = {name: np.bincount(owners, values) / positives for name, values in per_pair.items()}
    within = ranked & (ranks <= ks[-1])
    hits = np.zeros((len(rows), ks[-1]), bool)
    hits[owners[within], ranks[within] - 1] = True
    by_list = user_metrics(jax.device_put(hits), jax.device_put(positives), ks)
    for name in (f"{metric}@{k}" for metric in ("recall", "ndcg") for k in ks):
        per_query[name] = np.asarray(by_list[name])
    return ItemMetrics(
        metrics={
            name: float(np.mean(per_pair.get(name, values), dtype=np.float64))
            for name, values in per_query.items()
        },
        per_query={name: values.astype(np.float32) for name, values in per_query.items()},
        queries=rows,
        ranks=ranks,
        pool=pool,
        mrr_scale=mrr_scale,
        queries_without_positives=len(counts) - len(rows),
        empty_queries=int((np.asarray(held_out.queries)[rows] < 0).all(axis=1).sum()),
        unranked=int((~ranked).sum()),
    )


def fitting_ks(ks: Sequence[int], pool: int) -> list[int]:
    """The cut-offs that a catalogue has items for; one that is smaller than all is ranked whole.

    Args:
        ks: cut-offs.
        pool: how many items are ranked.
    """
    return [k for k in ks if k <= pool] or [pool]


def check_ks(ks: Sequence[int], pool: int) -> None:
    """Refuse cut-offs that the catalogue has no items for, where somebody asked for them.

    Args:
        ks: cut-offs.
        pool: how many items are ranked.

    Raises:
        InputError: one is larger, and they are not those of the default.
    """
    if tuple(ks) != CUTOFFS and max(ks) > pool:
        raise InputError(
            f"ks: expected cut-offs of at most {pool}, the ranked items, got {max(ks)}"
        )


def ranked_items(
    scorer: Scorer,
    held_out: HeldOut,
    candidates: np.ndarray | None = None,
    ks: Sequence[int] = CUTOFFS,
) -> ItemMetrics:
    """Rank the positives of held-out pairs, with metrics at those cut-offs that the catalogue has
    items for.

    Args:
        scorer: scores of Q queries.
        held_out: the pairs.
        candidates: ``int[C]``, the items that are ranked; None for all.
        ks: cut-offs.
    """
    pool = scorer.num_items if candidates is None else len(candidates)
    return evaluate_items(scorer, held_out, ks=fitting_ks(ks, pool), candidates=candidates)


def ranked_metrics(
    scorer: Scorer,
    held_out: HeldOut,
    candidates: np.ndarray | None = None,
    ks: Sequence[int] = CUTOFFS,
) -> dict[str, float]:
    """Compute the metrics of held-out pairs.

    Args:
        scorer: scores of Q queries.
        held_out: the pairs.
        candidates: ``int[C]``, the items that are ranked; None for all.
        ks: cut-offs.
    """
    return ranked_items(scorer, held_out, candidates, ks).metrics


def new_partner_metrics(
    model: Scorer | ItemTable | np.ndarray,
    found: NewPartners,
    candidates: np.ndarray | None = None,
) -> dict[str, float]:
    """Compute hit-rates and MRR among items that the query is not known to go with.

    Args:
        model: a scorer of the queries, or item vectors. It is to score by what was seen before
            partners were added to it, where it reads that at all.
        found: the pairs.
        candidates: ``int[C]``, the items that are ranked; None for all.

    Returns:
        ``new_partner/hit_rate@10``, …, ``new_partner/mrr``; nothing where no pair is left.
    """
    if not found.kept:
        return {}
    scorer = held_out_scorer(model, found.held_out)
    metrics = ranked_metrics(scorer, found.held_out, candidates)
    named = (name for name in metrics if name.startswith(("hit_rate", "mrr")))
    return {f"new_partner/{name}": metrics[name] for name in named}


def chance(num_pool: int, k: int) -> float:
    """Compute the hit-rate by chance: the probability that a uniformly random rank is at most K.

    Args:
        num_pool: how many items are ranked.
        k: K.
    """
    if num_pool < 1 or k < 0:
        raise InputError(f"chance: expected a pool of at least 1 and K ≥ 0, got {num_pool} and {k}")
    return min(k, num_pool) / num_pool


def directions(vectors: ItemTable | np.ndarray) -> np.ndarray:
    """Scale vectors to length 1, so that the long vector of a popular item is not far from all.

    Args:
        vectors: ``float[I, D]``; a zero vector stays zero.
    """
    return np.asarray(unit(jnp.asarray(vectors)))


def triplet_accuracy(
    key: PRNGKey,
    vectors: ItemTable | np.ndarray,
    held_out: HeldOut,
    *,
    draws: int = 100,
    candidates: np.ndarray | None = None,
) -> TripletAccuracy:
    """Measure how often d(query, positive) < d(query, random).

    d is the Euclidean distance, ties count half, and the random item is uniform over the pool
    without the query's items and the positive.

    Args:
        key: consumed; the draws of a pair depend on its place in ``held_out``, not on the blocks.
        vectors: ``float32[I, D]``; take :func:`directions` where lengths should not count.
        held_out: the pairs; their seen items are not used.
        draws: how many random items each pair gets, with replacement.
        candidates: ``int[C]``, the pool, ascending; None for all items.

    Raises:
        InputError: shapes do not fit, there is no pair with a valid query, or a pair leaves no
            random item.
    """
    if draws < 1:
        raise InputError(f"draws: expected at least 1, got {draws}")
    vectors = checked_vectors(vectors)
    pool = pool_rows(len(vectors), candidates)
    all_queries = np.asarray(held_out.queries)
    counts = np.asarray(held_out.relevant.lengths())
    queries = np.repeat(all_queries, counts, axis=0)
    related = np.asarray(held_out.relevant.columns)
    pairs = np.flatnonzero((queries >= 0).any(axis=1)).astype(np.int32)
    if not pairs.size:
        raise InputError("held_out: expected at least one pair with a valid query, got none")
    if len(pool) < queries.shape[1] + 2:
        raise InputError(
            f"pool: expected at least {queries.shape[1] + 2} items, so that one is neither the "
            f"query's nor the positive, got {len(pool)}"
        )
    size = max(1, min(len(pairs), _BLOCK_BYTES // (4 * vectors.shape[1] * (draws + 1))))
    blocks = np.pad(pairs, (0, -len(pairs) % size), mode="edge").reshape(-1, size)
    pool = jnp.asarray(pool)
    shares = [
        np.asarray(
            _triplet_block(key, block, vectors, queries[block], related[block], pool, draws=draws)
        )
        for block in blocks
    ]
    per_pair = np.concatenate(shares)[: len(pairs)]
    accuracy = float(per_pair.mean(dtype=np.float64))
    return TripletAccuracy(accuracy, per_pair, len(related) - len(pairs))


@functools.partial(jax.jit, static_argnames="draws")
def _triplet_block(
    key: PRNGKey,
    pairs: Ids,
    vectors: ItemTable,
    queries: Int[Array, "batch items"],
    related: Ids,
    pool: Int[Array, " pool"],
    *,
    draws: int,
) -> Float[Array, " batch"]:
    """The share of each pair's triplets that are right."""
    excluded = _places_in(pool, jnp.concatenate([queries, related[:, None]], axis=1))
    left = pool.shape[0] - (excluded < pool.shape[0]).sum(axis=1)

    def draw(pair, left):
        return jax.random.randint(jax.random.fold_in(key, pair), (draws,), 0, left, jnp.int32)

    def step_over(drawn, place):
        return drawn + (drawn >= place[:, None]).astype(jnp.int32), ()

    # A rank among the items left becomes a place in the pool: it steps over each excluded place.
    drawn, _ = jax.lax.scan(step_over, jax.vmap(draw)(pairs, left), excluded.T)
    others = jnp.concatenate([related[:, None], pool[drawn]], axis=1)
    # One reduction for both distances: equal vectors are then equally far, to the last bit.
    apart = vectors[others] - compose_queries(vectors, queries)[:, None, :]
    distances = jnp.square(apart).sum(axis=2)
    near, far = distances[:, :1], distances[:, 1:]
    return ((near < far) + 0.5 * (near == far)).mean(axis=1)


def _places_in(
    pool: Int[Array, " pool"], items: Int[Array, "batch items"]
) -> Int[Array, "batch items"]:
    """Places of a row's distinct items in the pool, ascending; C for all else."""
    size = pool.shape[0]
    places = jnp.minimum(jnp.searchsorted(pool, items), size - 1).astype(jnp.int32)
    places = jnp.sort(jnp.where(pool[places] == items, places, size), axis=1)
    repeated = jnp.pad(places[:, 1:] == places[:, :-1], ((0, 0), (1, 0)))
    return jnp.sort(jnp.where(repeated, size, places), axis=1)
