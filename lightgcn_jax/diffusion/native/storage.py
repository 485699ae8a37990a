"""Diffusion by C++ kernels of our own, on CPU: rows in parallel, each summed in registers."""

from __future__ import annotations

from typing import Self

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from lightgcn_jax.arrays import Array, Float, Ids, Int, NodeTable, Vectors
from lightgcn_jax.diffusion.native.library import load, target_name
from lightgcn_jax.diffusion.storage import BreakEven, WeightsInOrder, rounded, sum_dtype
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph.csr import CsrMatrix

# Of room for a batch's entries, a quarter of which stays empty. On Gowalla, D = 64, an entry takes
# 5.7 ns in the whole application, 10.6 among the rows of a batch, 13.4 where those rows add.
_BREAK_EVEN = BreakEven(1 / 2, 2 / 5)


@flax.struct.dataclass
class NativeStorage(WeightsInOrder):
    """The three arrays of a CSR matrix: eight bytes an entry, four where all weights are 1.

    Kernels take bfloat16 tables as they are and sum in float32. Weights asked for in bfloat16 are
    rounded to it and kept in float32, since sums take them so.

    Attributes:
        offsets: ``int32[R + 1]`` or ``int64[R + 1]``.
        columns: ``int32[entries]``, increasing within a row.
        weights: ``float[entries]``; ``float[0]`` stands for ones.
        shape: R and C.
    """

    offsets: Int[Array, " rows_plus_one"]
    columns: Int[Array, " entries"]
    weights: Float[Array, " entries_or_none"]
    shape: tuple[int, int] = flax.struct.field(pytree_node=False)

    @classmethod
    def from_csr(cls, matrix: CsrMatrix, dtype: DTypeLike, *, rescalable: bool = False) -> Self:
        """The matrix as it is, weights rounded and then widened to the type of sums.

        Args:
            matrix: R×C; its ids were checked, the kernels check them no more.
            dtype: type that the weights are rounded to.
            rescalable: whether to keep weights of 1 too, for :meth:`scaled`.

        Returns:
            The storage.
        """
        kept = matrix.weights
        if not rescalable and (kept[:1] == 1).all() and (kept == 1).all():
            kept = kept[:0]
        weights = rounded(kept, dtype)
        weights = weights.astype(sum_dtype(weights.dtype))
        return cls(
            jax.device_put(matrix.offsets), jax.device_put(matrix.columns), weights, matrix.shape
        )

    @classmethod
    def obstacle(cls, platform: str) -> str | None:
        """Say why a platform cannot run it: it needs a CPU and its compiled kernels.

        Args:
            platform: ``cpu``, ``gpu`` or ``tpu``.

        Returns:
            A sentence, or None where nothing stands in the way.
        """
        return load().obstacle if platform == "cpu" else "its kernels are for CPUs only"

    @property
    def num_entries(self) -> int:
        """Stored entries, static."""
        return len(self.columns)

    @property
    def break_even(self) -> BreakEven:
        """Where an application to a few rows stops to save time."""
        return _BREAK_EVEN

    def scaled(self, factors: Float[Array, " entries"]) -> Self:
        """The matrix with each entry times its factor.

        Args:
            factors: ``float[entries]``, in the order of the CSR matrix.

        Returns:
            A storage of the same structure.

        Raises:
            InputError: the weights were left out.
        """
        if len(self.weights) != self.num_entries:
            raise InputError("storage: expected one made with rescalable=True")
        return super().scaled(factors)

    def multiply(self, x: NodeTable) -> NodeTable:
        """M x by one call.

        Args:
            x: ``float[C, D]``.

        Returns:
            ``float[R, D]`` in the type of x.
        """
        return self._call("multiply", self.shape[0], x)

    def multiply_add(
        self,
        x: NodeTable,
        onto: NodeTable,
        scale: Float[Array, ""] | float,
        share: Float[Array, ""] | float,
    ) -> NodeTable:
        """scale · M x + share · onto by one call, rounded once.

        Args:
            x: ``float[C, D]``.
            onto: ``float[R, D]`` in the type of x.
            scale: a factor of the product.
            share: a factor of ``onto``.

        Returns:
            ``float[R, D]`` in the type of x.
        """
        kind = sum_dtype(x.dtype)
        factors = jnp.stack([jnp.asarray(scale, kind), jnp.asarray(share, kind)])
        return self._call("multiply_add", self.shape[0], x, onto, factors)

    def row_lengths(self, rows: Ids) -> Int[Array, " rows"]:
        """How many entries each of the rows has.

        Args:
            rows: ``int32[Q]``.

        Returns:
            ``int32[Q]``.
        """
        return (self.offsets[rows + 1] - self.offsets[rows]).astype(jnp.int32)

    def multiply_rows(self, x: NodeTable, rows: Ids, capacity: int) -> Vectors:
        """(M x)[rows] by one call, whatever the number of entries.

        Args:
            x: ``float[C, D]``.
            rows: ``int32[Q]``.
            capacity: without effect: nothing is held for each entry.

        Returns:
            ``float[Q, D]`` in the type of x.
        """
        del capacity
        return self._call("multiply_rows", len(rows), x, rows.astype(jnp.int32))

    def multiply_rows_transposed(self, y: Vectors, rows: Ids, capacity: int) -> NodeTable:
        """M[rows]ᵀ y by one call; each row of the result is summed in the order of the list.

        Args:
            y: ``float[Q, D]``.
            rows: ``int32[Q]``.
            capacity: without effect: nothing is held for each entry.

        Returns:
            ``float[C, D]`` in the type of y.
        """
        del capacity
        wide = y.astype(sum_dtype(y.dtype))
        total = self._call("multiply_rows_transposed", self.shape[1], wide, rows.astype(jnp.int32))
        return total.astype(y.dtype)

    def _call(self, call: str, rows: int, x: NodeTable, *more: Array) -> NodeTable:
        """A table of so many rows, as wide as x and in its type, by one of the kernels."""
        kind = sum_dtype(x.dtype)
        if x.dtype not in (kind, jnp.bfloat16):  # float16 has no kernel
            # Other tables among the arguments have the type of x, or that of its sums already.
            wide = self._call(call, rows, x.astype(kind), *(_widened(one, kind) for one in more))
            return wide.astype(x.dtype)
        result = jax.ShapeDtypeStruct((rows, x.shape[1]), x.dtype)
        weights = self.weights.astype(kind)
        # Operators lay several tables side by side; what is batched beyond that comes in turn.
        function = jax.ffi.ffi_call(target_name(call), result, vmap_method="sequential")
        return function(self.offsets, self.columns, weights, x, *more)


def _widened(array: Array, kind: DTypeLike) -> Array:
    """An array of floats in a wider type, one of ids as it is."""
    return array.astype(kind) if jnp.issubdtype(array.dtype, jnp.floating) else array
