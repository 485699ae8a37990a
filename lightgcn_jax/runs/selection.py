"""What the epoch of a run is chosen by."""

from __future__ import annotations

from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.parts import EvaluationSets
from lightgcn_jax.settings.config import TrainConfig
from lightgcn_jax.settings.protocols import SELECTION_PART


def check_selection(config: TrainConfig, sets: EvaluationSets) -> None:
    """Refuse to choose an epoch by a part that holds nothing to be found.

    Args:
        config: the settings of a trained model.
        sets: the split under its protocol.

    Raises:
        InputError: the part has no pair of a user and an item that training names.
    """
    part = SELECTION_PART[config.protocol]
    if part is None or getattr(sets, part).columns.shape[0]:
        return
    pairs = len(getattr(sets.split, part))
    raise InputError(
        f"{part}: expected pairs to choose the epoch by, got none of a user and an item that "
        f"both have training interactions, among {pairs:,}; rank such users by popularity "
        "(cold popular), choose another split, or settle the epochs (protocol fixed)"
    )
