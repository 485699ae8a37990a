"""What training an encoder would take of an accelerator, known before it is paid for."""

from pinsage_jax.planning.plan import Plan, plan
from pinsage_jax.planning.workload import Workload

__all__ = ["Plan", "Workload", "plan"]
