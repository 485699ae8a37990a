"""Diffusion as jraph message passing: the portable reference."""

from __future__ import annotations

import flax.struct
import jax.numpy as jnp
import jraph
import numpy as np

from lightgcn_jax.arrays import Array, Float, Int, NodeTable


@flax.struct.dataclass
class SegmentStorage:
    """Edges sorted by receiver; a message is the weighted sender row, summed by receiver.

    Attributes:
        senders: ``int32[2E]``.
        receivers: ``int32[2E]``, non-decreasing.
        weights: ``float[2E]``.
        num_nodes: N.
    """

    senders: Int[Array, " edges"]
    receivers: Int[Array, " edges"]
    weights: Float[Array, " edges"]
    num_nodes: int = flax.struct.field(pytree_node=False)

    @classmethod
    def from_csr(
        cls, offsets: np.ndarray, columns: np.ndarray, weights: np.ndarray
    ) -> SegmentStorage:
        num_nodes = len(offsets) - 1
        receivers = np.repeat(np.arange(num_nodes, dtype=np.int32), np.diff(offsets))
        return cls(
            senders=jnp.asarray(columns),
            receivers=jnp.asarray(receivers),
            weights=jnp.asarray(weights),
            num_nodes=num_nodes,
        )

    def multiply(self, x: NodeTable) -> NodeTable:
        """Ã x; holds one message an edge, ``[2E, D]``, while it runs."""
        messages = x[self.senders] * self.weights[:, None]
        return jraph.segment_sum(messages, self.receivers, self.num_nodes, indices_are_sorted=True)
