"""What an experiment is made of: variants of the settings, compared on one data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from lightgcn_jax.errors import InputError
from pinsage_jax.config import PinSageConfig, settings_from
from pinsage_jax.data.items import ItemData
from pinsage_jax.data.sources import load_items
from pinsage_jax.data.world import PinWorld, generate_pins

Kind = Literal[
    "random", "popularity", "co-occurrence", "item-cosine", "pagerank", "cosine", "trained"
]


class PaperFigures(NamedTuple):
    """A row of table 1: hit-rate@500 and MRR of scale 100, in a sample of 5 million."""

    hit_rate: float
    mrr: float


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


class Experiment(NamedTuple):
    """Variants to be compared on one data set."""

    data: DataSet
    variants: tuple[Variant, ...]


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
