"""Diffusion as jraph message passing: the portable reference."""

from __future__ import annotations

from typing import Self

import flax.struct
import jax
import jax.numpy as jnp
import jraph
import numpy as np
from jax.typing import DTypeLike

from lightgcn_jax.arrays import Array, Float, Int, NodeTable
from lightgcn_jax.diffusion.storage import WeightsInOrder, added_up, rounded, sum_dtype
from lightgcn_jax.graph.csr import CsrMatrix

# Messages held at once, in bytes; above it the edges are worked through in chunks.
MESSAGE_BYTES = 2**30


@flax.struct.dataclass
class SegmentStorage(WeightsInOrder):
    """Edges sorted by receiver; a message is the weighted sender row, summed by receiver.

    Attributes:
        senders: ``int32[entries]``, columns of the matrix.
        receivers: ``int32[entries]``, its rows, non-decreasing.
        weights: ``float[entries]``.
        shape: R and C.
    """

    senders: Int[Array, " entries"]
    receivers: Int[Array, " entries"]
    weights: Float[Array, " entries"]
    shape: tuple[int, int] = flax.struct.field(pytree_node=False)

    @classmethod
    def from_csr(cls, matrix: CsrMatrix, dtype: DTypeLike, *, rescalable: bool = False) -> Self:
        """The entries in the order of their receivers.

        Args:
            matrix: R×C.
            dtype: type that the weights are rounded to.
            rescalable: without effect: the weights stand in CSR order anyway.

        Returns:
            The storage.
        """
        del rescalable
        receivers = np.repeat(np.arange(matrix.shape[0], dtype=np.int32), matrix.lengths)
        places = jax.device_put(matrix.columns), jax.device_put(receivers)
        return cls(*places, rounded(matrix.weights, dtype), matrix.shape)

    def multiply(self, x: NodeTable) -> NodeTable:
        """M x; holds one message for each edge, ``[entries, D]``, up to :data:`MESSAGE_BYTES`.

        Args:
            x: ``float[C, D]``.

        Returns:
            ``float[R, D]`` in the type of x.
        """
        kind = sum_dtype(x.dtype)
        entries, dim = len(self.senders), x.shape[1]
        chunk = MESSAGE_BYTES // (max(1, dim) * kind.itemsize)

        def messages(first: Int[Array, ""] | int, count: int) -> tuple[Array, Array]:
            senders, receivers, weights = (
                jax.lax.dynamic_slice_in_dim(array, first, count)
                for array in (self.senders, self.receivers, self.weights)
            )
            return x[senders].astype(kind) * weights.astype(kind)[:, None], receivers

        def add(first: Int[Array, ""] | int, count: int, total: Array) -> Array:
            values, receivers = messages(first, count)
            return total.at[receivers].add(values, indices_are_sorted=True)

        if entries <= chunk:
            values, receivers = messages(0, entries)
            total = jraph.segment_sum(values, receivers, self.shape[0], indices_are_sorted=True)
            return total.astype(x.dtype)
        blank = jnp.zeros((self.shape[0], dim), kind)
        return added_up(add, blank, entries, chunk).astype(x.dtype)
