"""GF-CF (Shen et al. 2021): a closed-form recommender made of two graph filters, nothing learnt."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.struct
import jax.numpy as jnp
from jax.typing import DTypeLike

from lightgcn_jax.arrays import Array, Float, Ids, ItemTable, PRNGKey, UserTable
from lightgcn_jax.diffusion.operator import Operator, diffuse, interaction_operator
from lightgcn_jax.diffusion.storage import exact_product
from lightgcn_jax.fields import at_least, setting, whole
from lightgcn_jax.graph.bipartite import BipartiteGraph, CsrRows, fold_rows
from lightgcn_jax.models.closed_form import Tensors
from lightgcn_jax.models.spectral import SvdModel

# Interactions written into a block of signals at a time.
_CHUNK = 4096


@flax.struct.dataclass
class GfCfScorer:
    """A fitted model: scores of a row r of interactions are r (R̃ᵀR̃ + w D_I^-½ V Vᵀ D_I^½).

    The I×I matrix in parentheses is never formed. Beside the operator the model holds r numbers a
    user and an item.

    Attributes:
        operator: R̃, U×I.
        interactions: R's rows, users.
        item_roots: ``float[I]``, D_I^½.
        vectors: ``float[I, r]``, V, the leading right singular vectors of R̃.
        users: ``float[U, r]``, R D_I^-½ V, what the low-pass filter keeps of each user's row.
        weight: w.
    """

    operator: Operator
    interactions: CsrRows
    item_roots: Float[Array, " items"]
    vectors: ItemTable
    users: UserTable
    weight: float = flax.struct.field(pytree_node=False)

    @property
    def num_queries(self) -> int:
        """U."""
        return self.users.shape[0]

    @property
    def num_items(self) -> int:
        """I."""
        return self.vectors.shape[0]

    @property
    def block_bytes_per_query(self) -> int:
        """What :meth:`scores` holds beside its result: two columns of items, one of users."""
        return (2 * self.num_items + self.num_queries) * self.vectors.dtype.itemsize

    def embeddings(self) -> tuple[UserTable, ItemTable]:
        """``float[U, r]`` and ``float[I, r]``, whose inner products the low-pass filter adds."""
        return self.users, self.weight * self.item_roots[:, None] * self.vectors

    def scores(self, rows: Ids) -> Float[Array, "items queries"]:
        """Scores of all items for users of the graph.

        Two applications of the operator to a table of one column a query, and one product of dense
        tables: O((E + I·r) Q) work.

        Args:
            rows: ``int32[Q]``, users.

        Returns:
            ``float[I, Q]``; zeros for a user without interactions.
        """
        return self._filtered(self.signals(rows), self.users[rows].T)

    def filter(self, signals: Float[Array, "items queries"]) -> Float[Array, "items queries"]:
        """Scores of all items for any rows of interactions, those of new users for instance.

        Args:
            signals: ``float[I, Q]``, one row of interactions a column.

        Returns:
            ``float[I, Q]``.
        """
        roots = self.item_roots[:, None]
        scaled = jnp.where(roots > 0, signals / jnp.where(roots > 0, roots, 1), 0)
        return self._filtered(signals, exact_product(self.vectors.T, scaled))

    def signals(self, rows: Ids) -> Float[Array, "items queries"]:
        """The users' rows of R as columns, ``float[I, Q]``.

        Args:
            rows: ``int32[Q]``, users.
        """
        table = jnp.zeros((self.num_items, len(rows)), self.vectors.dtype)

        def write(table: Array, slots: Array, items: Array) -> Array:
            return table.at[items, slots].set(1.0, mode="drop")

        return fold_rows(self.interactions, rows, _CHUNK, write, table)

    def _filtered(
        self, signals: Float[Array, "items queries"], spectrum: Float[Array, "rank queries"]
    ) -> Float[Array, "items queries"]:
        """The linear filter of the signals and the low-pass one of their spectrum."""
        linear = diffuse(self.operator.transpose(), diffuse(self.operator, signals))
        scales = self.weight * self.item_roots[:, None]
        return linear + scales * exact_product(self.vectors, spectrum)


@dataclasses.dataclass(frozen=True)
class GfCf(SvdModel):
    """Two graph filters: a linear one and a low-pass one from a truncated SVD of
    R̃ = D_U^-½ R D_I^-½.

    Attributes:
        singular_vectors: singular vectors that the low-pass filter keeps; a graph with fewer users
            or items keeps all there are.
        low_pass_weight: weight of the low-pass filter beside the linear one.
        svd_iterations: block iterations of the singular value decomposition. A few leave the last
            vectors blurred, and that is part of the model: recommendations get slightly worse as
            they sharpen (on Gowalla .187 recall@20 after 4 iterations, .185 with vectors converged
            after 30).
        oversampling: columns of the block iteration beyond the singular vectors.

    References:
        Shen et al. 2021 (GF-CF).
    """

    singular_vectors: int = setting(256, whole(1))
    low_pass_weight: float = setting(0.3, at_least(0))
    svd_iterations: int = setting(4, whole(0))
    oversampling: int = setting(16, whole(0))

    tensors = ("vectors", "users", "item_roots")

    def fit(
        self,
        graph: BipartiteGraph,
        key: PRNGKey,
        backend: Any = "auto",
        dtype: DTypeLike = jnp.float32,
    ) -> GfCfScorer:
        """The model of a graph: one truncated SVD.

        Args:
            graph: the interactions.
            key: randomness of the SVD's first block.
            backend: storage of the operator.
            dtype: type of everything that is kept.

        Raises:
            InputError: the graph has no users or no items, or no storage has that name.
        """
        operator, svd = self._decompose(graph, key, self.singular_vectors, backend, dtype)
        user_degrees = graph.items_of_user.lengths().astype(dtype)
        item_degrees = graph.users_of_item.lengths().astype(dtype)
        # R D_I^-½ = D_U^½ R̃.
        users = jnp.sqrt(user_degrees)[:, None] * diffuse(operator, svd.right)
        tensors = {"item_roots": jnp.sqrt(item_degrees), "vectors": svd.right, "users": users}
        return GfCfScorer(operator, graph.items_of_user, weight=self.low_pass_weight, **tensors)

    def rebuilt(
        self, tensors: Tensors, graph: BipartiteGraph, key: PRNGKey, backend: Any = "auto"
    ) -> GfCfScorer:
        del key
        operator = interaction_operator(graph, backend=backend)
        return GfCfScorer(operator, graph.items_of_user, weight=self.low_pass_weight, **tensors)
