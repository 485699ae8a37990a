"""Settings by name."""

from __future__ import annotations

import dataclasses

from lightgcn_jax.models import Cosine, LightGCN
from lightgcn_jax.settings.config import Selection, TrainConfig
from lightgcn_jax.training import Optimization, PerUserNegatives, SharedNegatives, Softmax

_FAST = TrainConfig(
    model=LightGCN(dim=64, layers=3, alphas=(0.0, 0.1, 0.3, 0.6)),
    score=Cosine(popularity_offset=0.06),
    loss=Softmax(temperature=0.12),
    negatives=SharedNegatives(1024),
    optimization=Optimization(
        epochs=24, batch_size=8192, learning_rate=0.02, schedule="cosine", l2=1e-6
    ),
    selection=Selection(patience=0),
    protocol="fixed",
)

PRESETS: dict[str, TrainConfig] = {
    "default": TrainConfig(),
    # He et al. 2020, section 4.1.2, with the batch size and the sampling of LightGCN-PyTorch.
    "paper": TrainConfig(
        model=LightGCN(dim=64, layers=3),
        negatives=PerUserNegatives(1),
        optimization=Optimization(
            epochs=1000, batch_size=2048, sampling="users", learning_rate=1e-3, l2=1e-4
        ),
        selection=Selection(evaluate_every=10, patience=0),
        protocol="legacy",
        ks=(20,),
        # Papers count every test pair.
        cold="keep",
    ),
    # The fewest seconds to a good ranking on a CPU: an epoch is few applications of Ã, and the
    # softmax over many shared negatives learns from each. Settled on a quarter of Gowalla's train,
    # for large sparse logs.
    "fast": _FAST,
    # The same for catalogues of some thousand items, where users share more of what they take: a
    # softer softmax, and more weight on popularity (docs/which-model.md).
    "small": dataclasses.replace(
        _FAST, score=Cosine(popularity_offset=0.09), loss=Softmax(temperature=0.15)
    ),
}
