"""What a sweep tries: every combination of settings, or some that an Optuna sampler draws.

A trial's choice is a dict of Optuna parameters: settings by flat names, tuples as they are typed.
"""

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
from lightgcn_jax.fields import (
    ANYTHING,
    SWITCH,
    check_fields,
    number,
    one_of,
    optional,
    record,
    scalar,
    whole,
)
from lightgcn_jax.settings.config import Config
from lightgcn_jax.settings.names import KINDS, from_flat
from lightgcn_jax.settings.registry import misplaced

Sampler = Literal["grid", "random", "tpe"]
Parameters = dict[str, Any]

_SHARED = {
    "protocol",
    "ks",
    "cold",
    "rank_train",
    "select_by",
    "seed",
    "seeds",
    "checkpoint_seconds",
}
_DRAWS_EACH = 1000
_MOST_TRIALS = 100_000
# How they fit each other is checked where they are put together.
PLAN = record(
    {},
    {
        "base": ANYTHING,
        "search": ANYTHING,
        "trials": optional(whole(1)),
        "sampler": optional(one_of(Sampler)),
        "seed": whole(0),
        "together": whole(1),
        "study": SWITCH,
        "train_best": SWITCH,
        "refit": SWITCH,
    },
    closed=True,
)
"""The settings of a sweep in JSON."""


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
        scale: `log` draws log-uniformly, `linear` uniformly; `auto` becomes log for positive ends
            more than a decade apart, else linear.
    """

    low: float
    high: float
    scale: Literal["auto", "log", "linear"] = "auto"

    def __post_init__(self):
        scales = one_of(("auto", "log", "linear"))
        check_fields(self, low=number(), high=number(), scale=scales)
        if self.low >= self.high:
            raise InputError(f"range: expected low < high, got {self.low}..{self.high}")
        if self.scale == "log" and self.low <= 0:
            raise InputError(f"range: expected positive ends on scale log, got {self.low}")
        if self.scale == "auto":
            wide = self.low > 0 and self.high / self.low > 10
            object.__setattr__(self, "scale", "log" if wide else "linear")


@dataclasses.dataclass(frozen=True)
class SweepConfig:
    """What a sweep tries and how it chooses; settings go by their flat names.

    Attributes:
        base: settings of all trials; each takes those that its model, score, loss and sampler of
            negatives read. ``select_by`` chooses epochs and trials, on validation.
        search: settings and for each the values to try, or a :class:`Range` to draw from.
        trials: how many distinct combinations to draw.
        sampler: ``grid`` tries every combination of values; ``random`` draws each regardless of
            the others; ``tpe`` draws where the trials before were good (Optuna's tree-structured
            Parzen estimator), as many at once as train together. By default ``random`` where
            ``trials`` or a range is given, else ``grid``.
        seed: of the draws.
        together: runs trained at once, at most; fewer where the device's memory asks for it.
        study: rank test too for every trial: an experiment, from which nothing may be chosen.
        train_best: train the best trial as a run under ``study`` too, as is done without it.
        refit: train the best trial anew on train and validation, after its run.

    Raises:
        InputError: a setting is unknown, nothing reads it, or it does not fit beside the others; or
            Optuna (the extra ``sweep``) is not installed.

    Example:
        >>> search = {"dim": (16, 64), "l2": (0, 0.001)}
        >>> SweepConfig({"model": "mf"}, search).planned[1]
        {'dim': 16, 'l2': 0.001}
    """

    base: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    search: Mapping[str, Sequence[Any] | Range] = dataclasses.field(default_factory=dict)
    trials: int | None = None
    sampler: Sampler | None = None
    seed: int = 0
    together: int = 8
    study: bool = False
    train_best: bool = False
    refit: bool = False

    def __post_init__(self):
        check_fields(self, seed=whole(0), together=whole(1), trials=optional(whole(1)))
        check_fields(self, sampler=optional(one_of(Sampler)), base=ANYTHING, search=ANYTHING)
        check_fields(self, study=SWITCH, train_best=SWITCH, refit=SWITCH)
        search = {name: _plain(tried) for name, tried in self.search.items()}
        draws = self.trials or any(isinstance(tried, Range) for tried in search.values())
        if self.sampler == "grid" and draws:
            raise InputError("sampler: expected random or tpe to draw trials, got grid")
        settled = {
            "base": {name: _plain(value) for name, value in self.base.items()},
            "search": search,
            "sampler": self.sampler or ("random" if draws else "grid"),
            "train_best": self.train_best or self.refit or not self.study,
        }
        for name, value in settled.items():
            object.__setattr__(self, name, value)
        self._check_search()
        self._check_base()
        _ = self.distributions  # where Optuna is missing, it is missed now
        for parameters in self.planned:
            self.trial_config(parameters)

    def _check_search(self) -> None:
        if not self.search:
            raise InputError("search: expected settings to try (--set or --range), got none")
        most = 1.0
        for name, tried in self.search.items():
            kind = KINDS.get(name)
            if name in self.base:
                raise InputError(f"{name}: is swept already; leave it out")
            if kind is None or name in _SHARED:
                raise InputError(f"{name}: expected a setting in which trials may differ")
            if isinstance(tried, Range):
                if kind not in (int, float):
                    raise InputError(f"{name}: expected values, as only numbers have ranges")
                if kind is int and (tried.low % 1 or tried.high % 1):
                    ends = f"{tried.low}..{tried.high}"
                    raise InputError(f"{name}: expected whole numbers, got {ends}")
                most *= math.inf if kind is float else tried.high - tried.low + 1
            elif not isinstance(tried, tuple):
                raise InputError(f"{name}: expected values to try, got {tried!r}")
            elif not tried or len(set(tried)) < len(tried):
                raise InputError(f"{name}: expected distinct values to try, got {list(tried)}")
            else:
                most *= len(tried)
        if self.sampler != "grid" and self.trials is None:
            raise InputError("trials: expected how many to draw, got none")
        if (self.trials or 1) > most:
            raise InputError(f"trials: expected at most {most:.0f}, got {self.trials}")
        # What a grid tries, and what is made sure of before the first trial of any other.
        combined = math.prod(
            2 if isinstance(tried, Range) else len(tried) for tried in self.search.values()
        )
        if max(self.trials or 1, combined if self.sampler != "random" else 1) > _MOST_TRIALS:
            raise InputError(
                f"search: expected at most {_MOST_TRIALS:,} trials, "
                f"got {max(self.trials or 1, combined):,}"
            )

    def _check_base(self) -> None:
        if self.shared.protocol != "strict":
            raise InputError(
                f"protocol: expected strict, under which settings are chosen on validation, "
                f"got {self.shared.protocol}"
            )
        for name in self.base:
            if name not in KINDS:
                raise InputError(f"{name}: expected a setting of training, got another name")
            problems = [misplaced({**self.base, **chosen}, name) for chosen in self.planned]
            # The metric chooses among trials of every model, closed forms included.
            if all(problems) and name != "select_by":
                raise InputError(f"{name}: {problems[0]}")

    @cached_property
    def shared(self) -> Any:
        """The settings in which trials do not differ, as a TrainConfig; its metric chooses."""
        return from_flat({name: self.base[name] for name in _SHARED & self.base.keys()})

    @property
    def num_trials(self) -> int:
        """How many combinations are tried."""
        return self.trials or len(self.planned)

    @property
    def protocol_note(self) -> str:
        """What the figures of trials mean, for every output that shows them."""
        if self.study:
            return "study: TEST ranked for every trial; choose and report nothing by it"
        return "strict: epochs and settings selected on validation, test not ranked"

    @cached_property
    def planned(self) -> list[Parameters]:
        """What each trial chooses, in order. For ``tpe``, which chooses as it goes, every
        combination of values with the low and with the high ends of the ranges."""
        if self.sampler == "random":
            return self._drawn(self.num_trials)
        found = {}
        for end in (0, 1):
            values = [
                [_ends(name, tried)[end]] if isinstance(tried, Range) else map(_parameter, tried)
                for name, tried in self.search.items()
            ]
            for chosen in itertools.product(*values):
                found[chosen] = dict(zip(self.search, chosen, strict=True))
        return [*found.values()]

    def batch(self, known: Sequence[Any]) -> list[Parameters]:
        """What the next trials choose.

        Args:
            known: Optuna's trials so far, all of which are finished.
        """
        if self.sampler != "tpe":
            return self.planned[len(known) :]
        count = max(1, self.together // self.shared.seeds)
        return self._drawn(min(count, self.num_trials - len(known)), known)

    def _drawn(self, count: int, known: Sequence[Any] = ()) -> list[Parameters]:
        """Parameters that differ from each other and from those of the known trials."""
        with quiet_optuna() as optuna:
            # A seed for each batch: a sweep that was broken off goes on as it would have.
            [seed] = np.random.SeedSequence((self.seed, len(known))).generate_state(1).tolist()
            sampler = optuna.samplers.RandomSampler(seed)
            if self.sampler == "tpe":
                sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
            study = optuna.create_study(direction="maximize", sampler=sampler)
            study.add_trials(known)
            found = {named(trial.params): trial.params for trial in known}
            for _ in range(_DRAWS_EACH * (len(known) + count)):
                parameters = study.ask(self.distributions).params
                for name, tried in self.search.items():
                    if isinstance(tried, Range) and KINDS[name] is float:
                        # Four digits can be read and typed.
                        rounded = float(f"{parameters[name]:.4g}")
                        parameters[name] = min(max(rounded, tried.low), tried.high)
                found.setdefault(named(parameters), parameters)
                if len(found) == len(known) + count:
                    return [*found.values()][len(known) :]
        raise InputError(f"trials: expected at most {len(found)}, got {self.trials}")

    @cached_property
    def distributions(self) -> dict[str, Any]:
        """Optuna's distribution of each setting of the search."""
        with quiet_optuna() as optuna:
            kinds = optuna.distributions
        numeric = {int: kinds.IntDistribution, float: kinds.FloatDistribution}
        return {
            name: numeric[KINDS[name]](*_ends(name, tried), log=tried.scale == "log")
            if isinstance(tried, Range)
            else kinds.CategoricalDistribution([*map(_parameter, tried)])
            for name, tried in self.search.items()
        }

    def trial_config(self, parameters: Mapping[str, Any]) -> Config:
        """All settings of a trial: of the base, those that something reads beside its own.

        Args:
            parameters: those that it chose.

        Raises:
            InputError: settings do not fit together.
        """
        given = {**self.base, "select_by": self.shared.metric, **parameters}
        names = [name for name in given if name in parameters or not misplaced(given, name)]
        for name, tried in self.search.items():
            if not isinstance(tried, Range):
                given[name] = {_parameter(value): value for value in tried}[parameters[name]]
        try:
            return from_flat({name: given[name] for name in names})
        except InputError as error:
            raise InputError(f"trial {named(parameters)}: {error}") from None


def shown(value: Any) -> str:
    """A setting's value as it is typed: 0.001, mf, true, 0.5/0.25/0.25.

    Args:
        value: the value.
    """
    if isinstance(value, tuple):
        return "/".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def named(parameters: Mapping[str, Any]) -> str:
    """Settings on one line: ``dim=16 l2=0.001``.

    Args:
        parameters: by name.
    """
    return " ".join(f"{name}={shown(value)}" for name, value in parameters.items())


def _ends(name: str, drawn: Range) -> tuple[Any, Any]:
    """Both ends as values of the setting."""
    return KINDS[name](drawn.low), KINDS[name](drawn.high)


def _parameter(value: Any) -> Any:
    """A value as Optuna keeps it."""
    return shown(value) if isinstance(value, tuple) else value


def _plain(value: Any) -> Any:
    """A value of NumPy or JSON as Python's own: sequences as tuples, objects as ranges."""
    value = scalar(value)
    if isinstance(value, Mapping):
        if not {"low", "high"} <= set(value) <= {"low", "high", "scale"}:
            raise InputError(f"range: expected low, high and scale, got {sorted(value)}")
        return Range(**value)
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple, np.ndarray)) else value
