"""Random walks with restart, item → context → item, on the device (Pixie; PinSAGE, section 3.2).

Many walkers move at once: W for each seed, all in one flat array, L traversals one after another.
Random bits come from a counter, not from a stream: a word is a hash of the key, the walker's seed,
the walker's number and the traversal. So what is drawn for a seed does not depend on which other
seeds stand in the batch, and no state travels through the loop.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import Array, Bool, Ids, Int, PRNGKey
from lightgcn_jax.errors import InputError
from pinsage_jax.graph.hashing import hashed
from pinsage_jax.graph.item_graph import Adjacency, ItemGraph

# Random words for each traversal: to restart or not, which context, which item, which visits.
_WORDS = 4


@dataclasses.dataclass(frozen=True)
class WalkConfig:
    """How a neighbourhood is walked.

    The paper fixes the total of a query's steps and lets walks end at random; here the shape is
    fixed, and a walker that would end goes back to its seed instead. Each visit is distributed as
    in random walks with restart; walks only start there.

    The last step of a traversal need not be drawn once: with a fan of F it is drawn F times, while
    the walker goes on from one item as ever. The draws are systematic: a context's list is cut into
    F equal parts, and each gives the item at the same share of its length, drawn anew for each
    traversal. Every item is as likely as in F independent draws, and a short list is read whole, so
    the counts vary far less. The paper has F = 1.

    Attributes:
        walks: W, the walkers of each seed, ≥ 1.
        length: L, the traversals of each walker, ≥ 1.
        restart: the probability of going back to the seed before a traversal, in [0, 1).
        fan: F, the visits of a traversal, ≥ 1.

    Raises:
        InputError: a setting is out of range.
    """

    walks: int = 50
    length: int = 10
    restart: float = 0.15
    fan: int = 1

    def __post_init__(self):
        for field in ("walks", "length", "fan"):
            value = getattr(self, field)
            if not isinstance(value, int) or value < 1:
                raise InputError(f"{field}: expected an integer ≥ 1, got {value!r}")
        if not (math.isfinite(self.restart) and 0 <= self.restart < 1):
            raise InputError(f"restart: expected a probability in [0, 1), got {self.restart!r}")

    @property
    def visits(self) -> int:
        """V = W · L · F, the visits of a seed."""
        return self.walks * self.length * self.fan


@functools.partial(jax.jit, static_argnames="config")
def walk(
    key: PRNGKey, graph: ItemGraph, seeds: Ids, *, config: WalkConfig
) -> Int[Array, "batch visits"]:
    """Walk from each seed, and return the items that are visited.

    A walker starts at its seed. A traversal takes one of the item's contexts and one of that
    context's items (the item itself may come again), and its end is a visit; with a fan above 1
    the visits are F of the context's items. Before every
    traversal but the first the walker goes back to its seed with the restart's probability. Where
    there is no context, or no item in it, nothing is visited and the walker goes back.

    For one key a seed's visits depend on the seed alone: a seed that stands twice in the batch
    walks the same walks twice.

    Args:
        key: consumed.
        graph: the graph that is walked.
        seeds: ``int32[B]`` item rows; −1 pads, and visits nothing.
        config: how many walks, how long; static.

    Returns:
        ``int32[B, V]``; the visits of walker w at traversal t stand from (t · W + w) · F on, −1
        where there is none.
    """
    batch = seeds.shape[0]
    if graph.items_of_context.columns.shape[0] == 0:
        return jnp.full((batch, config.visits), -1, jnp.int32)
    words = jax.random.bits(key, (2 + _WORDS * config.length,), jnp.uint32)
    walkers = jnp.arange(config.walks, dtype=jnp.uint32)
    of_seed = hashed(seeds.astype(jnp.uint32) ^ words[0])
    of_walker = hashed((of_seed[:, None] + walkers[None, :]) ^ words[1]).reshape(-1)
    home = jnp.broadcast_to(seeds[:, None], (batch, config.walks)).reshape(-1)
    threshold = jnp.uint32(min(round(config.restart * 2**32), 2**32 - 1))
    to_contexts = _bounds(graph.contexts_of_item)
    to_items = _bounds(graph.items_of_context)

    def traverse(item, words_of_step):
        restart, first, second, third = (hashed(of_walker ^ word) for word in words_of_step)
        item = jnp.where(restart < threshold, home, item)
        context, some = _hop(graph.contexts_of_item, to_contexts, item, first)
        item, others = _hop(graph.items_of_context, to_items, context, second)
        found = some & others & (home >= 0)
        fan = item[:, None]
        if config.fan > 1:
            fan = _spread(graph.items_of_context, to_items, context, third, config.fan)
        return jnp.where(found, item, home), jnp.where(found[:, None], fan, -1)

    _, visits = jax.lax.scan(traverse, home, words[2:].reshape(config.length, _WORDS))
    visits = visits.reshape(config.length, batch, config.walks * config.fan)
    return jnp.moveaxis(visits, 0, 1).reshape(batch, config.visits)


def _hop(
    adjacency: Adjacency, bounds: Int[Array, "rows two"], rows: Ids, word: Int[Array, " batch"]
) -> tuple[Ids, Bool[Array, " batch"]]:
    """One entry of each row, drawn by a random word, and whether the row has any."""
    of_row = _look_up(bounds, rows)
    starts, lengths = of_row[:, 0], of_row[:, 1]
    places = _scaled(word, lengths.astype(jnp.uint32)).astype(jnp.int32)
    return _look_up(adjacency.columns, starts + places), lengths > 0


def _spread(
    adjacency: Adjacency,
    bounds: Int[Array, "rows two"],
    rows: Ids,
    word: Int[Array, " batch"],
    count: int,
) -> Int[Array, "batch count"]:
    """Entries of each row in equal steps from a random start, each as likely as any other.

    The start and the steps are shares of the row's length, in units of 2⁻³²: a row shorter than
    the count gives every entry, some of them once more than others.
    """
    of_row = _look_up(bounds, rows)
    starts, lengths = of_row[:, :1], of_row[:, 1:].astype(jnp.uint32)
    steps = jnp.asarray(np.arange(count, dtype=np.uint64) * (2**32 // count), jnp.uint32)
    places = _scaled(word[:, None] // jnp.uint32(count) + steps[None, :], lengths)
    return _look_up(adjacency.columns, (starts + places.astype(jnp.int32)).reshape(-1)).reshape(
        places.shape
    )


def _bounds(adjacency: Adjacency) -> Int[Array, "rows two"]:
    """Start and length side by side: one cache line for both."""
    return jnp.stack([adjacency.starts, adjacency.lengths], axis=1)


def _look_up(table: Array, places: Ids) -> Array:
    """``table[places]``, in two halves where their number is even.

    XLA's CPU backend fuses one gather into the next and then computes the first anew for every use
    of the second, which doubles the time of a walk. It does not fuse across a loop's border.
    """
    if len(places) % 2:
        return _read(table, places)
    parts = jax.lax.map(lambda half: _read(table, half), places.reshape(2, -1))
    return parts.reshape(len(places), *table.shape[1:])


def _read(table: Array, places: Ids) -> Array:
    """``table[places]``; where a place is out of range some entry is read, and never used."""
    return table.at[places.astype(jnp.uint32)].get(mode="promise_in_bounds")


def _scaled(word: Array, bound: Array) -> Array:
    """⌊word · bound / 2³²⌋, uniform on [0, bound) but for bound / 2³²; in 16-bit halves, because
    there are no 64-bit integers without ``jax_enable_x64``."""
    mask = jnp.uint32(0xFFFF)
    high, low = word >> 16, word & mask
    bound_high, bound_low = bound >> 16, bound & mask
    middle = high * bound_low + ((low * bound_low) >> 16)
    other = low * bound_high + (middle & mask)
    return high * bound_high + (middle >> 16) + (other >> 16)
