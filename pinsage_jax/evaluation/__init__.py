"""How good item vectors are, and the baselines that they are compared with."""

from pinsage_jax.evaluation.baselines import (
    cooccurrence,
    feature_cosine,
    item_cosine,
    personal_pagerank,
    popularity,
    random_scores,
)
from pinsage_jax.evaluation.metrics import (
    ItemMetrics,
    TripletAccuracy,
    chance,
    directions,
    evaluate_items,
    triplet_accuracy,
)
from pinsage_jax.evaluation.parts import evaluate_part, evaluate_parts, query_scorer
from pinsage_jax.evaluation.ranks import compose_queries, ranks_of

__all__ = [
    "ItemMetrics",
    "TripletAccuracy",
    "chance",
    "compose_queries",
    "cooccurrence",
    "directions",
    "evaluate_items",
    "evaluate_part",
    "evaluate_parts",
    "feature_cosine",
    "item_cosine",
    "personal_pagerank",
    "popularity",
    "query_scorer",
    "random_scores",
    "ranks_of",
    "triplet_accuracy",
]
