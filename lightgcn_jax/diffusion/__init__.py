"""The heart: y = Ã x as an operator that models apply without knowing its storage."""

from lightgcn_jax.diffusion.choice import (
    PLATFORMS,
    STORAGES,
    Backend,
    Choice,
    choose_backend,
    choose_ordering,
    obstacles,
)
from lightgcn_jax.diffusion.dropout import drop_edges
from lightgcn_jax.diffusion.multiscale import multiscale, uniform_alphas
from lightgcn_jax.diffusion.operator import (
    Operator,
    diffuse,
    diffusion_operator,
    interaction_operator,
    operator_of,
)
from lightgcn_jax.diffusion.restricted import multiscale_rows
from lightgcn_jax.diffusion.storage import RescalableStorage, Restriction, RowStorage, Storage

__all__ = [
    "PLATFORMS",
    "STORAGES",
    "Backend",
    "Choice",
    "Operator",
    "RescalableStorage",
    "Restriction",
    "RowStorage",
    "Storage",
    "choose_backend",
    "choose_ordering",
    "diffuse",
    "diffusion_operator",
    "drop_edges",
    "interaction_operator",
    "multiscale",
    "multiscale_rows",
    "obstacles",
    "operator_of",
    "uniform_alphas",
]
