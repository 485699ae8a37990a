"""Polynomial graph filters: closed forms that filter a user's interactions, nothing learnt."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from lightgcn_jax.arrays import Array, Float, ItemTable, PRNGKey, check_array
from lightgcn_jax.diffusion.operator import Operator, diffuse, interaction_operator
from lightgcn_jax.diffusion.spectral import truncated_svd
from lightgcn_jax.fields import LAYERS, at_least, number, one_of, setting, whole
from lightgcn_jax.graph.bipartite import BipartiteGraph, CsrRows
from lightgcn_jax.models.closed_form import ClosedForm, Tensors
from lightgcn_jax.models.filter_scorer import FilterScorer, Growth
from lightgcn_jax.models.responses import Response, Shape, response
from lightgcn_jax.models.spectral import check_not_empty

# Columns of the block iteration beyond the singular vectors.
_OVERSAMPLING = 64


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
    rest = 1 - user_power - low_pass_power
    kept = diffuse(operator, item_powers(rest)[:, None] * vectors)
    images = diffuse(operator, vectors) if rest else kept
    weights = graph.weights()
    growth = Growth(
        degrees=jnp.asarray(graph.users_of_item.degrees(), dtype),
        strengths=(images * images).sum(axis=0),
        weight=jnp.asarray(1 if weights is None else weights.mean(), dtype),
        user_power=jnp.asarray(user_power, dtype),
        item_power=jnp.asarray(item_power, dtype),
        low_pass_power=jnp.asarray(low_pass_power, dtype),
    )
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
        growth=growth,
    )


def _degree_powers(rows: CsrRows, power: float, dtype: DTypeLike) -> Float[Array, " rows"]:
    """Powers of the rows' degrees, 1 for empty ones."""
    degrees = rows.degrees()
    return jnp.asarray(np.where(degrees > 0, degrees, 1), dtype) ** power
