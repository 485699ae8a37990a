"""LightGCN (He et al. 2020): learnt layer-0 embeddings, diffused over the graph."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Float, Ids, NodeTable, PRNGKey, Vectors
from lightgcn_jax.diffusion.multiscale import multiscale, uniform_alphas
from lightgcn_jax.diffusion.operator import Operator
from lightgcn_jax.diffusion.restricted import multiscale_rows
from lightgcn_jax.errors import InputError
from lightgcn_jax.fields import LAYERS, SWITCH, number, one_of, optional, setting, several, whole
from lightgcn_jax.models.model import GraphModel, normal_table

LayerCombination = Literal["sum", "last"]


class LightGCNParams(NamedTuple):
    """What is learnt.

    Attributes:
        table: ``float[N, D]``, the layer-0 embeddings, users first.
        alphas: ``float[K + 1]``, the layer weights; None where they are settings.
    """

    table: NodeTable
    alphas: Float[Array, " scales"] | None = None


class MultiscaleModel(GraphModel):
    """A model of Σ_k α_k Ã^k E: a subclass says with which weights, and what becomes of the sum."""

    def apply(self, params: Any, operator: Operator) -> NodeTable:
        """Final vectors of all nodes, ``float[N, D]``.

        Args:
            params: from :meth:`init`.
            operator: Ã, N×N.
        """
        return self.vectors_of(params, multiscale(operator, params.table, self.weights(params)))

    def apply_rows(
        self, params: Any, operator: Operator, rows: Ids, key: PRNGKey | None = None
    ) -> Vectors:
        """Final vectors of a few nodes, ``float[Q, D]``.

        Args:
            params: from :meth:`init`.
            operator: Ã, N×N.
            rows: ``int32[Q]``.
            key: randomness of the edges that are dropped.
        """
        operator = self._with_dropped_edges(operator, key)
        weights = self.weights(params)
        return self.vectors_of(params, multiscale_rows(operator, params.table, weights, rows))

    def sent(self, params: Any, operator: Operator) -> NodeTable:
        """What each node's neighbours receive of it, Σ_{k≥1} α_k Ã^{k−1} E, ``float[N, D]``.

        The final vectors are α_0 E + Ã times this, before :meth:`vectors_of` is applied: whoever
        comes after training receives it from whom they touch.

        Args:
            params: from :meth:`init`.
            operator: Ã, N×N; at least one layer.
        """
        return multiscale(operator, params.table, jnp.asarray(self.weights(params))[1:])

    def vectors_of(self, params: Any, sums: Vectors) -> Vectors:
        """What becomes of Σ_k α_k Ã^k E in the end; by default nothing.

        Args:
            params: from :meth:`init`.
            sums: ``float[Q, D]``.
        """
        del params
        return sums

    def weights(self, params: Any) -> Float[Array, " scales"] | tuple[float, ...]:
        """α_0 … α_K, learnt or set.

        Args:
            params: from :meth:`init`.
        """
        learnt = getattr(params, "alphas", None)
        return self.layer_weights if learnt is None else learnt

    @property
    def layer_weights(self) -> tuple[float, ...]:
        """α_0 … α_K: by default (0, …, 0, 1), the last of the powers of Ã alone."""
        return (0.0,) * self.layers + (1.0,)


@dataclasses.dataclass(frozen=True)
class LightGCN(MultiscaleModel):
    """Final embeddings Σ_k α_k Ã^k E of learnt layer-0 embeddings E.

    Attributes:
        dim: dimensions D of an embedding.
        layers: applications K of Ã; with 0 the model is matrix factorisation.
        alphas: K + 1 layer weights; by default uniform, 1/(K + 1).
        learn_alphas: learn the layer weights; they start from ``alphas``.
        layer_combination: ``sum`` adds the layers by their weights, ``last`` keeps Ã^K E
            (LightGCN-single, He et al. 2020, section 4.4.1).
        normalization: divide the entries of the adjacency matrix by the degrees of both ends
            (``symmetric``) or of one.
        edge_dropout: share of the interactions that each training step leaves out of the graph.
        init_std: standard deviation of the initial embeddings.

    References:
        He et al. 2020, equation 8.
    """

    layers: int = setting(3, whole(0, LAYERS))
    alphas: tuple[float, ...] | None = setting(None, optional(several(number(), "finite weights")))
    learn_alphas: bool = setting(False, SWITCH)
    layer_combination: LayerCombination = setting("sum", one_of(LayerCombination))

    def __post_init__(self):
        super().__post_init__()
        if self.layer_combination == "last" and (self.alphas is not None or self.learn_alphas):
            raise InputError(
                "layer_combination: last has no layer weights, so expected neither alphas nor "
                f"learn_alphas, got {self.alphas} and {self.learn_alphas}"
            )
        if self.alphas is not None and len(self.alphas) != self.layers + 1:
            raise InputError(
                f"alphas: expected layers + 1 = {self.layers + 1} weights, got {len(self.alphas)}"
            )

    @property
    def layer_weights(self) -> tuple[float, ...]:
        """α_0 … α_K; where they are learnt, their initial values."""
        if self.layer_combination == "last":
            return super().layer_weights
        return self.alphas if self.alphas is not None else uniform_alphas(self.layers)

    def init(self, key: PRNGKey, num_nodes: int) -> LightGCNParams:
        """Normal layer-0 embeddings, and where they are learnt the layer weights.

        Args:
            key: randomness of the embeddings.
            num_nodes: N.
        """
        alphas = jnp.array(self.layer_weights, jnp.float32) if self.learn_alphas else None
        return LightGCNParams(normal_table(key, num_nodes, self.dim, self.init_std), alphas)
