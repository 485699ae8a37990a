"""The operator's matrix with its rows shared out over a mesh, behind the protocol of all storages.

A shard multiplies its rows by the rows of the table that they read. Those come from all shards:
either every shard sends its whole part of the table to every other (``gather``), or each sends
another what that one's rows read (``needed``), in buffers whose size is settled when the matrix is
shared out, so that none can overflow. The one that moves fewer bytes is taken.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, cast

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from lightgcn_jax.arrays import Array, Int, NodeTable
from lightgcn_jax.diffusion.native import NativeStorage
from lightgcn_jax.diffusion.segment import SegmentStorage
from lightgcn_jax.diffusion.storage import rounded, sum_dtype
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph.csr import CsrMatrix
from lightgcn_jax.processes.placing import by_shards
from lightgcn_jax.sharding.layout import Layout
from lightgcn_jax.sharding.mesh import MODEL

Exchange = Literal["gather", "needed"]


@flax.struct.dataclass
class ShardedStorage:
    """Rows of a square matrix on the shards of a mesh, as many on each.

    Attributes:
        local: a storage whose arrays have a leading axis of shards: each shard's rows, filled up
            with entries that weigh nothing.
        sent: ``int32[S, S, M]``, for each shard and each other one the rows of its part of the
            table that it sends; None where all are sent.
        shape: N' and N'.
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
        each = self.shape[0] // shards if self.sent is None else self.sent.shape[2]
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


class ShardSizes(NamedTuple):
    """What the graph decides of the arrays of a :class:`ShardedStorage`.

    Attributes:
        entries: of the shard that has most.
        needed: M, rows that a shard sends another one at most.
        mean: entries of a shard on average.
    """

    entries: int
    needed: int
    mean: float


class Parts(NamedTuple):
    """What a process has of a matrix, by shard; at least that of its own shards.

    Attributes:
        rows: a shard's rows, ``float64[N'/S, N']``.
        read: their distinct columns, ascending.
        sent: for a shard ``int32[S, M]``, the rows that it sends each receiver.
    """

    rows: Mapping[int, scipy.sparse.csr_array]
    read: Mapping[int, np.ndarray]
    sent: Callable[[int], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Sharded:
    """Makes storages of a graph's square matrices, laid out on a mesh.

    Attributes:
        layout: where the graph's nodes lie.
        kernel: what multiplies on a shard: ``native`` or ``segment``.
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
        shards, each = self.layout.shards, self.layout.rows_a_shard
        laid_out = _laid_out(matrix, self.layout)
        parts = {shard: laid_out[shard * each : (shard + 1) * each] for shard in range(shards)}
        read = {shard: np.unique(part.indices) for shard, part in parts.items()}
        most = max(part.nnz for part in parts.values())
        needed = int(
            max(np.bincount(rows // each, minlength=shards).max() for rows in read.values())
        )
        senders: Any = None
        if self.exchange_of(needed) == "needed":
            senders = _sent([*read.values()], each, needed)
        sizes = ShardSizes(most, needed, matrix.num_entries / shards)
        return self.made(Parts(parts, read, lambda shard: senders[shard]), sizes, dtype)

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
        if self.kernel not in _KERNELS:
            raise InputError(
                f"backend: expected auto, native or segment on a mesh, got {self.kernel}"
            )

    def made(self, of: Parts, sizes: ShardSizes, dtype: DTypeLike) -> ShardedStorage:
        """The storage of the rows of all shards, of which a process has its own.

        Args:
            of: what the process has of the matrix.
            sizes: of the shards of all processes.
            dtype: type that the weights are rounded to.
        """
        layout, each, shards = self.layout, self.layout.rows_a_shard, self.layout.shards
        most, needed = sizes.entries, sizes.needed
        exchange = self.exchange_of(needed)
        kernel, width = _KERNELS[self.kernel], shards * (each if exchange == "gather" else needed)

        def of_shard(shard: int) -> Any:
            part = of.rows[shard]
            if exchange == "needed":
                part = _renumbered(part, of.read[shard], each, needed, shards)
            return kernel(part, most - part.nnz, (each, width), dtype)

        local, sent = by_shards(of_shard, layout.mesh, MODEL), None
        if exchange == "needed":
            sent = cast(Any, by_shards(of.sent, layout.mesh, MODEL))
        unevenness = most / sizes.mean if sizes.mean else 0.0
        whole = self.shape_of((layout.num_nodes, layout.num_nodes))
        return ShardedStorage(local, sent, whole, layout.mesh, self.wire, unevenness)

    def exchange_of(self, needed: int) -> Exchange:
        """Which rows travel: what moves fewer bytes, where nothing else is asked for.

        Args:
            needed: M, rows that a shard would send another one at most.
        """
        fewer = "needed" if needed < self.layout.rows_a_shard else "gather"
        return self.exchange or fewer

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


def _sent(read: list[np.ndarray], each: int, needed: int) -> np.ndarray:
    """For each shard and each receiver the rows that it sends, filled up with its first one."""
    sent = np.zeros((len(read), len(read), needed), np.int32)
    for receiver, rows in enumerate(read):
        sender, row = np.divmod(rows, each)
        sent[sender, receiver, places_within(sender)] = row
    return sent


def places_within(senders: np.ndarray) -> np.ndarray:
    """The place of each row among those of its sender.

    Args:
        senders: ``int[rows]``, ascending.
    """
    return np.arange(len(senders)) - np.searchsorted(senders, senders)


def _renumbered(
    part: scipy.sparse.csr_array, read: np.ndarray, each: int, needed: int, shards: int
) -> scipy.sparse.csr_array:
    """Columns that count the rows that a shard receives, one sender's after another's."""
    sender = read // each
    received = (sender * needed + places_within(sender)).astype(np.int32)
    columns = received[np.searchsorted(read, part.indices)]
    shape = each, shards * needed
    return scipy.sparse.csr_array((part.data, columns, part.indptr), shape=shape)


def _native(part: Any, spare: int, shape: tuple[int, int], dtype: DTypeLike) -> NativeStorage:
    columns, weights = _filled(part, spare, dtype)
    weights = weights.astype(sum_dtype(weights.dtype))
    made = cast(Any, NativeStorage)
    return made(part.indptr.astype(np.int32), columns, weights, shape)


def _segment(part: Any, spare: int, shape: tuple[int, int], dtype: DTypeLike) -> SegmentStorage:
    columns, weights = _filled(part, spare, dtype)
    rows = np.repeat(np.arange(shape[0], dtype=np.int32), np.diff(part.indptr))
    rows, made = np.pad(rows, (0, spare), constant_values=shape[0] - 1), cast(Any, SegmentStorage)
    return made(columns, rows, weights, shape)


_KERNELS = {"native": _native, "segment": _segment}


def _filled(part: Any, spare: int, dtype: DTypeLike) -> tuple[np.ndarray, np.ndarray]:
    """Columns and weights, filled up with entries that weigh nothing."""
    weights = np.asarray(rounded(part.data, dtype))
    return np.pad(part.indices.astype(np.int32), (0, spare)), np.pad(weights, (0, spare))
