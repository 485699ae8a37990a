"""Search over settings, with replicas that train under one vmap."""

from lightgcn_jax.sweeps.space import Range, SweepConfig
from lightgcn_jax.sweeps.sweep import SweepResult, resume_sweep, run_sweep

__all__ = ["Range", "SweepConfig", "SweepResult", "resume_sweep", "run_sweep"]
