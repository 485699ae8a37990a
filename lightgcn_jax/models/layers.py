"""Models of K learnt layers, and how a layer reads the nodes: all of them for all, or in the last
layer for a mini-batch alone."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import Ids, NodeTable, PRNGKey, Vectors
from lightgcn_jax.diffusion.operator import diffuse
from lightgcn_jax.diffusion.restricted import multiscale_rows
from lightgcn_jax.models.model import Model, TableParams, normal_table
from lightgcn_jax.models.products import dense_product

glorot_dense = partial(
    nn.Dense,
    use_bias=False,
    kernel_init=nn.initializers.glorot_uniform(),
    dot_general=dense_product,
)
"""A linear map without bias; weights uniform as in Glorot and Bengio (2010)."""


class Neighbourhood(NamedTuple):
    """What one layer reads of a table of all nodes, for the nodes that it makes vectors of.

    Attributes:
        neighbours: each node's neighbours together, Ã x.
        own: each node's own row, x.
    """

    neighbours: Callable[[NodeTable], Vectors]
    own: Callable[[NodeTable], Vectors]


Layers = Sequence[Neighbourhood]
"""What each layer reads, one for each k."""


class ReluLayers(nn.Module):
    """h(k+1) = ReLU(joined(h(k), m(k)) W(k)) for k = 0 … K − 1, with m(k) the nodes' neighbours
    together.

    Attributes:
        dim: D.
        joined: from each node's own vector and its neighbours' to what W is applied to.
    """

    dim: int
    joined: Callable[[Vectors, Vectors], Vectors]

    @nn.compact
    def __call__(self, nodes: NodeTable, layers: Layers) -> Vectors:
        """h(K), ``float[N, D]`` or ``float[Q, D]``.

        Args:
            nodes: ``float[N, D]``, h(0).
            layers: what each layer reads, one for each k.
        """
        for k, layer in enumerate(layers):
            joined = self.joined(layer.own(nodes), layer.neighbours(nodes))
            nodes = nn.relu(glorot_dense(self.dim, name=f"layer_{k}")(joined))
        return nodes


class LayeredModel(Model):
    """A model of layer-0 embeddings and K layers with weights.

    A subclass is a frozen dataclass with ``dim``, ``layers`` and ``init_std``, and names the flax
    module of its layers, which is called with the table and a list of neighbourhoods.
    """

    dim: int
    init_std: float

    @property
    @abc.abstractmethod
    def module(self) -> nn.Module:
        """The layers."""

    def init(self, key: PRNGKey, num_nodes: int) -> TableParams:
        """Normal layer-0 embeddings; weights uniform as in Glorot and Bengio (2010).

        Args:
            key: randomness of embeddings and weights.
            num_nodes: N.
        """
        table_key, weights_key = jax.random.split(key)
        # The shapes of the weights are the same for every graph, one without edges included.
        unconnected = [Neighbourhood(jnp.zeros_like, lambda x: x)] * self.layers
        weights = self.module.init(weights_key, jnp.zeros((1, self.dim)), unconnected)
        return TableParams(normal_table(table_key, num_nodes, self.dim, self.init_std), weights)

    def apply(self, params: TableParams, operator: Any) -> NodeTable:
        """Final vectors of all nodes, ``float[N, D']``, with nothing dropped.

        Args:
            params: from :meth:`init`.
            operator: from :meth:`operator_of`.
        """
        return self._vectors(params, self._neighbourhoods(operator))

    def apply_rows(
        self, params: TableParams, operator: Any, rows: Ids, key: PRNGKey | None = None
    ) -> Vectors:
        """Final vectors of a few nodes, ``float[Q, D']``.

        Args:
            params: from :meth:`init`.
            operator: from :meth:`operator_of`.
            rows: ``int32[Q]``.
            key: randomness of the edges that are dropped.
        """
        operator = self._with_dropped_edges(operator, key)
        return self._vectors(params, self._neighbourhoods(operator, rows))

    def _neighbourhoods(self, operator: Any, rows: Ids | None = None) -> list[Neighbourhood]:
        """One for each layer; with rows, the last layer makes vectors of those nodes alone."""
        everywhere = Neighbourhood(lambda x: self._neighbours(operator, x), lambda x: x)
        if rows is None:
            return [everywhere] * self.layers
        few = Neighbourhood(lambda x: self._neighbours(operator, x, rows), lambda x: x[rows])
        return [everywhere] * (self.layers - 1) + [few]

    def _neighbours(self, operator: Any, x: NodeTable, rows: Ids | None = None) -> Vectors:
        """Each node's neighbours together, Ã x, or those of a few nodes."""
        if rows is None:
            return diffuse(operator, x)
        return multiscale_rows(operator, x, (0.0, 1.0), rows)

    def _vectors(self, params: TableParams, layers: Layers, *rest: Any) -> Vectors:
        assert params.weights is not None
        return cast(Vectors, self.module.apply(params.weights, params.table, layers, *rest))
