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

from lightgcn_jax.arrays import Array, Float, Ids, NodeTable, PRNGKey, Vectors
from lightgcn_jax.diffusion.multiscale import diffuse_beside
from lightgcn_jax.diffusion.native import NativeStorage
from lightgcn_jax.diffusion.operator import Operator, diffuse
from lightgcn_jax.diffusion.restricted import multiscale_rows
from lightgcn_jax.models.model import Model, TableParams, normal_table
from lightgcn_jax.models.products import dense_product

_GLOROT = nn.initializers.glorot_uniform()

glorot_dense = partial(nn.Dense, use_bias=False, kernel_init=_GLOROT, dot_general=dense_product)
"""A linear map without bias; weights uniform as in Glorot and Bengio (2010)."""


class GlorotMatrix(nn.Module):
    """The matrix of :data:`glorot_dense`, by the same name, for who multiplies by it otherwise.

    Attributes:
        width: its rows.
        dim: its columns.
    """

    width: int
    dim: int

    @nn.compact
    def __call__(self) -> Float[Array, "width dim"]:
        """The matrix, ``float[width, D]``."""
        return self.param("kernel", _GLOROT, (self.width, self.dim))


class Neighbourhood(NamedTuple):
    """What one layer reads of a table of all nodes, for the nodes that it makes vectors of.

    Attributes:
        neighbours: each node's neighbours together, Ã x.
        both: that and each node's own row, x.
        native: whether kernels of our own make the neighbours: the tables lie whole in the memory
            of a CPU, where other kernels can read them too.
    """

    neighbours: Callable[[NodeTable], Vectors]
    both: Callable[[NodeTable], tuple[Vectors, Vectors]]
    native: bool = False


Layers = Sequence[Neighbourhood]
"""What each layer reads, one for each k."""


@jax.custom_vjp
def with_rows(x: NodeTable, rows: Ids) -> tuple[NodeTable, Vectors]:
    """A table and a few of its rows.

    Their gradient is added to that of the table in its place. Where the table is read twice, XLA
    makes a table of zeros for the rows and adds two tables.

    Args:
        x: ``float[N, D]``.
        rows: ``int32[Q]``.

    Returns:
        x, and x[rows], ``float[Q, D]``.
    """
    return x, x[rows]


with_rows.defvjp(
    lambda x, rows: (with_rows(x, rows), rows),
    lambda rows, cotangents: (cotangents[0].at[rows].add(cotangents[1]), None),
)


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
            neighbours, own = layer.both(nodes)
            joined = self.joined(own, neighbours)
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
        unconnected = Neighbourhood(jnp.zeros_like, lambda x: (jnp.zeros_like(x), x))
        weights = self.module.init(
            weights_key, jnp.zeros((1, self.dim)), [unconnected] * self.layers
        )
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
        native = isinstance(getattr(operator, "storage", None), NativeStorage)
        of, both = partial(self._neighbours, operator), partial(self._both, operator)
        everywhere = Neighbourhood(of, both, native)
        if rows is None:
            return [everywhere] * self.layers
        few = Neighbourhood(partial(of, rows=rows), partial(both, rows=rows), native)
        return [everywhere] * (self.layers - 1) + [few]

    def _neighbours(self, operator: Any, x: NodeTable, rows: Ids | None = None) -> Vectors:
        """Each node's neighbours together, Ã x, or those of a few nodes."""
        if rows is None:
            return diffuse(operator, x)
        return multiscale_rows(operator, x, (0.0, 1.0), rows)

    def _both(
        self, operator: Any, x: NodeTable, rows: Ids | None = None
    ) -> tuple[Vectors, Vectors]:
        """The same and each node's own row."""
        if rows is None and isinstance(operator, Operator):
            return diffuse_beside(operator, x)
        return self._neighbours(operator, x, rows), x if rows is None else x[rows]

    def _vectors(self, params: TableParams, layers: Layers, *rest: Any) -> Vectors:
        assert params.weights is not None
        return cast(Vectors, self.module.apply(params.weights, params.table, layers, *rest))
