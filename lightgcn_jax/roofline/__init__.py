"""What an application must move, beside what it took."""

from lightgcn_jax.roofline.traffic import DiffusionReport, report

__all__ = ["DiffusionReport", "report"]
