"""Runs that train together under one ``vmap``: replicas of one program.

Replicas differ in their seed and in settings that enter the program as numbers; whatever decides
its shape they share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lightgcn_jax.errors import InputError
from lightgcn_jax.settings.config import TrainConfig
from lightgcn_jax.settings.names import replaced
from lightgcn_jax.training.strategies import TracedSettings

PER_REPLICA = (*TracedSettings._fields, "init_std")
"""Flat names of the settings that may differ between replicas, beside the seed."""


class Replica(NamedTuple):
    """One run among those that train together.

    Attributes:
        config: its settings, with one seed.
        label: what tells it from the others: its seed, and the settings of its variant.
    """

    config: TrainConfig
    label: dict[str, Any]


def replicas_of(
    config: TrainConfig, variants: Sequence[Mapping[str, Any]] = ()
) -> tuple[Replica, ...]:
    """Every variant with every seed, the seeds of a variant side by side.

    Args:
        config: the settings that all share.
        variants: settings of :data:`PER_REPLICA` in which they differ, by flat names; by default
            one variant that differs in nothing.

    Raises:
        InputError: a setting may not differ, or does not fit.
    """
    replicas = []
    for variant in variants or ({},):
        for name in variant:
            if name not in PER_REPLICA:
                raise InputError(
                    f"{name}: expected one of {', '.join(PER_REPLICA)} to differ between runs that "
                    f"train together"
                )
        for seed in range(config.seed, config.seed + config.seeds):
            own = replaced(config, {**variant, "seed": seed, "seeds": 1})
            assert isinstance(own, TrainConfig)
            replicas.append(Replica(own, {**variant, "seed": seed}))
    return tuple(replicas)
