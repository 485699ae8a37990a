"""Arrays that lie on the devices of several processes, and their way from and to a host."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_Tree = TypeVar("_Tree")

# What every device holds of an array beside its own part while the array goes to the hosts.
_BYTES_AT_ONCE = 1 << 26


def on_every_device(tree: _Tree, mesh: Mesh) -> _Tree:
    """Have each device of a mesh hold all of some arrays.

    Args:
        tree: arrays, the same in every process; those that lie on the mesh already stay there.
        mesh: the devices.
    """
    everywhere = NamedSharding(mesh, PartitionSpec())

    def put(leaf: Any) -> Any:
        if getattr(getattr(leaf, "sharding", None), "mesh", None) == mesh:
            return leaf
        if jax.numpy.issubdtype(getattr(leaf, "dtype", np.dtype(float)), jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put(jax.random.key_data(leaf)))
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, everywhere, lambda at: whole[at])

    return jax.tree.map(put, tree)


def own_shards(mesh: Mesh, axis: str) -> list[int]:
    """The shards that this process has a device of, in their order.

    Args:
        mesh: the devices.
        axis: the mesh's axis that shards stand along.
    """
    along, own = mesh.axis_names.index(axis), {*mesh.local_devices}
    places = np.ndindex(mesh.devices.shape)
    return sorted({place[along] for place in places if mesh.devices[place] in own})


def by_shards(of_shard: Callable[[int], _Tree], mesh: Mesh, axis: str) -> _Tree:
    """Arrays whose leading axis is the shard, made for the devices of this process alone.

    Args:
        of_shard: from a shard to its arrays, of the same shapes for each.
        mesh: the devices.
        axis: the mesh's axis that shards stand along.
    """
    of_shard = functools.cache(of_shard)
    place = NamedSharding(mesh, PartitionSpec(axis))
    leaves, structure = jax.tree.flatten(of_shard(own_shards(mesh, axis)[0]))

    def shared_out(number: int, leaf: Any) -> jax.Array:
        def part(at: Any) -> np.ndarray:
            return jax.tree.leaves(of_shard(at[0].start or 0))[number][None]

        return jax.make_array_from_callback((mesh.shape[axis], *leaf.shape), place, part)

    return jax.tree.unflatten(structure, [shared_out(*one) for one in enumerate(leaves)])


def on_host(array: Any) -> np.ndarray:
    """All of an array, on the host of each process.

    What lies on devices of other processes comes by way of this one's devices, a block of rows of
    every part at a time, so that none of them holds the whole. All processes have to ask at once.

    Args:
        array: of any placement; on devices of several processes it is whole on each device, or
            shared out over one axis of a mesh along one of its own.
    """
    if not isinstance(array, jax.Array) or array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    sharding = array.sharding
    assert isinstance(sharding, NamedSharding)
    [(along, axis)] = ((at, name) for at, name in enumerate(sharding.spec) if name is not None)
    parts = sharding.mesh.shape[axis]
    each = array.shape[along] // parts
    size = min(each, max(1, _BYTES_AT_ONCE * each // max(1, array.nbytes)))
    whole = np.empty(array.shape, array.dtype)
    of_parts = np.moveaxis(whole, along, 0).reshape(parts, each, *np.delete(array.shape, along))
    for start in range(0, each, size):
        start = min(start, each - size)
        block = _block(array, np.int32(start), sharding.mesh, sharding.spec, size)
        of_parts[:, start : start + size] = np.moveaxis(
            np.asarray(block.addressable_data(0)), along + 1, 1
        )
    return np.moveaxis(of_parts.reshape(array.shape[along], *of_parts.shape[2:]), 0, along)


@functools.partial(jax.jit, static_argnames=("mesh", "spec", "size"))
def _block(array: Any, start: Any, mesh: Mesh, spec: PartitionSpec, size: int) -> Any:
    [(along, axis)] = ((at, name) for at, name in enumerate(spec) if name is not None)

    def of_part(own: Any, start: Any) -> Any:
        block = jax.lax.dynamic_slice_in_dim(own, start, size, along)
        return jax.lax.all_gather(block, axis)

    gathered = jax.shard_map(
        of_part,
        mesh=mesh,
        in_specs=(spec, PartitionSpec()),
        out_specs=PartitionSpec(),
        check_vma=False,
    )
    return gathered(array, start)
