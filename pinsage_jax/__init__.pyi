from .config import PinSageConfig
from .data.items import ItemData
from .data.sources import from_files, load_items
from .data.world import PinWorld, generate_pins
from .estimators import PinSage
from .evaluation.metrics import evaluate_items, triplet_accuracy
from .features.columns import Column
from .features.files import align, items_of_frame, load_features
from .features.table import FeatureTable
from .runs.continuation import continue_from
from .runs.evaluate import evaluate_run
from .runs.finished import keep_added, open_items
from .runs.fit import Fit, fit, resume
from .serving.live_items import LiveItems
from .tasks.holdout import (
    cooccurrence_task,
    explicit_task,
    given_task,
    permuted,
    time_task,
)
from .tasks.task import HeldOut, Task

__all__ = [
    "Column",
    "FeatureTable",
    "Fit",
    "HeldOut",
    "ItemData",
    "LiveItems",
    "PinSage",
    "PinSageConfig",
    "PinWorld",
    "Task",
    "align",
    "continue_from",
    "cooccurrence_task",
    "evaluate_items",
    "evaluate_run",
    "explicit_task",
    "fit",
    "from_files",
    "generate_pins",
    "given_task",
    "items_of_frame",
    "keep_added",
    "load_features",
    "load_items",
    "open_items",
    "permuted",
    "resume",
    "time_task",
    "triplet_accuracy",
]
