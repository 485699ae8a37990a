"""Trained models as values with init and apply, closed forms with fit, and how vectors score."""

from lightgcn_jax.models.closed_form import ClosedForm
from lightgcn_jax.models.filter import Filter
from lightgcn_jax.models.filter_scorer import FilterScorer
from lightgcn_jax.models.gcn import GCN
from lightgcn_jax.models.gfcf import GfCf, GfCfScorer
from lightgcn_jax.models.gnn import GNN
from lightgcn_jax.models.heads import MLP, Cosine, HeadScorer, Inner, Score, unit_rows
from lightgcn_jax.models.itemcf import ItemCf, ItemCfScorer
from lightgcn_jax.models.lightgcn import LightGCN
from lightgcn_jax.models.mf import MF
from lightgcn_jax.models.model import Model, TableParams, split_nodes
from lightgcn_jax.models.ngcf import NGCF
from lightgcn_jax.models.sgc import SGC
from lightgcn_jax.models.spectral import Spectral
from lightgcn_jax.models.trivial import Popular, PopularScorer, Random, RandomScorer

__all__ = [
    "GCN",
    "GNN",
    "MF",
    "MLP",
    "NGCF",
    "SGC",
    "ClosedForm",
    "Cosine",
    "Filter",
    "FilterScorer",
    "GfCf",
    "GfCfScorer",
    "HeadScorer",
    "Inner",
    "ItemCf",
    "ItemCfScorer",
    "LightGCN",
    "Model",
    "Popular",
    "PopularScorer",
    "Random",
    "RandomScorer",
    "Score",
    "Spectral",
    "TableParams",
    "split_nodes",
    "unit_rows",
]
