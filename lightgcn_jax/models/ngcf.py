"""Neural graph collaborative filtering (Wang et al. 2019).

The layers are those of the paper's equations. The authors' code differs from them, and from this
module, by biases in both linear maps, by a LeakyReLU for each of the two terms in place of one for
their sum, by scaling the vectors of layers 1 … K to length 1 before they are concatenated, and by
dropping entries of Ã under the name of node dropout.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import Ids, NodeTable, PRNGKey, Vectors
from lightgcn_jax.diffusion.operator import Operator
from lightgcn_jax.errors import InputError
from lightgcn_jax.models.layers import Reach, reaches, unconnected
from lightgcn_jax.models.table import check_layers, check_table, normal_table

# Of the authors' code; the paper gives none.
_SLOPE = 0.2


@dataclasses.dataclass(frozen=True)
class NGCFConfig:
    """Shape of the model, and what it drops in training.

    Attributes:
        dim: D, dimensions of an embedding, in every layer.
        layers: K, at least 1.
        message_dropout: share of the entries of each layer's output that are dropped.
        node_dropout: share of the nodes that send no messages in a layer.
        init_std: standard deviation of the normal initial embeddings.
    """

    dim: int = 64
    layers: int = 3
    message_dropout: float = 0.0
    node_dropout: float = 0.0
    init_std: float = 0.1

    def __post_init__(self):
        check_table(self)
        check_layers(self.layers)
        for field in ("message_dropout", "node_dropout"):
            if not 0 <= getattr(self, field) < 1:
                raise InputError(
                    f"{field}: expected a share of at least 0 and below 1, "
                    f"got {getattr(self, field)}"
                )


class NGCFParams(NamedTuple):
    """What is learnt.

    Attributes:
        table: ``float[N, D]``, the layer-0 embeddings, users first.
        weights: variables of :class:`NGCFLayers`, 2 K matrices D×D.
    """

    table: NodeTable
    weights: Mapping[str, Any]


class NGCFLayers(nn.Module):
    """E(k+1) = LeakyReLU((Ã E + E) W1 + (E ∘ Ã E) W2); returns layers 0 to K side by side."""

    config: NGCFConfig

    @nn.compact
    def __call__(
        self,
        nodes: NodeTable,
        layers: Sequence[Reach],
        rows: Ids | None = None,
        key: PRNGKey | None = None,
    ) -> Vectors:
        config, outputs = self.config, [nodes]
        linear = partial(
            nn.Dense, config.dim, use_bias=False, kernel_init=nn.initializers.glorot_uniform()
        )
        for k, reach in enumerate(layers):
            node_key = message_key = None
            if key is not None:
                node_key, message_key = jax.random.split(jax.random.fold_in(key, k))
            senders = _drop(node_key, nodes, config.node_dropout, (1,))
            messages, own = reach.neighbours(senders), reach.own(nodes)
            sums, products = linear(name=f"sum_{k}"), linear(name=f"product_{k}")
            nodes = nn.leaky_relu(sums(messages + own) + products(own * messages), _SLOPE)
            few = rows if k == len(layers) - 1 else None
            nodes = _drop(message_key, nodes, config.message_dropout, nodes.shape[1:], few)
            outputs.append(nodes)
        if rows is not None:
            outputs = [output[rows] for output in outputs[:-1]] + outputs[-1:]
        return jnp.concatenate(outputs, axis=1)


def _drop(
    key: PRNGKey | None,
    table: Vectors,
    rate: float,
    shape: tuple[int, ...],
    rows: Ids | None = None,
) -> Vectors:
    """Zeros with probability ``rate``, draws of ``shape`` for each row; the rest / (1 − rate).

    With ``rows``, the nodes of the table's rows, a node's draws are those of its own, so that one
    that stands there twice is dropped alike.
    """
    if key is None or not rate:
        return table
    if rows is None:
        kept = jax.random.bernoulli(key, 1 - rate, (len(table), *shape))
    else:
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, rows)
        kept = jax.vmap(lambda own: jax.random.bernoulli(own, 1 - rate, shape))(keys)
    return jnp.where(kept, table / (1 - rate), 0)


def init(key: PRNGKey, num_nodes: int, config: NGCFConfig) -> NGCFParams:
    """Normal layer-0 embeddings; uniform weights of Glorot and Bengio (2010)."""
    table_key, weights_key = jax.random.split(key)
    weights = NGCFLayers(config).init(
        weights_key, jnp.zeros((1, config.dim)), unconnected(config.layers)
    )
    return NGCFParams(normal_table(table_key, num_nodes, config), weights)


def apply(
    params: NGCFParams, operator: Operator, config: NGCFConfig, key: PRNGKey | None = None
) -> NodeTable:
    """Final vectors [E(0), …, E(K)] with E(k+1) = LeakyReLU((Ã E + E) W1 + (E ∘ Ã E) W2).

    The matrix form of messages (W1 e_i + W2 (e_i ∘ e_u)) / √(|N_u| |N_i|) from i to u and W1 e_u
    from u to itself: the sum over i of e_i ∘ e_u is that of e_i, times e_u.

    With a key, every layer draws anew which nodes send nothing to others (node dropout: their rows
    are left out of Ã E) and which entries of its output are 0 (message dropout); the others are
    divided by the share that stays.

    Args:
        params: of :func:`init`.
        operator: Ã, N×N.
        config: shape of the model.
        key: of this draw alone; without it nothing is dropped.

    Returns:
        ``float[N, D (K + 1)]``.

    References:
        Wang et al. 2019, equations 3 to 9 and section 2.4.2.
    """
    return _applied(params, config, reaches(operator, config.layers), None, key)


def apply_rows(
    params: NGCFParams,
    operator: Operator,
    config: NGCFConfig,
    rows: Ids,
    key: PRNGKey | None = None,
) -> Vectors:
    """The final vectors of a few nodes, ``float[Q, D (K + 1)]``, as a mini-batch needs them.

    The same law of what is dropped, by other draws: the last layer is made for those nodes alone.
    """
    layers = reaches(operator, config.layers, rows)
    return _applied(params, config, layers, rows, key)


def _applied(
    params: NGCFParams,
    config: NGCFConfig,
    layers: Sequence[Reach],
    rows: Ids | None,
    key: PRNGKey | None,
) -> Vectors:
    module = NGCFLayers(config)
    return cast(Vectors, module.apply(params.weights, params.table, layers, rows, key))
