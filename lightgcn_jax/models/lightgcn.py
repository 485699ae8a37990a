"""LightGCN (He et al. 2020): learnt layer-0 embeddings, diffused over the graph."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, NamedTuple, get_args

import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Float, Ids, ItemTable, NodeTable, PRNGKey, UserTable, Vectors
from lightgcn_jax.diffusion.multiscale import multiscale, uniform_alphas
from lightgcn_jax.diffusion.operator import Operator
from lightgcn_jax.diffusion.restricted import multiscale_rows
from lightgcn_jax.errors import InputError
from lightgcn_jax.models.table import check_layers, check_table, normal_table

LayerCombination = Literal["sum", "last"]


@dataclasses.dataclass(frozen=True)
class LightGCNConfig:
    """Shape of the model.

    Attributes:
        dim: D, dimensions of an embedding.
        layers: K, applications of Ã; 0 is matrix factorisation.
        alphas: K + 1 layer weights; None is uniform, 1/(K + 1).
        init_std: standard deviation of the normal initial embeddings.
        learn_alphas: whether the layer weights are learnt, from those on.
        layer_combination: ``sum`` adds the layers by their weights; ``last`` is Ã^K E alone
            (LightGCN-single, He et al. 2020, section 4.4.1).
    """

    dim: int = 64
    layers: int = 3
    alphas: tuple[float, ...] | None = None
    init_std: float = 0.1
    learn_alphas: bool = False
    layer_combination: LayerCombination = "sum"

    def __post_init__(self):
        check_table(self)
        check_layers(self.layers, least=0)
        if self.layer_combination not in get_args(LayerCombination):
            raise InputError(
                f"layer_combination: expected one of {get_args(LayerCombination)}, "
                f"got {self.layer_combination!r}"
            )
        if self.layer_combination == "last" and (self.alphas is not None or self.learn_alphas):
            raise InputError(
                "layer_combination: last has no layer weights, so expected neither alphas nor "
                f"learn_alphas, got {self.alphas} and {self.learn_alphas}"
            )
        if self.alphas is not None and len(self.alphas) != self.layers + 1:
            raise InputError(
                f"alphas: expected layers + 1 = {self.layers + 1} weights, got {len(self.alphas)}"
            )
        if not all(map(math.isfinite, self.layer_weights)):
            raise InputError(f"alphas: expected finite weights, got {self.alphas}")

    @property
    def layer_weights(self) -> tuple[float, ...]:
        """alpha_0 … alpha_K; where they are learnt, those to start from."""
        if self.layer_combination == "last":
            return (0.0,) * self.layers + (1.0,)
        return self.alphas if self.alphas is not None else uniform_alphas(self.layers)


class LightGCNParams(NamedTuple):
    """What is learnt.

    Attributes:
        table: ``float[N, D]``, the layer-0 embeddings, users first.
        alphas: ``float[K + 1]``, the layer weights; None where they are settings.
    """

    table: NodeTable
    alphas: Float[Array, " scales"] | None = None


def init(key: PRNGKey, num_nodes: int, config: LightGCNConfig) -> LightGCNParams:
    """Normal layer-0 embeddings with standard deviation ``init_std``, ``float32[N, D]``."""
    alphas = jnp.array(config.layer_weights, jnp.float32) if config.learn_alphas else None
    return LightGCNParams(normal_table(key, num_nodes, config), alphas)


def apply(params: LightGCNParams, operator: Operator, config: LightGCNConfig) -> NodeTable:
    """Final embeddings sum_k alpha_k Ã^k E, ``float[N, D]`` (He et al. 2020, equation 8).

    Args:
        params: of :func:`init`.
        operator: Ã, N×N, without the edges that training drops.
        config: shape of the model.
    """
    return multiscale(operator, params.table, _layer_weights(params, config))


def apply_rows(
    params: LightGCNParams,
    operator: Operator,
    config: LightGCNConfig,
    rows: Ids,
) -> Vectors:
    """The final embeddings of a few nodes, ``float[Q, D]``, as a mini-batch needs them."""
    alphas = _layer_weights(params, config)
    return multiscale_rows(operator, params.table, alphas, rows)


def _layer_weights(
    params: LightGCNParams, config: LightGCNConfig
) -> Float[Array, " scales"] | tuple[float, ...]:
    return config.layer_weights if params.alphas is None else params.alphas


def split_nodes(nodes: NodeTable, num_users: int) -> tuple[UserTable, ItemTable]:
    """The users' and the items' rows of a node table."""
    return nodes[:num_users], nodes[num_users:]
