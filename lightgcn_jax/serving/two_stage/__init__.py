"""Two stages: sources propose candidates, a small network puts them into a better order."""

from lightgcn_jax.serving.two_stage.candidates import Candidates, Source, candidates_of
from lightgcn_jax.serving.two_stage.ranked_run import (
    evaluate_ranked_run,
    open_ranked,
    train_run,
)
from lightgcn_jax.serving.two_stage.ranker import RankerConfig
from lightgcn_jax.serving.two_stage.recommending import RankedRecommender
from lightgcn_jax.serving.two_stage.stage_one import SIZES, History, StageOne, stage_one
from lightgcn_jax.serving.two_stage.training import Examples, Trained, judged, train_ranker

__all__ = [
    "SIZES",
    "Candidates",
    "Examples",
    "History",
    "RankedRecommender",
    "RankerConfig",
    "Source",
    "StageOne",
    "Trained",
    "candidates_of",
    "evaluate_ranked_run",
    "judged",
    "open_ranked",
    "stage_one",
    "train_ranker",
    "train_run",
]
