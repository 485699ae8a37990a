"""What popularity alone reaches: the line that every table of figures is read against."""

from __future__ import annotations

import numpy as np

from lightgcn_jax.evaluation.metrics import Evaluation, evaluate_ranked
from lightgcn_jax.evaluation.parts import EvaluationSets
from lightgcn_jax.evaluation.seen import whole_rows
from lightgcn_jax.graph.bipartite import CsrRows


def popularity_figures(sets: EvaluationSets, part: str, ks: tuple[int, ...]) -> dict[str, float]:
    """Rank a part by the items' numbers of training users, as the model ``popular`` does.

    Nothing is compiled and no score is written: a user's ranking is that of all items without the
    seen ones, so the place of each can be counted.

    Args:
        sets: the parts, and what each leaves out.
        part: the one to rank.
        ks: cut-offs.

    Returns:
        ``{"recall@20": …, …}``; ``{}`` where the part holds no pairs.
    """
    found = popularity_evaluation(sets, part, ks)
    return {} if found is None else found.metrics


def popularity_evaluation(
    sets: EvaluationSets, part: str, ks: tuple[int, ...]
) -> Evaluation | None:
    """Evaluate what :func:`popularity_figures` gives the figures of.

    Args:
        sets: the parts, and what each leaves out.
        part: the one to rank.
        ks: cut-offs.

    Returns:
        The evaluation; None where the part holds no pairs.
    """
    relevant: CsrRows = getattr(sets, part)
    rows = np.flatnonzero(relevant.lengths()).astype(np.int32)
    if not len(rows):
        return None
    num_items = len(sets.split.items)
    counts = np.bincount(np.asarray(sets.train.columns), minlength=num_items)
    # Equal counts stand in the order of rows, as in every ranking.
    order = np.argsort(-counts, kind="stable").astype(np.int32)
    seen = sets.left_out(part)
    ranked = first_unseen(order, None if seen is None else whole_rows(seen), rows, max(ks))
    return evaluate_ranked(ranked, rows, relevant, tuple(sorted(ks)), num_items)


def first_unseen(order: np.ndarray, seen: CsrRows | None, rows: np.ndarray, k: int) -> np.ndarray:
    """The first k items of an order that are not seen, for each of several users.

    Let p_0 < p_1 < … be the places of a user's seen items. Before the unseen item number q stand
    those p_j with p_j − j ≤ q, so its place is q plus their number.

    Args:
        order: ``int32[I]``, all items, best first.
        seen: row u holds user u's seen items, each once; None for none.
        rows: ``int[n]``, users.
        k: how many items.

    Returns:
        ``int32[n, k]``, −1 where a user has seen too many.
    """
    places = np.broadcast_to(np.arange(k), (len(rows), k))
    if seen is not None:
        offsets, columns = np.asarray(seen.offsets, np.int64), np.asarray(seen.columns)
        users = np.repeat(np.arange(len(offsets) - 1, dtype=np.int64), np.diff(offsets))
        place_of = np.empty(len(order), np.int64)
        place_of[order] = np.arange(len(order))
        # Sorted by user and place; a user's numbers lie in a range of their own.
        width = len(order) + k + 1
        keys = np.sort(users * width + place_of[columns])
        keys -= np.arange(len(keys)) - offsets[users]
        asked = np.asarray(rows, np.int64)[:, None]
        before = np.searchsorted(keys, asked * width + places, side="right") - offsets[asked]
        places = places + before
    found = order[np.minimum(places, len(order) - 1)]
    return np.where(places < len(order), found, np.int32(-1)).astype(np.int32)
