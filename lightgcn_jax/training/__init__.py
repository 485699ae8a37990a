"""Losses, sampling, the compiled step, the loop around it, closed forms, and runs on disk."""

from lightgcn_jax.training.config import TrainConfig
from lightgcn_jax.training.continuation import continue_from
from lightgcn_jax.training.interrupt import Interrupted
from lightgcn_jax.training.judging import judge_run
from lightgcn_jax.training.losses import (
    batch_mean,
    binary_loss,
    bpr_all_pairs_loss,
    bpr_loss,
    l2_penalty,
    max_margin_loss,
    softmax_loss,
)
from lightgcn_jax.training.presets import PRESETS
from lightgcn_jax.training.progress import ConsoleReporter, Reporter, SilentReporter
from lightgcn_jax.training.protocol import apply_protocol
from lightgcn_jax.training.records import TrainingDiverged
from lightgcn_jax.training.registry import MODELS, ModelName
from lightgcn_jax.training.run_directory import RunDirectory
from lightgcn_jax.training.runs import (
    FitResult,
    embeddings_of,
    fit,
    load_scorer,
    refit,
    resume,
)
from lightgcn_jax.training.sweep import SweepResult, resume_sweep, run_sweep
from lightgcn_jax.training.sweep_space import Range, SweepConfig

__all__ = [
    "MODELS",
    "PRESETS",
    "ConsoleReporter",
    "FitResult",
    "Interrupted",
    "ModelName",
    "Range",
    "Reporter",
    "RunDirectory",
    "SilentReporter",
    "SweepConfig",
    "SweepResult",
    "TrainConfig",
    "TrainingDiverged",
    "apply_protocol",
    "batch_mean",
    "binary_loss",
    "bpr_all_pairs_loss",
    "bpr_loss",
    "continue_from",
    "embeddings_of",
    "fit",
    "judge_run",
    "l2_penalty",
    "load_scorer",
    "max_margin_loss",
    "refit",
    "resume",
    "resume_sweep",
    "run_sweep",
    "softmax_loss",
]
