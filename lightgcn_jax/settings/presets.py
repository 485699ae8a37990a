"""Settings by name."""

from __future__ import annotations

from lightgcn_jax.settings.config import TrainConfig

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
    # The fewest seconds to a good ranking on a CPU: an epoch is few applications of Ã, and the
    # softmax over many shared negatives learns from each. Settled on a quarter of Gowalla's train.
    "fast": TrainConfig(
        dim=64,
        layers=3,
        alphas=(0.0, 0.1, 0.3, 0.6),
        score="cosine",
        popularity_offset=0.06,
        loss="softmax",
        temperature=0.12,
        epochs=24,
        batch_size=8192,
        negatives=1024,
        learning_rate=0.02,
        schedule="cosine",
        l2=1e-6,
        protocol="fixed",
        patience=0,
    ),
}
