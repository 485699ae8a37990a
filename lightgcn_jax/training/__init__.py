"""What is jitted: losses, negatives, batches, the step, the epoch, the optimizer."""

from lightgcn_jax.training.batch import Batch, draw_batch, edge_users, epoch_shuffle
from lightgcn_jax.training.epoch import compile_steps, plan_epoch
from lightgcn_jax.training.losses import (
    BPR,
    BilateralSoftmax,
    Binary,
    MaxMargin,
    Softmax,
    bilateral_softmax_loss,
    binary_loss,
    bpr_loss,
    max_margin_loss,
    softmax_loss,
)
from lightgcn_jax.training.optimizer import Optimization, make_optimizer
from lightgcn_jax.training.samplers import (
    AllItems,
    HardNegatives,
    InBatchNegatives,
    Negatives,
    NegativeSampler,
    PerUserNegatives,
    SharedNegatives,
)
from lightgcn_jax.training.step import (
    Params,
    TrainState,
    batch_loss,
    initial_params,
    initial_state,
    train_step,
)
from lightgcn_jax.training.strategies import StepInputs, Strategies, TracedSettings

__all__ = [
    "BPR",
    "AllItems",
    "Batch",
    "BilateralSoftmax",
    "Binary",
    "HardNegatives",
    "InBatchNegatives",
    "MaxMargin",
    "NegativeSampler",
    "Negatives",
    "Optimization",
    "Params",
    "PerUserNegatives",
    "SharedNegatives",
    "Softmax",
    "StepInputs",
    "Strategies",
    "TracedSettings",
    "TrainState",
    "batch_loss",
    "bilateral_softmax_loss",
    "binary_loss",
    "bpr_loss",
    "compile_steps",
    "draw_batch",
    "edge_users",
    "epoch_shuffle",
    "initial_params",
    "initial_state",
    "make_optimizer",
    "max_margin_loss",
    "plan_epoch",
    "softmax_loss",
    "train_step",
]
