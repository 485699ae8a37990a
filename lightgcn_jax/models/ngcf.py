"""Neural graph collaborative filtering (Wang et al. 2019).

The layers are those of the paper's equations. The authors' code differs from them, and from this
module, by biases in both linear maps, by a LeakyReLU for each of the two terms in place of one for
their sum, by scaling the vectors of layers 1 … K to length 1 before they are concatenated, and by
dropping entries of Ã under the name of node dropout.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from lightgcn_jax.arrays import Ids, NodeTable, PRNGKey, Vectors
from lightgcn_jax.diffusion.native import NgcfLayer, ngcf_layer, ngcf_layer_gradient
from lightgcn_jax.diffusion.operator import Operator
from lightgcn_jax.fields import LAYERS, POSITIVE, SHARE, setting, whole
from lightgcn_jax.models.layers import GlorotMatrix, LayeredModel, Layers, with_rows
from lightgcn_jax.models.model import TableParams
from lightgcn_jax.models.products import product

# The slope in the authors' code; the paper gives none.
_SLOPE = 0.2


class NGCFLayers(nn.Module):
    """E(k+1) = LeakyReLU((Ã E + E) W1 + (E ∘ Ã E) W2); returns layers 0 to K side by side.

    Attributes:
        dim: D.
        message_dropout: share of the entries of each layer's output that are dropped.
        node_dropout: share of the nodes whose messages are dropped in each layer.
    """

    dim: int
    message_dropout: float
    node_dropout: float

    @nn.compact
    def __call__(
        self, nodes: NodeTable, layers: Layers, rows: Ids | None = None, key: PRNGKey | None = None
    ) -> Vectors:
        """[E(0), …, E(K)], ``float[N, D (K + 1)]`` or ``float[Q, D (K + 1)]``.

        Args:
            nodes: ``float[N, D]``, E(0).
            layers: what each layer reads, one for each k.
            rows: ``int32[Q]``, the nodes of the last layer; None for all.
            key: randomness of what is dropped; without one nothing is dropped.
        """
        outputs = []
        for k, layer in enumerate(layers):
            nodes, read = (nodes, nodes) if rows is None else with_rows(nodes, rows)
            outputs.append(read)
            node_key = message_key = None
            if key is not None:
                node_key, message_key = jax.random.split(jax.random.fold_in(key, k))
            senders = _drop(node_key, nodes, self.node_dropout, (1,))
            few = rows if k == len(layers) - 1 else None
            if few is None and senders is nodes:
                messages, own = layer.both(nodes)
            else:
                messages, own = layer.neighbours(senders), nodes if few is None else read
            sums, products = (
                GlorotMatrix(nodes.shape[1], self.dim, name=f"{name}_{k}")()
                for name in ("sum", "product")
            )
            given = NgcfLayer(*promote_dtype(messages, own, sums, products))
            nodes = _native_layer(given) if layer.native else _layer(given)
            nodes = _drop(message_key, nodes, self.message_dropout, nodes.shape[1:], few)
        return jnp.concatenate([*outputs, nodes], axis=1)


def _layer(given: NgcfLayer) -> Vectors:
    """LeakyReLU((m + e) W1 + (e ∘ m) W2) by operations of XLA."""
    messages, own, sums, products = given
    return nn.leaky_relu(product(messages + own, sums) + product(own * messages, products), _SLOPE)


@jax.custom_vjp
def _native_layer(given: NgcfLayer) -> Vectors:
    """The same by a kernel of our own, and its gradient by another one."""
    return ngcf_layer(given, _SLOPE)


def _native_forward(given: NgcfLayer) -> tuple[Vectors, tuple[NgcfLayer, Vectors]]:
    output = ngcf_layer(given, _SLOPE)
    return output, (given, output)


def _native_backward(kept: tuple[NgcfLayer, Vectors], cotangent: Vectors) -> tuple[NgcfLayer]:
    return (ngcf_layer_gradient(*kept, cotangent, _SLOPE),)


_native_layer.defvjp(_native_forward, _native_backward)


def _drop(
    key: PRNGKey | None, table: Vectors, rate: float, shape: Sequence[int], rows: Ids | None = None
) -> Vectors:
    """Zeros with probability ``rate``, draws of ``shape`` for each row; the rest / (1 − rate).

    With ``rows``, the nodes of the table's rows, each node has draws of its own, so that a node
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


@dataclasses.dataclass(frozen=True)
class NGCF(LayeredModel):
    """Final vectors [E(0), …, E(K)] with E(k+1) = LeakyReLU((Ã E + E) W1 + (E ∘ Ã E) W2).

    This is the matrix form of messages (W1 e_i + W2 (e_i ∘ e_u)) / √(|N_u| |N_i|) from i to u and
    W1 e_u from u to itself: the sum over i of e_i ∘ e_u is the sum over i of e_i, times e_u.

    With a key, every layer draws anew which nodes send nothing to others (node dropout: their rows
    are left out of Ã E) and which entries of its output are 0 (message dropout); the others are
    divided by the share that stays.

    Attributes:
        dim: dimensions D of an embedding, in every layer.
        layers: applications K of Ã, at least 1.
        message_dropout: share of the entries of each layer's output that are dropped in training.
        node_dropout: share of the nodes whose messages are dropped in each layer in training.
        init_std: standard deviation of the initial embeddings.

    References:
        Wang et al. 2019, equations 3 to 9 and section 2.4.2.
    """

    dim: int = setting(64, whole(1))
    layers: int = setting(3, whole(1, LAYERS))
    message_dropout: float = setting(0.0, SHARE)
    node_dropout: float = setting(0.0, SHARE)
    init_std: float = setting(0.1, POSITIVE)

    @property
    def width(self) -> int:
        """D (K + 1)."""
        return self.dim * (self.layers + 1)

    @property
    def draws_in_training(self) -> bool:
        """Whether messages or nodes are dropped."""
        return self.message_dropout > 0 or self.node_dropout > 0

    @property
    def module(self) -> NGCFLayers:
        """The layers."""
        return NGCFLayers(self.dim, self.message_dropout, self.node_dropout)

    def apply(
        self, params: TableParams, operator: Operator, key: PRNGKey | None = None
    ) -> NodeTable:
        """Final vectors of all nodes, ``float[N, D (K + 1)]``.

        Args:
            params: from :meth:`init`.
            operator: Ã, N×N.
            key: randomness of what is dropped; without one nothing is dropped.
        """
        return self._vectors(params, self._neighbourhoods(operator), None, key)

    def apply_rows(
        self, params: TableParams, operator: Operator, rows: Ids, key: PRNGKey | None = None
    ) -> Vectors:
        """Final vectors of a few nodes, ``float[Q, D (K + 1)]``.

        What is dropped follows the law of :meth:`apply`, by other draws: the last layer is made for
        those nodes alone.

        Args:
            params: from :meth:`init`.
            operator: Ã, N×N.
            rows: ``int32[Q]``.
            key: randomness of what is dropped; without one nothing is dropped.
        """
        return self._vectors(params, self._neighbourhoods(operator, rows), rows, key)
