"""What a sweep tries: every combination of settings, or some that an Optuna sampler draws."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np

from lightgcn_jax.errors import InputError
from lightgcn_jax.fields import check_fields, number, one_of, optional, scalar, whole
from lightgcn_jax.settings.config import Config
from lightgcn_jax.settings.names import KINDS, from_flat
from lightgcn_jax.settings.registry import CHOICES, CHOSEN, misplaced

Scale = Literal["auto", "log", "linear"]
Sampler = Literal["grid", "random", "tpe"]

SHARED = {"protocol", "ks", "select_by", "seed", "seeds", "checkpoint_seconds"}
"""Settings in which trials may not differ: by them they are compared."""

_MOST_DRAWS = 10_000


@contextlib.contextmanager
def quiet_optuna() -> Iterator[Any]:
    """Optuna, whose log and warnings of experimental parts are silent while the block runs.

    Yields:
        The module.

    Raises:
        InputError: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise InputError(
            "sweep: expected Optuna to be installed, it is not; "
            "get it with: pip install 'lightgcn-pinsage-jax[sweep]'"
        ) from None
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield optuna
    finally:
        optuna.logging.set_verbosity(level)


@dataclasses.dataclass(frozen=True)
class Range:
    """Where a numeric setting is drawn from; whole numbers stay whole.

    Attributes:
        low, high: the ends, both included.
        scale: `log` draws log-uniformly, `linear` uniformly; `auto` is log for positive ends more
            than a decade apart.

    Raises:
        InputError: the ends are not in order, or not positive on the scale `log`.
    """

    low: float
    high: float
    scale: Scale = "auto"

    def __post_init__(self):
        check_fields(self, low=number(), high=number(), scale=one_of(Scale))
        if self.low >= self.high:
            raise InputError(f"range: expected low < high, got {self.low}..{self.high}")
        if self.scale == "log" and self.low <= 0:
            raise InputError(f"range: expected positive ends on scale log, got {self.low}")

    @property
    def ends(self) -> tuple[float, float]:
        """Both ends, the lower one first."""
        return self.low, self.high

    @property
    def is_log(self) -> bool:
        """Whether logarithms are drawn uniformly."""
        wide = self.low > 0 and self.high / self.low > 10
        return self.scale == "log" or (self.scale == "auto" and wide)


@dataclasses.dataclass(frozen=True)
class SweepConfig:
    """What a sweep tries and how it chooses; settings go by their flat names.

    Attributes:
        base: settings of all trials; each takes those that its model, score, loss and sampler of
            negatives read. ``select_by`` chooses the epochs and the trials.
        values: settings by name and the values to try.
        ranges: numeric settings by name, to draw from.
        trials: how many distinct combinations to draw; None takes the whole grid of ``values``.
        sampler: ``grid`` tries every combination, ``random`` draws them independently, ``tpe``
            draws where the trials before were good (Optuna's tree-structured Parzen estimator),
            as many at once as train together. By default ``random`` with ``trials``, else
            ``grid``.
        seed: of the draws.
        together: runs trained at once, at most; fewer where the device's memory asks for it.
        study: rank test too for every trial: an experiment, from which nothing may be chosen.
        train_best: train the best trial as a run under ``study`` as well.
        refit: train the best trial anew on train and validation, after its run.

    Raises:
        InputError: a setting is unknown, nothing reads it in some trial, or does not fit.
    """

    base: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    values: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    ranges: Mapping[str, Range] = dataclasses.field(default_factory=dict)
    trials: int | None = None
    sampler: Sampler | None = None
    seed: int = 0
    together: int = 8
    study: bool = False
    train_best: bool = False
    refit: bool = False

    def __post_init__(self):
        check_fields(
            self,
            trials=optional(whole(1)),
            sampler=optional(one_of(Sampler)),
            seed=whole(0),
            together=whole(1),
        )
        default = "random" if self.trials or self.ranges else "grid"
        object.__setattr__(self, "sampler", self.sampler or default)
        for name in ("base", "values"):
            plain = {setting: _plain(value) for setting, value in getattr(self, name).items()}
            object.__setattr__(self, name, plain)
        self._check_names()
        self._check_base()
        self._check_values()
        self._check_number()
        for settings in self.checked:
            self.trial_config(settings)

    def _check_names(self) -> None:
        if not self.values and not self.ranges:
            raise InputError("sweep: expected settings to try, got none")
        for name in (*self.base, *self.values, *self.ranges):
            if name not in KINDS:
                raise InputError(f"{name}: expected a setting of training, got another name")
        for name in (*self.values, *self.ranges):
            if name in self.base:
                raise InputError(f"{name}: is swept already; leave it out")
            if name in SHARED:
                raise InputError(f"{name}: expected a setting in which trials may differ")
            if name in self.values and name in self.ranges:
                raise InputError(f"{name}: expected values or a range, got both")

    def _check_base(self) -> None:
        tried = {
            name: self.values.get(name, (self.base.get(name, default),))
            for name, default in CHOSEN.items()
        }
        for name, values in tried.items():
            for value in values:
                if value not in CHOICES[name]:
                    expected = tuple(CHOICES[name])
                    raise InputError(f"{name}: expected one of {expected}, got {value!r}")
        for name in self.base.keys() - {"select_by"}:
            problems = [misplaced(chosen, name) for chosen in _product(tried)]
            if all(problems):
                raise InputError(f"{name}: {problems[0]}")
        protocol = self.base.get("protocol", "strict")
        if protocol != "strict":
            raise InputError(
                f"protocol: expected strict, under which settings are chosen on validation, "
                f"got {protocol}"
            )
        _ = self.shared

    def _check_values(self) -> None:
        for name, values in self.values.items():
            if not values or len(set(values)) < len(values):
                raise InputError(f"{name}: expected distinct values to try, got {list(values)}")
        for name, drawn in self.ranges.items():
            if KINDS[name] not in (int, float):
                raise InputError(f"{name}: expected values, as only numbers have ranges")
            if KINDS[name] is int and any(end % 1 for end in drawn.ends):
                raise InputError(f"{name}: expected whole numbers, got {drawn.low}..{drawn.high}")

    def _check_number(self) -> None:
        if self.sampler == "grid" and (self.ranges or self.trials):
            raise InputError(
                "sampler: expected random or tpe to draw trials, got grid, which tries all values"
            )
        if self.sampler != "grid" and self.trials is None:
            raise InputError("trials: expected how many to draw, got none")
        most = math.prod(map(len, self.values.values()))
        for name, drawn in self.ranges.items():
            most *= math.inf if KINDS[name] is float else drawn.high - drawn.low + 1
        if self.num_trials > most:
            raise InputError(
                f"trials: expected at most {most:.0f}, which all differ, got {self.trials}"
            )

    @cached_property
    def shared(self) -> Any:
        """The cut-offs and the metric by which all trials are compared, as a TrainConfig."""
        return from_flat({name: self.base[name] for name in SHARED & self.base.keys()})

    @property
    def metric(self) -> str:
        """What chooses, on validation."""
        return self.shared.metric

    @property
    def num_trials(self) -> int:
        """How many combinations are tried."""
        return self.trials or math.prod(map(len, self.values.values()))

    @property
    def trains_best(self) -> bool:
        """Whether the best trial becomes a run."""
        return self.train_best or self.refit or not self.study

    @cached_property
    def combinations(self) -> tuple[dict[str, Any], ...]:
        """The settings that each trial chooses, of a sampler that heeds no results."""
        if self.sampler == "grid":
            return tuple(_product(self.values))
        return tuple(self.drawn(self.num_trials))

    @property
    def checked(self) -> Iterator[dict[str, Any]]:
        """Settings that must fit before any work: those of all trials, or where they are drawn as
        the sweep goes on, every combination of values with either end of the ranges."""
        if self.sampler != "tpe":
            yield from self.combinations
            return
        for end in (0, 1):
            ends = {name: (drawn.ends[end],) for name, drawn in self.ranges.items()}
            yield from _product({**self.values, **ends})

    def drawn(self, count: int, known: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Settings that differ from each other and from all that are known.

        Args:
            count: how many to draw.
            known: Optuna's trials so far.

        Raises:
            InputError: there are not so many.
        """
        with quiet_optuna() as optuna:
            # A seed of its own for every draw makes a sweep that was broken off go on as it would.
            [seed] = np.random.SeedSequence((self.seed, len(known))).generate_state(1).tolist()
            sampler = optuna.samplers.RandomSampler(seed)
            if self.sampler == "tpe":
                sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
            study = optuna.create_study(direction="maximize", sampler=sampler)
            study.add_trials(known)
            distributions = self.distributions()
            seen = {named(self.settings_of(trial.params)) for trial in known}
            found: list[dict[str, Any]] = []
            for _ in range(_MOST_DRAWS):
                settings = self.settings_of(study.ask(distributions).params)
                if named(settings) not in seen:
                    seen.add(named(settings))
                    found.append(settings)
                if len(found) == count:
                    return found
        raise InputError(f"trials: expected at most {len(seen)}, got {self.trials}")

    def distributions(self) -> dict[str, Any]:
        """Optuna's distribution of each swept setting."""
        with quiet_optuna() as optuna:
            kinds = optuna.distributions
            numeric = {int: kinds.IntDistribution, float: kinds.FloatDistribution}
            categorical = {
                name: kinds.CategoricalDistribution([*map(parameter, values)])
                for name, values in self.values.items()
            }
            return categorical | {
                name: numeric[KINDS[name]](*map(KINDS[name], drawn.ends), log=drawn.is_log)
                for name, drawn in self.ranges.items()
            }

    def settings_of(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Settings from Optuna's parameters.

        Args:
            parameters: by name. A number from a range is rounded to four digits, to be read and
                typed.
        """
        settings = {}
        for name, values in self.values.items():
            settings[name] = {parameter(value): value for value in values}[parameters[name]]
        for name, drawn in self.ranges.items():
            kind, value = KINDS[name], parameters[name]
            rounded = value if kind is int else float(f"{value:.4g}")
            settings[name] = kind(min(max(rounded, drawn.low), drawn.high))
        return settings

    def trial_config(self, settings: Mapping[str, Any]) -> Config:
        """All settings of a trial: those it chose, and of the base what something reads beside
        them.

        Args:
            settings: those that it chose.

        Raises:
            InputError: settings do not fit together.
        """
        given = {**self.base, "select_by": self.metric, **settings}
        kept = {
            name: value
            for name, value in given.items()
            if name in settings or not misplaced(given, name)
        }
        try:
            return from_flat(kept)
        except InputError as error:
            raise InputError(f"trial {named(settings)}: {error}") from None


def parameter(value: Any) -> Any:
    """A setting's value as Optuna keeps it: a tuple as text, all else unchanged.

    Args:
        value: the value.
    """
    return shown(value) if isinstance(value, tuple) else value


def shown(value: Any) -> str:
    """A setting's value as it is typed: 0.001, mf, 0.5/0.25/0.25.

    Args:
        value: the value.
    """
    if isinstance(value, tuple):
        return "/".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def named(settings: Mapping[str, Any]) -> str:
    """Settings on one line: ``dim=16 l2=0.001``.

    Args:
        settings: by name.
    """
    return " ".join(f"{name}={shown(value)}" for name, value in settings.items())


def _product(values: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Every combination."""
    for chosen in itertools.product(*values.values()):
        yield dict(zip(values, chosen, strict=True))


def _plain(value: Any) -> Any:
    """A value of NumPy or JSON as Python's own, sequences as tuples."""
    value = scalar(value)
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple, np.ndarray)) else value
