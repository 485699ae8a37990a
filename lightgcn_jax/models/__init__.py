"""Trained models as init / apply pairs over pytrees; closed forms as fit and what scores."""

from lightgcn_jax.models import gfcf, itemcf, lightgcn, spectral
from lightgcn_jax.models.gfcf import GfCf, GfCfConfig
from lightgcn_jax.models.itemcf import ItemCf, ItemCfConfig
from lightgcn_jax.models.lightgcn import LightGCNConfig, LightGCNParams, split_nodes
from lightgcn_jax.models.spectral import SpectralConfig, SpectralFactors
from lightgcn_jax.models.trivial import Popular, Random

__all__ = [
    "GfCf",
    "GfCfConfig",
    "ItemCf",
    "ItemCfConfig",
    "LightGCNConfig",
    "LightGCNParams",
    "Popular",
    "Random",
    "SpectralConfig",
    "SpectralFactors",
    "gfcf",
    "itemcf",
    "lightgcn",
    "spectral",
    "split_nodes",
]
