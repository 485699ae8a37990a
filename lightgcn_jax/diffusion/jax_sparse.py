"""Diffusion as products of ``jax.experimental.sparse``: CSR with its native kernels, and BCOO.

The only file that touches ``jax.experimental.sparse``, which is kept alive but no longer developed:
where a later JAX has lost it, both storages say so and the others go on.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Self

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from lightgcn_jax.arrays import Array, Float, Ids, Int, NodeTable, Vectors
from lightgcn_jax.diffusion.storage import BreakEven, WeightsInOrder, rounded, sum_dtype
from lightgcn_jax.graph.csr import CsrMatrix

sparse: Any
try:
    from jax.experimental import sparse
except ImportError:  # pragma: no cover - no such JAX exists yet
    sparse = None

_MISSING = "this JAX has no jax.experimental.sparse"
# What the native product is called in a lowered program.
_NATIVE_CALLS = {"cpu": "cpu_csr_sparse_dense", "gpu": "cusparse_csr_matmat"}
# Restricted applications take room for entries that are not there, and the transposed one adds by a
# scatter. A little below the shares at which both take the same time on Gowalla, D = 64, two cores,
# co-clustered nodes (40 % and 12 %, `python -m benchmarks orders_and_rows --backend csr`).
_BREAK_EVEN = BreakEven(1 / 3, 1 / 12)
_LOWERING_NAMES = {"gpu": "cuda"}


@flax.struct.dataclass
class CsrStorage(WeightsInOrder):
    """The three arrays of a CSR matrix.

    The native kernels take operands of one type only, and not bfloat16: beside other operands JAX
    leaves them without a word for gathers and a scatter, thirteen times slower. So weights asked
    for in bfloat16 are rounded to it and kept in float32, and tables are widened for the product.

    Attributes:
        offsets: ``int32[R + 1]``.
        columns: ``int32[entries]``, increasing within a row.
        weights: ``float[entries]``.
        shape: R and C.
    """

    offsets: Int[Array, " rows_plus_one"]
    columns: Int[Array, " entries"]
    weights: Float[Array, " entries"]
    shape: tuple[int, int] = flax.struct.field(pytree_node=False)

    @classmethod
    def from_csr(cls, matrix: CsrMatrix, dtype: DTypeLike, *, rescalable: bool = False) -> Self:
        """The matrix as it is, weights rounded and then widened to the type of sums.

        Args:
            matrix: R×C.
            dtype: type that the weights are rounded to.
            rescalable: without effect: the weights stand in CSR order anyway.

        Returns:
            The storage.
        """
        del rescalable
        weights = rounded(matrix.weights, dtype)
        weights = weights.astype(sum_dtype(weights.dtype))
        return cls(
            jax.device_put(matrix.offsets), jax.device_put(matrix.columns), weights, matrix.shape
        )

    @classmethod
    def obstacle(cls, platform: str) -> str | None:
        """Say why a platform cannot run it: it needs a native kernel.

        Args:
            platform: ``cpu``, ``gpu`` or ``tpu``.

        Returns:
            A sentence, or None where nothing stands in the way.
        """
        if sparse is None:
            return _MISSING
        cusparse = getattr(jax.config, "jax_bcoo_cusparse_lowering", False)
        if _has_native_kernel(platform, cusparse):
            return None
        if platform == "gpu" and not cusparse:
            return (
                "cuSPARSE is off: set jax_bcoo_cusparse_lowering before the first program; "
                "without it BCSR becomes gathers and a scatter of one message an edge"
            )
        return f"JAX {jax.__version__} has no native CSR product for {platform}"

    def multiply(self, x: NodeTable) -> NodeTable:
        """M x by one call of the native kernel, without a temporary for each edge.

        Args:
            x: ``float[C, D]``.

        Returns:
            ``float[R, D]`` in the type of x.
        """
        return _product(sparse.BCSR, self, (self.columns, self.offsets), x)

    @property
    def num_entries(self) -> int:
        """Stored entries, static."""
        return len(self.columns)

    @property
    def break_even(self) -> BreakEven:
        """Where an application to a few rows stops to save time."""
        return _BREAK_EVEN

    def row_lengths(self, rows: Ids) -> Int[Array, " rows"]:
        """How many entries each of the rows has.

        Args:
            rows: ``int32[Q]``.

        Returns:
            ``int32[Q]``.
        """
        return self.offsets[rows + 1] - self.offsets[rows]

    def multiply_rows(self, x: NodeTable, rows: Ids, capacity: int) -> Vectors:
        """(M x)[rows] by the native kernel on a matrix of those rows.

        Args:
            x: ``float[C, D]``.
            rows: ``int32[Q]``.
            capacity: static; the most entries that the rows may have.

        Returns:
            ``float[Q, D]`` in the type of x.
        """
        return self._picked(rows, capacity)[0].multiply(x)

    def multiply_rows_transposed(self, y: Vectors, rows: Ids, capacity: int) -> NodeTable:
        """M[rows]ᵀ y; holds a message for each entry, ``[capacity, D]``, and scatters them.

        Args:
            y: ``float[Q, D]``.
            rows: ``int32[Q]``.
            capacity: static; the most entries that the rows may have.

        Returns:
            ``float[C, D]`` in the type of y.
        """
        kind = sum_dtype(y.dtype)
        picked, slots = self._picked(rows, capacity)
        messages = y[slots].astype(kind) * picked.weights.astype(kind)[:, None]
        total = jnp.zeros((self.shape[1], y.shape[1]), kind)
        return total.at[picked.columns].add(messages).astype(y.dtype)

    def _picked(self, rows: Ids, capacity: int) -> tuple[Self, Ids]:
        """The rows as a matrix of their own, and the row of each of its entries.

        Entries past the last have weight 0 and stand in no row.
        """
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        ends = jnp.cumsum(lengths)
        numbers = jnp.arange(len(rows), dtype=jnp.int32)
        slots = jnp.repeat(numbers, lengths, total_repeat_length=capacity)
        places = jnp.arange(capacity, dtype=jnp.int32)
        entries = places + (starts - (ends - lengths))[slots]
        weights = self.weights.at[entries].get(mode="clip")
        picked = dataclasses.replace(
            self,
            offsets=jnp.concatenate([jnp.zeros(1, jnp.int32), ends.astype(jnp.int32)]),
            columns=self.columns.at[entries].get(mode="clip"),
            weights=jnp.where(places < ends[-1], weights, 0),
            shape=(len(rows), self.shape[1]),
        )
        return picked, slots


@functools.cache
def _has_native_kernel(platform: str, cusparse: bool) -> bool:
    """Whether a small product, lowered for the platform and not run, calls a native kernel."""
    del cusparse  # part of the key: the lowering depends on it
    if platform not in _NATIVE_CALLS:
        return False
    matrix = CsrMatrix(np.zeros(2, np.int32), np.zeros(0, np.int32), np.zeros(0), 1)
    arguments = jax.eval_shape(lambda: (CsrStorage.from_csr(matrix, jnp.float32), jnp.ones((1, 1))))
    # A new function each time: JAX keeps the lowering of one that it has seen, whatever is set.
    traced = jax.jit(lambda storage, x: storage.multiply(x)).trace(*arguments)
    try:
        lowered = traced.lower(lowering_platforms=(_LOWERING_NAMES.get(platform, platform),))
    except AttributeError:  # a jaxlib without CUDA looks for cuSPARSE in a module that is None
        return False
    return _NATIVE_CALLS[platform] in lowered.as_text()


@flax.struct.dataclass
class BcooStorage(WeightsInOrder):
    """Coordinates and weights as one BCOO matrix: on every platform gathers and a scatter.

    Attributes:
        indices: ``int32[entries, 2]``, row and column, in row order.
        weights: ``float[entries]``.
        shape: R and C.
    """

    indices: Int[Array, "entries 2"]
    weights: Float[Array, " entries"]
    shape: tuple[int, int] = flax.struct.field(pytree_node=False)

    @classmethod
    def from_csr(cls, matrix: CsrMatrix, dtype: DTypeLike, *, rescalable: bool = False) -> Self:
        """The entries by row and column, in the order of the rows.

        Args:
            matrix: R×C.
            dtype: type that the weights are rounded to.
            rescalable: without effect: the weights stand in CSR order anyway.

        Returns:
            The storage.
        """
        del rescalable
        rows = np.repeat(np.arange(matrix.shape[0], dtype=np.int32), matrix.lengths)
        indices = jax.device_put(np.stack([rows, matrix.columns], axis=1))
        return cls(indices, rounded(matrix.weights, dtype), matrix.shape)

    @classmethod
    def obstacle(cls, platform: str) -> str | None:
        """Say why a platform cannot run it: all can that have ``jax.experimental.sparse``.

        Args:
            platform: ``cpu``, ``gpu`` or ``tpu``.

        Returns:
            A sentence, or None where nothing stands in the way.
        """
        del platform
        return _MISSING if sparse is None else None

    def multiply(self, x: NodeTable) -> NodeTable:
        """M x; holds one message for each edge, ``[entries, D]``.

        Args:
            x: ``float[C, D]``.

        Returns:
            ``float[R, D]`` in the type of x.
        """
        return _product(sparse.BCOO, self, (self.indices,), x)


def _product(
    kind: Any, storage: CsrStorage | BcooStorage, places: tuple[Array, ...], x: NodeTable
) -> NodeTable:
    """M x with the matrix as JAX's sparse class of that kind, whose entries have those places."""
    wide = sum_dtype(x.dtype)
    entries = storage.weights.astype(wide), *places
    matrix = kind(entries, shape=storage.shape, indices_sorted=True, unique_indices=True)
    return (matrix @ x.astype(wide)).astype(x.dtype)
