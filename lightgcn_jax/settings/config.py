"""The settings of a run, each group a value owned by what reads it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from lightgcn_jax.data.protocol import Protocol
from lightgcn_jax.diffusion.choice import Backend, OrderingChoice
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.cold import Cold
from lightgcn_jax.evaluation.metrics import metric_names
from lightgcn_jax.fields import (
    SWITCH,
    TEXT,
    Checked,
    at_least,
    one_of,
    optional,
    setting,
    several,
    whole,
)
from lightgcn_jax.models import ClosedForm, GfCf, Inner, LightGCN, Model, Score
from lightgcn_jax.models.model import bare_model
from lightgcn_jax.training import NegativeSampler, Optimization, SharedNegatives, Strategies
from lightgcn_jax.training.losses import BPR, Loss

_METRIC = "recall@20"
_MOST_SEEDS = 10_000


_CUTOFFS = several(whole(1), "distinct cut-offs of at least 1")
_METRIC_NAME = TEXT._replace(expected="the name of a metric such as recall@20")


@dataclasses.dataclass(frozen=True)
class Selection(Checked):
    """How the best epoch is chosen.

    Attributes:
        select_by: metric that chooses the best epoch; by default recall at the cut-off nearest to
            20.
        evaluate_every: epochs between evaluations.
        patience: evaluations without improvement before training stops; 0 never stops early.
    """

    select_by: str | None = setting(None, optional(_METRIC_NAME))
    evaluate_every: int = setting(5, whole(1))
    patience: int = setting(5, whole(0))


@dataclasses.dataclass(frozen=True)
class _RunConfig(Checked):
    model: Any
    protocol: Protocol = setting("strict", one_of(Protocol))
    ks: tuple[int, ...] = setting((10, 20, 50), _CUTOFFS)
    cold: Cold = setting("skip", one_of(Cold))
    rank_train: bool = setting(False, SWITCH)
    seed: int = setting(0, whole(0, None))
    seeds: int = setting(1, whole(1, _MOST_SEEDS))
    backend: Backend = setting("auto", one_of(Backend))

    def __post_init__(self):
        object.__setattr__(self, "model", bare_model(self.model))
        super().__post_init__()
        if self.seed + self.seeds > 2**31:
            last = self.seed + self.seeds - 1
            raise InputError(f"seed: expected seeds below 2^31, got {last}")
        if not self.ks or len(set(self.ks)) < len(self.ks):
            raise InputError(f"ks: expected {_CUTOFFS.expected}, got {self.ks}")

    def _check_auto(self, *names: str) -> None:
        for name in names:
            if getattr(self, name) != "auto":
                raise InputError(
                    f"{name}: expected auto beside {self.model!r}, which applies no operator, "
                    f"got {getattr(self, name)!r}"
                )


@dataclasses.dataclass(frozen=True)
class TrainConfig(_RunConfig):
    """Everything that decides the run of a trained model, but the data.

    Attributes:
        model: a :class:`~lightgcn_jax.models.Model`: MF, GCN, SGC, NGCF, GNN, LightGCN, or one of
            your own.
        score: of a user's and an item's vectors, in training and in ranking: Inner, Cosine, MLP.
        loss: BPR, Binary, Softmax, MaxMargin, or a function of a positive's score, its negatives'
            scores and their mask.
        negatives: SharedNegatives, PerUserNegatives, InBatchNegatives, HardNegatives, AllItems, or
            a function (see :mod:`lightgcn_jax.training.samplers`).
        optimization: epochs, batches, learning rate, L2.
        selection: how the best epoch is chosen.
        protocol: ``strict`` selects the epoch on validation and ranks test once; ``legacy`` trains
            on train and validation and selects on test, for comparison with papers; ``fixed``
            trains on train and validation for all epochs, selects nothing and ranks test once;
            ``all`` trains on test too, for serving, and has no figures on it. A closed form selects
            nothing.
        ks: cut-offs of the metrics; those of the default that exceed the catalogue are dropped.
        cold: what becomes of withheld pairs whose user or item no training interaction names:
            ``skip`` leaves them out of the means, ``popular`` ranks items for such users by their
            number of users, ``keep`` ranks by whatever the model makes of them. They are counted.
        rank_train: rank the training pairs too, which takes most of the time where the catalogue
            is large.
        seed: seed of the initial parameters and of all draws; with several seeds, the first of
            them.
        seeds: runs trained at once, with seeds seed, seed + 1, …
        checkpoint_seconds: seconds that pass at least between two checkpoints; 0 writes one after
            every call of the compiled steps.
        backend: storage of the diffusion operator; ``auto`` takes the fastest of the platform.
            ``pallas`` is experimental: it was never timed on hardware.
        ordering: order of the users' and of the items' rows in a run, for locality; figures are the
            same but for rounding, for initial values and for ties. None depends on ids. ``auto``
            co-clusters large graphs on CPU.

    Raises:
        InputError: a setting is no value of its kind, or two do not fit together.

    Example:
        >>> config = TrainConfig(model=LightGCN(dim=32), optimization=Optimization(epochs=5))
        >>> config.model.layers, config.metric
        (3, 'recall@20')
    """

    model: Model = LightGCN()
    score: Score = Inner()
    loss: Loss = BPR()
    negatives: NegativeSampler | Callable[..., Any] = SharedNegatives()
    optimization: Optimization = Optimization()
    selection: Selection = Selection()
    checkpoint_seconds: float = setting(60.0, at_least(0))
    ordering: OrderingChoice = setting("auto", one_of(OrderingChoice))

    is_trained = True

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.selection, Selection):
            raise InputError(f"selection: expected a Selection, got {self.selection!r}")
        if self.metric not in metric_names(self.ks):
            raise InputError(
                f"select_by: expected one of {', '.join(metric_names(self.ks))}, "
                f"got {self.selection.select_by!r}"
            )
        _ = self.strategies
        if self.model.normalization is None:
            self._check_auto("backend", "ordering")

    @property
    def strategies(self) -> Strategies:
        """What a training step is made of."""
        return Strategies(self.model, self.score, self.loss, self.negatives, self.optimization)

    @property
    def offset_columns(self) -> int:
        """How many of the last columns of the ranked vectors only add to scores."""
        return self.model.offset_columns + self.score.offset_columns

    @property
    def metric(self) -> str:
        """The metric that chooses the best epoch."""
        return self.selection.select_by or metric_among(_METRIC, self.ks)


@dataclasses.dataclass(frozen=True)
class ClosedFormConfig(_RunConfig):
    """Everything that decides the run of a model that is fitted in one go, but the data.

    Attributes:
        model: Filter, GfCf, Spectral, ItemCf, Popular, Random, or a closed form of your own (see
            :class:`~lightgcn_jax.models.ClosedForm`).
        protocol: as in :class:`TrainConfig`.
        ks: cut-offs of the metrics.
        cold: as in :class:`TrainConfig`.
        rank_train: likewise.
        seed: seed of the fit; with several seeds, the first of them.
        seeds: fits with seeds seed, seed + 1, …; the run keeps the first one's model.
        backend: storage of the operator, for a model that applies one.

    Raises:
        InputError: a setting is no value of its kind.
    """

    model: ClosedForm = GfCf()

    is_trained = False
    offset_columns = 0

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.model, ClosedForm):
            raise InputError(f"model: expected an instance of ClosedForm, got {self.model!r}")
        if self.seeds > 1 and not self.model.uses_key:
            raise InputError(
                f"seeds: expected 1 for {self.model!r}, which draws nothing, got {self.seeds}"
            )
        if not self.model.uses_operator:
            self._check_auto("backend")


Config = TrainConfig | ClosedFormConfig


def metric_among(metric: str, ks: Sequence[int]) -> str:
    """A metric where its cut-off is ranked, else the same metric at the nearest cut-off.

    Args:
        metric: such as ``recall@20``.
        ks: the cut-offs that are ranked; the lower of two that are equally near.

    Example:
        >>> metric_among("recall@20", (5, 10))
        'recall@10'
    """
    name, _, cutoff = metric.partition("@")
    return f"{name}@{min(ks, key=lambda k: (abs(k - int(cutoff)), k))}" if ks else metric


def with_fitting_ks(config: Config, num_items: int) -> tuple[Config, str | None]:
    """Settings whose cut-offs nobody gave, without those that exceed a catalogue.

    Where all do, half the catalogue is the cut-off: a list of all items says nothing.

    Args:
        config: the settings.
        num_items: I.

    Returns:
        The settings, and a line that says what was dropped, None where nothing was.

    Example:
        >>> config, note = with_fitting_ks(TrainConfig(), 30)
        >>> config.ks, note
        ((10, 20), 'ks: the catalogue has 30 items, so of the default cut-offs 50 is left out')
    """
    dropped = [k for k in config.ks if k > num_items]
    if not dropped:
        return config, None
    kept = tuple(k for k in config.ks if k <= num_items) or (max(1, num_items // 2),)
    left_out = f"{', '.join(map(str, dropped))} {'are' if len(dropped) > 1 else 'is'} left out"
    note = f"ks: the catalogue has {num_items} items, so of the default cut-offs {left_out}"
    if kept[0] not in config.ks:
        note += f"; {kept[0]} takes their place"
    changed: dict[str, Any] = {"ks": kept}
    if isinstance(config, TrainConfig) and config.selection.select_by:
        metric = metric_among(config.selection.select_by, kept)
        changed["selection"] = dataclasses.replace(config.selection, select_by=metric)
    return dataclasses.replace(config, **changed), note


def check_ks(config: Config, num_items: int, field: str = "ks") -> None:
    """Refuse cut-offs beyond a catalogue.

    Args:
        config: the settings.
        num_items: I.
        field: what an error calls them.

    Raises:
        InputError: a cut-off is larger.
    """
    if max(config.ks) > num_items:
        raise InputError(
            f"{field}: expected cut-offs of at most {num_items} (the catalogue's size), "
            f"got {max(config.ks)}"
        )
