"""Rank once, then compute every metric from the ranked ids."""

from lightgcn_jax.evaluation.catalogue import CATALOGUE_METRICS, catalogue_metrics
from lightgcn_jax.evaluation.groups import (
    ItemGroup,
    UserGroup,
    degree_groups,
    item_groups,
    user_groups,
)
from lightgcn_jax.evaluation.metrics import Evaluation, evaluate, metric_names, user_metrics
from lightgcn_jax.evaluation.ranking import ItemsOfUsers, ReadyScorer, rank, ready_scorer
from lightgcn_jax.evaluation.scorer import Embedded, InnerProduct, Scorer
from lightgcn_jax.evaluation.significance import (
    PairedComparison,
    compare_paired,
    holm,
    paired_bootstrap,
    paired_permutation_test,
    paired_t_test,
)
from lightgcn_jax.evaluation.top_k import Ranking, exact_top_k

__all__ = [
    "CATALOGUE_METRICS",
    "Embedded",
    "Evaluation",
    "InnerProduct",
    "ItemGroup",
    "ItemsOfUsers",
    "PairedComparison",
    "Ranking",
    "ReadyScorer",
    "Scorer",
    "UserGroup",
    "catalogue_metrics",
    "compare_paired",
    "degree_groups",
    "evaluate",
    "exact_top_k",
    "holm",
    "item_groups",
    "metric_names",
    "paired_bootstrap",
    "paired_permutation_test",
    "paired_t_test",
    "rank",
    "ready_scorer",
    "user_groups",
    "user_metrics",
]
