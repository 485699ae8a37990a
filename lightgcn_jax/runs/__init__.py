"""Runs on host and disk: fit, resume, continue, refit, evaluate, compare."""

from lightgcn_jax.interrupts import Interrupted
from lightgcn_jax.runs.compare import compare_runs
from lightgcn_jax.runs.continuation import continue_from
from lightgcn_jax.runs.directory import RunDirectory
from lightgcn_jax.runs.evaluate import evaluate_run
from lightgcn_jax.runs.fit import fit, refit, resume
from lightgcn_jax.runs.loading import load_params, load_scorer
from lightgcn_jax.runs.progress import TrainingDiverged
from lightgcn_jax.runs.reporter import ConsoleReporter, Reporter, SilentReporter
from lightgcn_jax.runs.result import FitResult, embeddings_of
from lightgcn_jax.runs.verify import verify

__all__ = [
    "ConsoleReporter",
    "FitResult",
    "Interrupted",
    "Reporter",
    "RunDirectory",
    "SilentReporter",
    "TrainingDiverged",
    "compare_runs",
    "continue_from",
    "embeddings_of",
    "evaluate_run",
    "fit",
    "load_params",
    "load_scorer",
    "refit",
    "resume",
    "verify",
]
