"""Diffusion as a ``jax.experimental.sparse`` CSR product; native kernel on CPU.

The only file that touches ``jax.experimental.sparse``, which is kept alive but no longer developed.
"""

from __future__ import annotations

import flax.struct
import jax.numpy as jnp
import numpy as np
from jax.experimental import sparse

from lightgcn_jax.arrays import Array, Float, Int, NodeTable


@flax.struct.dataclass
class CsrStorage:
    """The three arrays of a CSR matrix, N×N.

    Attributes:
        offsets: ``int32[N + 1]``.
        columns: ``int32[2E]``, increasing within a row.
        weights: ``float[2E]``.
    """

    offsets: Int[Array, " nodes_plus_one"]
    columns: Int[Array, " edges"]
    weights: Float[Array, " edges"]

    @classmethod
    def from_csr(cls, offsets: np.ndarray, columns: np.ndarray, weights: np.ndarray) -> CsrStorage:
        return cls(jnp.asarray(offsets), jnp.asarray(columns), jnp.asarray(weights))

    @property
    def num_nodes(self) -> int:
        return self.offsets.shape[0] - 1

    def multiply(self, x: NodeTable) -> NodeTable:
        """Ã x; on CPU one call of the native kernel, without per-edge temporaries."""
        matrix = sparse.BCSR(
            (self.weights, self.columns, self.offsets),
            shape=(self.num_nodes, self.num_nodes),
            indices_sorted=True,
            unique_indices=True,
        )
        return matrix @ x
