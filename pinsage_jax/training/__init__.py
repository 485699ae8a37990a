"""What a step sees, the step, epochs, and the loop around them."""

from pinsage_jax.training.batch import Batch, HostItemArrays, ItemArrays, Targets
from pinsage_jax.training.preparation import Prepared, prepare
from pinsage_jax.training.step import TrainState, train_step
from pinsage_jax.training.trainer import (
    Progress,
    Reporter,
    SilentReporter,
    Trainer,
    TrainingDiverged,
)

__all__ = [
    "Batch",
    "HostItemArrays",
    "ItemArrays",
    "Prepared",
    "Progress",
    "Reporter",
    "SilentReporter",
    "Targets",
    "TrainState",
    "Trainer",
    "TrainingDiverged",
    "prepare",
    "train_step",
]
