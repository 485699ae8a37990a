"""Graph convolutional network (Kipf and Welling 2017) on learnt layer-0 embeddings."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import flax.linen as nn

from lightgcn_jax.arrays import NodeTable, Vectors
from lightgcn_jax.models.layers import LayeredModel, Neighbourhood
from lightgcn_jax.models.model import GraphModel


class GCNLayers(nn.Module):
    """E(k+1) = ReLU(Ã E(k) W(k)) for k = 0 … K − 1.

    Attributes:
        dim: D.
    """

    dim: int

    @nn.compact
    def __call__(self, nodes: NodeTable, layers: Sequence[Neighbourhood]) -> Vectors:
        """E(K), ``float[N, D]`` or ``float[Q, D]``.

        Args:
            nodes: ``float[N, D]``, E(0).
            layers: what each layer reads, one for each k.
        """
        glorot = nn.initializers.glorot_uniform()
        for k, layer in enumerate(layers):
            linear = nn.Dense(self.dim, use_bias=False, kernel_init=glorot, name=f"layer_{k}")
            nodes = nn.relu(linear(layer.neighbours(nodes)))
        return nodes


@dataclasses.dataclass(frozen=True)
class GCN(LayeredModel, GraphModel):
    """Final embeddings E(K) of E(k+1) = ReLU(Ã E(k) W(k)); none of their entries is negative.

    Attributes:
        dim: dimensions D of an embedding, in every layer.
        layers: applications K of Ã, at least 1.
        normalization: divide the entries of the adjacency matrix by the degrees of both ends
            (``symmetric``) or of one.
        edge_dropout: share of the interactions that each training step leaves out of the graph.
        init_std: standard deviation of the initial embeddings.

    References:
        Kipf and Welling 2017, equation 2, with Ã of the graph without self-loops.
    """

    @property
    def module(self) -> GCNLayers:
        """The layers."""
        return GCNLayers(self.dim)
