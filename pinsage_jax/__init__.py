"""PinSAGE in JAX: item embeddings from features and random-walk neighbourhoods."""

from pinsage_jax.config import PinSageConfig
from pinsage_jax.data.items import ItemData
from pinsage_jax.data.sources import from_files, load_items
from pinsage_jax.data.world import PinWorld, generate_pins
from pinsage_jax.evaluation.metrics import evaluate_items, triplet_accuracy
from pinsage_jax.features.columns import Column
from pinsage_jax.features.files import align, read_features, read_items
from pinsage_jax.features.table import FeatureTable
from pinsage_jax.runs.evaluate import evaluate_run
from pinsage_jax.runs.finished import keep_added, open_items
from pinsage_jax.runs.fit import Fit, fit, resume
from pinsage_jax.serving.live_items import LiveItems
from pinsage_jax.tasks.holdout import (
    cooccurrence_task,
    explicit_task,
    given_task,
    permuted,
    time_task,
)
from pinsage_jax.tasks.task import HeldOut, Task

__all__ = [
    "Column",
    "FeatureTable",
    "Fit",
    "HeldOut",
    "ItemData",
    "LiveItems",
    "PinSageConfig",
    "PinWorld",
    "Task",
    "align",
    "cooccurrence_task",
    "evaluate_items",
    "evaluate_run",
    "explicit_task",
    "fit",
    "from_files",
    "generate_pins",
    "given_task",
    "keep_added",
    "load_items",
    "open_items",
    "permuted",
    "read_features",
    "read_items",
    "resume",
    "time_task",
    "triplet_accuracy",
]
