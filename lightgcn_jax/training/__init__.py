"""What is jitted: losses, negatives, batches, the step, the epoch, the optimizer."""

from lightgcn_jax.training.losses import (
    batch_mean,
    binary_loss,
    bpr_all_pairs_loss,
    bpr_loss,
    l2_penalty,
    max_margin_loss,
    softmax_loss,
)

__all__ = [
    "batch_mean",
    "binary_loss",
    "bpr_all_pairs_loss",
    "bpr_loss",
    "l2_penalty",
    "max_margin_loss",
    "softmax_loss",
]
