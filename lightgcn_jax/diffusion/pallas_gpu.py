"""The GPU kernel of :class:`lightgcn_jax.diffusion.pallas.PallasStorage`, lowered by Triton.

One program sums one group of eight rows over a block of columns. Its threads hold the eight sums in
registers and walk through the group's tiles; a tile's eight columns and weights are one 32-byte
sector each, a gathered row of 64 float32 is 256 contiguous bytes, read as sixteen 16-byte loads.
Rows are grouped by length, so the program's threads finish together; groups start with the longest.
The sums go straight to their rows: each row has one writer, so no two runs differ.

What a measurement would have to settle: warps a program (the more, the fewer loads each has in
flight), how many tiles a turn gathers before it accumulates (:data:`_TILES_A_TURN`), the width of
the column block (the narrower, the more of the table stays in the cache while the slowest grid
axis passes over it, but the more often columns and weights are read), the longest piece.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas.triton import CompilerParams, load, store

from lightgcn_jax.arrays import NodeTable
from lightgcn_jax.diffusion import pallas
from lightgcn_jax.diffusion.storage import sum_dtype

# Gathers of several tiles are under way at once: a gather waits long and depends on a load.
_TILES_A_TURN = 4
# 128 float32 of each row: 70,000 nodes of such columns fit a cache of 40 MB.
_WIDEST_BLOCK = 128
# The widest load; so many warps that one a tile and thread suffices.
_BYTES_A_LOAD = 16
_MOST_WARPS = 4


def product(storage: pallas.PallasStorage, x: NodeTable) -> NodeTable:
    """M x by one kernel call a level; later levels complete the result in place.

    Args:
        storage: M, R×C.
        x: ``float[C, D]``.

    Returns:
        ``float[R, D]`` in the type of x.
    """
    num_rows, dim = storage.shape[0], x.shape[1]
    kind = sum_dtype(x.dtype)
    y = jax.ShapeDtypeStruct((num_rows, dim), x.dtype)
    sums = jax.ShapeDtypeStruct((storage.num_pieces, dim), kind)
    outputs = [y, sums] if storage.num_pieces else [y]
    block = min(pl.next_power_of_2(dim), _WIDEST_BLOCK)
    tables, aliases = [x], {}
    for level in storage.levels:
        kernel = functools.partial(
            _kernel, num_outputs=len(outputs), num_rows=num_rows, block=block, first=not aliases
        )
        tables = pl.pallas_call(
            kernel,
            outputs,
            grid=(level.num_groups, pl.cdiv(dim, block)),
            input_output_aliases=aliases,
            compiler_params=CompilerParams(num_warps=_warps(block, tables[-1].dtype)),
            interpret=storage.interpret is not None,
            name="diffusion",
        )(level.tile_starts, level.stream, level.weights, *tables)
        aliases = {3 + index: index for index in range(len(outputs))}
    return tables[0]


def _warps(block: int, kind: jnp.dtype) -> int:
    loads = pallas.GROUP * block * kind.itemsize // _BYTES_A_LOAD
    return min(max(loads // 32, 1), _MOST_WARPS)


def _kernel(starts, stream, weights, *tables, num_outputs, num_rows, block, first):
    outputs = tables[-num_outputs:]
    # A later level reads the sums of pieces where it writes its own: an array that went in twice,
    # to be read and to be completed, would be copied.
    x = tables[0] if first else outputs[1]
    kind = sum_dtype(x.dtype)
    group, shape = pl.program_id(0), (pallas.GROUP, block)
    columns = pl.program_id(1) * block + jax.lax.broadcasted_iota(jnp.int32, shape, 1)
    in_table = columns < x.shape[1]
    lane = jnp.arange(pallas.GROUP, dtype=jnp.int32)
    begin, last = starts[group], starts[group + 1] - 1

    def spread(of_rows):
        return jnp.broadcast_to(of_rows[:, None], shape)

    def gathered(tile):
        slots = tile * pallas.GROUP + lane
        is_tile = jnp.broadcast_to(tile < last, lane.shape)
        rows = load(stream.at[slots], mask=is_tile, other=0)
        weight = load(weights.at[slots], mask=is_tile, other=0).astype(kind)
        # Compared before they are spread over the columns: Triton joins loads of neighbours only
        # where it knows that they share their mask.
        used = spread(weight != 0) & in_table
        return spread(weight), load(x.at[spread(rows), columns], mask=used, other=0)

    def turn(index, total):
        tile = begin + index * _TILES_A_TURN
        for weight, values in [gathered(tile + ahead) for ahead in range(_TILES_A_TURN)]:
            total += weight * values.astype(kind)
        return total

    turns = (last - begin + _TILES_A_TURN - 1) // _TILES_A_TURN
    total = jax.lax.fori_loop(0, turns, turn, jnp.zeros(shape, kind))

    target = spread(~stream.at[last * pallas.GROUP + lane][...])
    for output, first_target in zip(outputs, (0, num_rows), strict=False):
        place = target - first_target
        here = (place >= 0) & (place < output.shape[0]) & in_table
        # The interpreter counts a negative place from the end and writes back what stood there.
        place = jnp.where(here, place, output.shape[0])
        store(output.at[place, columns], total.astype(output.dtype), mask=here)
