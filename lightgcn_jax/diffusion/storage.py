"""What a storage of the operator's matrix must offer, and what it may offer beside that."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, Self, cast, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from lightgcn_jax.arrays import Array, Float, Ids, Int, NodeTable, Vectors
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph.csr import CsrMatrix

# Room above the expected entries of a batch; a batch with more takes the full application.
_HEADROOM = 1.25


class Storage(Protocol):
    """A pytree of constant arrays that knows its matrix product with a table.

    Every storage keeps one rule of precision: a product is accumulated in :func:`sum_dtype` of the
    table's type and returned in the table's type, whatever the type of the weights. So float32 and
    bfloat16 may be mixed, and sums never run in bfloat16.

    A storage may have a class method ``obstacle(platform)`` too, which says in a sentence why this
    JAX or the platform (``cpu``, ``gpu``, ``tpu``) cannot run it, and gives None where it can.
    """

    @classmethod
    def from_csr(cls, matrix: CsrMatrix, dtype: DTypeLike, *, rescalable: bool = False) -> Self:
        """The matrix on the device; O(entries) time and memory on the host.

        Args:
            matrix: R×C, checked.
            dtype: type that the weights are rounded to: float32, bfloat16 or, in 64-bit mode,
                float64.
            rescalable: whether to keep what :meth:`RescalableStorage.scaled` needs.

        Returns:
            The storage.
        """
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """R and C, static."""
        ...

    def multiply(self, x: NodeTable) -> NodeTable:
        """The product M x.

        Args:
            x: ``float[C, D]``.

        Returns:
            ``float[R, D]`` in the type of x.
        """
        ...


@runtime_checkable
class RescalableStorage(Storage, Protocol):
    """A storage whose entries can be scaled on the device, as edge dropout does."""

    def scaled(self, factors: Float[Array, " entries"]) -> Self:
        """The matrix with each entry times its factor.

        Args:
            factors: ``float[entries]``, in the order of the CSR matrix.

        Returns:
            A storage of the same structure.
        """
        ...


class BreakEven(NamedTuple):
    """Up to which share of all entries an application to the rows of a batch saves time.

    Attributes:
        forward: of M, whose rows are read.
        backward: of the transpose, to which those rows add.
    """

    forward: float
    backward: float


class WeightsInOrder:
    """What storages share whose weights stand in the order of the CSR matrix."""

    weights: Float[Array, " entries"]

    def scaled(self, factors: Float[Array, " entries"]) -> Self:
        """The matrix with each entry times its factor.

        Args:
            factors: ``float[entries]``, in the order of the CSR matrix.

        Returns:
            A storage of the same structure.
        """
        return dataclasses.replace(cast(Any, self), weights=rescaled(self.weights, factors))


@runtime_checkable
class AccumulatingStorage(Storage, Protocol):
    """A storage that adds another table to its product in the same pass; this is optional."""

    def multiply_add(
        self,
        x: NodeTable,
        onto: NodeTable,
        scale: Float[Array, ""] | float,
        share: Float[Array, ""] | float,
    ) -> NodeTable:
        """scale · M x + share · onto, summed in :func:`sum_dtype` and rounded once.

        Args:
            x: ``float[C, D]``.
            onto: ``float[R, D]`` in the type of x.
            scale: a factor of the product.
            share: a factor of ``onto``.

        Returns:
            ``float[R, D]`` in the type of x.
        """
        ...


@runtime_checkable
class RowStorage(Storage, Protocol):
    """A storage that can also multiply a few of its rows; whether a storage has this is optional.

    Operators of a storage without it apply the whole matrix and read the rows of the result.
    """

    @property
    def num_entries(self) -> int:
        """Stored entries of the whole matrix, static."""
        ...

    @property
    def break_even(self) -> BreakEven:
        """Where an application to a few rows stops to save time."""
        ...

    def row_lengths(self, rows: Ids) -> Int[Array, " rows"]:
        """How many entries each of the rows has, ``int32[Q]``.

        Args:
            rows: ``int32[Q]``, row ids; a row may stand among them twice.
        """
        ...

    def multiply_rows(self, x: NodeTable, rows: Ids, capacity: int) -> Vectors:
        """(M x)[rows], computed from the entries of those rows.

        Args:
            x: ``float[C, D]``.
            rows: ``int32[Q]``, row ids; a row may stand among them twice.
            capacity: static; the most entries that the rows may have. With more the result is
                wrong, so compare :meth:`row_lengths` first.

        Returns:
            ``float[Q, D]`` in the type of x.
        """
        ...

    def multiply_rows_transposed(self, y: Vectors, rows: Ids, capacity: int) -> NodeTable:
        """M[rows]ᵀ y, computed from the entries of those rows.

        Args:
            y: ``float[Q, D]``.
            rows: ``int32[Q]``, row ids; a row may stand among them twice.
            capacity: static; the most entries that the rows may have.

        Returns:
            ``float[C, D]`` in the type of y.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Restriction:
    """Which applications read only the entries at the rows of a mini-batch; all of it is static.

    Attributes:
        capacity: the most entries that are read; a batch with more takes the whole application.
        backward: whether the first application of the backward pass is restricted too, beside the
            last one of the forward pass.
    """

    capacity: int
    backward: bool


def sum_dtype(dtype: DTypeLike) -> jnp.dtype:
    """The type that sums over a table run in: float32, or float64 for float64.

    Args:
        dtype: the table's type.

    Returns:
        The wider type.
    """
    return jnp.promote_types(dtype, jnp.float32)


def exact_product(a: Float[Array, "m k"], b: Float[Array, "k n"]) -> Float[Array, "m n"]:
    """The matrix product a b. Accelerators would round float32 operands to fewer bits.

    Args:
        a: ``float[m, k]``.
        b: ``float[k, n]``.

    Returns:
        ``float[m, n]``.
    """
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def added_up(
    add: Callable[[Int[Array, ""] | int, int, Array], Array], total: Array, count: int, block: int
) -> Array:
    """A sum over many terms, block by block in a loop of the program.

    Args:
        add: from the first term, how many there are (static), and a total, to the total with them.
        total: what the sum starts with.
        count: how many terms there are.
        block: terms added before the total is stored again.

    Returns:
        The last total.
    """
    whole, rest = divmod(count, block)
    if whole:
        total = jax.lax.fori_loop(0, whole, lambda i, total: add(i * block, block, total), total)
    return add(whole * block, rest, total) if rest else total


def rounded(weights: jax.typing.ArrayLike, dtype: DTypeLike) -> Array:
    """Weights put on the device.

    Args:
        weights: ``float[entries]``.
        dtype: the type to round them to.

    Returns:
        ``dtype[entries]``.

    Raises:
        InputError: the type has no fractions.
    """
    if not jnp.issubdtype(dtype, jnp.floating):
        raise InputError(f"dtype: expected a floating-point type, got {jnp.dtype(dtype)}")
    if isinstance(weights, np.ndarray):
        return jax.device_put(weights.astype(dtype))
    return jnp.asarray(weights).astype(dtype)


def rescaled(weights: Float[Array, " entries"], factors: Float[Array, " entries"]) -> Array:
    """Weights times factors, rounded once.

    Args:
        weights: ``float[entries]``.
        factors: ``float[entries]``.

    Returns:
        ``float[entries]`` in the type of the weights.
    """
    return (weights * factors).astype(weights.dtype)


def restriction_of(storage: Storage, entries: float) -> Restriction | None:
    """Which applications to restrict to the rows of a mini-batch.

    Args:
        storage: the matrix.
        entries: how many directed edges stand at those rows, on average.

    Returns:
        None where no application gains, or where the storage cannot multiply single rows.
    """
    if not isinstance(storage, RowStorage):
        return None
    capacity, most = math.ceil(_HEADROOM * float(entries)), storage.break_even
    share = capacity / max(1, storage.num_entries)
    return Restriction(capacity, share <= most.backward) if share <= most.forward else None
