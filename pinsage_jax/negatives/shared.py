"""Negatives that a whole batch shares, and which of them count for a query (PinSAGE, section 3.3).

The paper draws 500 items uniformly for each batch. A draw may be the positive or one of the query's
own items: it is masked for that row, not drawn again, so every shape is fixed.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import Array, Bool, Ids, Int, PRNGKey
from lightgcn_jax.errors import InputError
from lightgcn_jax.training.weighted_draws import ItemWeights, draw_weighted


def eligible_weights(weights: ItemWeights, eligible: np.ndarray) -> ItemWeights:
    """Keep the weights of the eligible items, in their order; on the host.

    Items without interactions have a weight of 1, not 0. The weights are therefore cut down, not
    masked: an item that is not eligible cannot be drawn.

    Args:
        weights: the weights of all items, as
            :func:`lightgcn_jax.training.weighted_draws.item_weights` makes them.
        eligible: ``int[n]`` item rows, at least one.

    Raises:
        InputError: there is no eligible item, or a row is out of range.
    """
    eligible, num_items = np.asarray(eligible), len(weights.weights)
    if not eligible.size or eligible.min() < 0 or eligible.max() >= num_items:
        found = f"{eligible.min()} to {eligible.max()}" if eligible.size else "none"
        raise InputError(f"eligible: expected item rows in [0, {num_items}), got {found}")
    chosen = np.asarray(weights.weights)[eligible]
    return dataclasses.replace(
        weights,
        weights=jax.device_put(chosen),
        cumulative=jax.device_put(np.cumsum(chosen, dtype=np.int64).astype(np.int32)),
        before_edge=jnp.zeros(1, jnp.int32),
    )


def draw_shared_negatives(
    key: PRNGKey,
    count: int,
    items: int | Int[Array, " eligible"],
    weights: ItemWeights | None = None,
) -> Int[Array, " shared"]:
    """Draw M items with replacement for the whole batch.

    Args:
        key: consumed.
        count: M, static.
        items: I, static, where all of 0 … I − 1 may be drawn; or ``int32[n]``, the rows that may be
            drawn, such as the training items.
        weights: the law of the draws, for instance by degree; where rows are given, the weights of
            those items in their order (:func:`eligible_weights`). None draws uniformly, as the
            paper does.

    Returns:
        ``int32[M]``.

    Raises:
        InputError: the weights are of another number of items than may be drawn.
    """
    choices = items if isinstance(items, int) else items.shape[0]
    if weights is None:
        places = jax.random.randint(key, (count,), 0, choices, jnp.int32)
    elif weights.weights.shape[0] == choices:
        places = draw_weighted(key, weights, (count,))
    else:
        raise InputError(
            f"weights: expected those of the {choices} items that may be drawn, "
            f"got {weights.weights.shape[0]}"
        )
    return places if isinstance(items, int) else items[places].astype(jnp.int32)


def shared_valid(
    queries: Int[Array, "batch n"], positives: Ids, negatives: Int[Array, " shared"]
) -> Bool[Array, "batch shared"]:
    """Tell which shared negatives count for a row: neither its positive nor an item of its query.

    Args:
        queries: ``int32[B, n]``, −1 pads.
        positives: ``int32[B]``.
        negatives: ``int32[M]``.

    Returns:
        ``bool[B, M]``.
    """
    return hard_valid(queries, positives, negatives[None, :])


def hard_valid(
    queries: Int[Array, "batch n"], positives: Ids, negatives: Int[Array, "batch hard"]
) -> Bool[Array, "batch hard"]:
    """Tell which negatives of its own count for a row: neither padding, nor its positive, nor an
    item of its query.

    Args:
        queries: ``int32[B, n]``, −1 pads.
        positives: ``int32[B]``.
        negatives: ``int32[B, H]``, −1 pads; ``[1, H]`` for all rows.

    Returns:
        ``bool[B, H]``.
    """
    own = (queries[:, :, None] == negatives[:, None, :]).any(axis=1)
    return (negatives >= 0) & (negatives != positives[:, None]) & ~own
