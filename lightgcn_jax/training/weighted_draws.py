"""Weights of items as integers, and exact draws in proportion to them on the device."""

from __future__ import annotations

import math

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import Array, Ids, Int, PRNGKey
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph.bipartite import BipartiteGraph, first_edge

# The most that the weights of all items may add up to.
_LARGEST_TOTAL = np.iinfo(np.int32).max


@flax.struct.dataclass
class ItemWeights:
    """Integer weights of the items: item i is drawn with probability w_i / W, exactly.

    Attributes:
        weights: ``int32[I]``, at least 1 each.
        cumulative: ``int32[I]``, sums of the weights up to and including each item; the last is
            W < 2³¹.
        before_edge: ``int32[E + 1]``, sums of the items' weights over the interactions before each
            one, by user; they wrap, but a difference within a user's row is below W and so exact.
    """

    weights: Int[Array, " items"]
    cumulative: Int[Array, " items"]
    before_edge: Int[Array, " edges_plus_one"]


def item_weights(graph: BipartiteGraph, beta: float) -> ItemWeights:
    """Weights in proportion to degree^β, on the host: w_i = max(1, round(s · degree_i^β)).

    s is the largest whole number with which W stays in 32 bits, about 2³¹ / Σ degree^β (or where
    that is below 1, the fraction itself). So β = 0, uniform, and β = 1 are exact, and else a weight
    is rounded by at most ½, a share 1 / (2s · degree^β) of it. With β > 0 an item without users
    gets the smallest weight, 1.

    Args:
        graph: the training interactions.
        beta: β, 0 or more.

    Raises:
        InputError: β is negative, or so large that degree^β is not finite.
    """
    if not beta >= 0:
        raise InputError(f"beta: expected a power of 0 or more, got {beta!r}")
    with np.errstate(over="ignore"):
        powers = np.asarray(graph.users_of_item.lengths(), np.float64) ** beta
    if not np.isfinite(powers.sum()):
        raise InputError(f"beta: expected a power of degrees that is finite, got {beta!r}")
    # Rounding and the smallest weight add at most 1 an item.
    scale = (_LARGEST_TOTAL - graph.num_items) / max(1.0, powers.sum())
    if scale >= 1:
        scale = math.floor(scale)
    weights = np.maximum(1, np.rint(scale * powers)).astype(np.int64)
    of_edges = weights[np.asarray(graph.items_of_user.columns)]
    return ItemWeights(
        weights=jax.device_put(weights.astype(np.int32)),
        cumulative=jax.device_put(np.cumsum(weights).astype(np.int32)),
        before_edge=jax.device_put(np.concatenate([[0], np.cumsum(of_edges)]).astype(np.int32)),
    )


def draw_weighted(key: PRNGKey, weights: ItemWeights, shape: tuple[int, ...]) -> Array:
    """Items in proportion to their weights, with replacement: ``int32`` of that shape.

    Args:
        key: randomness of the draws.
        weights: the law of the draws.
        shape: the result's shape.
    """
    return _item_at(weights, _integers_below(key, weights.cumulative[-1], shape))


def draw_weighted_unseen(
    key: PRNGKey, graph: BipartiteGraph, weights: ItemWeights, users: Ids, count: int
) -> Int[Array, "batch count"]:
    """n items for each user in proportion to their weights among those that the user has not seen.

    Args:
        key: randomness of the draws.
        graph: the training interactions.
        weights: the law of the draws before rejection.
        users: ``int32[B]``.
        count: n.

    Returns:
        ``int32[B, n]``; void for a user who has seen everything.
    """
    unseen = jnp.maximum(unseen_weight(graph, weights, users), 1)[:, None]
    marks = _integers_below(key, unseen, (users.shape[0], count))
    return unseen_at(graph, weights, users[:, None], marks)


def unseen_weight(graph: BipartiteGraph, weights: ItemWeights, users: Ids) -> Ids:
    """The weight of what each user has not seen, ``int32[B]``.

    Args:
        graph: the training interactions.
        weights: the items' weights.
        users: ``int32[B]``.
    """
    offsets = graph.items_of_user.offsets
    seen = weights.before_edge[offsets[users + 1]] - weights.before_edge[offsets[users]]
    return weights.cumulative[-1] - seen


def unseen_at(
    graph: BipartiteGraph, weights: ItemWeights, users: Ids, marks: Int[Array, "..."]
) -> Int[Array, "..."]:
    """The item at a mark along a user's unseen weight, with the seen items cut out of the line.

    The unseen weight before the k-th seen item does not fall with k, so binary search finds how
    many seen items stand before the mark; putting their weight back gives a mark along the weight
    of all items.

    Args:
        graph: the training interactions.
        weights: the items' weights.
        users: ``int32``, broadcast against the marks.
        marks: ``int32`` in [0, the user's unseen weight); every mark but these gives a void item.
    """
    rows = graph.items_of_user
    users, marks = jnp.broadcast_arrays(users, marks)

    def seen_weight(edges: Array) -> Array:
        return weights.before_edge[edges] - weights.before_edge[rows.offsets[users]]

    def is_before(edges: Array, items: Array) -> Array:
        all_before = weights.cumulative[items] - weights.weights[items]
        return all_before - seen_weight(edges) <= marks

    return _item_at(weights, marks + seen_weight(first_edge(rows, users, is_before)))


def _item_at(weights: ItemWeights, marks: Array) -> Array:
    """The item at a mark along the weight of all items."""
    return jnp.searchsorted(weights.cumulative, marks, side="right").astype(jnp.int32)


def _integers_below(key: PRNGKey, bound: Array, shape: tuple[int, ...]) -> Array:
    """Uniform ``int32`` in [0, bound): ⌊random · bound / 2⁶⁴⌋ of 64 random bits.

    ``jax.random.randint`` is meant for bounds far below 2³²: from there on it takes the remainder
    of 32 random bits, which for 3 · 2²⁹ favours the lower two thirds by one half (for a million
    items, some by 1/4000). Here a number's probability is 1 / bound but for one part in 2³³.
    """
    high, low = jax.random.bits(key, (2, *shape), jnp.uint32)
    bound = jnp.broadcast_to(bound, shape).astype(jnp.uint32)
    carried = _high_product(low, bound)
    overflows = high * bound + carried < carried
    return (_high_product(high, bound) + overflows).astype(jnp.int32)


def _high_product(a: Array, b: Array) -> Array:
    """The upper half of the 64-bit product of two ``uint32``, which JAX has no type for."""
    a_high, a_low = a >> 16, a & 0xFFFF
    b_high, b_low = b >> 16, b & 0xFFFF
    middle = a_high * b_low + (a_low * b_low >> 16)
    other = a_low * b_high + (middle & 0xFFFF)
    return a_high * b_high + (middle >> 16) + (other >> 16)
