"""Rank once, then compute every metric from the ranked ids."""

from lightgcn_jax.evaluation.metrics import Evaluation, evaluate, metric_names, user_metrics
from lightgcn_jax.evaluation.ranking import Ranking, exact_top_k, rank
from lightgcn_jax.evaluation.scorer import Embedded, InnerProduct, KnowsSimilarItems, Scorer

__all__ = [
    "Embedded",
    "Evaluation",
    "InnerProduct",
    "KnowsSimilarItems",
    "Ranking",
    "Scorer",
    "evaluate",
    "exact_top_k",
    "metric_names",
    "rank",
    "user_metrics",
]
