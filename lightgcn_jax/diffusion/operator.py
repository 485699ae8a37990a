"""y = M x: one linear operator, whatever its storage.

Models call :func:`diffuse` and never ask how the matrix is stored. The operator owns what the
storages share: the derivative, the batching rule, and that weights are constants.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from lightgcn_jax.arrays import Array, Float, Int, NodeTable
from lightgcn_jax.diffusion.application import multiply
from lightgcn_jax.diffusion.choice import Maker, storage_of
from lightgcn_jax.diffusion.storage import RescalableStorage, Restriction, Storage, restriction_of
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph.bipartite import BipartiteGraph
from lightgcn_jax.graph.csr import CsrMatrix
from lightgcn_jax.graph.normalization import (
    TRANSPOSED,
    Normalization,
    Powers,
    edge_reversal,
    normalized_adjacency,
    normalized_interactions,
)


@flax.struct.dataclass
class Operator:
    """A matrix ready to be applied: a pytree of constants, an argument of jitted functions.

    Attributes:
        storage: holds the matrix.
        adjoint: holds its transpose; None where the matrix is its own transpose.
        reversal: ``int32[2E]``, where each directed edge's reverse stands (see
            :func:`lightgcn_jax.graph.edge_reversal`); None unless made for edge dropout.
        restriction: static; which applications of :func:`multiscale_rows` read only the entries at
            its rows, see :meth:`planned_for`. None restricts none.
    """

    storage: Storage
    adjoint: Storage | None = None
    reversal: Int[Array, " entries"] | None = None
    restriction: Restriction | None = flax.struct.field(pytree_node=False, default=None)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the matrix."""
        return self.storage.shape

    def __matmul__(self, x: ArrayLike) -> NodeTable:
        """``operator @ x`` is ``diffuse(operator, x)``."""
        return diffuse(self, jnp.asarray(x))

    def materialise(self) -> Float[Array, "rows columns"]:
        """The matrix itself, ``float[R, C]``: small graphs can be looked at and checked.

        >>> import numpy as np
        >>> from lightgcn_jax.graph import BipartiteGraph
        >>> graph = BipartiteGraph.from_pairs([0, 0, 1], [0, 1, 1], num_users=2, num_items=2)
        >>> operator = diffusion_operator(graph, normalization="row")
        >>> operator.materialise()
        Array([[0. , 0. , 0.5, 0.5],
               [0. , 0. , 0. , 1. ],
               [1. , 0. , 0. , 0. ],
               [0.5, 0.5, 0. , 0. ]], dtype=float32)
        >>> x = np.eye(4)[:, :1]
        >>> bool((operator @ x == operator.materialise() @ x).all())
        True

        Returns:
            One column for each row of the identity that the operator is applied to, float32 or, in
            64-bit mode, float64.
        """
        return diffuse(self, jnp.eye(self.shape[1]))

    def transpose(self) -> Operator:
        """The operator of the transposed matrix."""
        if self.adjoint is None:
            return self
        return dataclasses.replace(self, storage=self.adjoint, adjoint=self.storage)

    def planned_for(self, entries: float) -> Operator:
        """The same operator, which restricts applications where that saves time.

        To read single rows costs more an entry than the native kernel does on all of them, so an
        application is restricted only where a batch needs few enough of the entries. Results are
        the same either way.

        Args:
            entries: how many directed edges stand at the rows of a mini-batch, on average.

        Returns:
            The operator with its restriction, which is None where no application gains or where
            the storage cannot multiply single rows.
        """
        return dataclasses.replace(self, restriction=restriction_of(self.storage, entries))


def diffusion_operator(
    graph: BipartiteGraph,
    *,
    backend: str | Maker = "auto",
    dtype: DTypeLike = jnp.float32,
    normalization: Normalization = "symmetric",
    platform: str | None = None,
    edge_dropout: bool = False,
) -> Operator:
    """The graph's normalised N×N adjacency matrix, ready for :func:`diffuse`.

    >>> from lightgcn_jax.graph import BipartiteGraph
    >>> graph = BipartiteGraph.from_pairs([0, 0, 1], [0, 1, 1], num_users=2, num_items=2)
    >>> diffusion_operator(graph).shape
    (4, 4)

    A storage of your own is a class of the methods that :class:`Storage` lists:

    >>> @flax.struct.dataclass
    ... class Dense:
    ...     matrix: jax.Array
    ...     shape: tuple[int, int] = flax.struct.field(pytree_node=False)
    ...
    ...     @classmethod
    ...     def from_csr(cls, matrix, dtype, *, rescalable=False):
    ...         return cls(jnp.asarray(matrix.as_scipy().toarray(), dtype), matrix.shape)
    ...
    ...     def multiply(self, x):
    ...         return (self.matrix @ x).astype(x.dtype)
    >>> x, own = jnp.ones((4, 8)), diffusion_operator(graph, backend=Dense)
    >>> bool(jnp.allclose(own @ x, diffusion_operator(graph) @ x))
    True

    Args:
        graph: the interactions; A has no self-loops.
        backend: a storage's name, ``auto`` (see :func:`choose_backend`), or a storage of your own:
            a class or an object whose ``from_csr`` makes a pytree with ``shape`` and ``multiply``,
            for edge dropout ``scaled`` too.
        dtype: type of the edge weights.
        normalization: ``symmetric`` (Ã = D^-½ A D^-½), ``left``, ``right``, ``row``, ``column`` or
            ``none`` (A itself).
        platform: where the operator will run; by default the platform that JAX runs on.
        edge_dropout: whether to keep what :func:`drop_edges` needs: four to eight bytes a directed
            edge.

    Returns:
        The operator; its arrays are on the device.

    Raises:
        InputError: an unknown name, or a storage that the platform lacks or that is no storage.
    """
    maker = storage_of(backend, platform, 2 * graph.num_edges)

    def stored(kind: Normalization) -> Storage:
        # One that shares rows out may make them of the graph as it needs them.
        matrix_of: Any = getattr(maker, "matrix_of", normalized_adjacency)
        return _stored(maker, matrix_of(graph, kind), dtype, edge_dropout)

    storage, transposed = stored(normalization), TRANSPOSED[normalization]
    adjoint = None if transposed == normalization else stored(transposed)
    reversal = jax.device_put(edge_reversal(graph)) if edge_dropout else None
    return Operator(storage, adjoint, reversal)


def interaction_operator(
    graph: BipartiteGraph,
    *,
    backend: str | Maker = "auto",
    dtype: DTypeLike = jnp.float32,
    normalization: Normalization | Powers = "symmetric",
    platform: str | None = None,
) -> Operator:
    """The U×I block R̃ of the normalised adjacency matrix; its transpose is I×U.

    Args:
        graph: the interactions.
        backend: as :func:`diffusion_operator` takes it.
        dtype: type of the edge weights.
        normalization: as :func:`normalized_interactions` takes it.
        platform: where the operator will run; by default the platform that JAX runs on.

    Returns:
        The operator, U×I.

    Raises:
        InputError: an unknown name, or a storage that the platform lacks or that is no storage.
    """
    matrix = normalized_interactions(graph, normalization)
    return operator_of(matrix, backend=backend, dtype=dtype, platform=platform)


def operator_of(
    matrix: CsrMatrix,
    *,
    backend: str | Maker = "auto",
    dtype: DTypeLike = jnp.float32,
    platform: str | None = None,
) -> Operator:
    """The operator of any sparse matrix, which stores its transpose too.

    Args:
        matrix: R×C.
        backend: as :func:`diffusion_operator` takes it.
        dtype: type of the weights.
        platform: where the operator will run; by default the platform that JAX runs on.

    Returns:
        The operator, R×C.

    Raises:
        InputError: an unknown name, or a storage that the platform lacks or that is no storage.
    """
    maker = storage_of(backend, platform, matrix.num_entries)
    return Operator(_stored(maker, matrix, dtype), _stored(maker, matrix.transposed(), dtype))


def _stored(maker: Maker, matrix: Any, dtype: DTypeLike, rescalable: bool = False) -> Storage:
    """The matrix in a storage, which is checked: JAX would complain late and far away."""
    storage: Any = maker.from_csr(matrix, dtype, rescalable=rescalable)
    if not all(isinstance(leaf, (jax.Array, np.ndarray)) for leaf in jax.tree.leaves(storage)):
        raise InputError(
            f"backend: expected from_csr of {maker!r} to make a pytree of arrays, for instance "
            f"a flax.struct.dataclass, got {type(storage).__name__}"
        )
    # One that lays nodes out on a mesh has more rows.
    shape_of: Any = getattr(maker, "shape_of", lambda shape: shape)
    shape = shape_of(matrix.shape)
    if getattr(storage, "shape", None) != shape or not hasattr(storage, "multiply"):
        raise InputError(
            f"backend: expected from_csr of {maker!r} to make a storage of shape {shape} "
            f"with a method multiply, got shape {getattr(storage, 'shape', None)}"
        )
    if rescalable and not isinstance(storage, RescalableStorage):
        raise InputError(
            f"backend: expected a storage with a method scaled for edge dropout, got {maker!r}"
        )
    return storage


@flax.struct.dataclass
class ConstantOperator:
    """An operator as a backward pass keeps it.

    Attributes:
        operator: its arrays.
        differentiated: whether a gradient with respect to it was asked for.
    """

    operator: Operator
    differentiated: bool = flax.struct.field(pytree_node=False)

    @classmethod
    def of(cls, operator: Operator) -> ConstantOperator:
        """Take an operator apart as a forward rule with symbolic zeros gets it.

        Args:
            operator: its leaves hold a value and whether it is differentiated.
        """
        constants = jax.custom_derivatives.custom_vjp_primal_tree_values(operator)
        return cls(constants, any(leaf.perturbed for leaf in jax.tree.leaves(operator)))

    def transpose(self) -> Operator:
        """The transposed operator, for the cotangent of the table.

        Raises:
            TypeError: a gradient of the operator was asked for. The backward rule says so: in the
                forward rule an error would leave JAX's caches half-filled.
        """
        if self.differentiated:
            raise TypeError(
                "diffuse: the operator's edge weights are constants without a gradient; "
                "differentiate with respect to x or to the layer weights alpha"
            )
        return self.operator.transpose()


@jax.custom_vjp
def diffuse(operator: Operator, x: NodeTable) -> NodeTable:
    """One application of the operator, y = M x.

    The cotangent of x is Mᵀ ȳ: the derivative is the transposed operator and keeps no residual but
    the operator. Reverse mode only (``jax.grad``, ``jax.vjp``): there is no forward mode, and
    ``jax.jvp`` raises. The operator is constant: asking for its gradient raises, it is never
    silently zero. Under ``jax.vmap`` over S tables the application runs once, S·D wide; under
    ``jax.vmap`` over S operators it runs S times.

    >>> from lightgcn_jax.graph import BipartiteGraph
    >>> graph = BipartiteGraph.from_pairs([0, 0, 1], [0, 1, 1], num_users=2, num_items=2)
    >>> operator = diffusion_operator(graph, normalization="none")
    >>> diffuse(operator, jnp.array([[1.0], [2.0], [3.0], [4.0]]))  # two users, then two items
    Array([[7.],
           [4.],
           [1.],
           [3.]], dtype=float32)
    >>> jax.grad(lambda x: (operator @ x)[0].sum())(jnp.ones((4, 1)))  # who reaches user 0
    Array([[0.],
           [0.],
           [1.],
           [1.]], dtype=float32)

    Args:
        operator: R×C, from :func:`diffusion_operator` and its like.
        x: ``float[C, D]``, one row a node; a NumPy or a JAX array.

    Returns:
        ``float[R, D]`` in the type of x; zeros for nodes without edges.

    Raises:
        InputError: x is no table of floating-point numbers with C rows.
        TypeError: a gradient with respect to the operator was asked for.
    """
    x = jnp.asarray(x)
    check_fits(operator, x)
    return multiply(operator.storage, x)


def check_square(operator: Operator, x: NodeTable) -> None:
    """Refuse an operator that has no powers, and a table that they do not apply to.

    Args:
        operator: R×C.
        x: what should be a table of C rows.

    Raises:
        InputError: R is not C, or x has another shape, or a type without fractions.
    """
    if operator.shape[0] != operator.shape[1]:
        raise InputError(f"operator: expected a square matrix, got shape {operator.shape}")
    check_fits(operator, x)


def check_fits(operator: Operator, x: NodeTable) -> None:
    """Refuse a table that the operator does not apply to.

    Args:
        operator: R×C.
        x: what should be a table of C rows.

    Raises:
        InputError: x has another shape, or a type without fractions.
    """
    if x.ndim != 2 or x.shape[0] != operator.shape[1]:
        raise InputError(
            f"x: expected a table of {operator.shape[1]} rows for an operator of shape "
            f"{operator.shape}, got shape {x.shape}"
        )
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(f"x: expected a floating-point type, got {x.dtype}")


def _diffuse_forward(operator, x):
    constant = ConstantOperator.of(operator)
    # diffuse, not multiply, here and below: a gradient of a gradient differentiates these lines.
    return diffuse(constant.operator, x.value), constant


def _diffuse_backward(constant, cotangent):
    adjoint = constant.transpose()
    if isinstance(cotangent, jax.custom_derivatives.SymbolicZero):
        return None, None
    return None, diffuse(adjoint, cotangent)


diffuse.defvjp(_diffuse_forward, _diffuse_backward, symbolic_zeros=True)
