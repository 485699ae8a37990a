"""Graph convolutional network (Kipf and Welling 2017) on learnt layer-0 embeddings."""

from __future__ import annotations

import dataclasses

from lightgcn_jax.models.layers import LayeredModel, ReluLayers
from lightgcn_jax.models.model import GraphModel


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
    def module(self) -> ReluLayers:
        """The layers, which do not read a node's own vector."""
        return ReluLayers(self.dim, lambda _, neighbours: neighbours)
