"""What is compiled of serving: new items embedded, rows written in place, nearest items found."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import Array, Float, Ids, Int
from lightgcn_jax.diffusion.native import largest_products, multiplies, on_platform
from lightgcn_jax.graph import CsrRows
from pinsage_jax.encoder.pinsage import PinSage, applied, unit
from pinsage_jax.graph.neighborhoods import NeighborTable

BATCH = 64
"""New items embedded at a time; a smaller number is filled up to it."""
QUERIES = 16
"""Queries answered at a time."""
Similarity = Literal["score", "cosine"]
"""What neighbours are ordered by: inner products of vectors, or of their directions."""


@functools.partial(jax.jit, static_argnames="model")
def embed_new(
    params: Any,
    features: dict[str, Array],
    near: NeighborTable | None,
    layers: tuple[Array, ...],
    model: PinSage,
) -> tuple[Array, ...]:
    """Embed new items on the stored layers of their neighbours.

    Args:
        params: the encoder's parameters.
        features: the encoded features, a batch of rows each.
        near: their neighbours among the items that are there; None without layers.
        layers: the stored layers of all items.
        model: the encoder.

    Returns:
        Their layers and, last, their vectors, ``float32[batch, D]`` each.
    """
    h = applied(model, params, "encode", features)
    new = [h]
    for k in range(model.layers):
        assert near is not None
        # Only the neighbours' messages are computed, each for the row that asks for it.
        below = layers[k][jnp.maximum(near.ids, 0).reshape(-1)]
        messages = applied(model, params, "messages", k, below)
        places = jnp.arange(near.ids.size, dtype=jnp.int32).reshape(near.ids.shape)
        h = applied(model, params, "convolve", k, h, messages, places, near.weights)
        new.append(h)
    return *new[: len(layers)], applied(model, params, "head", h, features)


@functools.partial(jax.jit, donate_argnums=0)
def written(arrays: tuple[Array, ...], rows: Ids, values: tuple[Array, ...]) -> tuple[Array, ...]:
    """Replace rows of arrays, in place.

    Args:
        arrays: layers and vectors, which are given up.
        rows: ``int32[batch]``; the last one may stand repeatedly.
        values: what comes there, ``[batch, …]`` each.
    """
    return tuple(into.at[rows].set(one) for into, one in zip(arrays, values, strict=True))


@functools.partial(jax.jit, static_argnames=("k", "by"))
def nearest(
    vectors: Float[Array, "items dim"],
    rows: Ids,
    known: Int[Array, ""],
    *,
    k: int,
    by: Similarity = "score",
) -> tuple[Array, Array]:
    """Find the rows and scores of the nearest known items, ``[queries, k]`` each.

    Args:
        vectors: of all items, and slack.
        rows: the queries.
        known: how many of the rows are items.
        k: how many are found for each.
        by: ``score`` or ``cosine``.
    """
    vectors = unit(vectors) if by == "cosine" else vectors
    places = jnp.arange(vectors.shape[0], dtype=jnp.int32)

    def by_kernel(rows: Ids) -> tuple[Array, Array]:
        queries = jnp.arange(rows.shape[0] + 1, dtype=jnp.int32)
        itself = CsrRows(queries, rows, longest=1)
        given = vectors, vectors[rows], k, places < known
        return largest_products(*given, itself, queries[:-1])

    def by_sorting(rows: Ids) -> tuple[Array, Array]:
        scores = vectors[rows] @ vectors.T
        may_be = (places < known)[None, :] & (places[None, :] != rows[:, None])
        best, found = jax.lax.top_k(jnp.where(may_be, scores, -jnp.inf), k)
        return found.astype(jnp.int32), best

    there_is_one = multiplies(vectors, vectors)
    return on_platform(by_kernel, by_sorting)(rows) if there_is_one else by_sorting(rows)


def nearest_in_batches(
    vectors: Float[Array, "items dim"], rows: np.ndarray, known: int, k: int, by: Similarity
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Find the rows and scores of the nearest known items, ``[k]`` each, a query at a time.

    Args:
        vectors: of all items, and slack.
        rows: the queries, any number of them.
        known: how many of the rows are items.
        k: how many are found for each.
        by: ``score`` or ``cosine``.
    """
    for start in range(0, len(rows), QUERIES):
        part = rows[start : start + QUERIES]
        asked = np.pad(part, (0, QUERIES - len(part)), mode="edge")
        near, scores = map(np.asarray, nearest(vectors, asked, np.int32(known), k=k, by=by))
        # The answers to what the batch was filled up with come last.
        yield from zip(near[: len(part)], scores[: len(part)], strict=True)


def filled(values: np.ndarray) -> np.ndarray:
    """Fill a batch up with its last row.

    Args:
        values: ``[n, …]`` with 1 ≤ n ≤ BATCH.
    """
    wide = [(0, BATCH - len(values))] + [(0, 0)] * (values.ndim - 1)
    return np.pad(values, wide, mode="edge")
