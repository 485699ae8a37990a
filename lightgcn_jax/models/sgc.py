"""Simplified graph convolution (Wu et al. 2019): a GCN without ReLU, its weights merged into one.

With W = I it is LightGCN with the layer weights (0, …, 0, 1).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import Ids, NodeTable, PRNGKey, Vectors
from lightgcn_jax.diffusion.multiscale import multiscale
from lightgcn_jax.diffusion.operator import Operator
from lightgcn_jax.diffusion.restricted import multiscale_rows
from lightgcn_jax.models.table import check_layers, check_table, normal_table


@dataclasses.dataclass(frozen=True)
class SGCConfig:
    """Shape of the model.

    Attributes:
        dim: D, dimensions of an embedding.
        layers: K, applications of Ã, at least 1.
        init_std: standard deviation of the normal initial embeddings.
    """

    dim: int = 64
    layers: int = 3
    init_std: float = 0.1

    def __post_init__(self):
        check_table(self)
        check_layers(self.layers)

    @property
    def layer_weights(self) -> tuple[float, ...]:
        """(0, …, 0, 1): of the powers of Ã the last alone."""
        return (0.0,) * self.layers + (1.0,)


class SGCParams(NamedTuple):
    """What is learnt.

    Attributes:
        table: ``float[N, D]``, the layer-0 embeddings, users first.
        weights: variables of one linear map without bias, D×D.
    """

    table: NodeTable
    weights: Mapping[str, Any]


def init(key: PRNGKey, num_nodes: int, config: SGCConfig) -> SGCParams:
    """Normal layer-0 embeddings; uniform weights of Glorot and Bengio (2010)."""
    table_key, weights_key = jax.random.split(key)
    weights = _linear(config).init(weights_key, jnp.zeros((1, config.dim)))
    return SGCParams(normal_table(table_key, num_nodes, config), weights)


def apply(params: SGCParams, operator: Operator, config: SGCConfig) -> NodeTable:
    """Final embeddings Ã^K E W, ``float[N, D]`` (Wu et al. 2019, section 2.2).

    Args:
        params: of :func:`init`.
        operator: Ã, N×N.
        config: shape of the model.
    """
    diffused = multiscale(operator, params.table, config.layer_weights)
    return cast(NodeTable, _linear(config).apply(params.weights, diffused))


def apply_rows(
    params: SGCParams,
    operator: Operator,
    config: SGCConfig,
    rows: Ids,
) -> Vectors:
    """The final embeddings of a few nodes, ``float[Q, D]``, as a mini-batch needs them."""
    diffused = multiscale_rows(operator, params.table, config.layer_weights, rows)
    return cast(Vectors, _linear(config).apply(params.weights, diffused))


def _linear(config: SGCConfig) -> nn.Dense:
    glorot = nn.initializers.glorot_uniform()
    return nn.Dense(config.dim, use_bias=False, kernel_init=glorot)
