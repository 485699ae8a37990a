"""Matrix factorisation (Koren et al. 2009; Rendle et al. 2009): embeddings without a graph."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Bool, Ids, NodeTable, PRNGKey, Vectors
from lightgcn_jax.models.table import check_table, normal_table


@dataclasses.dataclass(frozen=True)
class MFConfig:
    """Shape of the model.

    Attributes:
        dim: D, dimensions of an embedding.
        biases: whether every user and item has a bias.
        init_std: standard deviation of the normal initial embeddings; biases start at 0.
    """

    dim: int = 64
    biases: bool = False
    init_std: float = 0.1

    def __post_init__(self):
        check_table(self)


class MFParams(NamedTuple):
    """What is learnt.

    Attributes:
        table: ``float[N, D]``, users first; with biases ``float[N, D + 1]``, the last column b.
    """

    table: NodeTable


def init(key: PRNGKey, num_nodes: int, config: MFConfig) -> MFParams:
    """Normal embeddings; biases of 0."""
    table = normal_table(key, num_nodes, config)
    return MFParams(jnp.pad(table, ((0, 0), (0, 1))) if config.biases else table)


def apply(params: MFParams, num_users: int, config: MFConfig) -> NodeTable:
    """Final vectors whose inner products are ⟨e_u, e_i⟩ + b_u + b_i.

    Users are [e_u, b_u, 1] and items [e_i, 1, b_i] (Koren et al. 2009, equation 4, without the
    global mean, which ranks nothing). Without biases they are the table itself.

    Args:
        params: of :func:`init`.
        num_users: U, the first rows of the table.
        config: shape of the model.

    Returns:
        ``float[N, D + 2]``; ``float[N, D]`` without biases.
    """
    is_user = jnp.arange(len(params.table), dtype=jnp.int32) < num_users
    return _with_biases(params.table, is_user) if config.biases else params.table


def apply_rows(params: MFParams, num_users: int, config: MFConfig, rows: Ids) -> Vectors:
    """The final vectors of the nodes ``rows int32[Q]``, as a mini-batch needs them."""
    vectors = params.table[rows]
    return _with_biases(vectors, rows < num_users) if config.biases else vectors


def _with_biases(rows: Vectors, is_user: Bool[Array, " batch"]) -> Vectors:
    embeddings, biases = rows[:, :-1], rows[:, -1:]
    ones, is_user = jnp.ones_like(biases), is_user[:, None]
    pair = jnp.where(is_user, biases, ones), jnp.where(is_user, ones, biases)
    return jnp.concatenate([embeddings, *pair], axis=1)
