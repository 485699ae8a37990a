"""Mini-batches drawn on the device from the CSR rows; no users × items mask anywhere."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Float, Ids, Int, Mask, PRNGKey
from lightgcn_jax.graph.bipartite import BipartiteGraph, count_below, entries

# Edges of the shared negatives that are looked at in one go when seen items are masked.
_MASK_BLOCK = 16_384


class Batch(NamedTuple):
    """Training rows: a user, one positive, and negatives.

    Attributes:
        users: ``int32[B]``.
        positives: ``int32[B]``.
        negatives: ``int32[M]`` shared by the batch, or ``int32[B, n]``.
        valid: ``bool[B, M]`` or ``bool[B, n]``; False where the user has seen the negative.
        weights: ``float32[B]``; 0 for padding.
    """

    users: Ids
    positives: Ids
    negatives: Int[Array, "..."]
    valid: Mask
    weights: Float[Array, " batch"]


def edge_users(graph: BipartiteGraph, edges: Ids) -> Ids:
    """The user of each interaction, by its position in the users' CSR: ``int32``, same shape."""
    offsets = graph.items_of_user.offsets
    return (jnp.searchsorted(offsets, edges, side="right") - 1).astype(jnp.int32)


def draw_user_positives(
    key: PRNGKey, graph: BipartiteGraph, users_with_items: Ids, batch_size: int
) -> tuple[Ids, Ids]:
    """Users uniformly with replacement, one of each user's items uniformly.

    LightGCN-PyTorch draws from all users and passes over those without items, which is the same law
    with a few rows fewer.

    Args:
        users_with_items: the users to draw from; each must have an interaction.

    Returns:
        ``users int32[B]`` and ``positives int32[B]``.
    """
    user_key, item_key = jax.random.split(key)
    rows = graph.items_of_user
    drawn = jax.random.randint(user_key, (batch_size,), 0, users_with_items.shape[0])
    users = users_with_items[drawn]
    start, stop = rows.offsets[users], rows.offsets[users + 1]
    edges = jax.random.randint(item_key, (batch_size,), start, stop)
    return users, rows.columns[edges]


def draw_unseen(
    key: PRNGKey, graph: BipartiteGraph, users: Ids, count: int
) -> tuple[Int[Array, "batch count"], Mask]:
    """Items drawn uniformly from those that each user has not seen, exactly.

    The law of drawing and rejecting seen items until an unseen one comes, at a fixed cost: draw a
    rank r uniformly in [0, I − |N_u|) and find the r-th absent id of the user's sorted row by
    binary search.

    Returns:
        ``int32[B, count]`` items and ``bool[B, count]``, False for a user who has seen everything.
    """
    rows = graph.items_of_user
    unseen = graph.num_items - (rows.offsets[users + 1] - rows.offsets[users])
    shape = (users.shape[0], count)
    ranks = jax.random.randint(key, shape, 0, jnp.maximum(unseen, 1)[:, None])
    items = ranks + count_below(rows, users[:, None], ranks, minus_rank=True)
    valid = jnp.broadcast_to(unseen[:, None] > 0, shape)
    return jnp.where(valid, items, 0), valid


def unseen_mask(graph: BipartiteGraph, users: Ids, items: Ids) -> Mask:
    """Which of the shared items each user of the batch has not seen, ``bool[B, M]``.

    Walks the shared items' own rows (their users), in blocks of fixed size until they are
    exhausted: the work is the number of interactions of the M items, whatever the users' degrees.
    """
    batch, shared = users.shape[0], items.shape[0]
    rows = graph.users_of_item
    # A user may stand in the batch several times: mask the first place, then copy it to all.
    first_place = jnp.full(graph.num_users, batch, jnp.int32)
    first_place = first_place.at[users].min(jnp.arange(batch, dtype=jnp.int32))
    num_entries = (rows.offsets[items + 1] - rows.offsets[items]).sum()

    def mask_block(state):
        start, seen = state
        positions = start + jnp.arange(_MASK_BLOCK, dtype=jnp.int32)
        slots, owners, inside = entries(rows, items, positions)
        places = jnp.where(inside, first_place[owners], batch)
        return start + _MASK_BLOCK, seen.at[places, slots].set(True, mode="drop")

    seen = jnp.zeros((batch, shared), bool)
    if graph.num_edges:
        start = jnp.zeros((), jnp.int32)
        _, seen = jax.lax.while_loop(
            lambda state: state[0] < num_entries, mask_block, (start, seen)
        )
    return ~seen[first_place[users]]


def draw_shared(
    key: PRNGKey, graph: BipartiteGraph, users: Ids, count: int
) -> tuple[Int[Array, " shared"], Mask]:
    """M items drawn uniformly with replacement for the whole batch, seen ones masked per user.

    Returns:
        ``int32[M]`` items and ``bool[B, M]``, False where the row's user has seen the item.
    """
    items = jax.random.randint(key, (count,), 0, graph.num_items, jnp.int32)
    return items, unseen_mask(graph, users, items)
