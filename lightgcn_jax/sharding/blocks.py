"""Any matrix on a mesh, of which each shard has a block of consecutive rows."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import scipy.sparse
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from lightgcn_jax.arrays import NodeTable
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph.csr import CsrMatrix
from lightgcn_jax.processes.placing import on_host
from lightgcn_jax.sharding.mesh import MODEL
from lightgcn_jax.sharding.shards import exchange_by_size, made_of, parts_of
from lightgcn_jax.sharding.storage import ShardedStorage


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Makes storages of rectangular matrices, whose tables lie on the mesh by :meth:`put`.

    A shard has as many rows as any other, and of a table as many. Those beyond the last one stand
    for nobody: they are zeros.

    Attributes:
        mesh: the devices.
        kernel: what multiplies on a shard: ``native``, ``segment``, or ``auto`` for the faster one.
    """

    mesh: Mesh
    kernel: str = "auto"

    def shape_of(self, shape: tuple[int, int]) -> tuple[int, int]:
        """The shape of what is made of a matrix.

        Args:
            shape: R and C.
        """
        rows, columns = shape
        return self._filled(rows), self._filled(columns)

    def from_csr(
        self, matrix: CsrMatrix, dtype: DTypeLike, *, rescalable: bool = False
    ) -> ShardedStorage:
        """Share a matrix out.

        Args:
            matrix: R×C.
            dtype: type that the weights are rounded to.
            rescalable: not possible.

        Raises:
            InputError: entries should be dropped from it, or the kernel is another.
        """
        if rescalable:
            raise InputError("edge_dropout: expected 0 on a mesh, whose shards drop no edges")
        rows, columns = self.shape_of(matrix.shape)
        offsets = np.pad(matrix.offsets, (0, rows - matrix.shape[0]), mode="edge")
        laid_out = scipy.sparse.csr_array(
            (matrix.weights, matrix.columns, offsets), shape=(rows, columns)
        )
        parts, sizes = parts_of(laid_out, self._shards)
        each = rows // self._shards, columns // self._shards
        exchange = exchange_by_size(sizes.needed, each[1])
        return made_of(parts, sizes, dtype, self.mesh, each, self.kernel, exchange)

    def put(self, table: np.ndarray) -> NodeTable:
        """A table laid out on the mesh, filled up with zeros.

        Args:
            table: ``float[n, D]``, the same in every process.

        Returns:
            ``float[n', D]``.
        """
        filled = np.pad(table, ((0, self._filled(len(table)) - len(table)), (0, 0)))
        place = NamedSharding(self.mesh, PartitionSpec(MODEL, None))
        return jax.make_array_from_callback(filled.shape, place, lambda at: filled[at])

    def take(self, table: NodeTable, count: int) -> np.ndarray:
        """The opposite of :meth:`put`: a table's first rows, on the host of every process.

        Args:
            table: ``float[n', D]``.
            count: n.
        """
        return on_host(table)[:count]

    def _filled(self, count: int) -> int:
        return -(-count // self._shards) * self._shards

    @property
    def _shards(self) -> int:
        return self.mesh.shape[MODEL]
