"""What a sweep tries: settings from a grid or drawn at random, and which trials train together."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args, get_type_hints

import jax
import numpy as np

from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.metrics import metric_names
from lightgcn_jax.runs.replicas import VARIABLE
from lightgcn_jax.settings.config import TrainConfig
from lightgcn_jax.settings.models import MODELS, misplaced, reads

Scale = Literal["auto", "log", "linear"]

KINDS: dict[str, Any] = get_type_hints(TrainConfig)
"""The type of each setting."""

SHARED = ("protocol", "ks", "select_by", "seed", "seeds", "checkpoint_seconds")
"""Settings in which trials may not differ: by them they are compared."""

_FIELDS = dataclasses.fields(TrainConfig)


@dataclasses.dataclass(frozen=True)
class Range:
    """Where a numeric setting is drawn from; whole numbers stay whole.

    Attributes:
        low, high: the ends, both included.
        scale: `log` draws log-uniformly, `linear` uniformly; `auto` is log for positive ends more
            than a decade apart.
    """

    low: float
    high: float
    scale: Scale = "auto"

    def __post_init__(self):
        if self.scale not in get_args(Scale):
            raise InputError(f"scale: expected one of {get_args(Scale)}, got {self.scale!r}")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise InputError(f"range: expected low < high, got {self.low}..{self.high}")
        if self.scale == "log" and self.low <= 0:
            raise InputError(f"range: expected positive ends on scale log, got {self.low}")

    @property
    def is_log(self) -> bool:
        """Whether logarithms are drawn uniformly."""
        wide = self.low > 0 and self.high / self.low > 10
        return self.scale == "log" or (self.scale == "auto" and wide)

    def draw(self, rng: np.random.Generator, *, whole: bool) -> float:
        """One value; one that is not whole has four digits, to be read and typed."""
        # Whole numbers n stand for [n, n + 1), so that both ends are as likely as the rest.
        low, high = self.low, self.high + whole
        if self.is_log:
            value = math.exp(rng.uniform(math.log(low), math.log(high)))
        else:
            value = rng.uniform(low, high)
        value = math.floor(value) if whole else float(f"{value:.4g}")
        return min(max(value, self.low), self.high)


class Trial(NamedTuple):
    """One combination of settings.

    Attributes:
        number: its place in the sweep, from 0.
        settings: those that the sweep chose.
        config: all of its settings.
    """

    number: int
    settings: dict[str, Any]
    config: TrainConfig


@dataclasses.dataclass(frozen=True)
class SweepConfig:
    """What a sweep tries and how it chooses.

    Attributes:
        base: the settings of all trials, as far as a trial's model reads them.
        values: settings by name and the values to try; without ``trials`` every combination.
        ranges: numeric settings by name, to draw from; with them ``trials`` is needed.
        trials: how many combinations to draw at random; None takes the whole grid.
        seed: of the draws.
        select_by: the metric on validation that chooses, of epochs and of trials; None for that of
            ``base``.
        together: runs trained at once, at most; fewer where the device's memory asks for it.
        study: rank test too for every trial: an experiment, from which nothing may be chosen.
        train_best: train the best trial as a run under ``study`` as well.
        refit: train the best trial anew on train and validation, after its run.
    """

    base: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    values: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    ranges: Mapping[str, Range] = dataclasses.field(default_factory=dict)
    trials: int | None = None
    seed: int = 0
    select_by: str | None = None
    together: int = 8
    study: bool = False
    train_best: bool = False
    refit: bool = False

    def __post_init__(self):
        if self.base.protocol != "strict":
            raise InputError(
                f"protocol: expected strict, under which settings are chosen on validation, "
                f"got {self.base.protocol}"
            )
        if self.metric not in metric_names(self.base.ks):
            raise InputError(
                f"select_by: expected one of {', '.join(metric_names(self.base.ks))}, "
                f"got {self.metric!r}"
            )
        for name, least in (("seed", 0), ("together", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        self._check_swept()
        self._check_base()
        _ = self.combinations

    def _check_swept(self) -> None:
        if not self.values and not self.ranges:
            raise InputError("sweep: expected settings to try, got none")
        for name in (*self.values, *self.ranges):
            if name not in KINDS:
                raise InputError(f"{name}: expected a setting of training, got another name")
            if name in SHARED:
                raise InputError(f"{name}: expected a setting in which trials may differ")
        for name, values in self.values.items():
            if not values or len(set(values)) < len(values):
                raise InputError(f"{name}: expected distinct values to try, got {list(values)}")
        for name, drawn in self.ranges.items():
            if name in self.values:
                raise InputError(f"{name}: expected values or a range, got both")
            if KINDS[name] not in (int, float):
                raise InputError(f"{name}: expected values, as only numbers have ranges")
            whole = float(drawn.low).is_integer() and float(drawn.high).is_integer()
            if KINDS[name] is int and not whole:
                raise InputError(f"{name}: expected whole numbers, got {drawn.low}..{drawn.high}")
        if self.ranges and self.trials is None:
            raise InputError("trials: expected how many to draw from the ranges, got none")
        if self.trials is not None and self.trials < 1:
            raise InputError(f"trials: expected at least 1, got {self.trials}")
        for model in self.models:
            if model not in MODELS:
                raise InputError(f"model: expected one of {', '.join(MODELS)}, got {model!r}")
            for name in (*self.values, *self.ranges):
                # It would try the same thing under several names.
                if not reads(model, name):
                    raise InputError(f"{name}: {misplaced(model, name)}")

    def _check_base(self) -> None:
        for field in _FIELDS:
            changed = getattr(self.base, field.name) != field.default
            if changed and not any(reads(model, field.name) for model in self.models):
                raise InputError(f"{field.name}: {misplaced(self.models[0], field.name)}")

    @property
    def metric(self) -> str:
        """What chooses, on validation."""
        return self.select_by or self.base.select_by

    @property
    def models(self) -> tuple[str, ...]:
        """The models that are tried."""
        return tuple(self.values.get("model", (self.base.model,)))

    @property
    def trains_best(self) -> bool:
        """Whether the best trial becomes a run."""
        return self.train_best or self.refit or not self.study

    @cached_property
    def combinations(self) -> tuple[Trial, ...]:
        """Every trial; InputError where the settings of one do not fit."""
        if self.trials is None:
            grid = itertools.product(*self.values.values())
            chosen = [dict(zip(self.values, values, strict=True)) for values in grid]
        else:
            chosen = self._drawn(self.trials)
        return trials_of(self.base, chosen, self.metric)

    def _drawn(self, count: int) -> list[dict[str, Any]]:
        rng = np.random.default_rng(self.seed)
        found: dict[tuple, dict[str, Any]] = {}
        # Repeats are drawn again; where almost all is found, 100 rounds find the rest.
        for _ in range(100 * count):
            settings = {
                name: values[int(rng.integers(len(values)))] for name, values in self.values.items()
            } | {
                name: drawn.draw(rng, whole=KINDS[name] is int)
                for name, drawn in self.ranges.items()
            }
            found.setdefault(tuple(settings.values()), settings)
            if len(found) == count:
                return list(found.values())
        raise InputError(f"trials: expected at most {len(found)}, which all differ, got {count}")


def trials_of(
    base: TrainConfig, chosen: Sequence[Mapping[str, Any]], metric: str
) -> tuple[Trial, ...]:
    """Trials from the settings that were chosen for each.

    A trial takes the settings of ``base`` that its model reads.

    Raises:
        InputError: settings do not fit together.
    """
    trials = []
    for number, settings in enumerate(chosen):
        model = settings.get("model", base.model)
        own = {name: getattr(base, name) for name in KINDS if reads(model, name)}
        if "select_by" in own:
            own["select_by"] = metric
        try:
            config = TrainConfig(**own | {"model": model} | dict(settings))
        except InputError as error:
            raise InputError(f"trial {named(settings)}: {error}") from None
        trials.append(Trial(number, dict(settings), config))
    return tuple(trials)


def shown(value: Any) -> str:
    """A setting's value as it is typed: 0.001, mf, 0.5/0.25/0.25."""
    if isinstance(value, tuple):
        return "/".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def named(settings: Mapping[str, Any]) -> str:
    """Settings on one line: ``dim=16 l2=0.001``."""
    return " ".join(f"{name}={shown(value)}" for name, value in settings.items())


def groups_of(
    trials: Sequence[Trial], *, together: int, num_nodes: int, num_edges: int
) -> list[list[int]]:
    """Numbers of the trials that train together: those that share the shape of their program.

    Args:
        trials: all trials.
        together: runs at once, at most; a trial is as many runs as it has seeds, and never torn.
        num_nodes: N, for the memory that a run takes.
        num_edges: E.
    """
    alike: dict[TrainConfig, list[int]] = {}
    defaults = {field.name: field.default for field in _FIELDS if field.name in VARIABLE}
    for trial in trials:
        shape = dataclasses.replace(trial.config, **defaults)
        alike.setdefault(shape, []).append(trial.number)
    groups = []
    for shape, numbers in alike.items():
        size = 1
        if shape.is_trained:
            fitting = device_memory() // lane_bytes(shape, num_nodes, num_edges)
            size = max(1, min(together, fitting) // shape.seeds)
        groups += [numbers[first : first + size] for first in range(0, len(numbers), size)]
    return groups


def lane_bytes(config: TrainConfig, num_nodes: int, num_edges: int) -> int:
    """About the memory that one more run at once takes.

    Tables of N rows: the parameters, Adam's two moments and the step's new versions of the three,
    the gradient, the best epoch's and their copy; and each layer's output forward and back. Then
    the vectors and scores of a batch, and the epoch's order.
    """
    layers = config.layers if reads(config.model, "layers") else 0
    tables = (9 + 2 * layers) * num_nodes * config.form.width(config)
    negatives = {"in-batch": config.batch_size, "hard": config.hard_pool, "all": num_nodes}.get(
        config.negative_sampler, config.negatives
    )
    scores = 3 * config.batch_size * negatives
    per_user = config.negative_sharing == "per-user"
    vectors = 3 * config.batch_size * (negatives if per_user else 3) * config.dim
    return 4 * (tables + scores + vectors + num_edges)


def device_memory() -> int:
    """Half of the memory of the device that trains; without bounds where it isn't known."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] // 2
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return 2**62
