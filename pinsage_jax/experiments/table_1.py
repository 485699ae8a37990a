"""What the ablation compares: the rows of Ying et al. 2018, table 1, on data of one's own machine.

The paper's figures are hit-rates among the first 500 and MRR with ranks divided by 100, both in a
sample of 5 million pins. Here a positive stands among all training items, the hit-rates are those
of the first 10 and 100, and MRR has scale 1: figures of two columns of a table are never to be
compared with each other, only the order of the rows is.

Each data set has one set of settings, for all variants and not tuned on any of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from lightgcn_jax.errors import InputError
from pinsage_jax.config import PinSageConfig
from pinsage_jax.data.items import ItemData
from pinsage_jax.data.sources import load_items
from pinsage_jax.data.world import PinWorld, generate_pins
from pinsage_jax.runs.lifecycle import settings_from

SETTINGS = PinSageConfig(
    dim=64, neighbors=50, batch_size=1024, steps_per_epoch=60, epochs=10, patience=0
)
"""The paper's T = 50 and M = 500, and as many steps as take a minute or two."""
UNIT = dataclasses.replace(SETTINGS, unit_length=True)
"""Of the generated worlds: cosines did better on a world of another seed. Listeners follow
popularity far more than the worlds' boards do, and cosines did worse on them."""

Kind = Literal["random", "popularity", "cosine", "trained"]


class PaperFigures(NamedTuple):
    """A row of table 1: hit-rate@500 and MRR of scale 100, in a sample of 5 million."""

    hit_rate: float
    mrr: float


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


@dataclass(frozen=True)
class Variant:
    """One row of a table.

    Attributes:
        name: also of the files that hold its runs.
        kind: ``cosine`` compares a column's raw features and is named after it; ``trained`` is an
            encoder.
        changes: of the data set's settings.
        paper: the row of table 1 that it stands for.
    """

    name: str
    kind: Kind
    changes: Mapping[str, Any] = field(default_factory=dict)
    paper: PaperFigures | None = None

    def settings(self, config: PinSageConfig, seed: int) -> PinSageConfig | None:
        """What it is trained by; None where nothing is trained."""
        if self.kind != "trained":
            return None
        return settings_from(config, seed=seed, **self.changes)


def _trained(name: str, **changes: Any) -> Variant:
    return Variant(name, "trained", changes, PAPER[name])


RANDOM = Variant("random", "random")
POPULARITY = Variant("popularity", "popularity")
COMBINED = _trained("combined", pooling="none", curriculum="none", loss="max-margin")
"""All features through the encoder's own layers, the log-degree among them; no neighbours."""
PINSAGE = _trained("pinsage", pooling="importance", curriculum="paper", loss="max-margin")
TRAINED = (
    COMBINED,
    _trained("max-pooling", pooling="max", curriculum="none", loss="max-margin"),
    _trained("mean-pooling", pooling="mean", curriculum="none", loss="max-margin"),
    # The paper names the loss of its reference 18 (Hamilton et al. 2017, equation 1).
    _trained(
        "mean-pooling-xent", pooling="mean", curriculum="none", loss="binary", temperature=1.0
    ),
    _trained("mean-pooling-hard", pooling="mean", curriculum="paper", loss="max-margin"),
    PINSAGE,
)
BEYOND = (
    Variant(
        "mean-pooling-softmax",
        "trained",
        {"pooling": "mean", "curriculum": "none", "loss": "softmax"},
    ),
    Variant("pinsage-softmax", "trained", {**PINSAGE.changes, "loss": "softmax"}),
)
"""Not in the paper: cross-entropy over the positive and all of its row's negatives together."""


@dataclass(frozen=True)
class DataSet:
    """Items that variants are compared on, and the settings of all of them.

    Attributes:
        name: also of the folder of its runs.
        config: the settings; a variant's changes and the seed go on top.
        columns: those that are compared by their cosines alone, and the row of table 1 that each
            stands for, "visual" or "annotation".
        world: of a generated world; None for a data set of ``load_items``.
        world_seed: of the generated world.
        triplets: judge by triplets too.
    """

    name: str
    config: PinSageConfig
    columns: Mapping[str, str] = field(default_factory=dict)
    world: PinWorld | None = None
    world_seed: int = 0
    triplets: bool = False

    def load(self, data_dir: Path | None = None) -> ItemData:
        """The items, as ``load_items`` gives them."""
        if self.world is None:
            return load_items(self.name, data_dir)
        return generate_pins(self.world, self.world_seed).data

    def record(self) -> dict[str, Any]:
        """What it is, as a JSON value."""
        if self.world is None:
            return {"name": self.name}
        world = dataclasses.asdict(self.world) | {"seed": self.world_seed}
        return {"name": self.name, "world": world}


_PIN_COLUMNS = {"visual": "visual", "words": "annotation"}
DATASETS: Mapping[str, DataSet] = {
    one.name: one
    for one in (
        DataSet("pins", UNIT, _PIN_COLUMNS, PinWorld()),
        # The same kind of world drawn again: no setting was ever chosen by looking at this one.
        DataSet("pins-1", UNIT, _PIN_COLUMNS, PinWorld(), world_seed=1),
        DataSet(
            "ml-latest-small",
            SETTINGS,
            {"title": "annotation", "genres": "annotation", "tags": "annotation"},
        ),
        DataSet("hetrec-lastfm", SETTINGS, {"name": "annotation", "tags": "annotation"}),
    )
}
"""What ``--datasets`` knows. Co-occurrence is asked for, so tags need not be older than it."""


class Experiment(NamedTuple):
    """Variants to be compared on one data set."""

    data: DataSet
    variants: tuple[Variant, ...]


def table_1(data: DataSet) -> Experiment:
    """The rows of table 1 that the data set has columns for, and what needs no features."""
    columns = (Variant(name, "cosine", {}, PAPER[row]) for name, row in data.columns.items())
    return Experiment(data, (RANDOM, POPULARITY, *columns, *TRAINED, *BEYOND))


def named(names: Sequence[str]) -> list[Experiment]:
    """Table 1 on data sets by name.

    Raises:
        InputError: there is none of that name.
    """
    for name in names:
        if name not in DATASETS:
            raise InputError(f"unknown data set {name!r}: expected one of {', '.join(DATASETS)}")
    return [table_1(DATASETS[name]) for name in dict.fromkeys(names)]


def narrowed(
    experiments: Sequence[Experiment], only: Sequence[str] = (), epochs: int | None = None
) -> list[Experiment]:
    """The experiments with some of their variants, or other epochs.

    Args:
        only: names of variants; all where there are none.
        epochs: of every run; None for what the data set's settings say.

    Raises:
        InputError: no experiment has a variant of that name.
    """
    known = list(dict.fromkeys(one.name for _, variants in experiments for one in variants))
    for name in only:
        if name not in known:
            raise InputError(f"unknown variant {name!r}: expected one of {', '.join(known)}")
    found: list[Experiment] = []
    for data, variants in experiments:
        if epochs is not None:
            config = dataclasses.replace(data.config, epochs=epochs)
            data = dataclasses.replace(data, config=config)
        kept = tuple(one for one in variants if not only or one.name in only)
        if kept:
            found.append(Experiment(data, kept))
    return found
