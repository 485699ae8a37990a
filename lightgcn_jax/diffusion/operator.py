"""y = Ã x: one symmetric linear operator, whatever its storage.

Models call :func:`diffuse` and never ask how the graph is stored. The operator owns what the
storages share: its derivative, its batching rule, its constants.
"""

from __future__ import annotations

from typing import Protocol

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import NodeTable
from lightgcn_jax.diffusion.csr import CsrStorage
from lightgcn_jax.diffusion.segment import SegmentStorage
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph.bipartite import BipartiteGraph
from lightgcn_jax.graph.normalization import normalized_adjacency


class Storage(Protocol):
    """A pytree of constant arrays that knows its matrix product."""

    @property
    def num_nodes(self) -> int: ...

    def multiply(self, x: NodeTable) -> NodeTable: ...


STORAGES = {"csr": CsrStorage, "segment": SegmentStorage}


def choose_backend(backend: str = "auto", platform: str | None = None) -> str:
    """The storage's name for a platform: ``csr`` on CPU (native kernel), ``segment`` elsewhere.

    Args:
        backend: a name of :data:`STORAGES`, returned as it is, or ``auto``.
        platform: ``cpu``, ``gpu``, ``tpu``; by default the one JAX runs on.

    Raises:
        InputError: no storage has that name.
    """
    if backend == "auto":
        platform = platform or jax.default_backend()
        # Off the CPU, BCSR lowers to gathers and scatters or sits behind a flag that is off.
        return "csr" if platform == "cpu" else "segment"
    if backend not in STORAGES:
        raise InputError(f"backend: expected auto or one of {sorted(STORAGES)}, got {backend!r}")
    return backend


def diffusion_operator(
    graph: BipartiteGraph, *, backend: str = "auto", dtype: jax.typing.DTypeLike = jnp.float32
) -> Storage:
    """Ã = D^-1/2 A D^-1/2 of a graph, ready to be passed to :func:`diffuse`.

    Args:
        graph: the interactions; A has no self-loops.
        backend: ``auto``, ``csr`` or ``segment``.
        dtype: of the edge weights; give the node tables the same.

    Returns:
        The storage: a pytree of constants to pass into jitted functions as an argument.
    """
    offsets, columns, weights = normalized_adjacency(graph)
    storage = STORAGES[choose_backend(backend)]
    return storage.from_csr(offsets, columns, weights.astype(np.dtype(dtype)))


@jax.custom_batching.custom_vmap
def _multiply(storage: Storage, x: NodeTable) -> NodeTable:
    return storage.multiply(x)


@_multiply.def_vmap
def _multiply_batched(axis_size, in_batched, storage, x):
    storage_batched, x_batched = in_batched
    if any(jax.tree.leaves(storage_batched)):
        # Several graphs: no wider application exists, so they run one after another.
        def one(operands):
            return _multiply(*operands)

        stacked = jax.tree.map(
            lambda leaf, batched: (
                leaf if batched else jnp.broadcast_to(leaf, (axis_size, *leaf.shape))
            ),
            (storage, x),
            (storage_batched, x_batched),
        )
        return jax.lax.map(one, stacked), True
    # Several tables over one graph are one application to a table that is as much wider.
    tables, nodes, dim = x.shape
    wide = jnp.moveaxis(x, 0, 1).reshape(nodes, tables * dim)
    y = _multiply(storage, wide).reshape(nodes, tables, dim)
    return jnp.moveaxis(y, 1, 0), True


@flax.struct.dataclass
class _Residual:
    storage: Storage
    storage_differentiated: bool = flax.struct.field(pytree_node=False)


@jax.custom_vjp
def diffuse(storage: Storage, x: NodeTable) -> NodeTable:
    """One application of the operator, y = Ã x.

    Ã is symmetric, so the cotangent of x is Ã ȳ: the derivative is the operator itself and keeps
    no residual but the storage. Reverse mode only (``jax.grad``, ``jax.vjp``): there is no forward
    mode, and ``jax.jvp`` raises. The storage is constant: asking for its gradient raises, it is
    never silently zero. Under ``jax.vmap`` over S tables the application runs once, S·D wide.

    Args:
        storage: from :func:`diffusion_operator`.
        x: ``float[N, D]``, one row a node.

    Returns:
        ``float[N, D]``; zeros for nodes without edges.

    Raises:
        TypeError: a gradient with respect to the storage was asked for.
    """
    return _multiply(storage, x)


def _diffuse_forward(storage, x):
    def is_primal(node):
        return hasattr(node, "perturbed")

    constants = jax.tree.map(lambda leaf: leaf.value, storage, is_leaf=is_primal)
    differentiated = any(leaf.perturbed for leaf in jax.tree.leaves(storage, is_leaf=is_primal))
    # diffuse, not _multiply, here and below: a gradient of a gradient differentiates these lines.
    return diffuse(constants, x.value), _Residual(constants, differentiated)


def _diffuse_backward(residual, cotangent):
    if residual.storage_differentiated:
        # Raised here and not in the forward rule, where it would leave JAX's caches half-filled.
        raise TypeError(
            "diffuse: the operator's edge weights are constants without a gradient; "
            "differentiate with respect to x or to the layer weights alpha"
        )
    if isinstance(cotangent, jax.custom_derivatives.SymbolicZero):
        return None, None
    return None, diffuse(residual.storage, cotangent)


diffuse.defvjp(_diffuse_forward, _diffuse_backward, symbolic_zeros=True)
