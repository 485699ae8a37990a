"""An estimator for each model; :mod:`lightgcn_jax.models` documents their settings."""

from __future__ import annotations

from lightgcn_jax.estimators.estimator import Estimator


class LightGCN(Estimator):
    """Embeddings, diffused over the graph (He et al. 2020); see
    :class:`lightgcn_jax.models.LightGCN`."""

    name = "lightgcn"


class MF(Estimator):
    """Matrix factorisation; see :class:`lightgcn_jax.models.MF`."""

    name = "mf"


class GCN(Estimator):
    """Graph convolutions with weights and ReLU; see :class:`lightgcn_jax.models.GCN`."""

    name = "gcn"


class SGC(Estimator):
    """Graph convolutions without ReLU; see :class:`lightgcn_jax.models.SGC`."""

    name = "sgc"


class NGCF(Estimator):
    """Neural graph collaborative filtering; see :class:`lightgcn_jax.models.NGCF`."""

    name = "ngcf"


class GNN(Estimator):
    """Aggregate and combine of one's choice; see :class:`lightgcn_jax.models.GNN`."""

    name = "gnn"


class Filter(Estimator):
    """A polynomial of the graph and a low-pass filter, fitted in one go; see
    :class:`lightgcn_jax.models.Filter`."""

    name = "filter"


class GfCf(Estimator):
    """A linear and an ideal low-pass graph filter; see :class:`lightgcn_jax.models.GfCf`."""

    name = "gfcf"


class Spectral(Estimator):
    """Singular vectors as embeddings; see :class:`lightgcn_jax.models.Spectral`."""

    name = "spectral"


class ItemCosine(Estimator):
    """Item-based cosine; see :class:`lightgcn_jax.models.ItemCf`."""

    name = "itemcf"


class Popular(Estimator):
    """The items with the most users; see :class:`lightgcn_jax.models.Popular`."""

    name = "popular"


class Random(Estimator):
    """Scores that are drawn; see :class:`lightgcn_jax.models.Random`."""

    name = "random"
