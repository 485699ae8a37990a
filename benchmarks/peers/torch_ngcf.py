"""NGCF (Wang et al. 2019) in PyTorch, written as its PyTorch ports write it: a peer of ours.

Ã is a coalesced COO tensor that ``torch.sparse.mm`` multiplies, each layer has two weight matrices,
the layers stand side by side, and gradients come from autograd. As in the paper's equations there
are no biases and no normalisation of the layers. Tables, loss and training are those of
:mod:`benchmarks.peers.torch_lightgcn`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.peers.torch_lightgcn import TwoTables
from benchmarks.peers.torch_sparse import Symmetric, csr_from_coo
from lightgcn_jax.graph import BipartiteGraph

_NEGATIVE_SLOPE = 0.2


class Weights(NamedTuple):
    """The matrices of K layers.

    Attributes:
        sums: W1 of each layer, ``float[D_k, D_k+1]``; (Ã + I) E is multiplied by it.
        products: W2 of each layer, ``float[D_k, D_k+1]``; E ∘ Ã E is multiplied by it.
    """

    sums: Sequence[np.ndarray]
    products: Sequence[np.ndarray]


class TorchNGCF(TwoTables):
    """NGCF: E(k+1) = LeakyReLU((Ã E + E) W1 + (E ∘ Ã E) W2), and all E(k) side by side.

    Args:
        graph: the training pairs.
        table: ``float[N, D]`` initial layer-0 embeddings, users first.
        weights: initial matrices, of the table's type.
        message_dropout: share of the entries of each layer's output that training drops.

    References:
        Wang et al. 2019, equations 7 and 9; the slope of 0.2 is its code's.
    """

    def __init__(
        self,
        graph: BipartiteGraph,
        table: np.ndarray,
        weights: Weights,
        message_dropout: float = 0.0,
    ):
        super().__init__(graph, table)
        self.message_dropout = message_dropout
        self.sums, self.products = (
            nn.ParameterList(torch.from_numpy(np.array(matrix)) for matrix in matrices)
            for matrices in weights
        )

    def diffuse(self, x: torch.Tensor) -> torch.Tensor:
        """Apply Ã.

        Args:
            x: ``float[N, D]``.

        Returns:
            Ã x, ``float[N, D]``.
        """
        return torch.sparse.mm(self.adjacency, x)

    def propagate(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Final embeddings of users ``[U, D_0 + … + D_K]`` and items ``[I, D_0 + … + D_K]``."""
        layer = torch.cat([self.user_table.weight, self.item_table.weight])
        layers = [layer]
        for of_sum, of_product in zip(self.sums, self.products, strict=True):
            side = self.diffuse(layer)
            total = torch.matmul(side + layer, of_sum)
            product = torch.matmul(torch.mul(layer, side), of_product)
            layer = functional.leaky_relu(total + product, _NEGATIVE_SLOPE)
            layer = functional.dropout(layer, self.message_dropout, self.training)
            layers.append(layer)
        users, items = torch.split(torch.cat(layers, dim=1), [self.num_users, self.num_items])
        return users, items

    def weights(self) -> Weights:
        """The matrices as they are now."""
        sums, products = (
            [matrix.detach().numpy().copy() for matrix in matrices]
            for matrices in (self.sums, self.products)
        )
        return Weights(sums, products)


class SymmetricNGCF(TorchNGCF):
    """The same with Ã as CSR and a derivative that knows Ã to be symmetric: PyTorch's best.

    Args:
        graph: the training pairs.
        table: ``float[N, D]`` initial layer-0 embeddings, users first.
        weights: initial matrices, of the table's type.
        message_dropout: share of the entries of each layer's output that training drops.
    """

    def __init__(
        self,
        graph: BipartiteGraph,
        table: np.ndarray,
        weights: Weights,
        message_dropout: float = 0.0,
    ):
        super().__init__(graph, table, weights, message_dropout)
        self.adjacency = csr_from_coo(self.adjacency)

    def diffuse(self, x: torch.Tensor) -> torch.Tensor:
        """Apply Ã.

        Args:
            x: ``float[N, D]``.

        Returns:
            Ã x, ``float[N, D]``.
        """
        return Symmetric.apply(self.adjacency, x)  # pyright: ignore[reportReturnType]
