"""Experiments: variants of the settings that are compared on one data set."""

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
from pinsage_jax.data.world import Pins, PinWorld, generate_pins

Kind = Literal["random", "baseline", "cosine", "oracle", "trained"]


class PaperFigures(NamedTuple):
    """A row of the paper's table 1, whose ranks are those in a sample of 5 million pins.

    Attributes:
        hit_rate: hit-rate@500.
        mrr: MRR of scale 100.
    """

    hit_rate: float
    mrr: float


@dataclass(frozen=True)
class Variant:
    """One row of a table.

    Attributes:
        name: the variant's name, which also names the files of its runs.
        kind: what ranks the items: ``random`` scores, the ``baseline`` of that name, the
            ``cosine`` of the feature column that the variant is named after, the ``oracle`` of that
            name, which only a generated world has, or a ``trained`` encoder.
        changes: how its settings differ from those of the data set.
        paper: the row of table 1 that it stands for.
    """

    name: str
    kind: Kind
    changes: Mapping[str, Any] = field(default_factory=dict)
    paper: PaperFigures | None = None

    def settings(self, config: PinSageConfig, seed: int) -> PinSageConfig | None:
        """Make the settings of a run; None where nothing is trained.

        Args:
            config: the settings of the data set.
            seed: the seed of the run.
        """
        if self.kind != "trained":
            return None
        return settings_from(config, seed=seed, **self.changes)


@dataclass(frozen=True)
class DataSet:
    """Items that variants are compared on, and the settings that all variants share.

    Attributes:
        name: the data set's name, which also names the folder of its runs.
        config: the settings, which a variant and the seed change.
        columns: the feature columns that are compared by their cosines alone, and the row of table
            1 that each stands for, "visual" or "annotation".
        world: the settings of a generated world; None for a data set of ``load_items``.
        world_seed: the seed of the generated world.
        triplets: whether vectors are evaluated by triplets too.
    """

    name: str
    config: PinSageConfig
    columns: Mapping[str, str] = field(default_factory=dict)
    world: PinWorld | None = None
    world_seed: int = 0
    triplets: bool = False

    def load(self, data_dir: Path | None = None) -> ItemData:
        """Load or generate the items.

        Args:
            data_dir: folder with one folder for each data set; None takes the folder that the
                environment variable GRAPHREC_DATA names.
        """
        pins = self.generated()
        return load_items(self.name, data_dir) if pins is None else pins.data

    def generated(self) -> Pins | None:
        """Generate the world; None for a data set of ``load_items``."""
        return None if self.world is None else generate_pins(self.world, self.world_seed)

    def record(self) -> dict[str, Any]:
        """The data set as a JSON value, which is kept with its runs."""
        if self.world is None:
            return {"name": self.name}
        world = dataclasses.asdict(self.world) | {"seed": self.world_seed}
        return {"name": self.name, "world": world}


class Experiment(NamedTuple):
    """Variants to be compared on one data set.

    Attributes:
        data: the data set.
        variants: the variants, in the order of the table.
    """

    data: DataSet
    variants: tuple[Variant, ...]


def narrowed(
    experiments: Sequence[Experiment], only: Sequence[str] = (), epochs: int | None = None
) -> list[Experiment]:
    """Narrow experiments to some of their variants, or give them other epochs.

    Args:
        experiments: the experiments.
        only: names of variants; all of them where none is named.
        epochs: the epochs of every run; None leaves those of the data set.

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
        if kept := tuple(one for one in variants if not only or one.name in only):
            found.append(Experiment(data, kept))
    return found
