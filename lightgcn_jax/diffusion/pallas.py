"""Diffusion by hand-written kernels for GPU and TPU: gather and accumulate, no scatter, no atomics.

Experimental: the kernels compile for GPU and TPU and are tested in Pallas's interpreter; they were
never timed on hardware.

The layout is sliced ELLPACK with sorted rows (SELL-C-σ; Kreutzer et al. 2014, section 3): rows are
ordered by length, eight consecutive ones form a group, and a group's entries stand in tiles that
hold the next entry of each of its eight rows. Eight rows are what a TPU vector register holds and
what a GPU program of four warps accumulates; one tile's columns are one 32-byte sector. Rows longer
than :data:`LONGEST_PIECE` are cut into pieces, so that no program works long on a hub and hubs do
not widen their neighbours' groups: at most 7 · LONGEST_PIECE slots of a matrix are padding, beside
one tile a group for where its sums go. The pieces of a row are added up by the same kernel.

:mod:`lightgcn_jax.diffusion.pallas_gpu` and :mod:`lightgcn_jax.diffusion.pallas_tpu` hold the
kernels; they are imported when a product is traced, so that nothing pays for Pallas unused.
"""

from __future__ import annotations

import dataclasses
import importlib
from typing import Literal, NamedTuple, Self

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from lightgcn_jax.arrays import Array, Float, Int, NodeTable
from lightgcn_jax.diffusion.storage import rescaled, rounded
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph.csr import CsrMatrix

GROUP = 8
# A GPU program waits about a microsecond for each of its loop's turns, so the longest piece bounds
# how long the last program runs on alone; shorter pieces mean more sums to add up.
LONGEST_PIECE = 128
# Tiles that the TPU kernel takes a step; its blocks of slots must be multiples of 1024 numbers.
STEP_TILES = 512

_INT32_MAX = np.iinfo(np.int32).max


@flax.struct.dataclass
class Level:
    """Rows in groups of eight; the first level reads the table, later ones sums of pieces.

    A slot is one of eight places of a tile. Group g owns tiles ``tile_starts[g]`` to
    ``tile_starts[g + 1]``; in all but the last of them ``stream`` holds columns, in the last one
    the bitwise complement (hence negative) of where the eight sums go: t < R is row t of the
    result, R ≤ t < R + pieces is piece t − R, R + pieces is nowhere (the last group's free places).

    Attributes:
        tile_starts: ``int32[groups + 1]``.
        stream: ``int32[8 · tiles]``, slot by slot; tiles is a multiple of :data:`STEP_TILES`.
        weights: ``float[8 · tiles]``; 0 in slots that pad a row. Kernels leave out what weighs 0.
        num_tiles: tiles in use, equal to ``tile_starts[-1]``.
    """

    tile_starts: Int[Array, " groups_plus_one"]
    stream: Int[Array, " slots"]
    weights: Float[Array, " slots"]
    num_tiles: int = flax.struct.field(pytree_node=False)

    @property
    def num_groups(self) -> int:
        """Groups of eight rows."""
        return self.tile_starts.shape[0] - 1


@flax.struct.dataclass
class PallasStorage:
    """A matrix in tiles of eight rows, multiplied by a Pallas kernel; experimental.

    The kernel is chosen by the platform that the program is lowered for, which need not be the one
    that traces it. An entry of weight 0 is not read, so what edge dropout leaves out costs no
    traffic on GPU (and a NaN there does not spread).

    Attributes:
        levels: first the rows, then the pieces of long rows, then the pieces of those, …
        entries: ``int32[slots]``, which CSR entry stands in each slot of the first level (the
            number of entries where none does); None unless rescalable.
        shape: R and C.
        num_entries: entries of the matrix.
        num_pieces: pieces of all rows that are cut, over all levels.
        interpret: run this kernel in Pallas's interpreter, on any platform: slow, for tests and
            study. Not set by ``from_csr``; use ``dataclasses.replace``.
    """

    levels: tuple[Level, ...]
    entries: Int[Array, " slots"] | None
    shape: tuple[int, int] = flax.struct.field(pytree_node=False)
    num_entries: int = flax.struct.field(pytree_node=False)
    num_pieces: int = flax.struct.field(pytree_node=False)
    interpret: Literal["gpu", "tpu"] | None = flax.struct.field(pytree_node=False, default=None)

    @classmethod
    def from_csr(cls, matrix: CsrMatrix, dtype: DTypeLike, *, rescalable: bool = False) -> Self:
        """Rows in tiles, level after level.

        Args:
            matrix: R×C.
            dtype: type that the weights are rounded to.
            rescalable: whether to keep each entry's place, four bytes a slot.

        Returns:
            The storage.
        """
        cuts = _cuts(matrix.offsets.astype(np.int64))
        num_pieces = sum(cut.num_pieces for cut in cuts)
        nowhere = matrix.shape[0] + num_pieces
        levels, entries = [], None
        # The pieces of a later level's rows stand one after another among all pieces.
        columns, entry_weights, kind = matrix.columns, matrix.weights, dtype
        for cut in cuts:
            tile_starts, slots, stream = _tiles(cut, nowhere)
            if levels:
                columns = cut.first_source + np.arange(len(slots), dtype=np.int32)
                entry_weights, kind = 1.0, jnp.float32
            elif rescalable:
                entries = np.full(len(stream), matrix.num_entries, np.int32)
                entries[slots] = np.arange(matrix.num_entries, dtype=np.int32)
                entries = jax.device_put(entries)
            stream[slots] = columns
            weights = np.zeros(len(stream))
            weights[slots] = entry_weights
            weights, num_tiles = rounded(weights, kind), int(tile_starts[-1])
            levels.append(
                Level(jax.device_put(tile_starts), jax.device_put(stream), weights, num_tiles)
            )
        return cls(tuple(levels), entries, matrix.shape, matrix.num_entries, num_pieces)

    @classmethod
    def obstacle(cls, platform: str) -> str | None:
        """Say why a platform cannot run it: it needs a compiled kernel.

        Args:
            platform: ``cpu``, ``gpu`` or ``tpu``.

        Returns:
            A sentence, or None where nothing stands in the way.
        """
        if platform not in _KERNELS:
            return f"Pallas has no compiled kernel for {platform}, only an interpreter for tests"
        try:
            importlib.import_module(_KERNELS[platform])
        except ImportError as error:
            return f"JAX {jax.__version__} lacks what the kernel for {platform} needs: {error}"
        return None

    def multiply(self, x: NodeTable) -> NodeTable:
        """M x, without a temporary for each edge.

        Args:
            x: ``float[C, D]``.

        Returns:
            ``float[R, D]`` in the type of x.

        Raises:
            NotImplementedError: lowered for a platform without a kernel, see :meth:`obstacle`.
        """
        if self.num_entries == 0 or x.shape[1] == 0:
            return jnp.zeros((self.shape[0], x.shape[1]), x.dtype)
        if self.interpret is not None:
            return _product(self.interpret)(self, x)
        kernels = {
            name: _product(platform)
            for name, platform in (("cuda", "gpu"), ("rocm", "gpu"), ("tpu", "tpu"))
            if self.obstacle(platform) is None
        }
        return jax.lax.platform_dependent(self, x, **kernels)

    def scaled(self, factors: Float[Array, " entries"]) -> Self:
        """The matrix with each entry times its factor.

        Args:
            factors: ``float[entries]``, in the order of the CSR matrix.

        Returns:
            A storage of the same structure.

        Raises:
            InputError: the storage was not made ``rescalable``.
        """
        if self.entries is None:
            raise InputError("storage: expected one made with rescalable=True to scale its weights")
        first, *rest = self.levels
        of_slots = factors.at[self.entries].get(mode="fill", fill_value=0)
        scaled = dataclasses.replace(first, weights=rescaled(first.weights, of_slots))
        return dataclasses.replace(self, levels=(scaled, *rest))


_KERNELS = {"gpu": "lightgcn_jax.diffusion.pallas_gpu", "tpu": "lightgcn_jax.diffusion.pallas_tpu"}


def _product(platform: str):
    return importlib.import_module(_KERNELS[platform]).product


class _Cut(NamedTuple):
    """One level's pieces in the order of its entries.

    ``lengths`` and ``targets`` have one number a piece; ``num_pieces`` counts those that a later
    level adds up, ``first_source`` is where the level's own sources start among all pieces.
    """

    lengths: np.ndarray
    targets: np.ndarray
    num_pieces: int
    first_source: int


def _cuts(offsets: np.ndarray) -> list[_Cut]:
    """Rows cut into pieces of at most LONGEST_PIECE entries, and the pieces' rows again."""
    num_rows = len(offsets) - 1
    targets = np.arange(num_rows, dtype=np.int64)
    lengths = np.diff(offsets)
    cuts = []
    first_source = made = 0
    while True:
        pieces = np.maximum(-(-lengths // LONGEST_PIECE), 1)
        row = np.repeat(np.arange(len(lengths)), pieces)
        place = np.arange(len(row)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        piece_lengths = np.minimum(lengths[row] - place * LONGEST_PIECE, LONGEST_PIECE)
        is_part = pieces[row] > 1
        count = int(is_part.sum())
        piece_targets = targets[row]
        piece_targets[is_part] = num_rows + made + np.arange(count)
        cuts.append(_Cut(piece_lengths, piece_targets, count, first_source))
        if not count:
            return cuts
        first_source = made
        made += count
        targets, lengths = targets[pieces > 1], pieces[pieces > 1]


def _tiles(cut: _Cut, nowhere: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where a level's groups start, the slot of each of its entries, and a stream of targets."""
    # Stable, so that rows of one length keep their order, which may be one of locality. Sixteen
    # bits, so that NumPy sorts by counting.
    order = np.argsort((LONGEST_PIECE - cut.lengths).astype(np.int16), kind="stable")
    num_groups = -(-len(order) // GROUP)
    longest = cut.lengths[order[::GROUP]]
    tile_starts = np.concatenate([[0], np.cumsum(longest + 1)])
    tiles = max(-(-int(tile_starts[-1]) // STEP_TILES), 1) * STEP_TILES
    if tiles * GROUP > _INT32_MAX:
        raise InputError(
            f"matrix: slots are counted in 32 bits, got {tiles * GROUP:,} for "
            f"{int(cut.lengths.sum()):,} entries and {len(order):,} rows"
        )
    first_slot = np.empty(len(order), np.int32)
    places = np.arange(len(order))
    first_slot[order] = tile_starts[places // GROUP] * GROUP + places % GROUP
    starts = np.cumsum(cut.lengths) - cut.lengths
    slots = np.arange(int(cut.lengths.sum()), dtype=np.int32)
    slots -= np.repeat(starts.astype(np.int32), cut.lengths)
    slots *= GROUP
    slots += np.repeat(first_slot, cut.lengths)

    targets = np.full(num_groups * GROUP, nowhere, np.int32)
    targets[: len(order)] = cut.targets[order]
    stream = np.zeros(tiles * GROUP, np.int32)
    stream.reshape(tiles, GROUP)[tile_starts[1:] - 1] = ~targets.reshape(num_groups, GROUP)
    return tile_starts.astype(np.int32), slots, stream
