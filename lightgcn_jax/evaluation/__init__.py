"""Rank once, then compute every metric from the ranked ids."""

from lightgcn_jax.evaluation.metrics import Evaluation, evaluate, metric_names, user_metrics
from lightgcn_jax.evaluation.ranking import Ranking, exact_top_k, rank

__all__ = [
    "Evaluation",
    "Ranking",
    "evaluate",
    "exact_top_k",
    "metric_names",
    "rank",
    "user_metrics",
]
