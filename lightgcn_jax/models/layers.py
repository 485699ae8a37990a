"""Models of K learnt layers, and how a layer reads the nodes: all of them for all, or in the last
layer for a mini-batch alone."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import Ids, NodeTable, PRNGKey, Vectors
from lightgcn_jax.diffusion.operator import Operator, diffuse
from lightgcn_jax.diffusion.restricted import multiscale_rows
from lightgcn_jax.models.model import Model, TableParams, normal_table


class Neighbourhood(NamedTuple):
    """What one layer reads of a table of all nodes, for the nodes that it makes vectors of.

    Attributes:
        neighbours: each node's neighbours together, Ã x.
        own: each node's own row, x.
    """

    neighbours: Callable[[NodeTable], Vectors]
    own: Callable[[NodeTable], Vectors]


def neighbourhoods(operator: Operator, layers: int, rows: Ids | None = None) -> list[Neighbourhood]:
    """One neighbourhood for each layer.

    Args:
        operator: N×N.
        layers: K.
        rows: ``int32[Q]``, the nodes whose vectors are read in the end; None for all. What the last
            layer does beside Ã costs Q rows in place of N.
    """
    everywhere = all_nodes(lambda x: diffuse(operator, x))
    if rows is None:
        return [everywhere] * layers
    last = Neighbourhood(
        lambda x: multiscale_rows(operator, x, (0.0, 1.0), rows), lambda x: x[rows]
    )
    return [everywhere] * (layers - 1) + [last]


def all_nodes(neighbours: Callable[[NodeTable], NodeTable]) -> Neighbourhood:
    """A layer that makes vectors of all nodes.

    Args:
        neighbours: from a table to each node's neighbours together.
    """
    return Neighbourhood(neighbours, lambda x: x)


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
        unconnected = [all_nodes(jnp.zeros_like)] * self.layers
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
        return neighbourhoods(operator, self.layers, rows)

    def _vectors(self, params: TableParams, layers: Sequence[Neighbourhood], *rest: Any) -> Vectors:
        assert params.weights is not None
        return cast(Vectors, self.module.apply(params.weights, params.table, layers, *rest))
