"""Runs that train together under one ``vmap``: lanes of one program.

Lanes differ in their seed and in settings that enter the program as numbers; whatever decides its
shape they share.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lightgcn_jax.errors import InputError
from lightgcn_jax.settings.config import TrainConfig
from lightgcn_jax.training.step import Rates

VARIABLE = (*Rates._fields, "init_std")
"""Settings that may differ between lanes, beside the seed."""


class Lane(NamedTuple):
    """One run among those that train together.

    Attributes:
        config: its settings, with its seed alone.
        label: what tells it from the others: its seed, and the settings of its variant.
    """

    config: TrainConfig
    label: dict[str, Any]


def lanes_of(config: TrainConfig, variants: Sequence[Mapping[str, Any]] = ()) -> tuple[Lane, ...]:
    """Every variant with every seed, the seeds of a variant side by side.

    Args:
        config: the settings that all share.
        variants: settings of :data:`VARIABLE` in which they differ; none is one that differs in
            nothing.

    Raises:
        InputError: a setting may not differ, or does not fit.
    """
    lanes = []
    for variant in variants or ({},):
        for name in variant:
            if name not in VARIABLE:
                raise InputError(
                    f"{name}: expected one of {', '.join(VARIABLE)} to differ between runs that "
                    f"train together"
                )
        for seed in range(config.seed, config.seed + config.seeds):
            settings = {**variant, "seed": seed}
            own = dataclasses.replace(config, seeds=1, **settings)
            lanes.append(Lane(own, settings))
    return tuple(lanes)
