"""What lists of recommendations are like, beside how often they are right.

With U users whose lists are L_u of at most K items, I items, d_i the training users of item i,
n the users with a training item, and c_i = |{u : i ∈ L_u}|:

=================  ==============================================================================
gini@K             Σ_i Σ_j |c_i − c_j| / (2 I Σ_i c_i), over the whole catalogue: 0 where all
                   items are recommended equally often, 1 − 1/I where one item gets all
                   (Fleder and Hosanagar 2009)
novelty@K          mean over users of the mean over L_u of −log2(d_i / n), the self-information
                   of an item; an item without training users counts as if one had it
                   (Zhou et al. 2010)
diversity@K        mean over users of the mean over pairs of L_u of 1 − cosine of the two items'
                   columns of training users; a column without entries has cosine 0 to any
                   (intra-list similarity, Ziegler et al. 2005)
personalisation@K  1 − the mean over pairs of users of |L_u ∩ L_v| / K (Zhou et al. 2010)
popularity@K       mean over users of the mean over L_u of d_i (average recommendation popularity,
                   Abdollahpouri et al. 2019)
popularity_lift@K  popularity@K / P − 1, with P the mean over users of the mean d_i of their own
                   training items (Δ group average popularity, Abdollahpouri et al. 2019)
=================  ==============================================================================

Means over users leave out who has nothing to average: an empty list, for diversity a list of one
item, for both sides of the lift also a user without training items. Where that leaves nobody, or
personalisation finds one user only, the metric is missing. Coverage, which belongs here too, comes
with every evaluation (:mod:`lightgcn_jax.evaluation.metrics`).

Fleder and Hosanagar 2009, Management Science 55(5). Zhou et al. 2010, PNAS 107(10). Ziegler et al.
2005, WWW. Abdollahpouri et al. 2019, "The Unfairness of Popularity Bias in Recommendation".
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import scipy.sparse

from lightgcn_jax.errors import InputError
from lightgcn_jax.graph.bipartite import BipartiteGraph

CATALOGUE_METRICS = (
    "gini", "novelty", "diversity", "personalisation", "popularity", "popularity_lift",
)  # fmt: skip
# Entries of the sums of one block of lists, were none of them 0: some 48 MB.
_BLOCK_ENTRIES = 1 << 22


def catalogue_metrics(
    ranked: np.ndarray, train: BipartiteGraph, ks: Sequence[int], *, users: np.ndarray | None = None
) -> dict[str, float]:
    """Every metric of the module at several cut-offs.

    Args:
        ranked: ``int[Q, K]``, the items recommended to each user, best first, distinct within a
            row; −1 where a place is not filled.
        train: the training interactions of U users and I items; weights are not read.
        ks: cut-offs, each at most K.
        users: ``int[Q]``, the user of each row; None where row r is user r.

    Returns:
        ``{"gini@20": …, …}``, without those that are not defined.

    Raises:
        InputError: shapes, ids or cut-offs do not fit, nothing is recommended, or there is no
            training interaction.
    """
    ranked = np.asarray(ranked)
    users = np.arange(len(ranked)) if users is None else np.asarray(users)
    _check(ranked, users, train, ks)
    degrees = np.asarray(train.users_of_item.lengths()).astype(np.int64)
    training_users = np.count_nonzero(np.asarray(train.items_of_user.lengths()))
    surprise = np.log2(training_users / np.maximum(degrees, 1))
    profiles = _profile_popularity(train, degrees)[users]
    diversities = _diversities(ranked, train, sorted(set(ks)))
    metrics = {}
    for k, diversity in diversities.items():
        lists = ranked[:, :k]
        popularity = _list_means(lists, degrees)
        both = ~np.isnan(popularity) & ~np.isnan(profiles)
        values = {
            "gini": gini(np.bincount(lists[lists >= 0], minlength=train.num_items)),
            "novelty": _mean(_list_means(lists, surprise)),
            "diversity": _mean(diversity),
            "personalisation": _personalisation(lists),
            "popularity": _mean(popularity),
            "popularity_lift": _mean(popularity[both]) / _mean(profiles[both]) - 1,
        }
        metrics |= {f"{name}@{k}": x for name, x in values.items() if not np.isnan(x)}
    return metrics


def gini(counts: np.ndarray) -> float:
    """Gini coefficient Σ_i Σ_j |c_i − c_j| / (2 I Σ_i c_i).

    With the counts in ascending order it is Σ_r (2r − I − 1) c_r / (I Σ_r c_r), r from 1.

    Args:
        counts: ``int[I]``, c, not all 0.
    """
    size = len(counts)
    places = 2 * np.arange(1, size + 1) - size - 1
    return float((places * np.sort(counts)).sum() / (size * counts.sum()))


def _check(ranked: np.ndarray, users: np.ndarray, train: BipartiteGraph, ks: Sequence[int]) -> None:
    if ranked.ndim != 2 or ranked.dtype.kind not in "iu":
        raise InputError(f"ranked: expected int[users, K], got {ranked.dtype}{list(ranked.shape)}")
    if not (ranked >= 0).any():
        raise InputError("ranked: expected at least one recommended item, got none")
    if ranked.min() < -1 or ranked.max() >= train.num_items:
        raise InputError(
            f"ranked: expected items of 0 to {train.num_items - 1}, or -1, "
            f"got {ranked.min()} to {ranked.max()}"
        )
    if users.shape != ranked.shape[:1] or users.min() < 0 or users.max() >= train.num_users:
        raise InputError(
            f"users: expected {len(ranked)} rows, one a list, of 0 to {train.num_users - 1}, "
            f"got {users.size}"
        )
    if not ks or min(ks) < 1 or max(ks) > ranked.shape[1]:
        raise InputError(f"ks: expected cut-offs of 1 to {ranked.shape[1]}, got {list(ks)}")
    if not train.num_edges:
        raise InputError("train: expected at least one interaction, got none")


def _mean(values: np.ndarray) -> float:
    """The mean of what is there, NaN where nothing is."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")


def _list_means(lists: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The mean of an item's value over each list, ``float64[Q]``; NaN for an empty one."""
    filled = lists >= 0
    sums = np.where(filled, values[lists], 0).sum(axis=1)
    lengths = filled.sum(axis=1)
    return np.where(lengths > 0, sums / np.maximum(lengths, 1), np.nan)


def _profile_popularity(train: BipartiteGraph, degrees: np.ndarray) -> np.ndarray:
    """The mean d_i of each user's training items, ``float64[U]``; NaN for a user without."""
    users, items = train.pairs()
    sums = np.bincount(users, weights=degrees[items], minlength=train.num_users)
    own = np.bincount(users, minlength=train.num_users)
    return np.where(own > 0, sums / np.maximum(own, 1), np.nan)


def _personalisation(lists: np.ndarray) -> float:
    """Σ_{u<v} |L_u ∩ L_v| = Σ_i c_i (c_i − 1) / 2: no pair of users is looked at."""
    queries, k = lists.shape
    if queries < 2:
        return float("nan")
    counts = np.bincount(lists[lists >= 0])
    return 1 - float((counts * (counts - 1)).sum() / (queries * (queries - 1) * k))


def _diversities(
    ranked: np.ndarray, train: BipartiteGraph, ks: Sequence[int]
) -> dict[int, np.ndarray]:
    """The mean over a list's pairs of 1 − cosine, ``float64[Q]`` by cut-off; NaN for a list without
    a pair.

    With x_i an item's training users scaled to length 1, or 0 where it has none, the cosines of all
    pairs of a list add up to (‖Σ_i x_i‖² − Σ_i ‖x_i‖²) / 2. So no pair is looked at: a list costs
    as many steps as its items have training users, however long it is.

    Args:
        ranked: ``int[Q, K]``, −1 where a place is not filled.
        train: whose cosines.
        ks: cut-offs in ascending order.
    """
    vectors = _unit_vectors(train)
    own = np.asarray(train.users_of_item.lengths()) > 0
    block = max(1, _BLOCK_ENTRIES // train.num_users)
    found = {k: np.empty(len(ranked)) for k in ks}
    for start in range(0, len(ranked), block):
        lists = ranked[start : start + block]
        sums = scipy.sparse.csr_array((len(lists), train.num_users))
        for before, k in itertools.pairwise((0, *ks)):
            rows, places = np.nonzero(lists[:, before:k] >= 0)
            chosen = (np.ones(len(rows)), (rows, lists[:, before:k][rows, places]))
            shape = (len(lists), train.num_items)
            sums = sums + scipy.sparse.csr_array(chosen, shape=shape) @ vectors
            filled = lists[:, :k] >= 0
            lengths = filled.sum(axis=1)
            pairs = lengths * (lengths - 1) / 2
            squares = sums.multiply(sums).sum(axis=1)
            cosines = (squares - (filled & own[lists[:, :k]]).sum(axis=1)) / 2
            # Rounding may leave the range by a last bit.
            values = (1 - cosines / np.maximum(pairs, 1)).clip(0, 1)
            found[k][start : start + block] = np.where(pairs > 0, values, np.nan)
    return found


def _unit_vectors(train: BipartiteGraph) -> scipy.sparse.csr_array:
    """Each item's training users, scaled to length 1: I rows of U columns."""
    rows, shape = train.users_of_item, (train.num_items, train.num_users)
    columns, offsets = np.asarray(rows.columns), np.asarray(rows.offsets)
    lengths = np.diff(offsets)
    entries = np.repeat(1 / np.sqrt(np.maximum(lengths, 1)), lengths)
    return scipy.sparse.csr_array((entries, columns, offsets), shape=shape)
