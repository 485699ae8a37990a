"""The K largest of many scores by operations of XLA, exact, with ties to the lower row."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import Array, Float, RankedIds


class Ranking(NamedTuple):
    """The K best items of each query, best first.

    Attributes:
        items: ``int32[Q, K]``; −1 where fewer than K items may be recommended.
        scores: ``float32[Q, K]``; −inf there.
    """

    items: RankedIds | np.ndarray
    scores: Float[Array, "queries cutoff"] | np.ndarray


def group_width(num_items: int, k: int) -> int:
    """Items in a group of :func:`exact_top_k`: a power of two near √(I/K).

    That sorts the fewest elements, but for a few percent. Between two powers of two the narrower is
    a little faster. A catalogue filled up to whole groups of one width is so for narrower ones.

    Args:
        num_items: I.
        k: K, from 1 to I.
    """
    return 1 << math.floor(math.log2(num_items / k) / 2 + 0.4)


def exact_top_k(scores: Float[Array, "items queries"], k: int, width: int) -> Ranking:
    """The K largest of each column with ties to the lower row, as a stable full sort gives them.

    Rows are cut into G groups of neighbours. Only the K groups with the largest maxima (ties to
    the lower group) can hold one of a column's K largest: against any other group stand K groups
    with an element each that is larger, or as large and earlier. Those K groups, put back in row
    order, are ranked: the scores are read once for the maxima, and sorting touches about 2√(K·I)
    elements in place of I. Items run along the first axis so that the maxima are taken over whole
    cache lines of queries.

    Args:
        scores: ``float[I, Q]`` with I a multiple of ``width`` (pad with −inf), no NaN; zeros of
            either sign are equal.
        k: K ≤ I.
        width: rows in a group; :func:`group_width` names the best.

    Returns:
        ``items int32[Q, K]`` and ``scores float[Q, K]``.
    """
    num_items, queries = scores.shape
    groups = num_items // width
    if width == 1 or groups <= k:
        best_scores, best = jax.lax.top_k(unsigned_zeros(scores.T), k)
        return Ranking(best.astype(jnp.int32), best_scores)
    grouped = scores.reshape(groups, width, queries)
    _, best_groups = jax.lax.top_k(unsigned_zeros(grouped.max(axis=1).T), k)
    best_groups = jnp.sort(best_groups, axis=1).astype(jnp.int32)
    candidates = grouped[
        best_groups[:, :, None], jnp.arange(width), jnp.arange(queries)[:, None, None]
    ]
    flat = unsigned_zeros(candidates.reshape(queries, k * width))
    best_scores, best = jax.lax.top_k(flat, k)
    group = jnp.take_along_axis(best_groups, best // width, axis=1)
    return Ranking((group * width + best % width).astype(jnp.int32), best_scores)


def unsigned_zeros(scores: Float[Array, "..."]) -> Float[Array, "..."]:
    """Zeros without a sign: ``top_k`` puts −0 below +0, which are equal.

    Args:
        scores: of any shape.
    """
    return jnp.where(scores == 0, 0, scores)
