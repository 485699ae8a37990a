"""Matrix factorisation (Koren et al. 2009; Rendle et al. 2009): embeddings without a graph."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Bool, Ids, NodeTable, PRNGKey, Vectors
from lightgcn_jax.fields import POSITIVE, SWITCH, setting, whole
from lightgcn_jax.models.model import Model, Nodes, TableParams, normal_table


@dataclasses.dataclass(frozen=True)
class MF(Model):
    """Scores ⟨e_u, e_i⟩ + b_u + b_i of learnt embeddings, with or without learnt biases.

    The parameters are a ``table float[N, D]``; with biases ``float[N, D + 1]``, whose last column
    is b. The final vectors are [e_u, b_u, 1] for users and [e_i, 1, b_i] for items, without biases
    the table itself.

    Attributes:
        dim: dimensions D of an embedding.
        biases: give each user and item a bias, which starts at 0.
        init_std: standard deviation of the initial embeddings.

    References:
        Koren et al. 2009, equation 4, without the global mean, which ranks nothing.
    """

    dim: int = setting(64, whole(1))
    biases: bool = setting(False, SWITCH)
    init_std: float = setting(0.1, POSITIVE)

    normalization = None
    reads_own_rows = True

    @property
    def width(self) -> int:
        """D, or D + 2 with biases."""
        return self.dim + self.offset_columns

    @property
    def offset_columns(self) -> int:
        """2 with biases, else 0."""
        return 2 * self.biases

    def init(self, key: PRNGKey, num_nodes: int) -> TableParams:
        """Normal embeddings; biases of 0.

        Args:
            key: randomness of the embeddings.
            num_nodes: N.
        """
        table = normal_table(key, num_nodes, self.dim, self.init_std)
        return TableParams(jnp.pad(table, ((0, 0), (0, 1))) if self.biases else table)

    def apply(self, params: TableParams, operator: Nodes) -> NodeTable:
        """Final vectors of all nodes, ``float[N, D']``.

        Args:
            params: from :meth:`init`.
            operator: which of the rows are users.
        """
        is_user = operator.is_user(jnp.arange(len(params.table), dtype=jnp.int32))
        return _with_biases(params.table, is_user) if self.biases else params.table

    def apply_rows(
        self, params: TableParams, operator: Nodes, rows: Ids, key: PRNGKey | None = None
    ) -> Vectors:
        """Final vectors of a few nodes, ``float[Q, D']``.

        Args:
            params: from :meth:`init`.
            operator: which of the rows are users.
            rows: ``int32[Q]``.
            key: not used; nothing is dropped.
        """
        del key
        vectors = params.table[rows]
        return _with_biases(vectors, operator.is_user(rows)) if self.biases else vectors


def _with_biases(rows: Vectors, is_user: Bool[Array, " batch"]) -> Vectors:
    embeddings, biases = rows[:, :-1], rows[:, -1:]
    ones, is_user = jnp.ones_like(biases), is_user[:, None]
    pair = jnp.where(is_user, biases, ones), jnp.where(is_user, ones, biases)
    return jnp.concatenate([embeddings, *pair], axis=1)
