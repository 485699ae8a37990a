"""The part of the graph that a mini-batch needs, each node once, in arrays of fixed capacity.

The vectors wanted are those of the targets S_K. Layer k of the encoder needs, for its rows S_k,
their own vectors and their neighbours' one layer below: S_{k−1} = S_k ∪ N(S_k). The sets are
marked on an array over all items, so a node that many ask for stands in a layer once and is
computed once. Only integers are touched until the sizes of all layers are known; then the smallest
of a few capacities declared before the run is taken that holds them all. The last one always does,
so no node is ever dropped.

References:
    Ying et al. 2018, algorithm 2 (its first half makes the same sets).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import Array, Float, Ids, Int
from pinsage_jax.encoder.pinsage import Features, Params, PinSage, applied
from pinsage_jax.graph.neighborhoods import NeighborTable

Capacities = tuple[int, ...]
"""Nodes that there is room for in S_0, …, S_K."""

_STEP = 256


class Neighbors(Protocol):
    """Whose neighbours a batch needs: a ``NeighborTable``, or what a training step shows of one."""

    @property
    def num_rows(self) -> int:
        """R, the items."""
        ...

    def take(self, rows: Ids) -> NeighborTable:
        """The neighbours of some items.

        Args:
            rows: ``int32[rows]``.
        """
        ...


class Marks(NamedTuple):
    """Which items stand in each layer.

    Attributes:
        layers: K + 1 arrays ``bool[R]``, S_0 first.
        counts: ``int32[K + 1]``, their sizes.
    """

    layers: tuple[Array, ...]
    counts: Int[Array, " layers_plus_one"]


class LayerBlock(NamedTuple):
    """The rows of one layer, in places among the nodes of the layer below.

    Attributes:
        own: ``int32[C_k]``, a row's own place below.
        places: ``int32[C_k, T]``, its neighbours' places below; any place where the weight is 0.
        weights: ``float32[C_k, T]``.
    """

    own: Int[Array, " rows"]
    places: Int[Array, "rows neighbors"]
    weights: Float[Array, "rows neighbors"]


class Blocks(NamedTuple):
    """All that the encoder reads for a mini-batch.

    Attributes:
        nodes: ``int32[C_0]``, the items of S_0 in ascending order; then item 0, as padding.
        layers: K blocks, from the features upwards.
        place: ``int32[R]``, each target's row in the last layer; void for other items.
    """

    nodes: Int[Array, " nodes"]
    layers: tuple[LayerBlock, ...]
    place: Int[Array, " items"]


def bounds(targets: int, neighbors: int, layers: int, num_items: int) -> Capacities:
    """Capacities that every batch of so many targets fits."""
    sizes = [min(num_items, targets)]
    for _ in range(layers):
        sizes.append(min(num_items, sizes[-1] * (neighbors + 1)))
    return tuple(reversed(sizes))


def declared_capacities(
    trials: Sequence[Sequence[np.ndarray]], most: Capacities
) -> tuple[Capacities, ...]:
    """The capacities of a run, from the sizes that a few trial batches had.

    A trial's sizes are those of any batch, give or take little: room for the largest of them and
    four standard deviations more (2 % at least) is hardly ever too small.

    Args:
        trials: ``int[K + 1]`` for each trial batch, of which there are several kinds, from the
            smallest to the largest: without hard negatives, say, and with all of them.
        most: what always suffices (:func:`bounds`).

    Returns:
        Ascending, one for each kind, the last being ``most``: a batch that does not fit takes the
        next. Those are left out that would save less than a fifth of the next.
    """
    kept = [most]
    for counts in reversed(trials):
        sizes = np.stack(counts)
        largest = sizes.max(axis=0)
        room = np.maximum(4 * sizes.std(axis=0), 0.02 * largest)
        rounded = np.ceil((largest + room) / _STEP).astype(int) * _STEP
        fitting = tuple(int(min(one, bound)) for one, bound in zip(rounded, most, strict=True))
        if sum(fitting) <= 0.8 * sum(kept[0]):
            kept.insert(0, fitting)
    return tuple(kept)


def mark_layers(
    table: Neighbors, targets: Int[Array, " targets"], layers: int, most: Capacities
) -> Marks:
    """The sets S_0 … S_K of a batch.

    Args:
        table: neighbours of R items.
        targets: item rows, repeated as often as they like; −1 is nobody.
        layers: K.
        most: :func:`bounds` of the batch.
    """
    num_items = table.num_rows
    marked = _mark(jnp.zeros(num_items, bool), targets)
    found = [marked]
    for layer in reversed(range(layers)):
        rows = _members(marked, most[layer + 1])
        near = table.take(rows % num_items)
        neighbors = jnp.where((rows < num_items)[:, None], near.ids, -1)
        marked = _mark(marked, neighbors.reshape(-1))
        found.append(marked)
    found = tuple(reversed(found))
    return Marks(found, jnp.stack([one.sum(dtype=jnp.int32) for one in found]))


def fits(counts: Int[Array, " layers_plus_one"], capacities: Sequence[Capacities]) -> Array:
    """The place of the smallest capacities that hold the counts, ``int32[]``; the last must."""
    enough = (counts[None, :] <= jnp.array(capacities, jnp.int32)).all(axis=1)
    return jnp.argmax(enough.at[-1].set(True)).astype(jnp.int32)


def make_blocks(table: Neighbors, marks: Marks, capacities: Capacities) -> Blocks:
    """Arrays of the given capacities, which must hold the marked sets."""
    num_items = table.num_rows
    place = [jnp.cumsum(marked, dtype=jnp.int32) - 1 for marked in marks.layers]
    members = [
        _members(marked, size) for marked, size in zip(marks.layers, capacities, strict=True)
    ]
    layers = []
    for below, rows in zip(place[:-1], members[1:], strict=True):
        real = rows < num_items
        rows = jnp.where(real, rows, 0)
        near = table.take(rows)
        weights = jnp.where(real[:, None] & (near.ids >= 0), near.weights, 0.0)
        # A padding row reads place 0, with weight 0: item 0 need not be in the block.
        inside = jnp.where(weights > 0, below[jnp.maximum(near.ids, 0)], 0)
        layers.append(LayerBlock(jnp.where(real, below[rows], 0), inside, weights))
    nodes = jnp.where(members[0] < num_items, members[0], 0)
    return Blocks(nodes, tuple(layers), place[-1])


def _mark(marked: Array, ids: Int[Array, " ids"]) -> Array:
    return marked.at[jnp.where(ids >= 0, ids, marked.shape[0])].set(True, mode="drop")


def _members(marked: Array, capacity: int) -> Int[Array, " capacity"]:
    """The marked items in ascending order, then R as padding."""
    size = marked.shape[0]
    place = jnp.where(marked, jnp.cumsum(marked, dtype=jnp.int32) - 1, capacity)
    start = jnp.full(capacity, size, jnp.int32)
    return start.at[place].set(jnp.arange(size, dtype=jnp.int32), mode="drop")


def take_features(features: dict[str, Array], nodes: Int[Array, " nodes"]) -> dict[str, Array]:
    """The features of a block's nodes."""
    return jax.tree.map(lambda values: values[nodes], features)


def embed_blocks(
    model: PinSage, params: Params, features: Features, blocks: Sequence[LayerBlock]
) -> Float[Array, "targets dim"]:
    """z of the rows of the last layer (algorithm 2).

    Most of S_0 are neighbours alone: their h⁰ is read by Q and by nothing else. Where it is less
    work, their messages come from the features in one product, and h⁰ is made for S_1 alone.

    Args:
        features: of the nodes of S_0.
        blocks: K layers.
    """
    values = applied(model, params, "read", features)
    width, nodes = sum(one.shape[1] for one in values), len(values[0])
    folded = bool(blocks) and width * len(blocks[0].own) < model.dim * nodes
    h = None if folded else applied(model, params, "mapped", values)
    for k, layer in enumerate(blocks):
        if h is None:
            messages = applied(model, params, "first_messages", values)
            own = applied(model, params, "mapped", tuple(one[layer.own] for one in values))
        else:
            messages = applied(model, params, "messages", k, h)
            own = h[layer.own]
        h = applied(model, params, "convolve", k, own, messages, layer.places, layer.weights)
    return applied(model, params, "head", h)
