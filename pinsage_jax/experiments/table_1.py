"""The rows of Ying et al. 2018, table 1, as variants that can be trained on one machine.

The paper's figures are hit-rates among the first 500 and MRR with ranks divided by 100, both in a
sample of 5 million pins. Here a positive is ranked among all training items, hit-rates are those of
the first 10 and 100, and MRR has scale 1. So figures of two columns of a table cannot be compared
with each other; only the order of the rows can.

All rows of the paper share the settings of its preset. The row ``default`` has the default's, with
the same number of steps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from lightgcn_jax.errors import InputError
from pinsage_jax.config import PRESETS, PinSageConfig, settings_from
from pinsage_jax.data.world import PinWorld
from pinsage_jax.evaluation.oracles import ORACLES
from pinsage_jax.experiments.experiment import DataSet, Experiment, PaperFigures, Variant

_BUDGET = {"steps_per_epoch": 60, "epochs": 10, "patience": 0}
"""As many steps as one or two minutes allow."""
_RATES = {"learning_rate": 0.01, "decay": 0.95}
SETTINGS = settings_from(PinSageConfig(), **{**PRESETS["paper"], **_RATES, **_BUDGET})
"""The paper's settings."""
_DEFAULT = dataclasses.asdict(PinSageConfig())
DEFAULT = Variant(
    "default", "trained", {name: _DEFAULT[name] for name in (*PRESETS["paper"], *_RATES)}
)
"""What won on validation."""
UNSTRUCTURED = Variant(
    "no-structure", "trained", {**DEFAULT.changes, "structure": 0, "folds": 0, "mask_targets": True}
)
"""The default as far as it can be without structural inputs; folds rank worse without them."""
UNIT = settings_from(SETTINGS, unit_length=True, data_init=True)
"""Settings for claims about distances, which vectors of length 1 have."""

PAPER: Mapping[str, PaperFigures] = MappingProxyType(
    {
        "visual": PaperFigures(0.17, 0.23),
        "annotation": PaperFigures(0.14, 0.19),
        "combined": PaperFigures(0.27, 0.37),
        "max-pooling": PaperFigures(0.39, 0.37),
        "mean-pooling": PaperFigures(0.41, 0.51),
        "mean-pooling-xent": PaperFigures(0.29, 0.35),
        "mean-pooling-hard": PaperFigures(0.46, 0.56),
        "pinsage": PaperFigures(0.67, 0.59),
    }
)


def _row(name: str, **changes: Any) -> Variant:
    """An encoder with its row of the paper, if it has one."""
    return Variant(name, "trained", changes, PAPER.get(name))


RANDOM = Variant("random", "random")
POPULARITY = Variant("popularity", "baseline")
GRAPH = (
    Variant("cooccurrence", "baseline"),
    Variant("item-cosine", "baseline"),
    Variant("pagerank", "baseline"),
    Variant("structure", "baseline"),
)
"""Scores from the training graph without any feature. They are not in the paper."""
COMBINED = _row("combined", pooling="none", curriculum="none", loss="max-margin")
"""All features, the log-degree among them, go through the encoder's layers without neighbours."""
PINSAGE = _row("pinsage", pooling="importance", curriculum="paper", loss="max-margin")
TRAINED = (
    COMBINED,
    _row("max-pooling", pooling="max", curriculum="none", loss="max-margin"),
    _row("mean-pooling", pooling="mean", curriculum="none", loss="max-margin"),
    # The paper names the loss of its reference 18 (Hamilton et al. 2017, equation 1).
    _row("mean-pooling-xent", pooling="mean", curriculum="none", loss="binary", temperature=1.0),
    _row("mean-pooling-hard", pooling="mean", curriculum="paper", loss="max-margin"),
    PINSAGE,
)
_SOFTMAX = {"loss": "softmax", "data_init": True}
BEYOND = (
    _row("mean-pooling-softmax", pooling="mean", curriculum="none", **_SOFTMAX),
    _row("pinsage-softmax", **{**PINSAGE.changes, **_SOFTMAX}),
)
"""Cross-entropy over the positive and all negatives of its row; it is not in the paper."""


_PIN_COLUMNS = {"visual": "visual", "words": "annotation"}
DATASETS: Mapping[str, DataSet] = {
    one.name: one
    for one in (
        DataSet("pins", SETTINGS, _PIN_COLUMNS, PinWorld()),
        # The same kind of world drawn again; no setting was ever chosen by looking at this one.
        DataSet("pins-1", SETTINGS, _PIN_COLUMNS, PinWorld(), world_seed=1),
        DataSet(
            "ml-latest-small", SETTINGS, dict.fromkeys(("title", "genres", "tags"), "annotation")
        ),
        DataSet("hetrec-lastfm", SETTINGS, dict.fromkeys(("name", "tags"), "annotation")),
    )
}
"""The data sets that ``--datasets`` knows. Pairs of one context are asked for, which have no time,
so tags may be of any time."""


def table_1(data: DataSet) -> Experiment:
    """List the rows of table 1 that a data set has columns for, and those that need no features.

    A generated world has oracles too.

    Args:
        data: the data set.
    """
    oracles = () if data.world is None else (Variant(name, "oracle") for name in ORACLES)
    columns = (Variant(name, "cosine", {}, PAPER[row]) for name, row in data.columns.items())
    return Experiment(
        data,
        (RANDOM, POPULARITY, *GRAPH, *columns, *TRAINED, *BEYOND, DEFAULT, UNSTRUCTURED, *oracles),
    )


def named(names: Sequence[str]) -> list[Experiment]:
    """Make the experiments of table 1 on data sets.

    Args:
        names: the names of the data sets.

    Raises:
        InputError: there is none of that name.
    """
    for name in names:
        if name not in DATASETS:
            raise InputError(f"unknown data set {name!r}: expected one of {', '.join(DATASETS)}")
    return [table_1(DATASETS[name]) for name in dict.fromkeys(names)]
