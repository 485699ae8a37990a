"""Edge dropout: an operator with fewer edges, drawn on the device with static shapes."""

from __future__ import annotations

import dataclasses
from typing import cast

import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import PRNGKey
from lightgcn_jax.diffusion.operator import Operator
from lightgcn_jax.diffusion.storage import RescalableStorage
from lightgcn_jax.errors import InputError


def drop_edges(
    key: PRNGKey, operator: Operator, rate: float, *, directed: bool = False
) -> Operator:
    """Leave out each edge with probability ``rate`` and scale the others by 1/(1 − rate).

    One draw for each interaction keeps Ã symmetric. NGCF and LightGCN's public code draw for each
    directed edge (Wang et al. 2019, section 2.4.2): the result is not symmetric, and its
    derivative applies the transpose. An edge
    that is left out keeps its place with weight 0: nothing is compiled anew. Under ``jax.vmap``
    over keys the operators share all but their weights.

    Args:
        key: key for this draw, to be used for nothing else.
        operator: N×N, from :func:`diffusion_operator` with ``edge_dropout=True``.
        rate: share of the edges to leave out, in [0, 1); static.
        directed: whether the two directions of an edge are drawn apart.

    Returns:
        The operator of the edges that are left.

    Raises:
        InputError: the rate is out of range, or the operator was not made for dropout.
    """
    if not 0 <= rate < 1:
        raise InputError(f"rate: expected 0 ≤ rate < 1, got {rate}")
    reversal = operator.reversal
    storage, adjoint = operator.storage, operator.adjoint
    if reversal is None or not isinstance(storage, RescalableStorage):
        raise InputError("operator: expected one made with edge_dropout=True")
    draws = len(reversal) if directed else len(reversal) // 2
    kept = jax.random.bernoulli(key, 1 - rate, (draws,))
    if not directed:
        kept = jnp.concatenate([kept, kept[reversal[draws:]]])
    factors = kept * jnp.asarray(1 / (1 - rate), float)
    if directed or adjoint is not None:
        # Entry e of the transpose is the reverse of entry e.
        reverse = factors[reversal] if directed else factors
        adjoint = cast(RescalableStorage, adjoint or storage).scaled(reverse)
    return dataclasses.replace(operator, storage=storage.scaled(factors), adjoint=adjoint)
