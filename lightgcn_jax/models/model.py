"""What a trained model is: how its parameters start, and how they become vectors."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Bool, Ids, NodeTable, PRNGKey, Vectors
from lightgcn_jax.diffusion.dropout import drop_edges
from lightgcn_jax.diffusion.operator import Operator, diffusion_operator
from lightgcn_jax.errors import InputError
from lightgcn_jax.fields import LAYERS, POSITIVE, SHARE, Checked, one_of, setting, whole
from lightgcn_jax.graph.bipartite import BipartiteGraph
from lightgcn_jax.graph.normalization import Normalization


class Model(Checked, abc.ABC):
    """A trained model; each is a frozen dataclass of its own settings.

    A model of one's own derives from this class and defines ``init`` and ``apply``; all else has a
    default. The parameters are any pytree of floating arrays. A leaf that is named ``table`` holds
    the layer-0 embeddings, a row for each of the N = U + I nodes, users first: those rows the L2
    penalty touches, and they grow where a run goes on with new users and items.

    Attributes:
        normalization: of the operator that ``apply`` receives; None for a model without a graph.
        layers: K, how often ``apply`` applies it.
        edge_dropout: share of the interactions that a training step leaves out of the operator.
        reads_own_rows: whether ``apply_rows`` makes the vectors of nodes of ``table[rows]`` and
            reads nothing else of the table, so that a step can do with the rows of its batch.
    """

    normalization: Any = "symmetric"
    reads_own_rows: bool = False
    layers: int = 0
    edge_dropout: float = 0.0

    @property
    def draws_in_training(self) -> bool:
        """Whether ``apply_rows`` makes use of a key; by default where edges are dropped."""
        return self.edge_dropout > 0

    @property
    def offset_columns(self) -> int:
        """How many of the last columns of the vectors only add to scores, like biases, and say
        nothing about who is like whom."""
        return 0

    @property
    def width(self) -> int:
        """D', the columns of the final vectors; by default the field ``dim``."""
        width = getattr(self, "dim", None)
        if width is None:
            raise InputError(
                f"{type(self).__name__}: expected a field dim or a property width, the number of "
                f"columns of the final vectors, got neither"
            )
        return width

    @abc.abstractmethod
    def init(self, key: PRNGKey, num_nodes: int) -> Any:
        """Parameters before the first step.

        Args:
            key: randomness of all initial values.
            num_nodes: N.
        """

    @abc.abstractmethod
    def apply(self, params: Any, operator: Any) -> NodeTable:
        """Final vectors of all nodes, ``float[N, D']``, with nothing dropped.

        Args:
            params: from :meth:`init`.
            operator: from :meth:`operator_of`.
        """

    def apply_rows(
        self, params: Any, operator: Any, rows: Ids, key: PRNGKey | None = None
    ) -> Vectors:
        """Final vectors of a few nodes, as a training step reads them; ``float[Q, D']``.

        Args:
            params: from :meth:`init`.
            operator: from :meth:`operator_of`.
            rows: ``int32[Q]``, nodes, some perhaps twice.
            key: randomness of what the model drops; without one nothing is dropped.
        """
        del key
        return self.apply(params, operator)[rows]

    def operator_of(self, graph: BipartiteGraph, backend: Any = "auto") -> Any:
        """What ``apply`` reads of a graph: Ã as an operator on N×D tables, or :class:`Nodes` for a
        model without a graph.

        Args:
            graph: the training interactions.
            backend: storage of the operator.
        """
        if self.normalization is None:
            return Nodes(graph.num_users)
        drops = self.edge_dropout > 0
        return diffusion_operator(
            graph, backend=backend, normalization=self.normalization, edge_dropout=drops
        )

    def _with_dropped_edges(self, operator: Operator, key: PRNGKey | None) -> Operator:
        """The operator of one training step."""
        if key is None or not self.edge_dropout:
            return operator
        return drop_edges(key, operator, self.edge_dropout)


def bare_model(model: Any) -> Any:
    """The model of an object that holds one, as an estimator does; any other object as it is.

    Args:
        model: a model, or what has a method ``as_model``.
    """
    held = getattr(model, "as_model", None)
    return model if held is None else held()


@dataclasses.dataclass(frozen=True)
class GraphModel(Model):
    """A model that applies Ã K times to embeddings of D dimensions.

    Attributes:
        dim: dimensions D of an embedding.
        layers: applications K of Ã.
        normalization: divide the entries of the adjacency matrix by the degrees of both ends
            (``symmetric``) or of one.
        edge_dropout: share of the interactions that each training step leaves out of the graph.
        init_std: standard deviation of the initial embeddings.
    """

    dim: int = setting(64, whole(1))
    layers: int = setting(3, whole(1, LAYERS))
    normalization: Normalization = setting("symmetric", one_of(Normalization))
    edge_dropout: float = setting(0.0, SHARE)
    init_std: float = setting(0.1, POSITIVE)


@flax.struct.dataclass
class Nodes:
    """All that a model without a graph knows of its nodes.

    Attributes:
        num_users: U, the first rows of every table.
        layout: tells the rows of users where tables lie on a mesh; None where they do not.
    """

    num_users: int = flax.struct.field(pytree_node=False)
    layout: Any = None

    def is_user(self, rows: Ids) -> Bool[Array, " rows"]:
        """Whether rows of a table are those of users.

        Args:
            rows: ``int32``.
        """
        return rows < self.num_users if self.layout is None else self.layout.is_user(rows)


class TableParams(NamedTuple):
    """The parameters of a model that learns embeddings, and perhaps the weights of its layers.

    Attributes:
        table: ``float[N, D]``, the layer-0 embeddings, users first.
        weights: flax variables of the layers; None for a model without weights.
    """

    table: NodeTable
    weights: Mapping[str, Any] | None = None


def normal_table(key: PRNGKey, num_nodes: int, dim: int, std: float | Array) -> NodeTable:
    """Normal layer-0 embeddings with mean 0, ``float32[N, D]``.

    Args:
        key: randomness of the draws.
        num_nodes: N.
        dim: D.
        std: standard deviation.
    """
    return std * jax.random.normal(key, (num_nodes, dim), jnp.float32)


def table_of(params: Any) -> NodeTable | None:
    """The layer-0 embeddings among a model's parameters; None for parameters without a table.

    Args:
        params: a pytree with a field or a key ``table``.
    """
    if isinstance(params, Mapping):
        return params.get("table")
    return getattr(params, "table", None)


def map_tables(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Apply a function to every leaf that has a row for each node: embeddings and their moments.

    Leaves are known by their name, ``table``: a size might be met by chance.

    Args:
        function: from the leaf, and the leaves of the other trees at its place, to what stands
            there.
        tree: a pytree; its other leaves stay.
        others: pytrees of the same structure.
    """

    def mapped(path: tuple, leaf: Array, *rest: Array) -> Any:
        names = (getattr(part, "name", getattr(part, "key", None)) for part in path)
        return function(leaf, *rest) if "table" in names else leaf

    return jax.tree_util.tree_map_with_path(mapped, tree, *others)


def split_nodes(nodes: NodeTable, num_users: int) -> tuple[Array, Array]:
    """The users' and the items' rows of a node table.

    Args:
        nodes: ``float[N, D]``.
        num_users: U.

    Returns:
        ``float[U, D]`` and ``float[I, D]``.
    """
    return nodes[:num_users], nodes[num_users:]
