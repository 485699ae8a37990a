"""Claims about PinSAGE, as experiments on generated worlds that may also come out against it.

The grid asks when neighbours help: the boards of a world follow the planted topics more or less
(``graph_signal``), and so do its looks and words (``visual_signal``, ``text_signal``). Where boards
are noise, neighbours have nothing to do with an item, and features alone should do better.

The claims are those of Ying et al. 2018, section 3.3: negatives shared by a batch are as good as
separate ones for each row; hard negatives teach fine distinctions; a curriculum is the best way to
introduce them. Fine distinctions are triplets with hard negatives of the same ranks as in training,
but with other items.
``python -m benchmarks pinsage`` measures how much time sharing saves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from pinsage_jax.data.world import PinWorld
from pinsage_jax.experiments.experiment import DataSet, Experiment, Variant
from pinsage_jax.experiments.table_1 import COMBINED, DEFAULT, PINSAGE, POPULARITY, UNIT

SIGNALS = (0.0, 0.5, 1.0)
GRID_ITEMS, CLAIMS_ITEMS = 2_000, 5_000
CONFIG = dataclasses.replace(UNIT, batch_size=512)
"""The ablation's settings, in smaller batches for smaller worlds."""
BY_DEFAULT = Variant("default", "trained", {**DEFAULT.changes, "unit_length": False})
FEATURES = Variant(
    "features-alone",
    "trained",
    {**BY_DEFAULT.changes, "pooling": "none", "structure": 0, "folds": 0},
)
"""The default, and what it is without the graph."""
FEW, MANY = 50, 2_000
"""Other numbers of shared negatives. Each row has separate ones of its own, therefore only few."""

QUALITY = ("hit_rate@10", "hit_rate@100", "mrr")
DISTINCTIONS = ("mrr", "triplets", "hard_triplets")


def grid(items: int = GRID_ITEMS, signals: Sequence[float] = SIGNALS) -> list[Experiment]:
    """Compare PinSAGE with features alone where the graph and the features tell more or less.

    Args:
        items: the pins of each world.
        signals: the values of both signals.
    """
    return [
        Experiment(
            _cell(items, graph, features), (POPULARITY, COMBINED, PINSAGE, FEATURES, BY_DEFAULT)
        )
        for graph in signals
        for features in signals
    ]


def _cell(items: int, graph: float, features: float) -> DataSet:
    world = PinWorld(items=items, graph_signal=graph, visual_signal=features, text_signal=features)
    return DataSet(f"grid-graph{graph:g}-features{features:g}", CONFIG, {}, world)


def claims(items: int = CLAIMS_ITEMS) -> Experiment:
    """Compare PinSAGE with other negatives and other curricula.

    Args:
        items: the pins of the world.
    """
    variants = (
        Variant("pinsage", "trained"),
        _changed(f"shared-{FEW}", negatives=FEW),
        _changed(f"separate-{FEW}", negatives=FEW, negative_choice="separate"),
        _changed(f"shared-{MANY}", negatives=MANY),
        _changed("no-hard", curriculum="none"),
        _changed("all-hard", curriculum="all"),
    )
    data = DataSet("claims", CONFIG, {}, PinWorld(items=items), triplets=True)
    return Experiment(data, variants)


def _changed(name: str, **changes: Any) -> Variant:
    return Variant(name, "trained", changes)


class Claim(NamedTuple):
    """Two variants to be compared, the first less the second.

    Attributes:
        text: what is compared, in words.
        first: the name of the first variant.
        second: the name of the second variant.
        figures: the figures by which they are compared.
    """

    text: str
    first: str
    second: str
    figures: tuple[str, ...]


STATEMENTS = (
    Claim(f"separate against shared, M = {FEW}", f"separate-{FEW}", f"shared-{FEW}", QUALITY),
    Claim(f"M = {CONFIG.negatives} against {FEW}", "pinsage", f"shared-{FEW}", QUALITY),
    Claim(f"M = {MANY:,} against {CONFIG.negatives}", f"shared-{MANY}", "pinsage", QUALITY),
    Claim("curriculum against no hard negatives", "pinsage", "no-hard", DISTINCTIONS),
    Claim("all hard negatives from the start against none", "all-hard", "no-hard", DISTINCTIONS),
    Claim("curriculum against all from the start", "pinsage", "all-hard", DISTINCTIONS),
)
