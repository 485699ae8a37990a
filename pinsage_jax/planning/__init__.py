"""What training an encoder would take of an accelerator, known before it is paid for."""

from pinsage_jax.planning.plan import Plan, Workload, plan

__all__ = ["Plan", "Workload", "plan"]
