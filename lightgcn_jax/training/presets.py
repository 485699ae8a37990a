"""Settings by name."""

from __future__ import annotations

from lightgcn_jax.training.config import TrainConfig

PRESETS: dict[str, TrainConfig] = {
    "default": TrainConfig(),
    # He et al. 2020, section 4.1.2, with the batch size and the sampling of LightGCN-PyTorch.
    "paper": TrainConfig(
        dim=64,
        layers=3,
        epochs=1000,
        batch_size=2048,
        sampling="users",
        negatives=1,
        negative_sharing="per-user",
        learning_rate=1e-3,
        l2=1e-4,
        protocol="legacy",
        evaluate_every=10,
        patience=0,
        ks=(20,),
    ),
}
