"""The layers of a batch as sorted lists of items: no array is as long as the catalogue.

A device that embeds a small part of a batch of a large catalogue has a few thousand items to sort
in the place of marks on all of them (:func:`pinsage_jax.encoder.blocks.mark_layers`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.struct
import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Int


@flax.struct.dataclass
class Places:
    """The places of items among some in ascending order, read as an array: ``places[items]``.

    Attributes:
        items: ``int32[n]``, ascending.
    """

    items: Array

    def __getitem__(self, wanted: Array) -> Array:
        """Their places, ``int32``; any number for an item that is not among them.

        Args:
            wanted: ``int32[…]``.
        """
        return jnp.searchsorted(self.items, wanted).astype(jnp.int32)


class SortedLayers(NamedTuple):
    """The items of each layer: what :class:`pinsage_jax.encoder.blocks.Marks` holds as marks.

    Attributes:
        layers: K + 1 arrays of item rows, S_0 first: ascending, then R as padding.
        counts: ``int32[K + 1]``, their sizes.
    """

    layers: tuple[Array, ...]
    counts: Int[Array, " layers_plus_one"]

    def members(self, layer: int, capacity: int) -> Int[Array, " capacity"]:
        """The items of a layer in ascending order, then R as padding.

        Args:
            layer: k.
            capacity: which holds them.
        """
        return self.layers[layer][:capacity]

    def places(self, layer: int) -> Places:
        """What tells the place of an item among those of a layer.

        Args:
            layer: k.
        """
        return Places(self.layers[layer])


def sort_layers(
    table: Any, targets: Int[Array, " targets"], layers: int, most: Sequence[int]
) -> SortedLayers:
    """Find the sets S_0 … S_K of a batch.

    Args:
        table: neighbours of R items, as :class:`pinsage_jax.encoder.blocks.Neighbors` has them.
        targets: ``int32[n]`` item rows, which may repeat; −1 is nobody.
        layers: K.
        most: capacities that hold every such batch.
    """
    num_items = table.num_rows

    def distinct(ids: Array, size: int) -> Array:
        # Nobody sorts behind all items, and is cut off first.
        return jnp.unique(jnp.where(ids >= 0, ids, num_items), size=size, fill_value=num_items)

    found = [distinct(targets, most[-1])]
    for layer in reversed(range(layers)):
        rows = found[-1]
        near = table.take(rows % num_items)
        neighbors = jnp.where((rows < num_items)[:, None], near.ids, -1)
        found.append(distinct(jnp.concatenate([rows, neighbors.reshape(-1)]), most[layer]))
    found = tuple(found[::-1])
    counts = jnp.stack([(rows < num_items).sum(dtype=jnp.int32) for rows in found])
    return SortedLayers(found, counts)
