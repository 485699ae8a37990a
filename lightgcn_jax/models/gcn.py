"""Graph convolutional network (Kipf and Welling 2017) on learnt layer-0 embeddings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import Ids, NodeTable, PRNGKey, Vectors
from lightgcn_jax.diffusion.operator import Operator
from lightgcn_jax.models.layers import Reach, reaches, unconnected
from lightgcn_jax.models.table import check_layers, check_table, normal_table


@dataclasses.dataclass(frozen=True)
class GCNConfig:
    """Shape of the model.

    Attributes:
        dim: D, dimensions of an embedding, in every layer.
        layers: K, at least 1.
        init_std: standard deviation of the normal initial embeddings.
    """

    dim: int = 64
    layers: int = 3
    init_std: float = 0.1

    def __post_init__(self):
        check_table(self)
        check_layers(self.layers)


class GCNParams(NamedTuple):
    """What is learnt.

    Attributes:
        table: ``float[N, D]``, the layer-0 embeddings, users first.
        weights: variables of :class:`GCNLayers`, K matrices D×D.
    """

    table: NodeTable
    weights: Mapping[str, Any]


class GCNLayers(nn.Module):
    """E(k+1) = ReLU(Ã E(k) W(k)) for k = 0 … K − 1."""

    dim: int

    @nn.compact
    def __call__(self, nodes: NodeTable, layers: Sequence[Reach]) -> Vectors:
        glorot = nn.initializers.glorot_uniform()
        for k, reach in enumerate(layers):
            linear = nn.Dense(self.dim, use_bias=False, kernel_init=glorot, name=f"layer_{k}")
            nodes = nn.relu(linear(reach.neighbours(nodes)))
        return nodes


def init(key: PRNGKey, num_nodes: int, config: GCNConfig) -> GCNParams:
    """Normal layer-0 embeddings; uniform weights of Glorot and Bengio (2010)."""
    table_key, weights_key = jax.random.split(key)
    weights = GCNLayers(config.dim).init(
        weights_key, jnp.zeros((1, config.dim)), unconnected(config.layers)
    )
    return GCNParams(normal_table(table_key, num_nodes, config), weights)


def apply(params: GCNParams, operator: Operator, config: GCNConfig) -> NodeTable:
    """Final embeddings E(K) of E(k+1) = ReLU(Ã E(k) W(k)), ``float[N, D]``, none negative.

    Kipf and Welling 2017, equation 2, with Ã of the graph without self-loops.

    Args:
        params: of :func:`init`.
        operator: Ã, N×N.
        config: shape of the model.
    """
    return _applied(params, config, reaches(operator, config.layers))


def apply_rows(
    params: GCNParams,
    operator: Operator,
    config: GCNConfig,
    rows: Ids,
) -> Vectors:
    """The final embeddings of a few nodes, ``float[Q, D]``, as a mini-batch needs them."""
    return _applied(params, config, reaches(operator, config.layers, rows))


def _applied(params: GCNParams, config: GCNConfig, layers: Sequence[Reach]) -> Vectors:
    return cast(Vectors, GCNLayers(config.dim).apply(params.weights, params.table, layers))
