"""Polynomial graph filters: closed forms that filter a user's interactions, nothing learnt."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from lightgcn_jax.arrays import Array, Float, Ids, ItemTable, PRNGKey, UserTable, check_array
from lightgcn_jax.diffusion.filters import chebyshev_sum
from lightgcn_jax.diffusion.operator import Operator, diffuse, interaction_operator
from lightgcn_jax.diffusion.spectral import truncated_svd
from lightgcn_jax.diffusion.storage import exact_product
from lightgcn_jax.fields import LAYERS, at_least, number, one_of, setting, whole
from lightgcn_jax.graph.bipartite import BipartiteGraph, CsrRows, fold_rows
from lightgcn_jax.models.closed_form import ClosedForm, Tensors
from lightgcn_jax.models.responses import Response, Shape, response
from lightgcn_jax.models.spectral import check_not_empty

# Interactions written into a block of signals at a time.
_CHUNK = 4096
# Columns of the block iteration beyond the singular vectors.
_OVERSAMPLING = 64


@flax.struct.dataclass
class FilterScorer:
    """A fitted filter: scores of a row r of interactions are
    [r D_I^-β p(P) + r D_I^-γ V Vᵀ D_I^(γ−β) q(P)] D_I^β, P = R̃ᵀR̃.

    P is applied, never formed. Settings are arrays here, so that models of one shape share their
    compiled programs.

    Attributes:
        operator: R̃, U×I.
        interactions: R's rows, users; its weights are the entries, and D holds their sums.
        scales: ``float[I]``, D_I^β, 1 for items without users.
        low_pass_scales: ``float[I]``, D_I^γ, likewise.
        vectors: ``float[I, r]``, V, the leading right singular vectors of R̃.
        users: ``float[U, r]``, R D_I^-γ V, what the low-pass filter keeps of each user's row.
        coefficients: ``float[K + 1]``, of p in T_k(2P − I).
        low_pass: ``float[J + 1]``, of q, the low-pass weight in it; J is 0 or K.
    """

    operator: Operator
    interactions: CsrRows
    scales: Float[Array, " items"]
    low_pass_scales: Float[Array, " items"]
    vectors: ItemTable
    users: UserTable
    coefficients: Float[Array, " terms"]
    low_pass: Float[Array, " low_pass_terms"]

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
        """What :meth:`scores` holds beside its result: columns of items, and one of users."""
        # A recurrence that is a loop holds two columns twice, as it hands them on.
        columns = 3 if len(self.coefficients) < 3 else 7 + (len(self.low_pass) > 1)
        return (columns * self.num_items + self.operator.shape[0]) * self.vectors.dtype.itemsize

    def embeddings(self) -> tuple[UserTable, ItemTable]:
        """``float[U, r]`` and ``float[I, r]``, whose inner products the low-pass filter adds."""
        return self.users, self.low_pass[0] * self.low_pass_scales[:, None] * self.vectors

    def scores(self, rows: Ids) -> Float[Array, "items queries"]:
        """Scores of all items for users of the graph.

        2K applications of the operator to a table of one column a query, and one product of dense
        tables: O((K·E + I·r) Q) work.

        Args:
            rows: ``int32[Q]``, users.

        Returns:
            ``float[I, Q]``; zeros for a user without interactions.
        """
        return self._filtered(self.signals(rows), self.users[rows].T)

    def filter(self, signals: Float[Array, "items queries"]) -> Float[Array, "items queries"]:
        """Scores of all items for any rows of interactions, weighted ones too.

        Args:
            signals: ``float[I, Q]``, one row of interactions a column.

        Returns:
            ``float[I, Q]``.
        """
        scaled = signals / self.low_pass_scales[:, None]
        return self._filtered(signals, exact_product(self.vectors.T, scaled))

    def signals(self, rows: Ids) -> Float[Array, "items queries"]:
        """The users' rows of R as columns, ``float[I, Q]``.

        Args:
            rows: ``int32[Q]``, users.
        """
        table = jnp.zeros((self.num_items, len(rows)), self.vectors.dtype)

        def write(table: Array, slots: Array, items: Array, weights: Array | float) -> Array:
            return table.at[items, slots].set(weights, mode="drop")

        return fold_rows(self.interactions, rows, _CHUNK, write, table)

    def of_histories(self, histories: CsrRows) -> FilterScorer:
        """The same filter for people who were never seen.

        Args:
            histories: a row of items for each.

        Returns:
            A scorer whose queries are the rows.
        """
        users = _row_sums(histories, self.vectors / self.low_pass_scales[:, None])
        return dataclasses.replace(self, interactions=histories, users=users)

    def _filtered(
        self, signals: Float[Array, "items queries"], spectrum: Float[Array, "rank queries"]
    ) -> Float[Array, "items queries"]:
        """Both filters of signals whose low-pass part has the spectrum."""
        scales, adjoint = self.scales[:, None], self.operator.transpose()
        x = signals / scales
        back = self.low_pass_scales[:, None] / scales
        low = back * exact_product(self.vectors, spectrum)

        def shifted(y: Array) -> Array:
            return 2 * diffuse(adjoint, diffuse(self.operator, y)) - y

        if len(self.low_pass) == 1:
            filtered = chebyshev_sum(shifted, self.coefficients, lambda c: c * x)
            return scales * (filtered + self.low_pass[0] * low)
        both = jnp.stack([self.coefficients, self.low_pass], axis=1)
        return scales * chebyshev_sum(shifted, both, lambda c: c[0] * x + c[1] * low)


@jax.jit
def _row_sums(rows: CsrRows, table: ItemTable) -> UserTable:
    """For each row of items the sum of their vectors."""

    # A history has no weights: every item counts as 1.
    def add(sums: Array, slots: Array, items: Array, _: Array | float) -> Array:
        return sums.at[slots].add(table[items], mode="drop")

    everybody = jnp.arange(rows.num_rows, dtype=jnp.int32)
    blank = jnp.zeros((rows.num_rows, table.shape[1]), table.dtype)
    return fold_rows(rows, everybody, _CHUNK, add, blank)


_Kind = TypeVar("_Kind", bound=FilterScorer)


@dataclasses.dataclass(frozen=True)
class Filter(ClosedForm):
    """One polynomial of P = R̃ᵀR̃ and a low-pass filter, R̃ = D_U^-a R D_I^(a−1).

    The named polynomials are those of :mod:`lightgcn_jax.models.responses`. With a = ½, β = 0 and
    γ = ½ the response ``gfcf`` is GF-CF and ``bspm`` is BSPM-EM; ChebyCF has β = γ.

    Attributes:
        response: the polynomial: `gfcf`, `bspm`, `chebycf` or `turbo`, after the models that they
            come from.
        polynomial_degree: degree K of `chebycf`: applications of P.
        flatness: power φ of `chebycf`'s plateau; 1 makes it a line.
        sharpening: time h for which `bspm` sharpens.
        low_pass_rank: singular vectors that the low-pass filter keeps; a graph with fewer users or
            items keeps all there are. 0 leaves the low-pass filter and its decomposition out.
        low_pass_gain: weight α of the low-pass filter beside the polynomial.
        item_power: power β of an item's users, which divides a user's interactions before the
            filter and multiplies the scores after it.
        low_pass_power: the same, γ, of the low-pass filter.
        user_power: power a of a user's items in R̃; ½ treats users and items alike.
        svd_refinements: accelerated block iterations of the singular value decomposition.

    References:
        Shen et al. 2021 (GF-CF), Choi et al. 2023 (BSPM), Park et al. 2024 (Turbo-CF), Kim et al.
        2025 (ChebyCF).
    """

    response: Shape = setting("chebycf", one_of(Shape))
    polynomial_degree: int = setting(5, whole(1, LAYERS))
    flatness: float = setting(3.0, at_least(0))
    sharpening: float = setting(2.5, at_least(0))
    low_pass_rank: int = setting(512, whole(0))
    low_pass_gain: float = setting(0.2, at_least(0))
    item_power: float = setting(0.3, number())
    low_pass_power: float = setting(0.5, number())
    user_power: float = setting(0.5, number())
    svd_refinements: int = setting(3, whole(0))

    tensors = ("vectors",)
    has_embeddings = True
    uses_key = True

    def fit(
        self,
        graph: BipartiteGraph,
        key: PRNGKey,
        backend: Any = "auto",
        dtype: DTypeLike = jnp.float32,
    ) -> FilterScorer:
        """The model of a graph: one truncated SVD.

        Args:
            graph: the interactions.
            key: randomness of the SVD's first block.
            backend: storage of the operator.
            dtype: type of everything that is kept.

        Raises:
            InputError: the graph has no users or no items, or no storage has that name.
        """
        check_not_empty(graph)
        operator = self._operator(graph, backend, dtype)
        rank = min(self.low_pass_rank, *operator.shape)
        vectors = jnp.zeros((graph.num_items, 0), dtype)
        if rank:
            vectors = truncated_svd(
                operator,
                key,
                rank=rank,
                oversampling=_OVERSAMPLING,
                iterations=self.svd_refinements,
                accelerated=True,
                dtype=dtype,
            ).right
        return self._scorer(operator, graph, vectors)

    def rebuilt(
        self, tensors: Tensors, graph: BipartiteGraph, key: PRNGKey, backend: Any = "auto"
    ) -> FilterScorer:
        del key
        vectors = tensors["vectors"]
        rank = min(self.low_pass_rank, graph.num_users, graph.num_items)
        check_array("vectors", vectors, (graph.num_items, rank))
        return self._scorer(self._operator(graph, backend, vectors.dtype), graph, vectors)

    def _operator(self, graph: BipartiteGraph, backend: Any, dtype: DTypeLike) -> Operator:
        powers = -self.user_power, self.user_power - 1
        return interaction_operator(graph, backend=backend, dtype=dtype, normalization=powers)

    def _scorer(
        self, operator: Operator, graph: BipartiteGraph, vectors: ItemTable
    ) -> FilterScorer:
        return filter_of(
            operator,
            graph,
            vectors,
            polynomials=response(
                self.response,
                degree=self.polynomial_degree,
                flatness=self.flatness,
                time=self.sharpening,
            ),
            gain=self.low_pass_gain,
            item_power=self.item_power,
            low_pass_power=self.low_pass_power,
            user_power=self.user_power,
        )


def filter_of(
    operator: Operator,
    graph: BipartiteGraph,
    vectors: ItemTable,
    *,
    polynomials: Response,
    gain: float,
    item_power: float,
    low_pass_power: float,
    user_power: float = 0.5,
    kind: type[_Kind] = FilterScorer,
) -> _Kind:
    """A fitted filter of given singular vectors.

    Args:
        operator: R̃, U×I.
        graph: the interactions.
        vectors: ``float[I, r]``, V.
        polynomials: p and q.
        gain: α, in q from now on.
        item_power: β.
        low_pass_power: γ.
        user_power: a, the power of a user's items that R̃ was made with.
        kind: the scorer's class.
    """
    dtype = vectors.dtype

    def item_powers(power: float) -> Float[Array, " items"]:
        return _degree_powers(graph.users_of_item, power, dtype)

    # R D_I^-γ = D_U^a R̃ D_I^(1−a−γ).
    kept = diffuse(operator, item_powers(1 - user_power - low_pass_power)[:, None] * vectors)
    users = _degree_powers(graph.items_of_user, user_power, dtype)[:, None] * kept
    return kind(
        operator,
        graph.items_of_user,
        scales=item_powers(item_power),
        low_pass_scales=item_powers(low_pass_power),
        vectors=vectors,
        users=users,
        coefficients=jnp.asarray(polynomials.interactions, dtype),
        low_pass=jnp.asarray(gain * polynomials.low_pass, dtype),
    )


def _degree_powers(rows: CsrRows, power: float, dtype: DTypeLike) -> Float[Array, " rows"]:
    """Powers of the rows' degrees, 1 for empty ones."""
    degrees = rows.degrees()
    return jnp.asarray(np.where(degrees > 0, degrees, 1), dtype) ** power
