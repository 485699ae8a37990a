"""The heart: y = Ã x as an operator that models apply without knowing its storage."""

from lightgcn_jax.diffusion.csr import CsrStorage
from lightgcn_jax.diffusion.multiscale import multiscale, uniform_alphas
from lightgcn_jax.diffusion.operator import (
    STORAGES,
    Storage,
    choose_backend,
    diffuse,
    diffusion_operator,
)
from lightgcn_jax.diffusion.segment import SegmentStorage

__all__ = [
    "STORAGES",
    "CsrStorage",
    "SegmentStorage",
    "Storage",
    "choose_backend",
    "diffuse",
    "diffusion_operator",
    "multiscale",
    "uniform_alphas",
]
