"""Graph recommendation in JAX, from raw interactions to recommendations."""

from lightgcn_jax.data import (
    Interactions,
    Split,
    given_split,
    leave_k_out_split,
    load_dataset,
    ratio_split,
    read_interactions,
    temporal_split,
)
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import InnerProduct, evaluate
from lightgcn_jax.runs import FitResult, continue_from, fit, resume
from lightgcn_jax.serving import Recommender, export
from lightgcn_jax.settings import PRESETS, TrainConfig

__all__ = [
    "PRESETS",
    "FitResult",
    "InnerProduct",
    "InputError",
    "Interactions",
    "Recommender",
    "Split",
    "TrainConfig",
    "continue_from",
    "evaluate",
    "export",
    "fit",
    "given_split",
    "leave_k_out_split",
    "load_dataset",
    "ratio_split",
    "read_interactions",
    "resume",
    "temporal_split",
]
