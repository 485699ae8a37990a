"""PinSAGE in JAX: item embeddings from features and random-walk neighbourhoods."""

from pinsage_jax.config import PinSageConfig
from pinsage_jax.features import Column, FeatureTable
from pinsage_jax.fresh import LiveItems
from pinsage_jax.holdout import (
    Task,
    cooccurrence_task,
    explicit_task,
    given_task,
    permuted,
    time_task,
)
from pinsage_jax.item_data import ItemData
from pinsage_jax.runs import Fit, fit, open_items, resume
from pinsage_jax.sources import from_files, load_items
from pinsage_jax.world import PinWorld, generate_pins

__all__ = [
    "Column",
    "FeatureTable",
    "Fit",
    "ItemData",
    "LiveItems",
    "PinSageConfig",
    "PinWorld",
    "Task",
    "cooccurrence_task",
    "explicit_task",
    "fit",
    "from_files",
    "generate_pins",
    "given_task",
    "load_items",
    "open_items",
    "permuted",
    "resume",
    "time_task",
]
