"""Ranking metrics, all computed from the ranked ids.

With hit_j = 1 if the item at place j (from 1) is relevant, n the user's relevant items and
m_K = min(K, n), the most that K places can hold:

===========  =====================================================================
recall@K     Σ_{j≤K} hit_j / n
precision@K  Σ_{j≤K} hit_j / K
f1@K         harmonic mean of precision@K and recall@K, 0 where both are 0
ndcg@K       Σ_{j≤K} hit_j / log2(j + 1), divided by Σ_{j≤m_K} 1 / log2(j + 1)
map@K        Σ_{j≤K} hit_j · precision@j, divided by m_K
mrr@K        1 / place of the first hit, 0 without a hit in K
hit_rate@K   1 if there is a hit in K, else 0
coverage@K   share of the catalogue that stands in some user's first K
===========  =====================================================================

All but coverage are means over the users with at least one relevant item; the others are left out
and counted. What becomes of users and items that no training interaction names is the caller's to
say (:mod:`lightgcn_jax.evaluation.cold`). Järvelin and Kekäläinen 2002 for NDCG with binary gains.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import Array, Bool, Float, Int
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.ranking import (
    ItemsOfUsers,
    ReadyScorer,
    items_of_users,
    rank,
    ready_to_rank,
    whole_number,
)
from lightgcn_jax.evaluation.scorer import Scorer
from lightgcn_jax.evaluation.sharded import ReadySharded, ShardedTables
from lightgcn_jax.graph.bipartite import CsrRows, contains

USER_METRICS = ("recall", "precision", "f1", "ndcg", "map", "mrr", "hit_rate")


class Evaluation(NamedTuple):
    """What a full ranking says.

    Attributes:
        metrics: ``{"recall@20": …, …, "coverage@20": …}``, means over the evaluated users.
        per_user: ``{"recall@20": float32[evaluated users], …}``, in the order of ``users``.
        users: ``int32``, the rows of the evaluated users.
        users_without_items: users left out because they have no relevant item.
        ranked: ``int32[evaluated users, largest K]``, the ranked items, best first; −1 where
            fewer may be recommended. Every figure above is computed from it.
        hits: ``bool`` of the same shape, whether the item there is relevant.
    """

    metrics: dict[str, float]
    per_user: dict[str, np.ndarray]
    users: np.ndarray
    users_without_items: int
    ranked: np.ndarray
    hits: np.ndarray


def metric_names(ks: Sequence[int]) -> list[str]:
    """Names of all metrics at the cut-offs, for instance ``recall@20``.

    Args:
        ks: the cut-offs.
    """
    return [f"{name}@{k}" for k in ks for name in (*USER_METRICS, "coverage")]


@functools.partial(jax.jit, static_argnames="ks")
def user_metrics(
    hits: Bool[Array, "users places"], num_relevant: Int[Array, " users"], ks: tuple[int, ...]
) -> dict[str, Float[Array, " users"]]:
    """Every per-user metric at several cut-offs.

    Args:
        hits: ``bool[U, K]``, whether the item at each place is relevant, best place first.
        num_relevant: ``int[U]``, n ≥ 1.
        ks: cut-offs, each at most K.

    Returns:
        ``{"recall@20": float32[U], …}``.

    Examples:
        Places 1 and 3 hold two of three relevant items.

        >>> hits = jnp.array([[True, False, True]])
        >>> values = user_metrics(hits, jnp.array([3]), (1, 3))
        >>> [round(float(values[name][0]), 3) for name in ("recall@1", "recall@3", "ndcg@3")]
        [0.333, 0.667, 0.704]
    """
    found = hits.astype(jnp.float32)
    relevant = num_relevant.astype(jnp.float32)
    places = jnp.arange(1, hits.shape[1] + 1, dtype=jnp.float32)[None, :]
    discounts = 1.0 / jnp.log2(places + 1.0)
    ideal_gains = jnp.cumsum(discounts[0])
    precisions = jnp.cumsum(found, axis=1) / places
    results = {}
    for k in ks:
        hit_count = found[:, :k].sum(axis=1)
        best = jnp.minimum(num_relevant, k)
        recall, precision = hit_count / relevant, hit_count / k
        any_hit = hit_count > 0
        results |= {
            f"recall@{k}": recall,
            f"precision@{k}": precision,
            f"f1@{k}": 2 * hit_count / (relevant + k),
            f"ndcg@{k}": (found * discounts)[:, :k].sum(axis=1) / ideal_gains[best - 1],
            f"map@{k}": (found * precisions)[:, :k].sum(axis=1) / best,
            f"mrr@{k}": any_hit / (1.0 + jnp.argmax(hits[:, :k], axis=1)),
            f"hit_rate@{k}": any_hit.astype(jnp.float32),
        }
    return results


_contains = jax.jit(contains)


def evaluate(
    scorer: Scorer | ReadyScorer | ShardedTables | ReadySharded,
    relevant: ItemsOfUsers,
    *,
    ks: Sequence[int],
    seen: ItemsOfUsers | None = None,
) -> Evaluation:
    """Full-ranking evaluation over all items.

    Args:
        scorer: U users and I items; ``InnerProduct(users, items)`` for embeddings, or what
            :func:`ready_scorer` made of it; or tables on a mesh.
        relevant: the items that are right for each user: a part of a split (``split.test``), two
            columns ``int[E]`` of users and items, or :class:`~lightgcn_jax.graph.CsrRows`.
        ks: cut-offs, each at most I.
        seen: the items left out of each user's ranking, likewise; None ranks unmasked.

    Returns:
        Means, per-user values, the number of users left out, and the ranking itself.

    Raises:
        InputError: a cut-off is no whole number from 1 to I, no user has a relevant item, or
            users and items do not fit the scorer.

    Examples:
        Both users have one relevant item; it stands second for the first, first for the other.

        >>> from lightgcn_jax.evaluation import InnerProduct, evaluate
        >>> scorer = InnerProduct(np.eye(2), np.array([[1, 0], [3, 2], [2, 5]]))
        >>> found = evaluate(scorer, relevant=([0, 1], [2, 2]), ks=(1, 2))
        >>> found.metrics["recall@1"], found.metrics["recall@2"]
        (0.5, 1.0)
    """
    ready = ready_to_rank(scorer)
    num_items = ready.all_items
    relevant = items_of_users("relevant", relevant, ready.scorer.num_queries, num_items)
    largest = np.asarray(relevant.columns).max(initial=-1)
    if largest >= num_items:
        raise InputError(f"relevant: expected items of 0 to {num_items - 1}, got {largest}")
    num_relevant = np.diff(np.asarray(relevant.offsets))
    rows = np.flatnonzero(num_relevant).astype(np.int32)
    if not rows.size:
        raise InputError("evaluate: expected at least one user with a relevant item, got none")
    ks = tuple(sorted({whole_number("ks", k, 1, num_items) for k in ks}))
    if not ks:
        raise InputError("ks: expected at least one cut-off, got none")
    ranked = np.asarray(rank(ready, rows, max(ks), seen=seen).items)
    return evaluate_ranked(ranked, rows, relevant, ks, num_items)


def evaluate_ranked(
    ranked: np.ndarray, rows: np.ndarray, relevant: CsrRows, ks: tuple[int, ...], num_items: int
) -> Evaluation:
    """Compute every figure from ranked items.

    Args:
        ranked: ``int32[n, largest K]``, items, best first; −1 where fewer may be recommended.
        rows: ``int32[n]``, the users they are ranked for: all that have a relevant item.
        relevant: row u holds the items that are right for user u.
        ks: cut-offs, in ascending order.
        num_items: I.
    """
    num_relevant = np.diff(np.asarray(relevant.offsets))
    # Places that could not be filled hold −1, which no row contains.
    hits = _contains(relevant, rows[:, None], ranked)
    figures = user_metrics(hits, num_relevant[rows], ks)
    per_user = {name: np.asarray(values) for name, values in figures.items()}
    means = {name: float(values.mean(dtype=np.float64)) for name, values in per_user.items()}
    for k in ks:
        recommended = np.bincount(ranked[:, :k][ranked[:, :k] >= 0], minlength=num_items)
        means[f"coverage@{k}"] = float((recommended > 0).mean())
    ordered = {name: means[name] for name in metric_names(ks)}
    without_items = len(num_relevant) - len(rows)
    return Evaluation(ordered, per_user, rows, without_items, ranked, np.asarray(hits))
