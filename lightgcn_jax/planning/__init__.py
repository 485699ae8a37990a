"""What a run would take of an accelerator, known before it is paid for."""

from lightgcn_jax.planning.plan import Plan, plan
from lightgcn_jax.planning.workload import Workload

__all__ = ["Plan", "Workload", "plan"]
