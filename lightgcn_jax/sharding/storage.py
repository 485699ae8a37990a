"""A matrix with its rows shared out over a mesh, behind the protocol of all storages.

A shard multiplies its rows by the rows of the table that they read. Those come from all shards:
either every shard sends its whole part of the table to every other (``gather``), or each sends
another what that one's rows read (``needed``), in buffers whose size is settled when the matrix is
shared out, so that none can overflow. The one that moves fewer bytes is taken.
"""

from __future__ import annotations

from typing import Any, Literal

import flax.struct
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jax.typing import DTypeLike

from lightgcn_jax.arrays import Array, Int, NodeTable
from lightgcn_jax.sharding.mesh import MODEL

Exchange = Literal["gather", "needed"]


@flax.struct.dataclass
class ShardedStorage:
    """Rows of a matrix on the shards of a mesh, as many on each.

    Attributes:
        local: a storage whose arrays have a leading axis of shards: each shard's rows, filled up
            with entries that weigh nothing.
        sent: ``int32[S, S, M]``, for each shard and each other one the rows of its part of the
            table that it sends; None where all are sent.
        shape: N' and N', for a graph's matrix; rows and columns that stand for nobody included.
        mesh: the devices.
        wire: the type that rows travel in; None for that of the table.
        unevenness: entries of the shard that has most, over the mean.
    """

    local: Any
    sent: Int[Array, "shards shards rows"] | None
    shape: tuple[int, int] = flax.struct.field(pytree_node=False)
    mesh: Mesh = flax.struct.field(pytree_node=False)
    wire: Any = flax.struct.field(pytree_node=False, default=None)
    unevenness: float = flax.struct.field(pytree_node=False, default=1.0)

    @property
    def exchange(self) -> Exchange:
        """Which rows travel."""
        return "gather" if self.sent is None else "needed"

    @property
    def rows_received(self) -> int:
        """Rows that a shard gets from others in one application."""
        shards = self.mesh.shape[MODEL]
        each = self.shape[1] // shards if self.sent is None else self.sent.shape[2]
        return (shards - 1) * each

    def bytes_received(self, dim: int, dtype: DTypeLike = jnp.float32) -> int:
        """Bytes that a shard gets from others in one application to a table.

        Args:
            dim: D, its columns.
            dtype: its type.
        """
        return self.rows_received * dim * jnp.dtype(self.wire or dtype).itemsize

    @classmethod
    def obstacle(cls, platform: str) -> str | None:
        """Say why a platform cannot run it, which any can.

        Args:
            platform: ``cpu``, ``gpu`` or ``tpu``.
        """
        del platform
        return None

    def multiply(self, x: NodeTable) -> NodeTable:
        """M x; each shard makes its rows.

        Args:
            x: ``float[N', D]``.

        Returns:
            ``float[N', D]`` in the type of x.
        """

        def of_shard(local: Any, sent: Array | None, x: NodeTable) -> NodeTable:
            own = jax.tree.map(lambda leaf: leaf[0], local)
            moved = x if self.wire is None else x.astype(self.wire)
            if sent is None:
                table = jax.lax.all_gather(moved, MODEL, tiled=True)
            else:
                table = jax.lax.all_to_all(moved[sent[0]], MODEL, 0, 0)
                table = table.reshape(-1, x.shape[1])
            return own.multiply(table.astype(x.dtype))

        of_shards, of_rows = PartitionSpec(MODEL), PartitionSpec(MODEL, None)
        # What the kernels give says nothing of the axes over which it varies.
        multiplied = jax.shard_map(
            of_shard,
            mesh=self.mesh,
            in_specs=(of_shards, of_shards, of_rows),
            out_specs=of_rows,
            check_vma=False,
        )
        return multiplied(self.local, self.sent, x)
