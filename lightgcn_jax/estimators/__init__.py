"""One object from a table to recommendations: a class for each model, over the functional core."""

from lightgcn_jax.estimators.estimator import Estimator
from lightgcn_jax.estimators.named import (
    GCN,
    GNN,
    MF,
    NGCF,
    SGC,
    Filter,
    GfCf,
    ItemCosine,
    LightGCN,
    Popular,
    Random,
    Spectral,
)

__all__ = [
    "GCN",
    "GNN",
    "MF",
    "NGCF",
    "SGC",
    "Estimator",
    "Filter",
    "GfCf",
    "ItemCosine",
    "LightGCN",
    "Popular",
    "Random",
    "Spectral",
]
