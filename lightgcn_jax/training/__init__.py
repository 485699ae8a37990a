"""Losses, sampling, the compiled step, the loop around it, closed forms, and runs on disk."""

from lightgcn_jax.training.config import PRESETS, TrainConfig
from lightgcn_jax.training.continuation import continue_from
from lightgcn_jax.training.interrupt import Interrupted
from lightgcn_jax.training.loop import TrainingDiverged
from lightgcn_jax.training.losses import bpr_batch_loss, bpr_loss, l2_penalty
from lightgcn_jax.training.progress import ConsoleReporter, Reporter, SilentReporter
from lightgcn_jax.training.protocol import apply_protocol
from lightgcn_jax.training.registry import MODELS, ModelName
from lightgcn_jax.training.run_directory import RunDirectory
from lightgcn_jax.training.runs import (
    FitResult,
    embeddings_of,
    evaluate_run,
    fit,
    load_scorer,
    resume,
)

__all__ = [
    "MODELS",
    "PRESETS",
    "ConsoleReporter",
    "FitResult",
    "Interrupted",
    "ModelName",
    "Reporter",
    "RunDirectory",
    "SilentReporter",
    "TrainConfig",
    "TrainingDiverged",
    "apply_protocol",
    "bpr_batch_loss",
    "bpr_loss",
    "continue_from",
    "embeddings_of",
    "evaluate_run",
    "fit",
    "l2_penalty",
    "load_scorer",
    "resume",
]
