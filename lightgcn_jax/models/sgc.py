"""Simplified graph convolution (Wu et al. 2019): a GCN without ReLU, its weights merged into one.

With W = I it is LightGCN with the layer weights (0, …, 0, 1).
"""

from __future__ import annotations

import dataclasses
from typing import cast

import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import PRNGKey, Vectors
from lightgcn_jax.models.layers import glorot_dense
from lightgcn_jax.models.lightgcn import MultiscaleModel
from lightgcn_jax.models.model import TableParams, normal_table


@dataclasses.dataclass(frozen=True)
class SGC(MultiscaleModel):
    """Final embeddings Ã^K E W of learnt layer-0 embeddings E.

    Attributes:
        dim: dimensions D of an embedding.
        layers: applications K of Ã, at least 1.
        normalization: divide the entries of the adjacency matrix by the degrees of both ends
            (``symmetric``) or of one.
        edge_dropout: share of the interactions that each training step leaves out of the graph.
        init_std: standard deviation of the initial embeddings.

    References:
        Wu et al. 2019, section 2.2.
    """

    def init(self, key: PRNGKey, num_nodes: int) -> TableParams:
        """Normal layer-0 embeddings; W, D×D, uniform as in Glorot and Bengio (2010).

        Args:
            key: randomness of embeddings and weights.
            num_nodes: N.
        """
        table_key, weights_key = jax.random.split(key)
        weights = glorot_dense(self.dim).init(weights_key, jnp.zeros((1, self.dim)))
        return TableParams(normal_table(table_key, num_nodes, self.dim, self.init_std), weights)

    def vectors_of(self, params: TableParams, sums: Vectors) -> Vectors:
        """Ã^K E W of Ã^K E.

        Args:
            params: from :meth:`init`.
            sums: ``float[Q, D]``.
        """
        assert params.weights is not None
        return cast(Vectors, glorot_dense(self.dim).apply(params.weights, sums))
