"""What a mini-batch is, and its positives; drawn on the device from the CSR rows."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Float, Ids, Int, Mask, PRNGKey
from lightgcn_jax.graph.bipartite import BipartiteGraph


class Batch(NamedTuple):
    """Training rows: a user, one positive, and negatives.

    Attributes:
        users: ``int32[B]``.
        positives: ``int32[B]``.
        negatives: ``int32[M]`` shared by the batch, or ``int32[B, n]``.
        valid: ``bool[B, M]`` or ``bool[B, n]``; False where the negative does not count for the
            row: a seen item, or the row's own positive.
        weights: ``float32[B]``; 0 for padding.
        log_expected: ``float[M]`` or ``float[B, n]``, the log of how often each negative is
            expected among its row's draws; None where a loss does not correct for sampling.
    """

    users: Ids
    positives: Ids
    negatives: Int[Array, "..."]
    valid: Mask
    weights: Float[Array, " batch"]
    log_expected: Float[Array, "..."] | None = None


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
