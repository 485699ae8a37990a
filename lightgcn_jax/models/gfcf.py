"""GF-CF (Shen et al. 2021): a closed-form recommender made of two graph filters, nothing learnt."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.struct
import jax.numpy as jnp
from jax.typing import DTypeLike

from lightgcn_jax.arrays import Array, Float, ItemTable, PRNGKey, check_array
from lightgcn_jax.diffusion.operator import Operator, interaction_operator
from lightgcn_jax.fields import at_least, setting, whole
from lightgcn_jax.graph.bipartite import BipartiteGraph
from lightgcn_jax.models.closed_form import Tensors
from lightgcn_jax.models.filter import filter_of
from lightgcn_jax.models.filter_scorer import FilterScorer
from lightgcn_jax.models.responses import gfcf
from lightgcn_jax.models.spectral import SvdModel


@flax.struct.dataclass
class GfCfScorer(FilterScorer):
    """A fitted model: scores of a row r of interactions are r (R̃ᵀR̃ + w D_I^-½ V Vᵀ D_I^½)."""

    @property
    def item_roots(self) -> Float[Array, " items"]:
        """``float[I]``, D_I^½, 1 for items without users: part of what a run keeps."""
        return self.low_pass_scales


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

    # The vectors are enough; runs have always kept all three.
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
        return self._scorer(operator, graph, svd.right)

    def rebuilt(
        self, tensors: Tensors, graph: BipartiteGraph, key: PRNGKey, backend: Any = "auto"
    ) -> GfCfScorer:
        del key
        check_array("vectors", tensors["vectors"], (graph.num_items, None))
        operator = interaction_operator(graph, backend=backend)
        return self._scorer(operator, graph, tensors["vectors"])

    def _scorer(self, operator: Operator, graph: BipartiteGraph, vectors: ItemTable) -> GfCfScorer:
        return filter_of(
            operator,
            graph,
            vectors,
            polynomials=gfcf(),
            gain=self.low_pass_weight,
            item_power=0.0,
            low_pass_power=0.5,
            kind=GfCfScorer,
        )
