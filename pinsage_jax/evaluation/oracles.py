"""Oracles of a generated world: rankings by its law, for whoever knows the planted factors.

They say how much there is to be found, and how much of it looks and words can tell: they show look
and use, and the style is told by the boards alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import Array, Float, Ids, Int
from lightgcn_jax.errors import InputError
from pinsage_jax.data.world import Pins
from pinsage_jax.tasks.task import HeldOut

Known = Literal["topic", "all"]
"""What an oracle knows beside popularity: look and use, or all planted factors."""

ORACLES: Mapping[str, Known] = MappingProxyType({"oracle-topic": "topic", "oracle-all": "all"})
"""The oracles by name, and what each knows."""


@flax.struct.dataclass
class OracleScores:
    """Scores an item p by P(p | q), in the notation of :func:`oracle`.

    Attributes:
        queries: ``int32[Q]``, item rows.
        cells: ``int32[I]``, the cell of each item.
        relatives: ``int32[I]``, the group of cells of each item.
        anywhere: ``float32[I]``, w r / W.
        popular: ``float32[I]``, w m r / W.
        related: ``float32[I]``, w b / W_g · m.
        drawn: ``float32[I]``, w b / W_g.
        own: ``float32[I]``, w n a² / W_k².
        founded: ``float32[I]``, n a / W_k.
        total: ``float32[I]``, Z.
    """

    queries: Int[Array, " queries"]
    cells: Int[Array, " items"]
    relatives: Int[Array, " items"]
    anywhere: Float[Array, " items"]
    popular: Float[Array, " items"]
    related: Float[Array, " items"]
    drawn: Float[Array, " items"]
    own: Float[Array, " items"]
    founded: Float[Array, " items"]
    total: Float[Array, " items"]

    @property
    def num_queries(self) -> int:
        """Q."""
        return self.queries.shape[0]

    @property
    def num_items(self) -> int:
        """I."""
        return self.cells.shape[0]

    @property
    def block_bytes_per_query(self) -> int:
        """Two comparisons and two columns of scores."""
        return 10 * self.num_items

    def scores(self, rows: Ids) -> Float[Array, "items queries"]:
        """Scores of all items for some queries.

        Args:
            rows: ``int32[B]``, queries.
        """
        query = self.queries[rows]
        near = self.relatives[:, None] == self.relatives[query][None, :]
        same = self.cells[:, None] == self.cells[query][None, :]
        related = self.related[:, None] + self.drawn[:, None] * self.founded[query][None, :]
        found = self.popular[:, None] + jnp.where(near, related, 0)
        found = found + jnp.where(same, self.own[:, None], 0)
        return self.anywhere[:, None] + found / self.total[query][None, :]


def oracle(pins: Pins, held_out: HeldOut, known: Known = "all") -> OracleScores:
    """Score p by the probability that a board draws it, given that another draw of it was q.

    A board belongs to the cell k of its founder, who is uniform over the I pins, so P(k) = n_k / I
    with n_k pins in the cell. Let g(k) be the group of all cells of its use and style; w the
    popularity, and W, W_k and W_g its sums over all pins, a cell and a group; N_g the number of
    pins of a group; and a, b, r the shares of own, related and other pins. A draw is p with

        P(p | k) = w_p (a [k = k_p] / W_k + b [k ∈ g_p] / W_g + r / W).

    The draws of a board are independent given k: P(p | q) = Σ_k P(k) P(q | k) P(p | k) / P(q). Let
    m = n_k a / W_k + N_g b / W_g of an item's cell and group, and Z = m + I r / W. Then

        P(p | q) = w_p (r / W + (r / W · m_p + [g_p = g_q] b / W_g · (m_p + n_q a / W_q)
                                 + [k_p = k_q] n_k a² / W_k²) / Z_q).

    Who knows only topics takes the mean over the styles of p and q, which are independent and
    uniform. For a board of any one style P(p | k) and P(q | k) are then replaced by their means. If
    a cell has its share of the topic's popularity, that is the same law with topics for cells and
    uses for groups.

    A pin that is drawn twice stands on a board once, which this law does not know of.

    Args:
        pins: the world.
        held_out: Q queries of one item.
        known: what is known of all pins.

    Raises:
        InputError: a query has several items.
    """
    if held_out.queries.shape[1] != 1:
        raise InputError(
            "queries: an oracle is asked from one item, expected queries of one item, "
            f"got up to {held_out.queries.shape[1]}"
        )
    config, labels, w = pins.config, pins.data.labels, pins.popularity
    styles = labels["style"] if known == "all" else np.zeros_like(labels["style"])
    cells = _numbered(labels["topic"], styles)
    relatives = _numbered(labels["use"], styles)
    a = config.graph_signal * config.board_purity
    b = config.graph_signal * config.related_share
    own, n = a / _summed(w, cells), _summed(np.ones_like(w), cells)
    drawn, group = b / _summed(w, relatives), _summed(np.ones_like(w), relatives)
    rest = (1 - a - b) / w.sum()
    m = n * own + group * drawn

    def column(values: np.ndarray) -> Array:
        return jnp.asarray(values, jnp.float32)

    return OracleScores(
        queries=jax.device_put(held_out.queries[:, 0]),
        cells=jax.device_put(cells),
        relatives=jax.device_put(relatives),
        anywhere=column(w * rest),
        popular=column(w * rest * m),
        related=column(w * drawn * m),
        drawn=column(w * drawn),
        own=column(w * n * own**2),
        founded=column(n * own),
        total=column(m + len(w) * rest),
    )


def _numbered(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """``int32[I]``, the same number for items that agree in both."""
    keys = first.astype(np.int64) * (int(second.max()) + 1) + second
    return np.unique(keys, return_inverse=True)[1].astype(np.int32)


def _summed(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """``float64[I]``, for each item the sum over all items of its group."""
    return np.bincount(groups, values)[groups]
