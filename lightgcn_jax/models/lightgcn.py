"""LightGCN (He et al. 2020): learnt layer-0 embeddings, diffused over the graph."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import Ids, ItemTable, NodeTable, PRNGKey, UserTable, Vectors
from lightgcn_jax.diffusion.multiscale import multiscale, uniform_alphas
from lightgcn_jax.diffusion.operator import Operator
from lightgcn_jax.diffusion.restricted import Restriction, multiscale_rows
from lightgcn_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class LightGCNConfig:
    """Shape of the model.

    Attributes:
        dim: D, dimensions of an embedding.
        layers: K, applications of Ã; 0 is matrix factorisation.
        alphas: K + 1 layer weights; None is uniform, 1/(K + 1).
        init_std: standard deviation of the normal initial embeddings.
    """

    dim: int = 64
    layers: int = 3
    alphas: tuple[float, ...] | None = None
    init_std: float = 0.1

    def __post_init__(self):
        if self.dim < 1:
            raise InputError(f"dim: expected at least 1, got {self.dim}")
        if self.layers < 0:
            raise InputError(f"layers: expected 0 or more, got {self.layers}")
        if self.alphas is not None and len(self.alphas) != self.layers + 1:
            raise InputError(
                f"alphas: expected layers + 1 = {self.layers + 1} weights, got {len(self.alphas)}"
            )
        if not all(map(math.isfinite, self.layer_weights)):
            raise InputError(f"alphas: expected finite weights, got {self.alphas}")
        if not 0 < self.init_std < math.inf:
            raise InputError(f"init_std: expected a positive number, got {self.init_std}")

    @property
    def layer_weights(self) -> tuple[float, ...]:
        """alpha_0 … alpha_K."""
        return self.alphas if self.alphas is not None else uniform_alphas(self.layers)


class LightGCNParams(NamedTuple):
    """What is learnt.

    Attributes:
        table: ``float[N, D]``, the layer-0 embeddings, users first.
    """

    table: NodeTable


def init(key: PRNGKey, num_nodes: int, config: LightGCNConfig) -> LightGCNParams:
    """Normal layer-0 embeddings with standard deviation ``init_std``, ``float32[N, D]``."""
    table = config.init_std * jax.random.normal(key, (num_nodes, config.dim), jnp.float32)
    return LightGCNParams(table)


def apply(params: LightGCNParams, operator: Operator, config: LightGCNConfig) -> NodeTable:
    """Final embeddings sum_k alpha_k Ã^k E, ``float[N, D]`` (He et al. 2020, equation 8)."""
    return multiscale(operator, params.table, config.layer_weights)


def apply_rows(
    params: LightGCNParams,
    operator: Operator,
    config: LightGCNConfig,
    rows: Ids,
    restriction: Restriction | None = None,
) -> Vectors:
    """The final embeddings of a few nodes, ``float[Q, D]``, as a mini-batch needs them."""
    return multiscale_rows(operator, params.table, config.layer_weights, rows, restriction)


def split_nodes(nodes: NodeTable, num_users: int) -> tuple[UserTable, ItemTable]:
    """The users' and the items' rows of a node table."""
    return nodes[:num_users], nodes[num_users:]
