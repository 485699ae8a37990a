"""Pooling of neighbours' messages into one vector a row."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Float, Int, Mask
from lightgcn_jax.diffusion.native import gathered_sums, on_platform, scattered_sums
from pinsage_jax.config import Pooling

# Neighbours up to which the loop over them is unrolled.
_UNROLLED = 16


def pool(
    messages: Float[Array, "nodes dim"],
    places: Int[Array, "rows neighbors"],
    weights: Float[Array, "rows neighbors"],
    pooling: Pooling,
) -> Float[Array, "rows dim"]:
    """Pool the messages of neighbours into one vector a row; zero for a row without neighbours.

    Neighbours are added one column after another, on a CPU by a kernel of our own where it was
    compiled: the [rows, T, D] array of all their messages is never made.

    Args:
        messages: ``float[nodes, D]``, the message of each node.
        places: ``int32[rows, T]``, where the neighbours stand among the nodes; any place where the
            weight is 0.
        weights: ``float[rows, T]``, the importance of the neighbours; 0 for padding.
        pooling: how the messages become one.
    """
    valid = weights > 0
    if pooling == "max":
        return _largest(messages, places, valid)
    if pooling == "mean":
        weights = valid / jnp.maximum(valid.sum(axis=1, keepdims=True), 1)

    return _weighted_sum(messages, places, weights)


@jax.custom_vjp
def _weighted_sum(messages: Array, places: Array, weights: Array) -> Array:
    return on_platform(gathered_sums, _sum_of_columns)(messages, places, weights)


def _sum_of_columns(messages: Array, places: Array, weights: Array) -> Array:
    def add(pooled: Array, column: tuple[Array, Array]) -> tuple[Array, None]:
        place, weight = column
        return pooled + weight[:, None] * messages[place], None

    start = jnp.zeros((places.shape[0], messages.shape[1]), messages.dtype)
    return _over_neighbors(add, start, (places.T, weights.T))


def _weighted_sum_forward(messages: Array, places: Array, weights: Array) -> tuple[Array, Any]:
    return _weighted_sum(messages, places, weights), (messages, places, weights)


def _weighted_sum_backward(kept: Any, slope: Array) -> tuple[Array, None, Array]:
    """One array takes the slopes of all columns. By JAX's own rule the slopes of each column would
    fill an array as large as the messages, and adding these up took most of a step's time."""
    messages, places, weights = kept

    def of_weights(_: None, place: Array) -> tuple[None, Array]:
        return None, (messages[place] * slope).sum(axis=1)

    scatter = functools.partial(scattered_sums, nodes=len(messages))
    columns_apart = functools.partial(_spread_by_columns, nodes=len(messages))
    total = on_platform(scatter, columns_apart)(slope, places, weights)
    _, columns = jax.lax.scan(of_weights, None, places.T)
    return total, None, columns.T


def _spread_by_columns(slope: Array, places: Array, weights: Array, *, nodes: int) -> Array:
    def spread(total: Array, column: tuple[Array, Array]) -> tuple[Array, None]:
        place, weight = column
        return total.at[place].add(weight[:, None] * slope), None

    start = jnp.zeros((nodes, slope.shape[1]), slope.dtype)
    return jax.lax.scan(spread, start, (places.T, weights.T))[0]


_weighted_sum.defvjp(_weighted_sum_forward, _weighted_sum_backward)


def _largest(
    messages: Float[Array, "nodes dim"], places: Int[Array, "rows neighbors"], valid: Mask
) -> Float[Array, "rows dim"]:
    """The largest entry of each row's messages; the first message that has it gets the gradient."""
    values = jax.lax.stop_gradient(messages)

    def larger(best: tuple[Array, Array], column: tuple[Array, Array]) -> tuple[Any, None]:
        place, counts = column
        one = values[place]
        wins = counts[:, None] & (one > best[0])
        return (jnp.where(wins, one, best[0]), jnp.where(wins, place[:, None], best[1])), None

    shape = (places.shape[0], messages.shape[1])
    start = jnp.full(shape, -jnp.inf, messages.dtype), jnp.zeros(shape, places.dtype)
    # The node that each entry comes from is kept for the gradient, in place of each turn's maxima.
    _, origin = _over_neighbors(larger, start, (places.T, valid.T))
    largest = jnp.take_along_axis(messages, origin, axis=0)
    return jnp.where(valid.any(axis=1)[:, None], largest, 0.0)


def _over_neighbors(turn: Callable[..., Any], start: Any, columns: Any) -> Any:
    """A scan over the neighbours, column after column."""
    count = len(columns[0])
    # A short loop is written out: XLA fuses its turns.
    return jax.lax.scan(turn, start, columns, unroll=count if count <= _UNROLLED else 1)[0]
