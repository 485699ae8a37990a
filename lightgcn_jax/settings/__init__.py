"""Names, settings, their validation, presets and protocols; no JAX."""

from lightgcn_jax.settings.config import TrainConfig
from lightgcn_jax.settings.models import MODELS, ModelName
from lightgcn_jax.settings.presets import PRESETS

__all__ = ["MODELS", "PRESETS", "ModelName", "TrainConfig"]
