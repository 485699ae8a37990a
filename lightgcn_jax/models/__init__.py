"""init / apply pairs over pytrees."""

from lightgcn_jax.models import lightgcn
from lightgcn_jax.models.lightgcn import LightGCNConfig, LightGCNParams, split_nodes

__all__ = ["LightGCNConfig", "LightGCNParams", "lightgcn", "split_nodes"]
