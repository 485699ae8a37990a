"""A graph neural network in its general form, h_v(k+1) = COMBINE(h_v(k), AGGR(h_u(k), u ∈ N(v))).

Hamilton et al. 2017 (GraphSAGE), algorithm 1, with all neighbours in place of a sample, without
biases and without scaling each layer's vectors to length 1. Maxima are those of the vectors
themselves, not of a layer of their own over them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, cast, get_args

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import jraph
import numpy as np

from lightgcn_jax.arrays import Array, Ids, Int, NodeTable, PRNGKey, Vectors
from lightgcn_jax.diffusion.operator import Operator
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph.bipartite import BipartiteGraph
from lightgcn_jax.graph.normalization import Normalization, normalized_adjacency
from lightgcn_jax.models.layers import Reach, reaches, unconnected, whole
from lightgcn_jax.models.table import check_layers, check_table, normal_table

Aggregate = Literal["mean", "sum", "max"]
Combine = Literal["concat", "add"]


@dataclasses.dataclass(frozen=True)
class GNNConfig:
    """Shape of the model.

    Attributes:
        dim: D, dimensions of an embedding, in every layer.
        layers: K, at least 1.
        aggregate: what becomes of the neighbours' vectors, elementwise. Edge weights enter a mean
            and a sum, not a maximum.
        combine: ``concat``, ReLU(W [h, m]), or ``add``, ReLU(W (h + m)), for a node's vector h and
            its neighbours' aggregate m.
        init_std: standard deviation of the normal initial embeddings.
    """

    dim: int = 64
    layers: int = 2
    aggregate: Aggregate = "mean"
    combine: Combine = "concat"
    init_std: float = 0.1

    def __post_init__(self):
        check_table(self)
        check_layers(self.layers)
        for field, kind in (("aggregate", Aggregate), ("combine", Combine)):
            if getattr(self, field) not in get_args(kind):
                raise InputError(
                    f"{field}: expected one of {get_args(kind)}, got {getattr(self, field)!r}"
                )


def normalization_of(aggregate: Aggregate) -> Normalization | None:
    """The normalisation of the operator that :func:`apply` wants; None for ``max``, which applies
    none."""
    return {"mean": "row", "sum": "none", "max": None}[aggregate]


@flax.struct.dataclass
class Edges:
    """All directed edges, sorted by receiver.

    Attributes:
        senders: ``int32[2E]``.
        receivers: ``int32[2E]``, non-decreasing.
    """

    senders: Int[Array, " edges"]
    receivers: Int[Array, " edges"]


def edges_of(graph: BipartiteGraph) -> Edges:
    """The edges of a graph, both directions of each interaction."""
    matrix = normalized_adjacency(graph, "none")
    receivers = np.repeat(np.arange(graph.num_nodes, dtype=np.int32), matrix.lengths)
    return Edges(jnp.asarray(matrix.columns), jnp.asarray(receivers))


class GNNParams(NamedTuple):
    """What is learnt.

    Attributes:
        table: ``float[N, D]``, the layer-0 embeddings, users first.
        weights: variables of :class:`GNNLayers`, K matrices 2D×D (``concat``) or D×D (``add``).
    """

    table: NodeTable
    weights: Mapping[str, Any]


class GNNLayers(nn.Module):
    """K rounds of aggregating and combining."""

    dim: int
    combine: Combine

    @nn.compact
    def __call__(self, nodes: NodeTable, layers: Sequence[Reach]) -> Vectors:
        glorot = nn.initializers.glorot_uniform()
        for k, reach in enumerate(layers):
            own, messages = reach.own(nodes), reach.neighbours(nodes)
            if self.combine == "concat":
                joined = jnp.concatenate([own, messages], axis=1)
            else:
                joined = own + messages
            linear = nn.Dense(self.dim, use_bias=False, kernel_init=glorot, name=f"layer_{k}")
            nodes = nn.relu(linear(joined))
        return nodes


def init(key: PRNGKey, num_nodes: int, config: GNNConfig) -> GNNParams:
    """Normal layer-0 embeddings; uniform weights of Glorot and Bengio (2010)."""
    table_key, weights_key = jax.random.split(key)
    weights = GNNLayers(config.dim, config.combine).init(
        weights_key, jnp.zeros((1, config.dim)), unconnected(config.layers)
    )
    return GNNParams(normal_table(table_key, num_nodes, config), weights)


def apply(
    params: GNNParams, operator: Operator | None, config: GNNConfig, edges: Edges | None = None
) -> NodeTable:
    """Final embeddings: those of the last layer, ``float[N, D]``, none negative.

    A node without neighbours aggregates to zeros.

    Args:
        params: of :func:`init`.
        operator: N×N, of the normalisation that :func:`normalization_of` names; not for ``max``.
        config: shape of the model.
        edges: for ``max`` alone, which holds one message an edge, ``[2E, D]``. Its senders and
            receivers are rows of the table.

    Raises:
        InputError: what the aggregate needs is missing.
    """
    return _applied(params, config, _reaches(operator, edges, config))


def apply_rows(
    params: GNNParams,
    operator: Operator | None,
    config: GNNConfig,
    rows: Ids,
    edges: Edges | None = None,
) -> Vectors:
    """The final embeddings of a few nodes, ``float[Q, D]``, as a mini-batch needs them."""
    return _applied(params, config, _reaches(operator, edges, config, rows))


def _applied(params: GNNParams, config: GNNConfig, layers: Sequence[Reach]) -> Vectors:
    module = GNNLayers(config.dim, config.combine)
    return cast(Vectors, module.apply(params.weights, params.table, layers))


def _reaches(
    operator: Operator | None,
    edges: Edges | None,
    config: GNNConfig,
    rows: Ids | None = None,
) -> list[Reach]:
    if config.aggregate != "max":
        if operator is None:
            raise InputError(
                f"operator: expected that of the graph for aggregate {config.aggregate}, got none"
            )
        return reaches(operator, config.layers, rows)
    if edges is None:
        raise InputError("edges: expected those of the graph for aggregate max, got none")
    layers = [whole(lambda x: _maxima(edges, x))] * config.layers
    if rows is not None:
        layers[-1] = Reach(lambda x: _maxima(edges, x)[rows], lambda x: x[rows])
    return layers


def _maxima(edges: Edges, nodes: NodeTable) -> NodeTable:
    maxima = jraph.segment_max(
        nodes[edges.senders], edges.receivers, len(nodes), indices_are_sorted=True
    )
    return jnp.where(jnp.isneginf(maxima), 0, maxima)
