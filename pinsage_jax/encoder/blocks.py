"""The part of the graph that a mini-batch needs, each node once, in arrays of fixed capacity.

The encoder computes the vectors of the targets S_K. For its rows S_k, layer k needs their own
vectors and those of their neighbours, one layer below: S_{k−1} = S_k ∪ N(S_k). The sets are marked
on an array over all items, so a node that is needed many times stands in a layer once and is
computed once. Only integers are touched until the sizes of all layers are known. Then the smallest
capacities are taken that hold them all, out of a few that were declared before the run. The last
ones always do, so no node is ever dropped.

In a catalogue of which a batch reads nearly everything, the lower layers hold all items: none is
looked for, none is gathered, and the neighbours' weights are one fixed matrix (:func:`on_all`).

References:
    Ying et al. 2018, algorithm 2 (its first half makes the same sets).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import Array, Float, Ids, Int, Mask, Vectors
from lightgcn_jax.diffusion import Operator, diffuse, operator_of
from lightgcn_jax.graph import CsrMatrix
from pinsage_jax.config import Pooling
from pinsage_jax.encoder.pinsage import STRUCTURE, Features, Params, PinSage, applied
from pinsage_jax.encoder.sorted_layers import SortedLayers
from pinsage_jax.graph.neighborhoods import NeighborTable

Capacities = tuple[int, ...]
"""How many nodes there is room for in S_0, …, S_K."""

_STEP = 256


class Neighbors(Protocol):
    """The neighbours that a batch reads: a ``NeighborTable``, or a training step's view of one."""

    @property
    def num_rows(self) -> int:
        """R, the items."""
        ...

    def take(self, rows: Ids) -> NeighborTable:
        """Take the neighbours of some items.

        Args:
            rows: ``int32[rows]``.
        """
        ...


class Marks(NamedTuple):
    """The items of each layer.

    Attributes:
        layers: K + 1 arrays ``bool[R]``, S_0 first.
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
        return _members(self.layers[layer], capacity)

    def places(self, layer: int) -> Any:
        """What tells the place of an item among those of a layer: ``places[items]``.

        Args:
            layer: k.
        """
        return jnp.cumsum(self.layers[layer], dtype=jnp.int32) - 1


class LayerBlock(NamedTuple):
    """The rows of one layer, in places among the nodes of the layer below.

    Attributes:
        own: ``int32[C_k]``, the place of each row in the layer below.
        places: ``int32[C_k, T]``, the places of its neighbours there; any place where the weight
            is 0.
        weights: ``float32[C_k, T]``, the importance of its neighbours.
    """

    own: Int[Array, " rows"]
    places: Int[Array, "rows neighbors"]
    weights: Float[Array, "rows neighbors"]


class WholeLayer(NamedTuple):
    """A layer of all items on one of all items, each in its own place.

    Attributes:
        pooling: R×R, row u weighs the neighbours of item u.
        lost: ``bool[R]``, the items without neighbours in this step; None for none.
    """

    pooling: Operator
    lost: Mask | None

    def pooled(self, messages: Vectors) -> Vectors:
        """Pool the neighbours' messages, ``float[R, D]``.

        Args:
            messages: ``float[R, D]``.
        """
        pooled = diffuse(self.pooling, messages)
        return pooled if self.lost is None else jnp.where(self.lost[:, None], 0.0, pooled)


class Blocks(NamedTuple):
    """All that the encoder reads for a mini-batch.

    Attributes:
        nodes: ``int32[C_0]``, the items of S_0 in ascending order; then item 0, as padding.
        layers: K blocks, from the features upwards.
        place: by item, ``place[items]``, the row of each target in the last layer; any number for
            other items.
    """

    nodes: Int[Array, " nodes"]
    layers: tuple[LayerBlock, ...]
    place: Any


def bounds(targets: int, neighbors: int, layers: int, num_items: int) -> Capacities:
    """Compute capacities that hold every batch of so many targets.

    Args:
        targets: items whose vectors are computed, repetitions counted.
        neighbors: T.
        layers: K.
        num_items: R.
    """
    sizes = [min(num_items, targets)]
    for _ in range(layers):
        sizes.append(min(num_items, sizes[-1] * (neighbors + 1)))
    return tuple(reversed(sizes))


def declared_capacities(
    trials: Sequence[Sequence[np.ndarray]], most: Capacities
) -> tuple[Capacities, ...]:
    """Declare the capacities of a run, from the sizes that a few trial batches had.

    All batches of a kind have nearly the same sizes: room for the largest trial and four standard
    deviations more (2 % at least) is hardly ever too small.

    Args:
        trials: sizes ``int[K + 1]`` of trial batches. There are several kinds of them, from the
            smallest to the largest: for instance without hard negatives, and with all of them.
        most: capacities that always suffice (:func:`bounds`).

    Returns:
        Capacities in ascending order, one for each kind, and ``most`` at the end: a batch that does
        not fit takes the next. Capacities that would save less than a fifth of the next are left
        out.
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
    """Find the sets S_0 … S_K of a batch.

    Args:
        table: neighbours of R items.
        targets: ``int32[n]`` item rows, which may repeat; −1 is nobody.
        layers: K.
        most: capacities that hold every such batch (:func:`bounds`).
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


def mark_upper(table: Neighbors, targets: Int[Array, " targets"], capacities: Capacities) -> Marks:
    """Find the sets of a batch that stand above the layers of all items.

    Args:
        table: neighbours of R items.
        targets: ``int32[n]`` item rows, which may repeat; −1 is nobody.
        capacities: of these sets, which hold every such batch; none where all layers are of all
            items.
    """
    if not capacities:
        return Marks((), jnp.zeros(0, jnp.int32))
    return mark_layers(table, targets, len(capacities) - 1, capacities)


def fits(counts: Int[Array, " layers_plus_one"], capacities: Sequence[Capacities]) -> Array:
    """Choose the smallest capacities that hold a batch.

    Args:
        counts: ``int32[K + 1]``, the sizes of its layers.
        capacities: ascending; the last must hold every batch.

    Returns:
        ``int32[]``, the place of the chosen ones.
    """
    enough = (counts[None, :] <= jnp.array(capacities, jnp.int32)).all(axis=1)
    return jnp.argmax(enough.at[-1].set(True)).astype(jnp.int32)


def make_blocks(table: Neighbors, marks: Marks | SortedLayers, capacities: Capacities) -> Blocks:
    """Lay a batch out in arrays of given capacities.

    Args:
        table: neighbours of R items.
        marks: the items of each layer.
        capacities: the sizes of the arrays, which must hold the layers.
    """
    num_items = table.num_rows
    place = [marks.places(layer) for layer in range(len(capacities))]
    members = [marks.members(*one) for one in enumerate(capacities)]
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


def whole_layers(capacities: Sequence[Capacities], num_items: int) -> int:
    """Count the lowest layers that hold all items whatever the batch is.

    Args:
        capacities: those that a run declared.
        num_items: R.
    """
    if len(capacities) > 1:
        return 0
    partial = (k for k, size in enumerate(capacities[0]) if size < num_items)
    return next(partial, len(capacities[0]))


def pooling_matrix(table: NeighborTable, pooling: Pooling) -> Operator:
    """Make the matrix by which all items pool their neighbours' messages.

    Args:
        table: the neighbours of R items.
        pooling: ``importance`` or ``mean``.

    Returns:
        R×R, on the device.
    """
    ids, weights = np.asarray(table.ids), np.asarray(table.weights, np.float64)
    order = np.argsort(ids, axis=1)
    ids, weights = (np.take_along_axis(part, order, axis=1) for part in (ids, weights))
    there = weights > 0
    counts = there.sum(axis=1)
    if pooling == "mean":
        weights = there / np.maximum(counts, 1)[:, None]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return operator_of(CsrMatrix(offsets, ids[there], weights[there], len(ids)))


def on_all(
    table: Neighbors, upper: Marks, capacities: Capacities, whole: Sequence[WholeLayer]
) -> tuple[tuple[LayerBlock | WholeLayer, ...], Int[Array, " items"]]:
    """Lay a batch out whose lower layers are of all items, and which reads the features of all.

    Args:
        table: neighbours of R items.
        upper: the items of the layers that are not of all items (:func:`mark_layers`); none where
            all layers are.
        capacities: the sizes of the arrays of these.
        whole: the layers of all items on layers of all items, from the features upwards.

    Returns:
        K layers, and the row of each target in the last one.
    """
    if not capacities:
        return tuple(whole), jnp.arange(table.num_rows, dtype=jnp.int32)
    blocks = make_blocks(table, upper, capacities)
    near = table.take(blocks.nodes)
    places, weights = jnp.maximum(near.ids, 0), jnp.where(near.ids >= 0, near.weights, 0.0)
    first = LayerBlock(blocks.nodes, places, weights)
    return (*whole, first, *blocks.layers), blocks.place


def _mark(marked: Array, ids: Int[Array, " ids"]) -> Array:
    return marked.at[jnp.where(ids >= 0, ids, marked.shape[0])].set(True, mode="drop")


def _members(marked: Array, capacity: int) -> Int[Array, " capacity"]:
    """The marked items in ascending order, then R as padding."""
    size = marked.shape[0]
    place = jnp.where(marked, jnp.cumsum(marked, dtype=jnp.int32) - 1, capacity)
    start = jnp.full(capacity, size, jnp.int32)
    return start.at[place].set(jnp.arange(size, dtype=jnp.int32), mode="drop")


def take_features(
    features: dict[str, Array], nodes: Int[Array, " nodes"] | None
) -> dict[str, Array]:
    """Take the features of a block's nodes.

    Args:
        features: encoded, of all items, by input.
        nodes: ``int32[nodes]`` item rows; None for all items.
    """
    if nodes is None:
        return dict(features)
    # Not a map over arrays: a table may lie in shares on several devices.
    return {name: values[nodes] for name, values in features.items()}


def embed_blocks(
    model: PinSage,
    params: Params,
    features: Features,
    blocks: Sequence[LayerBlock | WholeLayer],
) -> Float[Array, "targets dim"]:
    """Compute z of the rows of the last layer (algorithm 2).

    Most nodes of S_0 are only neighbours: nothing but Q reads their h⁰. Where that is less work,
    their messages come from the features in one product, and h⁰ is computed for S_1 alone.

    Args:
        model: the encoder.
        params: its parameters.
        features: of the nodes of S_0.
        blocks: K layers.
    """
    values = applied(model, params, "read", features)
    width, nodes = sum(one.shape[1] for one in values), values[0].shape[0]
    folded = bool(blocks) and width * _rows(blocks[0], nodes) < model.dim * nodes
    h = None if folded else applied(model, params, "mapped", values)
    for k, layer in enumerate(blocks):
        if h is None:
            messages = applied(model, params, "first_messages", values)
            own = applied(model, params, "mapped", _own(layer, values))
        else:
            messages = applied(model, params, "messages", k, h)
            own = _own(layer, h)
        if isinstance(layer, WholeLayer):
            h = applied(model, params, "combined", k, own, layer.pooled(messages))
        else:
            h = applied(model, params, "convolve", k, own, messages, layer.places, layer.weights)
    top = {}
    if model.structure:
        place = jnp.arange(nodes)
        for layer in blocks:
            place = _own(layer, place)
        top = {STRUCTURE: jax.tree.map(lambda rows: rows[place], features[STRUCTURE])}
    return applied(model, params, "head", h, top)


def _rows(layer: LayerBlock | WholeLayer, below: int) -> int:
    return below if isinstance(layer, WholeLayer) else len(layer.own)


def _own(layer: LayerBlock | WholeLayer, below: Any) -> Any:
    """What the rows of a layer have in the layer below, in each array of a tree."""
    if isinstance(layer, WholeLayer):
        return below
    return jax.tree.map(lambda values: values[layer.own], below)
