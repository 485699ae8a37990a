"""Which pairs train, which choose the epoch, and which judge it.

``strict``: train on train, choose the epoch on validation, rank test once at the end, where a
user's train and validation items are left out. ``legacy``: train on train and validation together
and choose the epoch on test, as the papers' public code does; its test figures are those of the
best of many looks at test and are labelled so. ``fixed``: train on train and validation together
for a number of epochs that was settled before, and rank test once: what follows a choice on
validation. ``all``: train on everything, test included, for serving; nothing is left to judge by,
so that there are no figures on validation and test.

A model in closed form chooses nothing: under ``strict`` it is fitted on train, under ``legacy`` and
``fixed`` on train and validation together, under ``all`` on all three, and every part is ranked
once.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from lightgcn_jax.data.pairs import Pairs, merge_pairs
from lightgcn_jax.data.splits import Split, carve_validation
from lightgcn_jax.errors import InputError

Protocol = Literal["strict", "legacy", "fixed", "all"]


def apply_protocol(split: Split, protocol: Protocol, *, seed: int = 0) -> Split:
    """The split that a protocol trains on.

    ``strict`` carves a tenth of each user's training pairs into validation where the split has
    none; ``legacy`` and ``fixed`` move validation pairs into train, ``all`` those of test too.

    Args:
        split: of the interactions.
        protocol: which pairs train, choose and judge; see the module.
        seed: of the pairs that ``strict`` carves.

    Raises:
        InputError: nothing is left to choose the epoch on, or to judge it by.
    """
    if protocol == "all":
        if not len(split.valid) and not len(split.test):
            return split
        return dataclasses.replace(
            split,
            train=merge_pairs(split.train, split.valid, split.test),
            valid=_NO_PAIRS,
            test=_NO_PAIRS,
            description=f"{split.description}; validation and test joined to train (all)",
            # What no training interaction named is trained on now.
            notes=(),
        )
    if protocol != "strict":
        if not len(split.test):
            use = "to choose the epoch on and to judge" if protocol == "legacy" else "to judge"
            raise InputError(f"protocol {protocol}: expected test pairs {use}, got none")
        if not len(split.valid):
            return split
        return dataclasses.replace(
            split,
            train=merge_pairs(split.train, split.valid),
            valid=_NO_PAIRS,
            description=f"{split.description}; validation joined to train ({protocol})",
        )
    return split if len(split.valid) else carve_validation(split, seed=seed)


def keeps_train(split: Split, protocol: Protocol) -> bool:
    """Whether :func:`apply_protocol` trains on the split's own training pairs, told without joining
    or carving any.

    Args:
        split: of the interactions.
        protocol: which pairs train, choose and judge.
    """
    if protocol == "strict":
        return len(split.valid) > 0
    return not len(split.valid) and (protocol != "all" or not len(split.test))


_NO_PAIRS = Pairs(np.zeros(0, np.int32), np.zeros(0, np.int32))
