"""What a mini-batch is, and how its rows are drawn on the device."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Float, Ids, Int, Mask, PRNGKey
from lightgcn_jax.graph.bipartite import BipartiteGraph
from lightgcn_jax.training.shuffle import random_order
from lightgcn_jax.training.strategies import StepInputs, Strategies


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
        negative_weights: ``float32[M]``, 0 for shared negatives that are padding; None where none
            are.
        importance: ``float32[B]``, the weight of the positive over the mean weight of the training
            interactions, a factor of the row's loss; None where all interactions count alike.
    """

    users: Ids
    positives: Ids
    negatives: Int[Array, "..."]
    valid: Mask
    weights: Float[Array, " batch"]
    log_expected: Float[Array, "..."] | None = None
    negative_weights: Float[Array, " shared"] | None = None
    importance: Float[Array, " batch"] | None = None

    def nodes(self, num_users: int) -> Ids:
        """The nodes whose rows a step reads: users, positives, negatives; ``int32[Q]``.

        Args:
            num_users: U.
        """
        items = jnp.concatenate([self.positives, self.negatives.ravel()])
        return jnp.concatenate([self.users, num_users + items])


def draw_batch(
    key: PRNGKey,
    inputs: StepInputs,
    shuffle: Ids,
    step_in_epoch: Int[Array, ""],
    strategies: Strategies,
) -> Batch:
    """Draw the mini-batch of one step.

    Args:
        key: randomness of the step's draws.
        inputs: what the run's steps read.
        shuffle: from :func:`epoch_shuffle`.
        step_in_epoch: ``int32[]``; rows past the E-th of the epoch are padding.
        strategies: the run's.
    """
    graph, optimization = inputs.graph, strategies.optimization
    size = optimization.batch_size
    positive_key, negative_key = jax.random.split(key)
    positions = step_in_epoch * size + jnp.arange(size, dtype=jnp.int32)
    weights = (positions < graph.num_edges).astype(jnp.float32)
    if optimization.sampling == "interactions":
        edges = shuffle[jnp.minimum(positions, graph.num_edges - 1)]
        users = edge_users(graph, edges)
    else:
        users, edges = draw_user_edges(positive_key, graph, inputs.users_with_items, size)
    positives = graph.items_of_user.columns[edges]
    importance = None if inputs.importance is None else inputs.importance[edges]
    drawn = strategies.sampler(negative_key, inputs.sampler, users, positives, weights)
    log_expected = drawn.log_expected if strategies.corrects_sampling else None
    return Batch(
        users, positives, drawn.items, drawn.valid, weights, log_expected, drawn.weights, importance
    )


def epoch_shuffle(key: PRNGKey, num_edges: int, strategies: Strategies) -> Ids:
    """An epoch's interactions in the order in which they are taken, ``int32[E]``; empty for the
    sampling of users.

    Args:
        key: randomness of the epoch's order.
        num_edges: E.
        strategies: the run's.
    """
    if strategies.optimization.sampling == "users":
        return jnp.zeros(0, jnp.int32)
    return random_order(key, num_edges)


def edge_users(graph: BipartiteGraph, edges: Ids) -> Ids:
    """The user of each interaction.

    Args:
        graph: the interactions.
        edges: ``int32``, positions in the users' CSR.

    Returns:
        ``int32``, the shape of the edges.
    """
    offsets = graph.items_of_user.offsets
    return (jnp.searchsorted(offsets, edges, side="right") - 1).astype(jnp.int32)


def draw_user_edges(
    key: PRNGKey, graph: BipartiteGraph, users_with_items: Ids, batch_size: int
) -> tuple[Ids, Ids]:
    """Users uniformly with replacement, one of each user's interactions uniformly.

    LightGCN-PyTorch draws from all users and passes over those without items, which is the same law
    with a few rows fewer.

    Args:
        key: randomness of the draws.
        graph: the interactions.
        users_with_items: the users to draw from; each must have an interaction.
        batch_size: B.

    Returns:
        ``users int32[B]``, and ``edges int32[B]``, positions in the users' CSR.
    """
    user_key, item_key = jax.random.split(key)
    rows = graph.items_of_user
    drawn = jax.random.randint(user_key, (batch_size,), 0, users_with_items.shape[0])
    users = users_with_items[drawn]
    start, stop = rows.offsets[users], rows.offsets[users + 1]
    edges = jax.random.randint(item_key, (batch_size,), start, stop)
    return users, edges
