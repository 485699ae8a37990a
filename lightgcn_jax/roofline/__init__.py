"""What an application of Ã must move, beside what was compiled and the time that it took."""

from lightgcn_jax.roofline.report import DiffusionReport, diffusion_report

__all__ = ["DiffusionReport", "diffusion_report"]
