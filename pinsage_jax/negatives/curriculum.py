"""How many hard negatives a query gets in each epoch (PinSAGE, section 3.3).

The paper's curriculum: none in the first epoch, then one more in every epoch, "in the n-th epoch of
the training, we add n − 1 hard negative items". Nothing recompiles: the step always holds the most
there will be, and counts the first of them by ``jnp.arange(cap) < active`` with a traced number.
"""

from __future__ import annotations

from typing import Literal, get_args

from lightgcn_jax.errors import InputError

ScheduleName = Literal["paper", "none", "all", "linear"]


def active_hard(name: ScheduleName, epoch: int, cap: int, epochs: int) -> int:
    """Tell how many hard negatives are active in an epoch, from 0 to the cap; on the host.

    ====== =================================================================
    paper  epoch − 1, up to the cap
    none   0: the control without hard negatives
    all    the cap from the first epoch on
    linear from 0 in epoch 1 to the cap in the last epoch, rounded to the nearest
    ====== =================================================================

    Args:
        name: the schedule.
        epoch: the epoch, from 1.
        cap: H, the most hard negatives of a query.
        epochs: how many epochs ``linear`` is spread over; later epochs keep the cap.

    Raises:
        InputError: no schedule has that name, or a number is out of range.
    """
    if name not in get_args(ScheduleName):
        raise InputError(f"curriculum: expected one of {get_args(ScheduleName)}, got {name!r}")
    for field, value, least in (("epoch", epoch, 1), ("cap", cap, 0), ("epochs", epochs, 1)):
        if value < least:
            raise InputError(f"{field}: expected {least} or more, got {value}")
    if name == "none":
        return 0
    if name == "paper":
        return min(epoch - 1, cap)
    if name == "all" or epoch >= epochs:
        return cap
    # In whole numbers, so that halves round up on every machine.
    return (2 * cap * (epoch - 1) + epochs - 1) // (2 * (epochs - 1))
