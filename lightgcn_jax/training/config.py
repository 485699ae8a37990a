"""Settings of a run, their checks, and named presets."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, get_args

from lightgcn_jax.diffusion.choice import Backend, OrderingChoice
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.metrics import metric_names
from lightgcn_jax.models.lightgcn import LightGCNConfig
from lightgcn_jax.training.registry import MODELS, ModelName, misplaced, reads

Sampling = Literal["interactions", "users"]
NegativeSharing = Literal["shared", "per-user"]
Protocol = Literal["strict", "legacy"]
Schedule = Literal["constant", "cosine", "linear", "exponential"]


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run, but the data.

    A model reads some of the settings; those that it does not read keep their defaults.

    Attributes:
        model: `lightgcn` is trained; the others have a closed form, without epochs: `gfcf` (graph
            filters), `spectral` (singular vectors as embeddings), `itemcf` (item-based cosine),
            `popular` (number of users) and `random`.
        dim: dimensions D of an embedding (lightgcn, spectral).
        layers: applications K of the diffusion; 0 is matrix factorisation.
        alphas: K + 1 layer weights; by default uniform, 1/(K + 1).
        init_std: standard deviation of the initial embeddings.
        singular_vectors: kept by the low-pass filter of gfcf.
        low_pass_weight: of the low-pass filter of gfcf, beside the linear filter.
        singular_value_power: of the singular values in both tables of spectral.
        svd_iterations: block iterations of the singular value decomposition (gfcf, spectral).
        neighbours: items kept for each item by itemcf, which takes 8 bytes for each.
        epochs: epochs at most; an epoch draws as many rows as there are training interactions.
        batch_size: rows B of a mini-batch.
        sampling: `interactions` takes each training interaction once an epoch, shuffled; `users`
            draws users uniformly with replacement and one positive each.
        negatives: negatives of a row, or shared by a whole batch.
        negative_sharing: `shared` draws one set for the batch, `per-user` one set for each row.
        learning_rate: of Adam, at the start of the schedule.
        schedule: of the learning rate over all epochs: `constant`, `cosine` (to 0), `linear`
            (to 0) or `exponential` (to 1/100).
        warmup_epochs: epochs over which the learning rate rises linearly from 0.
        l2: λ, on the layer-0 embeddings of the batch.
        protocol: `strict` selects the epoch on validation and ranks test once; `legacy` trains on
            train and validation and selects on test, for comparison with papers. A closed form
            selects nothing.
        select_by: metric that chooses the best epoch.
        ks: cut-offs of the metrics.
        evaluate_every: epochs between evaluations.
        patience: evaluations without improvement before stopping; 0 never stops early.
        seed: of initial embeddings and sampling; with several seeds, the first of them.
        seeds: runs trained at once, with seeds seed, seed + 1, …
        checkpoint_seconds: seconds that pass at least between two checkpoints; 0 writes one after
            every chunk of steps.
        backend: storage of the diffusion operator; `auto` takes the fastest of the platform.
        ordering: of the nodes inside the operator, for locality; the result is the same but for
            rounding. `auto` co-clusters large graphs on CPU.
    """

    model: ModelName = "lightgcn"
    dim: int = 64
    layers: int = 3
    alphas: tuple[float, ...] | None = None
    init_std: float = 0.1
    singular_vectors: int = 256
    low_pass_weight: float = 0.3
    singular_value_power: float = 0.5
    svd_iterations: int = 4
    neighbours: int = 500
    epochs: int = 100
    batch_size: int = 2048
    sampling: Sampling = "interactions"
    negatives: int = 256
    negative_sharing: NegativeSharing = "shared"
    learning_rate: float = 5e-3
    schedule: Schedule = "constant"
    warmup_epochs: float = 0.0
    l2: float = 1e-4
    protocol: Protocol = "strict"
    select_by: str = "recall@20"
    ks: tuple[int, ...] = (10, 20, 50)
    evaluate_every: int = 5
    patience: int = 5
    seed: int = 0
    seeds: int = 1
    checkpoint_seconds: float = 60.0
    backend: Backend = "auto"
    ordering: OrderingChoice = "auto"

    def __post_init__(self):
        for field, (kind, least) in _AT_LEAST.items():
            value = getattr(self, field)
            fits = isinstance(value, int) if kind is int else math.isfinite(value)
            if not (fits and value >= least):
                named = "a whole number of" if kind is int else "a number of"
                raise InputError(f"{field}: expected {named} at least {least}, got {value}")
        if self.seed + self.seeds > 2**31:
            raise InputError(f"seed: expected seeds below 2^31, got {self.seed + self.seeds - 1}")
        for field, kind in _CHOICES.items():
            value = getattr(self, field)
            if value not in get_args(kind):
                raise InputError(f"{field}: expected one of {get_args(kind)}, got {value!r}")
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"learning_rate: expected more than 0, got {self.learning_rate}")
        if not self.ks or min(self.ks) < 1 or len(set(self.ks)) < len(self.ks):
            raise InputError(f"ks: expected distinct cut-offs of at least 1, got {self.ks}")
        for field in dataclasses.fields(self):
            if getattr(self, field.name) != field.default and not reads(self.model, field.name):
                raise InputError(f"{field.name}: {misplaced(self.model, field.name)}")
        if reads(self.model, "select_by") and self.select_by not in metric_names(self.ks):
            raise InputError(
                f"select_by: expected one of {', '.join(metric_names(self.ks))}, "
                f"got {self.select_by!r}"
            )
        _ = self.lightgcn

    @property
    def lightgcn(self) -> LightGCNConfig:
        """The settings that LightGCN itself reads."""
        return LightGCNConfig(self.dim, self.layers, self.alphas, self.init_std)

    @property
    def is_trained(self) -> bool:
        """Whether the model is trained epoch by epoch, not fitted in closed form."""
        return MODELS[self.model].closed_form is None


_AT_LEAST = {
    "singular_vectors": (int, 1),
    "low_pass_weight": (float, 0),
    "singular_value_power": (float, 0),
    "svd_iterations": (int, 0),
    "neighbours": (int, 1),
    "epochs": (int, 1),
    "batch_size": (int, 1),
    "negatives": (int, 1),
    "warmup_epochs": (float, 0),
    "l2": (float, 0),
    "evaluate_every": (int, 1),
    "patience": (int, 0),
    "seed": (int, 0),
    "seeds": (int, 1),
    "checkpoint_seconds": (float, 0),
}
_CHOICES = {
    "model": ModelName,
    "sampling": Sampling,
    "negative_sharing": NegativeSharing,
    "protocol": Protocol,
    "schedule": Schedule,
    "backend": Backend,
    "ordering": OrderingChoice,
}

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
