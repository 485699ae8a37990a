"""The settings of a run, their flat names, presets and protocols."""

from lightgcn_jax.settings.config import ClosedFormConfig, Config, Selection, TrainConfig
from lightgcn_jax.settings.names import flat, from_flat
from lightgcn_jax.settings.presets import BY_CATALOGUE, PRESETS, for_catalogue
from lightgcn_jax.settings.protocols import label_of
from lightgcn_jax.settings.registry import MODELS, model_name

__all__ = [
    "BY_CATALOGUE",
    "MODELS",
    "PRESETS",
    "ClosedFormConfig",
    "Config",
    "Selection",
    "TrainConfig",
    "flat",
    "for_catalogue",
    "from_flat",
    "label_of",
    "model_name",
]
