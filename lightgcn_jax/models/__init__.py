"""Trained models as init / apply pairs over pytrees; closed forms as fit and what scores."""

from lightgcn_jax.models import gcn, gfcf, gnn, itemcf, lightgcn, mf, ngcf, sgc, spectral
from lightgcn_jax.models import heads as score
from lightgcn_jax.models.gcn import GCNConfig, GCNParams
from lightgcn_jax.models.gfcf import GfCf, GfCfConfig
from lightgcn_jax.models.gnn import (
    Aggregate,
    Combine,
    Edges,
    GNNConfig,
    GNNParams,
    edges_of,
    normalization_of,
)
from lightgcn_jax.models.heads import (
    MLPHead,
    MLPScorer,
    ScoreName,
    head_scores,
    init_head,
    negative_scores,
    positive_scores,
    unit_rows,
)
from lightgcn_jax.models.itemcf import ItemCf, ItemCfConfig
from lightgcn_jax.models.lightgcn import (
    LayerCombination,
    LightGCNConfig,
    LightGCNParams,
    split_nodes,
)
from lightgcn_jax.models.mf import MFConfig, MFParams
from lightgcn_jax.models.ngcf import NGCFConfig, NGCFParams
from lightgcn_jax.models.sgc import SGCConfig, SGCParams
from lightgcn_jax.models.spectral import SpectralConfig, SpectralFactors
from lightgcn_jax.models.trivial import Popular, Random

__all__ = [
    "Aggregate",
    "Combine",
    "Edges",
    "GCNConfig",
    "GCNParams",
    "GNNConfig",
    "GNNParams",
    "GfCf",
    "GfCfConfig",
    "ItemCf",
    "ItemCfConfig",
    "LayerCombination",
    "LightGCNConfig",
    "LightGCNParams",
    "MFConfig",
    "MFParams",
    "MLPHead",
    "MLPScorer",
    "NGCFConfig",
    "NGCFParams",
    "Popular",
    "Random",
    "SGCConfig",
    "SGCParams",
    "ScoreName",
    "SpectralConfig",
    "SpectralFactors",
    "edges_of",
    "gcn",
    "gfcf",
    "gnn",
    "head_scores",
    "init_head",
    "itemcf",
    "lightgcn",
    "mf",
    "negative_scores",
    "ngcf",
    "normalization_of",
    "positive_scores",
    "score",
    "sgc",
    "spectral",
    "split_nodes",
    "unit_rows",
]
