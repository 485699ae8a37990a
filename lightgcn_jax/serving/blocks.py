"""Exact search among vectors that stay on the disk: a block of them after another."""

from __future__ import annotations

import jax
import numpy as np

from lightgcn_jax.evaluation.ranking import Ranking, rank
from lightgcn_jax.evaluation.scorer import InnerProduct

BLOCK_ROWS = 1 << 20
"""Vectors that are held at once."""


def best_in_blocks(
    vectors: np.ndarray,
    is_there: np.ndarray,
    queries: np.ndarray,
    k: int,
    rows_at_once: int = BLOCK_ROWS,
) -> Ranking:
    """The rows of highest inner product, ties to the lower row.

    Blocks are filled up to one size, so that one program serves all of them.

    Args:
        vectors: ``float32[n, D]``, mapped from a file for instance.
        is_there: ``bool[n]``, which rows may be found.
        queries: ``float32[Q, D]``.
        k: K.
        rows_at_once: rows of a block; K where that is more.

    Returns:
        ``items int32[Q, K]``, −1 where fewer may be found, and ``scores float32[Q, K]``.
    """
    rows_at_once = max(rows_at_once, k)
    rows, asked = np.arange(len(queries)), jax.device_put(queries)
    best = Ranking(
        np.full((len(queries), k), -1, np.int32), np.full((len(queries), k), -np.inf, np.float32)
    )
    for start in range(0, len(vectors), rows_at_once):
        block, allowed = (one[start : start + rows_at_once] for one in (vectors, is_there))
        spare = rows_at_once - len(block)
        if spare:
            block, allowed = np.pad(block, ((0, spare), (0, 0))), np.pad(allowed, (0, spare))
        found = rank(InnerProduct(asked, jax.device_put(block)), rows, k, allowed=allowed)
        items = np.where(found.items >= 0, found.items + start, -1)
        both = Ranking(
            np.concatenate([best.items, items], 1), np.concatenate([best.scores, found.scores], 1)
        )
        # Stable: of equal scores the earlier block's stands first.
        order = np.argsort(-both.scores, axis=1, kind="stable")[:, :k]
        best = Ranking(*(np.take_along_axis(one, order, 1) for one in both))
    return Ranking(best.items.astype(np.int32), best.scores)
