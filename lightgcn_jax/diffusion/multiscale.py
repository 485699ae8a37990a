"""Multi-scale diffusion: sum_k alpha_k Ã^k x, without ever forming a power of Ã."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jax.typing import ArrayLike

from lightgcn_jax.arrays import NodeTable
from lightgcn_jax.diffusion.operator import Operator, diffuse


def uniform_alphas(layers: int) -> tuple[float, ...]:
    """LightGCN's default layer weights, alpha_k = 1 / (K + 1) for k = 0 … K."""
    return (1.0 / (layers + 1),) * (layers + 1)


def multiscale(operator: Operator, x: NodeTable, alphas: ArrayLike | Sequence[float]) -> NodeTable:
    """sum_{k=0}^{K} alpha_k Ã^k x by K applications of Ã (He et al. 2020, equations 4 and 8).

    The running sum is kept beside the current power, so memory does not grow with K unless the
    gradient of ``alphas`` is asked for, which is exact and needs the K powers' tables.

    Args:
        operator: N×N.
        x: ``float[N, D]``, the layer-0 embeddings.
        alphas: ``float[K + 1]``; K = 0 scales x alone (matrix factorisation).

    Returns:
        ``float[N, D]``.
    """
    alphas = jnp.asarray(alphas, x.dtype)
    power, total = x, alphas[0] * x
    for alpha in alphas[1:]:
        power = diffuse(operator, power)
        total = total + alpha * power
    return total
