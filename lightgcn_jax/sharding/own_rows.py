"""A graph's matrix on a mesh, of which each process makes the rows of its own shards and reads no
others: those of a prepared folder stay on the disk.

What a shard sends others it knows from its own rows: a node reads whom it is read by, for an edge
stands in the rows of both its ends.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import scipy.sparse
from jax.typing import DTypeLike

from lightgcn_jax.graph.csr import CsrMatrix
from lightgcn_jax.graph.normalization import NormalizedAdjacency
from lightgcn_jax.processes.agreement import gathered
from lightgcn_jax.processes.placing import own_shards
from lightgcn_jax.sharding.graph_matrix import Sharded
from lightgcn_jax.sharding.layout import Layout
from lightgcn_jax.sharding.mesh import MODEL
from lightgcn_jax.sharding.shards import Parts, ShardSizes, places_within
from lightgcn_jax.sharding.storage import ShardedStorage


@dataclasses.dataclass(frozen=True)
class ShardedByRows(Sharded):
    """Makes storages of a graph's square matrices; each process reads the rows of its own shards.

    Attributes:
        layout: where the graph's nodes lie.
        kernel: what multiplies on a shard: ``native``, ``segment``, or ``auto`` for the faster one.
        exchange: which rows travel; None for whatever moves fewer bytes.
        wire: the type that rows travel in; None for that of the table.
    """

    def matrix_of(self, graph: Any, normalization: Any) -> NormalizedAdjacency:
        """The matrix that :meth:`from_csr` takes.

        Args:
            graph: the interactions.
            normalization: as :func:`lightgcn_jax.graph.normalized_adjacency` takes it.
        """
        return NormalizedAdjacency(graph, normalization)

    def from_csr(
        self,
        matrix: CsrMatrix | NormalizedAdjacency,
        dtype: DTypeLike,
        *,
        rescalable: bool = False,
    ) -> ShardedStorage:
        """Lay a graph's matrix out and share it out.

        Args:
            matrix: N×N; one that is there as a whole is shared out as :class:`Sharded` does it.
            dtype: type that the weights are rounded to.
            rescalable: not possible.

        Raises:
            InputError: the matrix is not that of the layout's nodes, entries should be dropped from
                it, or the kernel is another.
        """
        if isinstance(matrix, CsrMatrix):
            return super().from_csr(matrix, dtype, rescalable=rescalable)
        self.check(matrix.shape, rescalable)
        layout, shards, each = self.layout, self.layout.shards, self.layout.rows_a_shard
        own = own_shards(layout.mesh, MODEL)
        parts = {shard: part_of_shard(matrix, layout, shard) for shard in own}
        read = {shard: _distinct(part.indices, shards * each) for shard, part in parts.items()}
        most = max(part.nnz for part in parts.values())
        needed = max(int(np.bincount(rows // each, minlength=1).max()) for rows in read.values())
        # Those of the other processes' shards as well.
        most, needed = (max(one) for one in zip(*gathered([most, needed]), strict=True))
        sizes = ShardSizes(most, needed, matrix.num_entries / shards)
        made = Parts(parts, read, lambda shard: rows_sent(parts[shard], shards, needed))
        return self.made(made, sizes, dtype)


def part_of_shard(
    matrix: NormalizedAdjacency, layout: Layout, shard: int
) -> scipy.sparse.csr_array:
    """A shard's rows of a matrix, its columns where their nodes lie. No other rows are read.

    Args:
        matrix: N×N.
        layout: where its nodes lie.
        shard: from 0 to S − 1.

    Returns:
        ``float64[N'/S, N']``.
    """
    lengths, columns, weights = [np.zeros(1, np.int64)], [], []
    for start, stop, rows in layout.nodes_of(shard):
        part = matrix.rows(start, stop)
        lengths += [part.lengths, np.zeros(rows - (stop - start), np.int64)]
        columns.append(layout.rows(part.columns))
        weights.append(part.weights)
    entries = np.concatenate(weights), np.concatenate(columns)
    offsets = np.cumsum(np.concatenate(lengths))
    # Consecutive nodes lie in consecutive rows, so columns ascend as they did.
    return scipy.sparse.csr_array((*entries, offsets), (layout.rows_a_shard, layout.num_rows))


def rows_sent(part: scipy.sparse.csr_array, shards: int, needed: int) -> np.ndarray:
    """For each receiver the rows that a shard sends: those with an entry among its columns.

    Args:
        part: the shard's rows, from :func:`part_of_shard`.
        shards: S.
        needed: M, as many as it sends one receiver at most.

    Returns:
        ``int32[S, M]``, filled up with the shard's first row.
    """
    each = len(part.indptr) - 1
    rows = np.repeat(np.arange(each), np.diff(part.indptr))
    receiver, row = np.divmod(_distinct(part.indices // each * each + rows, shards * each), each)
    sent = np.zeros((shards, needed), np.int32)
    sent[receiver, places_within(receiver)] = row
    return sent


def _distinct(numbers: np.ndarray, bound: int) -> np.ndarray:
    """Those that occur, ascending; without a sort, for there are many."""
    found = np.zeros(bound, bool)
    found[numbers] = True
    return np.flatnonzero(found)
