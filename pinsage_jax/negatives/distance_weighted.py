"""Negatives by distance (Wu et al. 2017, "Sampling matters in deep embedding learning", section 4).

On the unit sphere of n dimensions the distance of two random points has the density

    q(d) ∝ d^(n−2) · (1 − d²/4)^((n−3)/2),                                    (equation 3)

which in many dimensions has nearly all of its mass near √2: uniform negatives are nearly all easy.
Drawing candidates with weights ∝ min(λ, 1/q(d)) (equation 4) makes near, middling and far ones
equally common. Here λ = 1/q(low): all candidates nearer than ``low`` have the weight of one at
``low``, so that noise among the nearest cannot take over. Beyond ``high`` a candidate is never
drawn: it would add nothing to a margin loss, and 1/q grows again towards d = 2.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lightgcn_jax.arrays import Array, Bool, Float, Int, PRNGKey, Vectors
from lightgcn_jax.errors import InputError

LOW, HIGH = 0.5, 1.4


def log_density(distances: ArrayLike, dim: int) -> Float[Array, "..."]:
    """Compute log q(d) without its constant.

    Args:
        distances: d in (0, 2), any shape.
        dim: n, the dimensions of the space that holds the sphere; at least 3.
    """
    distances = jnp.asarray(distances)
    around = jnp.log1p(-0.25 * jnp.square(distances))
    return (dim - 2) * jnp.log(distances) + 0.5 * (dim - 3) * around


def log_weights(
    distances: ArrayLike, dim: int, low: float = LOW, high: float = HIGH
) -> Float[Array, "..."]:
    """Compute log min(λ, 1/q(d)) − log λ: 0 up to ``low``, falling from there, −∞ beyond ``high``.

    Logarithms are needed because q spans more than float32 does: for n = 256 a factor of e²²⁰.

    Args:
        distances: d, any shape.
        dim: n.
        low: up to here all weights are equal.
        high: beyond here they are 0. The largest q lies at or past √2, so weights fall all the way
            to the default of 1.4.

    Raises:
        InputError: the limits are out of order, or n is below 3.
    """
    if not 0 < low < high < 2:
        raise InputError(f"low and high: expected 0 < low < high < 2, got {low} and {high}")
    if dim < 3:
        raise InputError(f"dim: expected 3 or more dimensions, got {dim}")
    distances = jnp.asarray(distances)
    log_q = log_density(jnp.clip(distances, low, high), dim)
    return jnp.where(distances <= high, log_density(low, dim) - log_q, -jnp.inf)


def draw_distance_weighted(
    key: PRNGKey,
    query_vectors: Vectors,
    candidate_vectors: Float[Array, "candidates dim"],
    count: int,
    valid: Bool[Array, "batch candidates"] | None = None,
    low: float = LOW,
    high: float = HIGH,
) -> Int[Array, "batch count"]:
    """Draw candidates for each query by their distance, independently and with replacement.

    Drawing the rare near candidates at most once would flatten the law. No gradient flows through
    the choice. Vectors must have length 1.

    Args:
        key: consumed.
        query_vectors: ``float[B, D]``.
        candidate_vectors: ``float[M, D]``, for instance those of the shared negatives.
        count: how many are drawn for a query; static.
        valid: ``bool[B, M]``, False where a candidate does not count for a query.
        low, high: the limits that :func:`log_weights` takes.

    Returns:
        ``int32[B, count]`` places in [0, M); a row of −1 for a query without a candidate that is
        valid and near enough.
    """
    luck = jax.random.uniform(key, (query_vectors.shape[0], count))
    return chosen_by_distance(luck, query_vectors, candidate_vectors, valid, low, high)


def chosen_by_distance(
    luck: Float[Array, "batch count"],
    query_vectors: Vectors,
    candidate_vectors: Float[Array, "candidates dim"],
    valid: Bool[Array, "batch candidates"] | None = None,
    low: float = LOW,
    high: float = HIGH,
) -> Int[Array, "batch count"]:
    """:func:`draw_distance_weighted` from numbers that are drawn already.

    Args:
        luck: ``float[B, count]``, uniform in [0, 1).
        query_vectors, candidate_vectors, valid, low, high: as :func:`draw_distance_weighted` takes
            them.

    Returns:
        ``int32[B, count]``.
    """
    distances = unit_distances(query_vectors, candidate_vectors)
    logs = log_weights(distances, query_vectors.shape[1], low, high)
    if valid is not None:
        logs = jnp.where(valid, logs, -jnp.inf)
    shares = _shares(logs)
    # A parallel sum rounds each prefix by itself, so one may be slightly below its predecessor.
    marks = jax.lax.cummax(jnp.cumsum(shares, axis=1), axis=1)
    drawn = luck * marks[:, -1:]
    places = jax.vmap(lambda along, at: jnp.searchsorted(along, at, side="right"))(marks, drawn)
    places = jnp.minimum(places, shares.shape[1] - 1).astype(jnp.int32)
    # So a mark could fall to a candidate of weight 0.
    return jnp.where(jnp.take_along_axis(shares, places, axis=1) > 0, places, -1)


def unit_distances(
    queries: Vectors, candidates: Float[Array, "candidates dim"]
) -> Float[Array, "batch candidates"]:
    """Compute Euclidean distances of unit vectors, √(2 − 2⟨q, c⟩); a constant to gradients.

    Args:
        queries: ``float[B, D]``.
        candidates: ``float[M, D]``.

    Returns:
        ``float[B, M]`` in [0, 2].
    """
    queries, candidates = jax.lax.stop_gradient((queries, candidates))
    # Accelerators would round float32 operands to fewer bits, and near distances with them.
    products = jnp.matmul(queries, candidates.T, precision=jax.lax.Precision.HIGHEST)
    return jnp.sqrt(jnp.clip(2 - 2 * products, 0, 4))


def _shares(logs: Float[Array, "... candidates"]) -> Float[Array, "... candidates"]:
    """exp of the logs over their sum along the last axis; 0 where all are −∞."""
    largest = jnp.max(logs, axis=-1, keepdims=True)
    weights = jnp.exp(logs - jnp.where(jnp.isfinite(largest), largest, 0))
    return weights / jnp.maximum(weights.sum(axis=-1, keepdims=True), 1)
