"""A run's vectors evaluated on the held-out parts of its task."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import Array
from lightgcn_jax.evaluation import InnerProduct
from pinsage_jax.encoder.pinsage import PinSage, applied
from pinsage_jax.evaluation.metrics import ranked_metrics
from pinsage_jax.tasks.task import HeldOut, Task


@functools.partial(jax.jit, static_argnames="model")
def _compose(params: Any, vectors: Array, queries: Array, *, model: PinSage) -> Array:
    of_items = vectors[jnp.maximum(queries, 0)]
    return applied(model, params, "compose", of_items, queries >= 0)


def query_scorer(
    model: PinSage, params: Any, vectors: np.ndarray | Array, queries: np.ndarray
) -> InnerProduct:
    """Score all items for queries, as training scores them.

    Args:
        model: the encoder, which composes the queries.
        params: its parameters.
        vectors: ``float32[R, D]``, z of all items.
        queries: ``int32[Q, n]``, −1 pads.
    """
    table = jnp.asarray(vectors)
    return InnerProduct(_compose(params, table, jnp.asarray(queries), model=model), table)


def evaluate_part(
    model: PinSage,
    params: Any,
    vectors: np.ndarray,
    held_out: HeldOut,
    *,
    candidates: np.ndarray | None = None,
) -> dict[str, float]:
    """Compute hit-rate, MRR, recall and NDCG of held-out pairs.

    Args:
        model: the encoder, which composes the queries.
        params: its parameters.
        vectors: ``float32[R, D]``, z of all items.
        held_out: the pairs.
        candidates: ``int[C]``, the items that are ranked; None for all.

    Returns:
        The metrics of :mod:`pinsage_jax.evaluation.metrics`, by name.
    """
    return ranked_metrics(
        query_scorer(model, params, vectors, held_out.queries), held_out, candidates
    )


def evaluate_parts(
    model: PinSage, params: Any, vectors: np.ndarray, task: Task, pool: np.ndarray
) -> dict[str, dict[str, float]]:
    """Evaluate validation and test.

    Args:
        model: the encoder, which composes the queries.
        params: its parameters.
        vectors: ``float32[R, D]``, z of all items.
        task: the held-out pairs.
        pool: ``int32[n]``, the training items, which are ranked.

    Returns:
        The metrics of ``valid`` and of ``test``.
    """
    return {
        part: evaluate_part(model, params, vectors, held_out, candidates=pool)
        for part, held_out in (("valid", task.valid), ("test", task.test))
    }
