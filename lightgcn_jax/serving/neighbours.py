"""Who is like whom: cosines of vectors."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import power_of_two
from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.evaluation.ranking import Ranking, ReadyScorer, rank
from lightgcn_jax.evaluation.scorer import InnerProduct
from lightgcn_jax.graph.bipartite import CsrRows
from lightgcn_jax.models import unit_rows
from lightgcn_jax.serving.answers import Answer, Asked, answer_for, cut_to


def cosines(table: np.ndarray, offset_columns: int) -> InnerProduct:
    """Inner products of the rows scaled to length 1; a row of zeros stays as it is.

    Args:
        table: ``float32[n, D]``.
        offset_columns: how many last columns say nothing about who is like whom.
    """
    vectors = table[:, : table.shape[1] - offset_columns]
    # A square of a very long or short row is beyond float32.
    largest = np.abs(vectors).max(axis=1, initial=0, keepdims=True)
    rows = unit_rows(jax.device_put(vectors / np.where(largest > 0, largest, 1)))
    return InnerProduct(rows, rows)


def neighbours(
    asked: Asked, ids: IdMap, by: ReadyScorer, k: int | None, kind: str, cold: np.ndarray
) -> Answer:
    """The rows of highest cosine, itself left out.

    Args:
        asked: one external id, or several.
        ids: of all rows.
        by: scores rows for rows.
        k: how many for each.
        kind: what an error calls them.
        cold: ``bool`` of each row, of which nothing is known.
    """
    k = cut_to(k, len(ids), f"{kind}s there are")
    # Each leaves out one row, its own.
    places = jnp.arange(len(ids) + 1, dtype=jnp.int32)
    itself = CsrRows(places, places[:-1], longest=1)

    def best(rows: np.ndarray) -> Ranking:
        most = min(power_of_two(k), len(ids))
        ranking = rank(by, rows, most, seen=itself)
        # Rounding may lead a hair past 1.
        scores = np.minimum(ranking.scores[:, :k], np.float32(1))
        return Ranking(ranking.items[:, :k], scores)

    return answer_for(asked, ids, ids, best, kind, cold=cold)
