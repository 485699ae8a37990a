"""Diffusion without a scatter: rows bucketed by length, gathered and added up.

On a device without cheap atomics a scatter of messages is slow, and where it has atomics their
order is not fixed. Here every output row is a sum in one fixed order, the same in every run.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, Self

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from lightgcn_jax.arrays import Array, Float, Int, NodeTable
from lightgcn_jax.diffusion.storage import added_up, rescaled, rounded, sum_dtype
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph.csr import CsrMatrix

# Longer rows are cut into pieces: the last buckets would be few rows, too few to fill a device.
LONGEST_PIECE = 256
# Fewer buckets compile faster, more are padded less; the fewest that reach this padding are taken.
WANTED_PADDING = 1.15
MOST_BUCKETS = 16
# Entries of a row added up before the sum is stored again. Measured on two cores (Gowalla, D = 64):
# 1: 93 ms, 4: 55, 8: 45, 16: 60, 32: 58; gathering whole rows first: 530.
_UNROLLED = 8


@flax.struct.dataclass
class Bucket:
    """n rows of W entries each, one column of them after another, filled up with weights of 0.

    Attributes:
        columns: ``int32[W, n]``.
        weights: ``float[W, n]``.
        entries: ``int32[W, n]``, places in CSR order; None unless the storage is rescalable.
    """

    columns: Int[Array, "width rows"]
    weights: Float[Array, "width rows"]
    entries: Int[Array, "width rows"] | None


@flax.struct.dataclass
class BucketedStorage:
    """Rows ordered by length and padded to a few widths, chosen for the least padding.

    A row longer than :data:`LONGEST_PIECE` is cut: the first level adds up its pieces, the next
    level the pieces' sums, and so on.

    Attributes:
        levels: buckets of every level; a level reads the sums of the one before it, the first the
            table.
        places: ``int32[R]``, where each row's sum stands among all levels' sums put together; past
            their end for an empty row.
        shape: R and C.
    """

    levels: tuple[tuple[Bucket, ...], ...]
    places: Int[Array, " rows"]
    shape: tuple[int, int] = flax.struct.field(pytree_node=False)

    @classmethod
    def from_csr(cls, matrix: CsrMatrix, dtype: DTypeLike, *, rescalable: bool = False) -> Self:
        """Rows in buckets, level after level.

        Args:
            matrix: R×C.
            dtype: type that the weights are rounded to.
            rescalable: whether to keep each entry's place, four bytes a slot.

        Returns:
            The storage.
        """
        places = np.full(matrix.shape[0], np.iinfo(np.int32).max, np.int32)
        unfinished = np.flatnonzero(matrix.lengths)
        starts, lengths = matrix.offsets[unfinished], matrix.lengths[unfinished]
        rows = _Rows(starts, lengths, matrix.columns, matrix.weights)
        levels, sums = [], 0
        while len(unfinished):
            pieces, first_pieces = _cut(rows)
            buckets, piece_places = _bucket(pieces, dtype, rescalable and not levels)
            levels.append(tuple(buckets))
            whole = rows.lengths <= LONGEST_PIECE
            places[unfinished[whole]] = sums + piece_places[first_pieces[whole]]
            unfinished = unfinished[~whole]
            counts = _pieces(rows.lengths)[~whole]
            # The next level's columns are where this level leaves the pieces' sums.
            of_cut_rows = _ranges(first_pieces[~whole], counts)
            starts = np.cumsum(counts) - counts
            rows = _Rows(starts, counts, piece_places[of_cut_rows], np.ones(len(of_cut_rows)))
            sums += len(piece_places)
        return cls(tuple(levels), jax.device_put(places), matrix.shape)

    @property
    def slots(self) -> int:
        """Entries with padding, of the first level."""
        return sum(bucket.columns.size for level in self.levels[:1] for bucket in level)

    def multiply(self, x: NodeTable) -> NodeTable:
        """M x; holds a few tables of ``[R, D]`` and nothing for each edge.

        Args:
            x: ``float[C, D]``.

        Returns:
            ``float[R, D]`` in the type of x.
        """
        kind = sum_dtype(x.dtype)
        sums, table = [], x
        for level in self.levels:
            table = jnp.concatenate([_add_up(table, bucket, kind) for bucket in level])
            sums.append(table)
        if not sums:
            return jnp.zeros((self.shape[0], x.shape[1]), x.dtype)
        y = jnp.concatenate(sums).at[self.places].get(mode="fill", fill_value=0)
        return y.astype(x.dtype)

    def scaled(self, factors: Float[Array, " entries"]) -> Self:
        """The matrix with each entry times its factor.

        Args:
            factors: ``float[entries]``, in the order of the CSR matrix.

        Returns:
            A storage of the same structure.

        Raises:
            InputError: the storage was not made ``rescalable``.
        """

        def scale(bucket: Bucket) -> Bucket:
            if bucket.entries is None:
                raise InputError("storage: expected one made with rescalable=True")
            weights = rescaled(bucket.weights, factors[bucket.entries])
            return dataclasses.replace(bucket, weights=weights)

        first = tuple(scale(bucket) for level in self.levels[:1] for bucket in level)
        return dataclasses.replace(self, levels=(first, *self.levels[1:]) if self.levels else ())


def _add_up(table: NodeTable, bucket: Bucket, kind: jnp.dtype) -> Float[Array, "rows dim"]:
    width, rows = bucket.columns.shape

    def add(first: Int[Array, ""] | int, count: int, total: Array) -> Array:
        columns, weights = (
            jax.lax.dynamic_slice_in_dim(array, first, count)
            for array in (bucket.columns, bucket.weights)
        )
        for column, weight in zip(columns, weights, strict=True):
            gathered = table.at[column].get(mode="promise_in_bounds")
            total = total + gathered.astype(kind) * weight.astype(kind)[:, None]
        return total

    return added_up(add, jnp.zeros((rows, table.shape[1]), kind), width, _UNROLLED)


class _Rows(NamedTuple):
    """Rows, or pieces of rows, of one level on the host.

    Attributes:
        starts: ``int[rows]``, the first entry of each.
        lengths: ``int[rows]``, at least 1.
        columns: ``int32[entries]``.
        weights: ``float64[entries]``.
    """

    starts: np.ndarray
    lengths: np.ndarray
    columns: np.ndarray
    weights: np.ndarray


def _pieces(lengths: np.ndarray) -> np.ndarray:
    return -(-lengths // LONGEST_PIECE)


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """start, start + 1, …, count of them, for one row after another."""
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(starts, counts) + within


def _cut(rows: _Rows) -> tuple[_Rows, np.ndarray]:
    """The rows in pieces of at most the longest length, and the place of each row's first piece."""
    counts = _pieces(rows.lengths)
    first = np.cumsum(counts) - counts
    done = _ranges(np.zeros_like(first), counts) * LONGEST_PIECE
    lengths = np.minimum(np.repeat(rows.lengths, counts) - done, LONGEST_PIECE)
    starts = np.repeat(rows.starts, counts) + done
    return rows._replace(starts=starts, lengths=lengths), first


def _bucket(pieces: _Rows, dtype: DTypeLike, rescalable: bool) -> tuple[list[Bucket], np.ndarray]:
    """The buckets, and where each piece's sum stands when they are put one after another."""
    # Stable sorting of 16-bit keys is a radix sort: linear.
    order = np.argsort(pieces.lengths.astype(np.uint16), kind="stable")
    places = np.empty(len(order), np.int32)
    places[order] = np.arange(len(order), dtype=np.int32)
    widths = bucket_widths(np.bincount(pieces.lengths))
    ends = np.cumsum(np.bincount(np.searchsorted(widths, pieces.lengths), minlength=len(widths)))
    buckets = []
    for width, members in zip(widths, np.split(order, ends[:-1]), strict=True):
        slot = np.arange(width, dtype=np.int32)[:, None]
        starts = pieces.starts[members].astype(np.int32)
        padding = slot >= pieces.lengths[members]
        # Padding reads what the row reads anyway, so that a NaN stays with its neighbours.
        entries = np.where(padding, starts, starts + slot)
        weights = pieces.weights[entries]
        weights[padding] = 0
        kept = jax.device_put(entries) if rescalable else None
        columns = jax.device_put(pieces.columns[entries])
        buckets.append(Bucket(columns, rounded(weights, dtype), kept))
    return buckets, places


def bucket_widths(counts: np.ndarray) -> np.ndarray:
    """The few widths that rows should be padded to, by dynamic programming over their lengths.

    Args:
        counts: ``int[L + 1]``, how many rows have each length; none has 0, some have L.

    Returns:
        Ascending widths, the last is L: the fewest with which slots ≤ 1.15 · entries, or the best
        16.
    """
    longest = len(counts) - 1
    lengths = np.arange(longest + 1)
    below = np.cumsum(counts)
    entries = int((counts * lengths).sum())
    # added[j, i]: slots of the rows longer than i and up to j, padded to j.
    added = np.where(
        lengths[:, None] >= lengths, (below[:, None] - below) * lengths[:, None], np.inf
    )
    slots, cuts = np.where(lengths == 0, 0.0, np.inf), []
    for _ in range(min(MOST_BUCKETS, longest)):
        total = slots + added
        cuts.append(total.argmin(axis=1))
        slots = total.min(axis=1)
        if slots[longest] <= WANTED_PADDING * entries:
            break
    widths, width = [], longest
    for cut in reversed(cuts):
        widths.append(width)
        width = int(cut[width])
        if width == 0:
            break
    return np.array(sorted(set(widths)))
