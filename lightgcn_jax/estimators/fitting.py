"""How an estimator is fitted: a split by its protocol; anything else whole, for a number of epochs
that a part of it chose."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from lightgcn_jax.data import Interactions, Split, ratio_split, undivided
from lightgcn_jax.data.also_seen import SeenIds
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.parts import evaluation_sets, rank_parts
from lightgcn_jax.models import PopularScorer
from lightgcn_jax.runs import ConsoleReporter, FitResult, Reporter, SilentReporter, fit
from lightgcn_jax.settings import Config, TrainConfig
from lightgcn_jax.shown import figures_line

OnEpoch = Callable[[Mapping[str, float]], Any]
"""Receives the figures of an epoch by name: ``epoch``, ``loss``, and where the epoch was evaluated
``valid/recall@20`` and so on."""

_SHARE = 0.1


def figures_of(record: Mapping[str, Any]) -> dict[str, float]:
    """The figures of an epoch by one name each: those of a part as ``valid/recall@20``.

    Args:
        record: a line of metrics.jsonl.

    Example:
        >>> figures_of({"epoch": 5, "loss": 0.5, "valid": {"recall@20": 0.25}})
        {'epoch': 5, 'loss': 0.5, 'valid/recall@20': 0.25}
    """
    figures: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            figures |= {f"{name}/{metric}": one for metric, one in value.items()}
        elif isinstance(value, (int, float)):
            figures[name] = value
    return figures


def listeners(on_epoch: OnEpoch | Sequence[OnEpoch]) -> list[OnEpoch]:
    """One function or several as a list.

    Args:
        on_epoch: what an estimator was given.
    """
    return [on_epoch] if callable(on_epoch) else list(on_epoch)


class Listening(Reporter):
    """Hands the figures of each epoch to functions, and everything to another reporter.

    Args:
        reporter: the other one.
        functions: each is called at the end of an epoch.
    """

    def __init__(self, reporter: Reporter, functions: Sequence[OnEpoch]):
        self._reporter, self._functions = reporter, functions

    def started(self, *, epochs: int, done: float) -> None:
        self._reporter.started(epochs=epochs, done=done)

    def advanced(self, *, epochs: float, loss: float, interactions_per_second: float) -> None:
        self._reporter.advanced(
            epochs=epochs, loss=loss, interactions_per_second=interactions_per_second
        )

    def evaluated(self, records: Sequence[Mapping[str, Any]], *, improved: bool) -> None:
        self._reporter.evaluated(records, improved=improved)

    def epoch_ended(self, records: Sequence[Mapping[str, Any]]) -> None:
        for record in records:
            for function in self._functions:
                function(figures_of(record))

    def noted(self, message: str) -> None:
        self._reporter.noted(message)

    def stopped(self) -> None:
        self._reporter.stopped()


def reporter_of(config: Config, verbose: bool) -> Reporter:
    """What shows progress on stderr: a bar in a terminal, lines anywhere else; or nothing.

    Args:
        config: the settings.
        verbose: whether it is shown.
    """
    if not verbose:
        return SilentReporter()
    return ConsoleReporter(metric=config.metric if isinstance(config, TrainConfig) else "")


def fit_given(
    data: Split | Interactions,
    config: Config,
    *,
    reporter: Reporter,
    on_epoch: Sequence[OnEpoch] = (),
    optimizer: optax.GradientTransformation | None = None,
    out: Path | str | None = None,
    about: Mapping[str, Any] | None = None,
    also_seen: SeenIds | None = None,
) -> tuple[FitResult, FitResult | None]:
    """Fit a split under its protocol, or all interactions.

    Interactions are trained on whole. How many epochs that takes is chosen first, by a run on nine
    tenths of each user's interactions, judged on the rest; where that is too little to choose by,
    or the settings say that nothing is chosen (protocol ``fixed`` or ``all``), there are as many
    epochs as the settings have. A model without epochs is fitted at once.

    Args:
        data: a split, or interactions.
        config: the settings.
        reporter: receives progress, and what is decided.
        on_epoch: functions that receive the figures of each epoch, of the run that chooses where
            there is one.
        optimizer: in the place of Adam.
        out: a new directory for the run.
        about: JSON value that is stored with the run.
        also_seen: pairs that users know beyond the data, and are not recommended.

    Returns:
        The run, and the run that chose its epochs, if there was one.
    """
    listening = Listening(reporter, on_epoch) if on_epoch else reporter
    strategies: dict[str, Any] = {"optimizer": optimizer}
    ending: dict[str, Any] = {**strategies, "out": out, "data": about, "also_seen": also_seen}
    if isinstance(data, Split):
        return fit(data, config, reporter=listening, **ending), None
    if config.protocol == "legacy":
        raise InputError(
            "protocol: legacy chooses and judges on test, so it takes a Split: "
            "fit(ratio_split(interactions)), or another protocol"
        )
    whole, everything = undivided(data), dataclasses.replace(config, protocol="all")
    part = None
    if isinstance(config, TrainConfig) and config.protocol == "strict":
        part = _part_to_choose_by(data, config, reporter)
    if part is None:
        result = fit(whole, everything, reporter=listening, **ending)
        reporter.noted(f"Fitted on all {len(whole.train):,} interactions.")
        return result, None
    assert isinstance(config, TrainConfig)
    assert isinstance(everything, TrainConfig)
    reporter.noted(
        f"Choosing the number of epochs on {len(part.valid):,} interactions, a tenth of each user's"
    )
    choosing = fit(part, config, reporter=listening, **strategies)
    epochs, optimization = choosing.summary["best_epoch"], config.optimization
    reporter.noted(
        f"Best after {epochs} epochs: {figures_line(choosing.summary['valid'])} "
        f"(popularity: {figures_line(_popularity(choosing))}); now training on all "
        f"{len(whole.train):,} interactions for {epochs} epochs"
    )
    everything = dataclasses.replace(
        everything,
        optimization=dataclasses.replace(
            optimization,
            epochs=epochs,
            schedule_epochs=optimization.schedule_epochs or optimization.epochs,
        ),
    )
    return fit(whole, everything, reporter=reporter, **ending), choosing


def _part_to_choose_by(data: Interactions, config: TrainConfig, reporter: Reporter) -> Split | None:
    """Nine tenths to train on and one to choose by; None where that leaves nothing to find."""
    try:
        split = ratio_split(data, 1 - _SHARE, _SHARE, 0.0)
    except InputError:
        split = None
    found = split and evaluation_sets(split, config.cold).valid.columns.shape[0]
    if not found:
        reporter.noted(
            f"{len(data):,} interactions are too few to choose the number of epochs by: "
            f"there are {config.optimization.epochs} (epochs=)"
        )
        return None
    return split


def _popularity(result: FitResult) -> dict[str, float]:
    """What the most popular items reach on the same validation part."""
    sets = evaluation_sets(result.split, result.config.cold)
    counts = np.bincount(result.split.train.items, minlength=len(result.split.items))
    scorer = PopularScorer(jnp.asarray(counts, jnp.float32), len(result.split.users))
    return rank_parts(scorer, sets, ("valid",), result.config.ks)["valid"]
