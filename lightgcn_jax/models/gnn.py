"""A graph neural network in its general form, h_v(k+1) = COMBINE(h_v(k), AGGR(h_u(k), u ∈ N(v))).

Hamilton et al. 2017 (GraphSAGE), algorithm 1, with all neighbours in place of a sample, without
biases and without scaling each layer's vectors to length 1. Maxima are taken over the neighbours'
vectors themselves, without a layer of their own.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import flax.struct
import jax
import jax.numpy as jnp
import jraph
import numpy as np

from lightgcn_jax.arrays import Array, Ids, Int, NodeTable, Vectors
from lightgcn_jax.errors import InputError
from lightgcn_jax.fields import LAYERS, POSITIVE, one_of, setting, whole
from lightgcn_jax.graph.bipartite import BipartiteGraph
from lightgcn_jax.graph.normalization import Normalization, normalized_adjacency
from lightgcn_jax.models.layers import LayeredModel, ReluLayers

Aggregate = Literal["mean", "sum", "max"]
Combine = Literal["concat", "add"]

_JOINED = {"concat": lambda own, messages: jnp.concatenate([own, messages], axis=1), "add": jnp.add}


@flax.struct.dataclass
class Edges:
    """All directed edges, sorted by receiver.

    Attributes:
        senders: ``int32[2E]``, rows of the node table.
        receivers: ``int32[2E]``, non-decreasing.
    """

    senders: Int[Array, " edges"]
    receivers: Int[Array, " edges"]


def edges_of(graph: BipartiteGraph) -> Edges:
    """The edges of a graph, both directions of each interaction.

    Args:
        graph: the interactions.

    Raises:
        InputError: they have weights, which a largest message has no place for.
    """
    if graph.weights() is not None:
        raise InputError(
            "aggregate: max takes no weights of interactions; choose mean or sum, or leave the "
            "weights out"
        )
    matrix = normalized_adjacency(graph, "none")
    receivers = np.repeat(np.arange(graph.num_nodes, dtype=np.int32), matrix.lengths)
    return Edges(jax.device_put(matrix.columns), jax.device_put(receivers))


@dataclasses.dataclass(frozen=True)
class GNN(LayeredModel):
    """Final embeddings h(K), none of whose entries is negative, from learnt layer-0 embeddings.

    A node without neighbours aggregates to zeros. The aggregate ``max`` holds one message for each
    edge, ``[2E, D]``.

    Attributes:
        dim: dimensions D of an embedding, in every layer.
        layers: rounds K, at least 1.
        aggregate: what becomes of the neighbours' vectors, elementwise.
        combine: ReLU(W [h, m]) (``concat``) or ReLU(W (h + m)) (``add``), for a node's vector h and
            its neighbours' aggregate m.
        init_std: standard deviation of the initial embeddings.
    """

    dim: int = setting(64, whole(1))
    layers: int = setting(3, whole(1, LAYERS))
    aggregate: Aggregate = setting("mean", one_of(Aggregate))
    combine: Combine = setting("concat", one_of(Combine))
    init_std: float = setting(0.1, POSITIVE)

    @property
    def module(self) -> ReluLayers:
        """The layers."""
        return ReluLayers(self.dim, _JOINED[self.combine])

    @property
    def normalization(self) -> Normalization:
        """Means or sums; maxima read the edges as they are."""
        return "row" if self.aggregate == "mean" else "none"

    def operator_of(self, graph: BipartiteGraph, backend: Any = "auto") -> Any:
        """The operator of means or sums, or for ``max`` the :class:`Edges`.

        Args:
            graph: the training interactions.
            backend: storage of the operator.
        """
        return edges_of(graph) if self.aggregate == "max" else super().operator_of(graph, backend)

    def _neighbours(self, operator: Any, x: NodeTable, rows: Ids | None = None) -> Vectors:
        if self.aggregate != "max":
            return super()._neighbours(operator, x, rows)
        maxima = _maxima(operator, x)
        return maxima if rows is None else maxima[rows]


def _maxima(edges: Edges, nodes: NodeTable) -> NodeTable:
    maxima = jraph.segment_max(
        nodes[edges.senders], edges.receivers, len(nodes), indices_are_sorted=True
    )
    return jnp.where(jnp.isneginf(maxima), 0, maxima)
