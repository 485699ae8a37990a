"""Negative items drawn on the device with fixed shapes; no users × items mask but where asked for.

A sampler gives items and, for every row of the batch, which of them are valid. Seen items are
rejected exactly unless told otherwise: masked where the items are shared by the batch, never drawn
where a row has its own. Without rejection only the row's own positive is masked.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Float, Ids, Int, Mask, PRNGKey
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph.bipartite import BipartiteGraph, count_below, fold_rows
from lightgcn_jax.training.weighted_draws import (
    ItemWeights,
    draw_weighted,
    draw_weighted_unseen,
    unseen_weight,
)

# Edges of the shared negatives that are looked at in one go when seen items are masked.
_MASK_BLOCK = 16_384
# The walk's counter passes the last of them by less than a block.
_MOST_ENTRIES = 2**31 - 1 - _MASK_BLOCK


def draw_shared(
    key: PRNGKey,
    graph: BipartiteGraph,
    users: Ids,
    count: int,
    weights: ItemWeights | None = None,
    reject_seen: bool = True,
    positives: Ids | None = None,
) -> tuple[Int[Array, " shared"], Mask]:
    """M items drawn with replacement for the whole batch, masked per row.

    Args:
        key: randomness of the draws.
        graph: the training interactions.
        users: ``int32[B]``.
        count: M.
        weights: the law of the draws; None for uniform.
        reject_seen: mask what the row's user has seen; else the row's own positive alone.
        positives: ``int32[B]``, needed where seen items are not rejected.

    Returns:
        ``int32[M]`` items and ``bool[B, M]``, False where the item does not count for the row.
    """
    items = _drawn(key, graph, weights, (count,))
    if reject_seen:
        return items, unseen_mask(graph, users, items)
    return items, items[None, :] != _required(positives)[:, None]


def draw_per_user(
    key: PRNGKey,
    graph: BipartiteGraph,
    users: Ids,
    count: int,
    weights: ItemWeights | None = None,
    reject_seen: bool = True,
    positives: Ids | None = None,
) -> tuple[Int[Array, "batch count"], Mask]:
    """n items drawn with replacement for each row of the batch, from what its user has not seen.

    The law of drawing and rejecting seen items until an unseen one comes, exactly and at a fixed
    cost: a rank (or with weights a mark) among the unseen is drawn, and the item that stands there
    is found by binary search in the user's sorted row.

    Args:
        key: randomness of the draws.
        graph: the training interactions.
        users: ``int32[B]``.
        count: n.
        weights: the law of the draws before rejection; None for uniform.
        reject_seen: draw unseen items alone; else all items, and mask the row's own positive.
        positives: ``int32[B]``, needed where seen items are not rejected.

    Returns:
        ``int32[B, n]`` items and ``bool[B, n]``, False throughout for a user who has seen
        everything.
    """
    shape = (users.shape[0], count)
    if not reject_seen:
        items = _drawn(key, graph, weights, shape)
        return items, items != _required(positives)[:, None]
    unseen = _unseen_total(graph, users, weights)[:, None]
    if weights is None:
        ranks = jax.random.randint(key, shape, 0, jnp.maximum(unseen, 1), jnp.int32)
        items = ranks + count_below(graph.items_of_user, users[:, None], ranks, minus_rank=True)
    else:
        items = draw_weighted_unseen(key, graph, weights, users, count)
    valid = jnp.broadcast_to(unseen > 0, shape)
    return jnp.where(valid, items, 0), valid


def in_batch(
    graph: BipartiteGraph, users: Ids, positives: Ids, reject_seen: bool = True
) -> tuple[Ids, Mask]:
    """The batch's positives as everyone's negatives, M = B; nothing is drawn.

    Args:
        graph: the training interactions.
        users: ``int32[B]``.
        positives: ``int32[B]``.
        reject_seen: mask what the row's user has seen; else the row's own positive alone, wherever
            it stands in the batch.

    Returns:
        ``int32[B]``, the positives, and ``bool[B, B]``.
    """
    if reject_seen:
        return positives, unseen_mask(graph, users, positives)
    return positives, positives[None, :] != positives[:, None]


def all_items(graph: BipartiteGraph, users: Ids) -> tuple[Int[Array, " items"], Mask]:
    """Every item as a shared negative, for exact losses: ``int32[I]`` and ``bool[B, I]``, unseen.

    The mask is dense, B × I, and reads all interactions: for small data.

    Args:
        graph: the training interactions.
        users: ``int32[B]``.
    """
    items = jnp.arange(graph.num_items, dtype=jnp.int32)
    return items, unseen_mask(graph, users, items, distinct=True)


def unseen_mask(graph: BipartiteGraph, users: Ids, items: Ids, distinct: bool = False) -> Mask:
    """Which of the shared items each user of the batch has not seen, ``bool[B, M]``.

    Walks the shared items' own rows (their users), in blocks of fixed size until they are
    exhausted: the work is the number of interactions of the M items, whatever the users' degrees.

    Args:
        graph: the training interactions.
        users: ``int32[B]``.
        items: ``int32[M]``.
        distinct: no item stands among them twice.

    Raises:
        InputError: the items may have more users than 32-bit counters hold.
    """
    users, items = jnp.asarray(users), jnp.asarray(items)
    batch, shared = users.shape[0], items.shape[0]
    rows = graph.users_of_item
    # All items together have E users, which the counters of the graph hold.
    if not distinct and shared * rows.longest > _MOST_ENTRIES:
        raise InputError(
            f"negatives: {shared:,} shared items with up to {rows.longest:,} users each are more "
            f"than 32-bit counters hold; choose fewer, or a smaller batch where they are its own"
        )
    # A user may stand in the batch several times: mask the first place, then copy it to all.
    first_place = jnp.full(graph.num_users, batch, jnp.int32)
    first_place = first_place.at[users].min(jnp.arange(batch, dtype=jnp.int32))

    def mask(seen: Array, slots: Array, owners: Array, _: Array | float) -> Array:
        return seen.at[first_place[owners], slots].set(True, mode="drop")

    seen = fold_rows(rows, items, _MASK_BLOCK, mask, jnp.zeros((batch, shared), bool))
    return ~seen[first_place[users]]


def log_expected_drawn(
    graph: BipartiteGraph, items: Int[Array, "..."], count: int, weights: ItemWeights | None = None
) -> Float[Array, "..."]:
    """log(M / I), or with weights log(M w_i / W): of M draws from all items, how many give item i.

    For shared draws, masked or not, and for a row's own draws without rejection.

    Args:
        graph: the training interactions.
        items: ``int32``, any shape.
        count: M.
        weights: the law of the draws; None for uniform.

    Returns:
        ``float``, the items' shape.
    """
    if weights is None:
        return jnp.full(items.shape, math.log(count / graph.num_items))
    return math.log(count) + jnp.log(weights.weights[items]) - jnp.log(weights.cumulative[-1])


def log_expected_unseen(
    graph: BipartiteGraph,
    users: Ids,
    items: Int[Array, "batch count"],
    count: int,
    weights: ItemWeights | None = None,
) -> Float[Array, "batch count"]:
    """log(n w_i / W_u) where W_u is the weight that the user has not seen: of a row's own n draws
    from the unseen items, how many give item i. Void where there is none.

    Args:
        graph: the training interactions.
        users: ``int32[B]``.
        items: ``int32[B, n]``.
        count: n.
        weights: None for uniform, where every item weighs 1.
    """
    unseen = jnp.maximum(_unseen_total(graph, users, weights), 1)[:, None]
    weight = jnp.ones_like(items) if weights is None else weights.weights[items]
    return math.log(count) + jnp.log(weight) - jnp.log(unseen)


def log_expected_in_batch(
    graph: BipartiteGraph, items: Ids, rows: int | Int[Array, ""]
) -> Float[Array, " batch"]:
    """log((B − 1) degree_i / (E − 1)): among the other rows' positives, how many are item i.

    For interactions drawn uniformly without repetition, as an epoch's shuffle gives them, and an
    item that is not the row's own. An item without interactions is never met.

    Args:
        graph: the training interactions.
        items: ``int32[B]``, the batch's positives.
        rows: B, without padding.
    """
    of_item = graph.users_of_item.offsets
    degrees = of_item[items + 1] - of_item[items]
    others = jnp.asarray(rows, jnp.int32) - 1
    return jnp.log(degrees) + jnp.log(others) - math.log(max(1, graph.num_edges - 1))


def _drawn(
    key: PRNGKey, graph: BipartiteGraph, weights: ItemWeights | None, shape: tuple[int, ...]
) -> Array:
    if weights is None:
        return jax.random.randint(key, shape, 0, graph.num_items, jnp.int32)
    return draw_weighted(key, weights, shape)


def _unseen_total(graph: BipartiteGraph, users: Ids, weights: ItemWeights | None) -> Ids:
    """How many items, or with weights what weight, each user has not seen: ``int32[B]``."""
    if weights is not None:
        return unseen_weight(graph, weights, users)
    offsets = graph.items_of_user.offsets
    return graph.num_items - (offsets[users + 1] - offsets[users])


def _required(positives: Ids | None) -> Ids:
    if positives is None:
        raise InputError(
            "positives: expected the rows' positives, which are masked where seen items are not "
            "rejected, got None"
        )
    return positives
