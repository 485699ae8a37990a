"""What a matrix becomes on the shards of a mesh: each one's rows, and what they read of a table."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import jax
import numpy as np
import scipy.sparse
from jax.sharding import Mesh
from jax.typing import DTypeLike

from lightgcn_jax.diffusion.choice import choose_backend, obstacles
from lightgcn_jax.diffusion.native import NativeStorage
from lightgcn_jax.diffusion.segment import SegmentStorage
from lightgcn_jax.diffusion.storage import rounded, sum_dtype
from lightgcn_jax.errors import InputError
from lightgcn_jax.processes.placing import by_shards
from lightgcn_jax.sharding.mesh import MODEL
from lightgcn_jax.sharding.storage import Exchange, ShardedStorage


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


def shard_kernel(backend: str) -> str:
    """What multiplies on a shard.

    Args:
        backend: ``native``, ``segment``, or ``auto`` for the first where its kernels run, and for
            the other one elsewhere.

    Raises:
        InputError: it is another, or does not run here.
    """
    if backend == "auto":
        return "segment" if obstacles(jax.default_backend())["native"] else "native"
    if backend not in _KERNELS:
        raise InputError(f"backend: expected auto, native or segment on a mesh, got {backend}")
    return choose_backend(backend).name


def exchange_by_size(needed: int, columns: int) -> Exchange:
    """Which rows travel: what moves fewer bytes.

    Args:
        needed: M, rows that a shard would send another one at most.
        columns: rows of the table that a shard holds.
    """
    return "needed" if needed < columns else "gather"


def parts_of(laid_out: scipy.sparse.csr_array, shards: int) -> tuple[Parts, ShardSizes]:
    """A matrix cut into the rows of each shard.

    Args:
        laid_out: ``float64[R', C']``, as many rows and columns for each shard.
        shards: S.
    """
    rows, each = (count // shards for count in cast(tuple[int, int], laid_out.shape))
    parts = {shard: laid_out[shard * rows : (shard + 1) * rows] for shard in range(shards)}
    read = {shard: np.unique(part.indices) for shard, part in parts.items()}
    most = max(part.nnz for part in parts.values())
    needed = max(int(np.bincount(some // each, minlength=1).max()) for some in read.values())
    sent = functools.cache(lambda: _sent([*read.values()], each, needed))
    sizes = ShardSizes(most, needed, laid_out.nnz / shards)
    return Parts(parts, read, lambda shard: sent()[shard]), sizes


def made_of(
    of: Parts,
    sizes: ShardSizes,
    dtype: DTypeLike,
    mesh: Mesh,
    each: tuple[int, int],
    kernel: str,
    exchange: Exchange,
    wire: Any = None,
) -> ShardedStorage:
    """The storage of the rows of all shards, of which a process has its own.

    Args:
        of: what the process has of the matrix.
        sizes: of the shards of all processes.
        dtype: type that the weights are rounded to.
        mesh: the devices.
        each: rows and columns of a shard.
        kernel: as :func:`shard_kernel` takes it.
        exchange: which rows travel.
        wire: the type that rows travel in; None for that of the table.
    """
    shards, (rows, columns), kernel_of = mesh.shape[MODEL], each, _KERNELS[shard_kernel(kernel)]
    width = shards * (columns if exchange == "gather" else sizes.needed)

    def of_shard(shard: int) -> Any:
        part = of.rows[shard]
        if exchange == "needed":
            part = _renumbered(part, of.read[shard], columns, sizes.needed, shards)
        return kernel_of(part, sizes.entries - part.nnz, (rows, width), dtype)

    local, sent = by_shards(of_shard, mesh, MODEL), None
    if exchange == "needed":
        sent = cast(Any, by_shards(of.sent, mesh, MODEL))
    unevenness = sizes.entries / sizes.mean if sizes.mean else 0.0
    return ShardedStorage(local, sent, (shards * rows, shards * columns), mesh, wire, unevenness)


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
    shape = len(part.indptr) - 1, shards * needed
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
