"""What settings of a run fit together: checked once, before any work."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from lightgcn_jax.data.protocol import Protocol
from lightgcn_jax.diffusion.choice import Backend, OrderingChoice
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.metrics import metric_names
from lightgcn_jax.graph.normalization import Normalization
from lightgcn_jax.models.gnn import Aggregate, Combine
from lightgcn_jax.models.heads import ScoreName
from lightgcn_jax.models.lightgcn import LayerCombination
from lightgcn_jax.settings.choices import (
    Loss,
    NegativeSampler,
    NegativeSharing,
    Sampling,
    Schedule,
)
from lightgcn_jax.settings.models import ModelName, misplaced, reads

if TYPE_CHECKING:
    from lightgcn_jax.settings.config import TrainConfig

_AT_LEAST = {
    "singular_vectors": (int, 1),
    "low_pass_weight": (float, 0),
    "singular_value_power": (float, 0),
    "svd_iterations": (int, 0),
    "neighbours": (int, 1),
    "hidden": (int, 1),
    "popularity_offset": (float, 0),
    "margin": (float, 0),
    "negatives": (int, 1),
    "popularity_power": (float, 0),
    "hard_pool": (int, 1),
    "epochs": (int, 1),
    "batch_size": (int, 1),
    "schedule_epochs": (int, 0),
    "warmup_epochs": (float, 0),
    "l2": (float, 0),
    "evaluate_every": (int, 1),
    "patience": (int, 0),
    "seed": (int, 0),
    "seeds": (int, 1),
    "checkpoint_seconds": (float, 0),
}
_POSITIVE = ("learning_rate", "temperature")
_SHARES = ("edge_dropout", "message_dropout", "node_dropout")
_CHOICES = {
    "model": ModelName,
    "layer_combination": LayerCombination,
    "normalization": Normalization,
    "aggregate": Aggregate,
    "combine": Combine,
    "score": ScoreName,
    "loss": Loss,
    "negative_sampler": NegativeSampler,
    "negative_sharing": NegativeSharing,
    "sampling": Sampling,
    "protocol": Protocol,
    "schedule": Schedule,
    "backend": Backend,
    "ordering": OrderingChoice,
}
# A setting that means something only beside certain values of another.
_ONLY_WITH = {
    "hidden": ("score", ("mlp",)),
    "popularity_offset": ("score", ("inner", "cosine")),
    "temperature": ("loss", ("bpr", "binary", "softmax")),
    "margin": ("loss", ("max-margin",)),
    "sampling_correction": ("loss", ("softmax",)),
    "popularity_power": ("negative_sampler", ("popularity",)),
    "hard_pool": ("negative_sampler", ("hard",)),
    "negatives": ("negative_sampler", ("uniform", "popularity", "hard")),
    "negative_sharing": ("negative_sampler", ("uniform", "popularity")),
}


def check(config: TrainConfig) -> None:
    """Raises InputError for settings that do not fit, each by what would."""
    _check_values(config)
    _check_model(config)
    if config.is_trained:
        _check_training(config)


def check_values(
    config: Any,
    *,
    at_least: Mapping[str, tuple[type, float]],
    positive: Sequence[str],
    shares: Sequence[str],
    choices: Mapping[str, Any],
) -> None:
    """Raises InputError for settings that are no values of their kind, each on its own.

    Args:
        config: a dataclass of settings.
        at_least: numbers, whole ones or any, and the least that each may be.
        positive: finite numbers above 0.
        shares: numbers of at least 0 and below 1.
        choices: the Literal that each takes its value from.
    """
    for field, (kind, least) in at_least.items():
        value = getattr(config, field)
        fits = _is_finite(value) and (kind is float or isinstance(value, int))
        if not (fits and value >= least):
            named = "a whole number of" if kind is int else "a number of"
            raise InputError(f"{field}: expected {named} at least {least}, got {value}")
    for field in positive:
        value = getattr(config, field)
        if not (_is_finite(value) and value > 0):
            raise InputError(f"{field}: expected more than 0, got {value}")
    for field in shares:
        value = getattr(config, field)
        if not (_is_finite(value) and 0 <= value < 1):
            raise InputError(f"{field}: expected a share of at least 0 and below 1, got {value}")
    for field, kind in choices.items():
        value = getattr(config, field)
        if value not in get_args(kind):
            raise InputError(f"{field}: expected one of {get_args(kind)}, got {value!r}")


def _is_finite(value: Any) -> bool:
    # True and False are whole numbers to Python, and no settings of a number to anybody else.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check_values(config: TrainConfig) -> None:
    check_values(config, at_least=_AT_LEAST, positive=_POSITIVE, shares=_SHARES, choices=_CHOICES)
    if config.seed + config.seeds > 2**31:
        last = config.seed + config.seeds - 1
        raise InputError(f"seed: expected seeds below 2^31, got {last}")
    if not config.ks or min(config.ks) < 1 or len(set(config.ks)) < len(config.ks):
        raise InputError(f"ks: expected distinct cut-offs of at least 1, got {config.ks}")


def _check_model(config: TrainConfig) -> None:
    for field in dataclasses.fields(config):
        changed = getattr(config, field.name) != field.default
        if changed and not reads(config.model, field.name):
            raise InputError(f"{field.name}: {misplaced(config.model, field.name)}")


def _check_training(config: TrainConfig) -> None:
    if config.select_by not in metric_names(config.ks):
        raise InputError(
            f"select_by: expected one of {', '.join(metric_names(config.ks))}, "
            f"got {config.select_by!r}"
        )
    _ = config.shape
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    for field, (other, values) in _ONLY_WITH.items():
        chosen = getattr(config, other)
        if getattr(config, field) != defaults[field] and chosen not in values:
            raise InputError(
                f"{field}: a setting of {other} {' or '.join(values)}, got {other} {chosen}; "
                f"leave it out"
            )
    if config.sampling_correction and config.negative_sampler == "hard":
        raise InputError(
            "sampling_correction: expected a sampler whose probabilities are known (uniform, "
            "popularity, in-batch or all), got hard, which chooses by score"
        )
    in_batch = config.negative_sampler == "in-batch"
    if config.sampling_correction and in_batch and config.sampling == "users":
        raise InputError(
            "sampling_correction: expected the sampling of interactions beside in-batch, whose "
            "probabilities are those of the batch's positives, got users"
        )
    if config.negative_sampler == "hard" and config.negatives > config.hard_pool:
        raise InputError(
            f"negatives: expected at most hard_pool = {config.hard_pool} of the sampler hard, "
            f"got {config.negatives}"
        )
    if config.negative_sampler == "all" and not config.reject_seen:
        raise InputError(
            "reject_seen: the sampler all takes every item that a user has not seen; leave it on"
        )
    if config.biases and config.score != "inner":
        raise InputError(f"biases: expected the score inner, which adds them, got {config.score}")
    if 0 < config.schedule_epochs < config.epochs:
        raise InputError(
            f"schedule_epochs: expected 0 or at least the {config.epochs} epochs of the run, "
            f"got {config.schedule_epochs}"
        )
