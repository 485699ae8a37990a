"""A run's vectors evaluated on the held-out parts of its task."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import Array
from lightgcn_jax.evaluation import InnerProduct
from pinsage_jax.config import CUTOFFS
from pinsage_jax.encoder.pinsage import PinSage, applied
from pinsage_jax.evaluation.metrics import ranked_metrics
from pinsage_jax.tasks.task import HeldOut, Task

# Of the gathered vectors of a block of queries, which may hold all items of a user.
_BLOCK_BYTES = 2**26


@functools.partial(jax.jit, static_argnames=("model", "block"))
def _compose(params: Any, vectors: Array, queries: Array, *, model: PinSage, block: int) -> Array:
    def of_some(queries: Array) -> Array:
        of_items = vectors[jnp.maximum(queries, 0)]
        return applied(model, params, "compose", of_items, queries >= 0)

    count, width = queries.shape
    filled = jnp.pad(queries, ((0, -count % block), (0, 0)), constant_values=-1)
    found = jax.lax.map(of_some, filled.reshape(-1, block, width))
    return found.reshape(-1, found.shape[-1])[:count]


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
    table = jax.device_put(vectors)
    fitting = _BLOCK_BYTES // max(1, queries.shape[1] * table[:1].nbytes)
    block = max(1, min(fitting, len(queries)))
    return InnerProduct(
        _compose(params, table, jax.device_put(queries), model=model, block=block), table
    )


def evaluate_part(
    model: PinSage,
    params: Any,
    vectors: np.ndarray,
    held_out: HeldOut,
    *,
    candidates: np.ndarray | None = None,
    ks: Sequence[int] = CUTOFFS,
) -> dict[str, float]:
    """Compute hit-rate, MRR, recall and NDCG of held-out pairs.

    Args:
        model: the encoder, which composes the queries.
        params: its parameters.
        vectors: ``float32[R, D]``, z of all items.
        held_out: the pairs.
        candidates: ``int[C]``, the items that are ranked; None for all.
        ks: cut-offs.

    Returns:
        The metrics of :mod:`pinsage_jax.evaluation.metrics`, by name.
    """
    scorer = query_scorer(model, params, vectors, held_out.queries)
    return ranked_metrics(scorer, held_out, candidates, ks)


def evaluate_parts(
    model: PinSage,
    params: Any,
    vectors: np.ndarray,
    task: Task,
    pool: np.ndarray,
    ks: Sequence[int] = CUTOFFS,
) -> dict[str, dict[str, float]]:
    """Evaluate validation and test.

    Args:
        model: the encoder, which composes the queries.
        params: its parameters.
        vectors: ``float32[R, D]``, z of all items.
        task: the held-out pairs.
        pool: ``int32[n]``, the training items, which are ranked.
        ks: cut-offs.

    Returns:
        The metrics of ``valid`` and of ``test``.
    """
    return {
        part: evaluate_part(model, params, vectors, held_out, candidates=pool, ks=ks)
        for part, held_out in (("valid", task.valid), ("test", task.test))
    }
