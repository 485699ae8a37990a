"""The TPU kernel of :class:`lightgcn_jax.diffusion.pallas.PallasStorage`, lowered by Mosaic.

The table stays where XLA has put it: in HBM, or in vector memory where it fits. Columns and weights
stream through scalar memory, a block of tiles a grid step; for each tile eight rows are fetched by
asynchronous copies into one of :data:`_IN_FLIGHT` buffers, so that the copies of the next tiles are
under way while one is weighed and added: a multiply-add of one vector register for each 128
columns. A core runs its grid steps in order, so a group's sum stays in vector memory from one step
to the next. A finished group is copied to its rows, again without waiting.

Rows are read as float32, padded to a multiple of 128 columns: a copy of one row of two-byte numbers
would tear a register's pairs apart, and such a kernel's time is the number of copies that the
scalar core can start, not their bytes. What a measurement would have to settle: the tiles in
flight; whether the SparseCores of later chips, which gather by lists of indices, take less; whether
a table in vector memory is better read by vector loads than by copies.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas.tpu import SMEM, VMEM, CompilerParams, SemaphoreType, make_async_copy

from lightgcn_jax.arrays import Array, NodeTable
from lightgcn_jax.diffusion import pallas
from lightgcn_jax.diffusion.storage import sum_dtype

_LANES = 128
# Tiles fetched ahead. Their 128 copies of 512 bytes cover the latency of HBM if a copy takes the
# scalar core several nanoseconds to start; HBM at 820 GB/s would deliver them in 80.
_IN_FLIGHT = 16
# Finished groups whose copies back to HBM may be under way.
_OUTGOING = 4
# Wider tables are done in blocks of columns, each with a pass over the stream.
_WIDEST_BLOCK = 1024


def product(storage: pallas.PallasStorage, x: NodeTable) -> NodeTable:
    """M x by one kernel call a level; all levels write one table of results and pieces.

    Args:
        storage: M, R×C.
        x: ``float[C, D]``.

    Returns:
        ``float[R, D]`` in the type of x.
    """
    num_rows, dim = storage.shape[0], x.shape[1]
    kind = sum_dtype(x.dtype)
    blocks = pl.cdiv(dim, _WIDEST_BLOCK)
    block = pl.cdiv(dim, blocks * _LANES) * _LANES
    width = blocks * block
    source = jnp.pad(x.astype(kind), ((0, 0), (0, width - dim)))
    # The last row takes what the last group's free places would write.
    table = jax.ShapeDtypeStruct((num_rows + storage.num_pieces + 1, width), kind)
    interpret = storage.interpret is not None
    first, *later = storage.levels
    result = _call(first, source, table, block, None, interpret)
    for level in later:
        result = _call(level, result, table, block, num_rows, interpret)
    return result[:num_rows, :dim].astype(x.dtype)


def _call(level, source, table, block, first_piece, interpret):
    """One level; pieces to add up stand in the table that it completes, from row first_piece on."""
    slots = pallas.STEP_TILES * pallas.GROUP
    in_order = pl.BlockSpec((slots,), lambda _, step: (step,), memory_space=SMEM)
    in_place = pl.BlockSpec(memory_space=pl.ANY)
    kernel = functools.partial(
        _kernel, num_tiles=level.num_tiles, first_piece=first_piece, block=block
    )
    kind = table.dtype
    return pl.pallas_call(
        kernel,
        table,
        grid=(table.shape[1] // block, pl.cdiv(level.num_tiles, pallas.STEP_TILES)),
        in_specs=[in_order, in_order, in_place],
        out_specs=in_place,
        input_output_aliases={} if first_piece is None else {2: 0},
        scratch_shapes=[
            VMEM((_IN_FLIGHT, pallas.GROUP, block), kind),
            SemaphoreType.DMA((_IN_FLIGHT,)),
            VMEM((pallas.GROUP, block), kind),
            VMEM((_OUTGOING, pallas.GROUP, block), kind),
            SemaphoreType.DMA((_OUTGOING,)),
            SMEM((1,), jnp.int32),
        ],
        compiler_params=CompilerParams(dimension_semantics=("arbitrary", "arbitrary")),
        cost_estimate=_cost(level, table),
        interpret=interpret,
        name="diffusion",
    )(level.stream, level.weights.astype(kind), source)


def _cost(level: pallas.Level, table: jax.ShapeDtypeStruct) -> pl.CostEstimate:
    """What XLA's scheduling and cost analysis cannot see in a kernel: a row read for each slot."""
    numbers = pallas.GROUP * level.num_tiles * table.shape[1]
    return pl.CostEstimate(
        flops=2 * numbers,
        transcendentals=0,
        bytes_accessed=numbers * table.dtype.itemsize + 8 * len(level.stream),
    )


def _kernel(stream, weights, source, table, *scratch, num_tiles, first_piece, block):
    fetched, arrived, total, outgoing, left, finished = scratch
    if first_piece is not None:
        # An array that went in twice, to be read and to be completed, would be copied.
        source = table
    step = pl.program_id(1)
    tiles = jnp.minimum(num_tiles - step * pallas.STEP_TILES, pallas.STEP_TILES)
    columns = pl.ds(pl.multiple_of(pl.program_id(0) * block, _LANES), block)

    def row(ref, index):
        return ref.at[pl.ds(index, 1), columns]

    def fetch(tile):
        @pl.when((tile < tiles) & (stream[jnp.minimum(tile, tiles - 1) * pallas.GROUP] >= 0))
        def _():
            buffer = tile % _IN_FLIGHT
            for place in range(pallas.GROUP):
                index = stream[tile * pallas.GROUP + place] + (first_piece or 0)
                slot = fetched.at[buffer, pl.ds(place, 1), :]
                make_async_copy(row(source, index), slot, arrived.at[buffer]).start()

    def accumulate(tile):
        buffer = tile % _IN_FLIGHT
        _wait(fetched.at[buffer], arrived.at[buffer])
        weight = _vector(lambda place: weights[tile * pallas.GROUP + place], total.dtype)
        for first in range(0, block, _LANES):
            lanes = pl.ds(first, _LANES)
            values = fetched[buffer, :, lanes]
            total[:, lanes] += jnp.where(weight == 0, 0, weight * values)

    def finish(tile):
        count = finished[0]
        buffer = count % _OUTGOING

        @pl.when(count >= _OUTGOING)
        def _():
            _wait(outgoing.at[buffer], left.at[buffer])

        outgoing[buffer] = total[...]
        total[...] = jnp.zeros_like(total)
        for place in range(pallas.GROUP):
            target = ~stream[tile * pallas.GROUP + place]
            slot = outgoing.at[buffer, pl.ds(place, 1), :]
            make_async_copy(slot, row(table, target), left.at[buffer]).start()
        finished[0] = count + 1

    @pl.when(step == 0)
    def _():
        finished[0] = 0
        total[...] = jnp.zeros_like(total)

    @pl.loop(-_IN_FLIGHT, tiles)
    def turn(tile):
        is_entry = stream[jnp.maximum(tile, 0) * pallas.GROUP] >= 0
        pl.when((tile >= 0) & is_entry)(functools.partial(accumulate, tile))
        pl.when((tile >= 0) & ~is_entry)(functools.partial(finish, tile))
        fetch(tile + _IN_FLIGHT)

    @pl.when(step == pl.num_programs(1) - 1)
    def _():
        @pl.loop(0, jnp.minimum(finished[0], _OUTGOING))
        def drain(buffer):
            _wait(outgoing.at[buffer], left.at[buffer])


def _wait(buffer, semaphore):
    """Until all eight rows of a buffer have been copied: semaphores count bytes."""
    make_async_copy(buffer, buffer, semaphore).wait()


def _vector(number, kind) -> Array:
    """Eight scalars as the eight rows of a register."""
    shape = (pallas.GROUP, _LANES)
    places = jax.lax.broadcasted_iota(jnp.int32, shape, 0)
    result = jnp.full(shape, number(0), kind)
    for place in range(1, pallas.GROUP):
        result = jnp.where(places == place, number(place), result)
    return result
