"""Tables whose rows lie in equal shares on the devices of a mesh, looked up by any of them.

Row r lies on shard r mod S, so that rows that belong together spread evenly. A device asks each
shard for the distinct rows that it wants of it, a fixed number at a time (``all_to_all``): nothing
overflows, and no device ever holds more of the table than its share and what it asked for.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from lightgcn_jax.arrays import Array, Int
from lightgcn_jax.sharding.mesh import DATA, MODEL

# What a shard is asked for at a time: its mean share of distinct rows and so many deviations more,
# but no more rows of all shards than fill so many bytes.
_SPREAD, _BYTES_AT_ONCE = 4, 1 << 28


@flax.struct.dataclass
class RowShards:
    """R rows on S shards; read within ``shard_map``, as one reads an array: ``table[rows]``.

    Attributes:
        rows: ``[S · ⌈R/S⌉, w]``, one shard's after another's; within ``shard_map`` those of the
            device.
        count: R.
        shards: S.
    """

    rows: Array
    count: int = flax.struct.field(pytree_node=False)
    shards: int = flax.struct.field(pytree_node=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """R and w."""
        return self.count, *self.rows.shape[1:]

    def __getitem__(self, wanted: Int[Array, "..."]) -> Array:
        """The rows that a device wants, ``[…, w]``; all devices of the mesh have to ask at once.

        Args:
            wanted: ``int32[…]`` rows from 0 to R − 1, other ones on each device if need be.
        """
        flat = wanted.reshape(-1)
        row_bytes = math.prod(self.rows.shape[1:]) * self.rows.dtype.itemsize
        most = asked_at_once(flat.size, self.shards, row_bytes)
        asking = _Asking.of(flat, self.shards, -(-self.count // self.shards))
        start = jnp.zeros((flat.size, *self.rows.shape[1:]), self.rows.dtype)

        def round_of(state: tuple[Array, Array]) -> tuple[Array, Array]:
            turn, found = state
            inside = (asking.place >= turn * most) & (asking.place < (turn + 1) * most)
            slot = asking.shard * most + asking.place - turn * most
            asked = jnp.zeros(self.shards * most, jnp.int32)
            asked = asked.at[jnp.where(inside, slot, asked.size)].set(asking.row, mode="drop")
            asked = jax.lax.all_to_all(asked, MODEL, 0, 0, tiled=True)
            answer = jax.lax.all_to_all(self.rows[asked], MODEL, 0, 0, tiled=True)
            taken = answer[jnp.where(inside, slot, 0)]
            inside = inside.reshape(-1, *[1] * (taken.ndim - 1))
            return turn + 1, jnp.where(inside, taken, found)

        # As many turns on all devices, or some would wait for others that are through.
        turns = jax.lax.pmax(1 + asking.place.max(initial=0) // most, (DATA, MODEL))
        _, found = jax.lax.while_loop(
            lambda state: state[0] < turns, round_of, (jnp.int32(0), start)
        )
        found = jnp.zeros_like(found).at[asking.order].set(found, unique_indices=True)
        return found.reshape(*wanted.shape, *found.shape[1:])


class _Asking(NamedTuple):
    """Rows in ascending order of their shard: where each lies, and which turn it comes in.

    Attributes:
        order: the places of the rows among those that are wanted.
        shard: the shard of each.
        row: its row there.
        place: its place among the distinct rows that are wanted of the shard.
    """

    order: Array
    shard: Array
    row: Array
    place: Array

    @classmethod
    def of(cls, wanted: Array, shards: int, each: int) -> _Asking:
        keys = wanted % shards * each + wanted // shards
        order = jnp.argsort(keys)
        keys = keys[order]
        new = jnp.concatenate([jnp.ones(1, bool), keys[1:] != keys[:-1]])
        number = jnp.cumsum(new, dtype=jnp.int32) - 1
        shard = keys // each
        first = jnp.searchsorted(keys, jnp.arange(shards, dtype=jnp.int32) * each)
        before = number[jnp.minimum(first, len(keys) - 1)]
        return cls(order, shard, keys % each, number - before[shard])


def asked_at_once(wanted: int, shards: int, row_bytes: int) -> int:
    """How many rows a device asks each shard for at a time.

    Args:
        wanted: how many rows the device wants of all of them.
        shards: S.
        row_bytes: bytes of a row.
    """
    mean = wanted / shards
    usual = min(wanted, math.ceil(mean + _SPREAD * math.sqrt(mean)) + 1)
    return max(1, min(usual, _BYTES_AT_ONCE // (shards * row_bytes)))


def rows_on(mesh: Mesh, table: np.ndarray) -> RowShards:
    """Lay a table's rows out in shares; a process lays out those of its own devices alone.

    Args:
        mesh: the devices.
        table: ``[R, w]`` on the host, the same in every process.
    """
    shards = mesh.shape[MODEL]
    each = -(-len(table) // shards)

    def part(at: Any) -> np.ndarray:
        own = table[(at[0].start or 0) // each :: shards]
        return np.pad(own, ((0, each - len(own)), *[(0, 0)] * (table.ndim - 1)))

    shape = (shards * each, *table.shape[1:])
    rows = jax.make_array_from_callback(shape, NamedSharding(mesh, PartitionSpec(MODEL)), part)
    return RowShards(rows, len(table), shards)


def rows_described(mesh: Mesh, count: int, width: int, dtype: DTypeLike) -> RowShards:
    """Shape, type and place of what :func:`rows_on` would lay out; nothing is allocated.

    Args:
        mesh: the devices.
        count: R.
        width: w.
        dtype: of the entries.
    """
    shards = mesh.shape[MODEL]
    place = NamedSharding(mesh, PartitionSpec(MODEL))
    shape = shards * -(-count // shards), width
    rows: Any = jax.ShapeDtypeStruct(shape, dtype, sharding=place)
    return RowShards(rows, count, shards)


def places_of(tree: Any) -> Any:
    """How the leaves of a tree lie on a mesh, for ``shard_map``: shares of rows, copies of others.

    Args:
        tree: arrays, and :class:`RowShards`.
    """

    def place(leaf: Any) -> Any:
        if isinstance(leaf, RowShards):
            return dataclasses.replace(leaf, rows=PartitionSpec(MODEL))
        return PartitionSpec()

    return jax.tree.map(place, tree, is_leaf=lambda leaf: isinstance(leaf, RowShards))
