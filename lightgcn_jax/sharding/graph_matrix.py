"""A graph's square matrix on a mesh, where its users and items lie."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from lightgcn_jax.diffusion.segment import SegmentStorage
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph.csr import CsrMatrix
from lightgcn_jax.sharding.layout import Layout
from lightgcn_jax.sharding.mesh import MODEL
from lightgcn_jax.sharding.shards import (
    Parts,
    ShardSizes,
    exchange_by_size,
    made_of,
    parts_of,
    shard_kernel,
)
from lightgcn_jax.sharding.storage import Exchange, ShardedStorage


@dataclasses.dataclass(frozen=True)
class Sharded:
    """Makes storages of a graph's square matrices, laid out on a mesh.

    Attributes:
        layout: where the graph's nodes lie.
        kernel: what multiplies on a shard: ``native``, ``segment``, or ``auto`` for the faster one.
        exchange: which rows travel; None for whatever moves fewer bytes.
        wire: the type that rows travel in; None for that of the table.
    """

    layout: Layout
    kernel: str = "segment"
    exchange: Exchange | None = None
    wire: Any = None

    def shape_of(self, shape: tuple[int, int]) -> tuple[int, int]:
        """The shape of what is made of a matrix.

        Args:
            shape: N and N.
        """
        del shape
        return self.layout.num_rows, self.layout.num_rows

    def from_csr(
        self, matrix: CsrMatrix, dtype: DTypeLike, *, rescalable: bool = False
    ) -> ShardedStorage:
        """Lay a matrix out and share it out.

        Args:
            matrix: N×N.
            dtype: type that the weights are rounded to.
            rescalable: not possible.

        Raises:
            InputError: the matrix is not that of the layout's nodes, entries should be dropped from
                it, or the kernel is another.
        """
        self.check(matrix.shape, rescalable)
        return self.made(*parts_of(_laid_out(matrix, self.layout), self.layout.shards), dtype)

    def check(self, shape: tuple[int, int], rescalable: bool) -> None:
        """Refuse what is not shared out.

        Args:
            shape: the matrix's.
            rescalable: whether entries should be dropped from it.

        Raises:
            InputError: as :meth:`from_csr`.
        """
        nodes = self.layout.num_nodes
        if shape != (nodes, nodes):
            raise InputError(f"matrix: expected shape {nodes} × {nodes}, got {shape}")
        if rescalable:
            raise InputError("edge_dropout: expected 0 on a mesh, whose shards drop no edges")
        shard_kernel(self.kernel)

    def made(self, of: Parts, sizes: ShardSizes, dtype: DTypeLike) -> ShardedStorage:
        """The storage of the rows of all shards, of which a process has its own.

        Args:
            of: what the process has of the matrix.
            sizes: of the shards of all processes.
            dtype: type that the weights are rounded to.
        """
        each = self.layout.rows_a_shard
        exchange = self.exchange_of(sizes.needed)
        return made_of(
            of, sizes, dtype, self.layout.mesh, (each, each), self.kernel, exchange, self.wire
        )

    def exchange_of(self, needed: int) -> Exchange:
        """Which rows travel: what moves fewer bytes, where nothing else is asked for.

        Args:
            needed: M, rows that a shard would send another one at most.
        """
        return self.exchange or exchange_by_size(needed, self.layout.rows_a_shard)

    def described(self, sizes: ShardSizes, dtype: DTypeLike = jnp.float32) -> ShardedStorage:
        """Shapes, types and places of the arrays that :meth:`from_csr` would make for segment sums;
        nothing is allocated.

        Args:
            sizes: what a graph would decide.
            dtype: type of the weights.
        """
        layout, each, shards = self.layout, self.layout.rows_a_shard, self.layout.shards
        place = NamedSharding(layout.mesh, PartitionSpec(MODEL))

        def array(kind: DTypeLike, *shape: int) -> Any:
            return jax.ShapeDtypeStruct((shards, *shape), kind, sharding=place)

        is_needed = self.exchange_of(sizes.needed) == "needed"
        width = shards * (sizes.needed if is_needed else each)
        sent = array(jnp.int32, shards, sizes.needed) if is_needed else None
        columns, rows = (array(jnp.int32, sizes.entries) for _ in range(2))
        weights, shape = array(dtype, sizes.entries), (each, width)
        local = cast(Any, SegmentStorage)(columns, rows, weights, shape)
        unevenness = sizes.entries / max(1.0, sizes.mean)
        whole = self.shape_of(shape)
        return ShardedStorage(local, sent, whole, layout.mesh, self.wire, unevenness)


def _laid_out(matrix: CsrMatrix, layout: Layout) -> scipy.sparse.csr_array:
    """The matrix with its rows and columns where their nodes lie."""
    rows = layout.rows(np.arange(layout.num_nodes, dtype=np.int32))
    places = np.repeat(rows, matrix.lengths), rows[matrix.columns]
    size = layout.num_rows
    return scipy.sparse.csr_array((matrix.weights, places), shape=(size, size))
