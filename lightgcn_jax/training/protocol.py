"""Which pairs train, which choose the epoch, which judge it, and what each ranking leaves out.

``strict``: train on train, choose the epoch on validation, rank test once at the end, where a
user's train and validation items are left out. ``legacy``: train on train and validation together
and choose the epoch on test, as the papers' public code does; its test figures are those of the
best of many looks at test and are labelled so. ``fixed``: train on train and validation together
for a number of epochs that was settled before, and rank test once: what follows a choice on
validation.

A model in closed form chooses nothing: under ``strict`` it is fitted on train, under the others on
train and validation together, and every part is ranked once.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from lightgcn_jax.data.pairs import Pairs, merge_pairs
from lightgcn_jax.data.splits import Split, carve_validation
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.metrics import evaluate
from lightgcn_jax.evaluation.scorer import Scorer
from lightgcn_jax.graph.bipartite import BipartiteGraph, CsrRows, csr_rows
from lightgcn_jax.training.choices import Protocol
from lightgcn_jax.training.config import TrainConfig

_TRAINED_LABELS: dict[str, str] = {
    "strict": "strict: epoch selected on validation, test ranked once",
    "legacy": "legacy: epoch selected on TEST, for comparison with papers only",
    "fixed": "fixed: trained on train and validation, epochs settled before, test ranked once",
}
_CLOSED_FORM_LABELS: dict[str, str] = {
    "strict": "strict: fitted on train, nothing selected, test ranked once",
    "legacy": "legacy: fitted on train and validation, nothing selected, test ranked once",
    "fixed": "fixed: fitted on train and validation, nothing selected, test ranked once",
}
SELECTION_PART = {"strict": "valid", "legacy": "test", "fixed": None}
"""The part on which the epoch is selected; None where it is the last one."""


def label_of(config: TrainConfig) -> str:
    """What figures under a protocol mean, for every output that shows them."""
    labels = _TRAINED_LABELS if config.is_trained else _CLOSED_FORM_LABELS
    return labels[config.protocol]


class Arena(NamedTuple):
    """A split under a protocol.

    Attributes:
        split: as trained and ranked; what ``strict`` carved or ``legacy`` merged is in it.
        train: rows of training items, one row a user.
        valid: rows of validation items.
        test: rows of test items.
        known: train and validation items together, left out when test is ranked.
    """

    split: Split
    train: CsrRows
    valid: CsrRows
    test: CsrRows
    known: CsrRows

    @property
    def users_without_test_items(self) -> int:
        """Users that no figure on test counts."""
        return int((np.asarray(self.test.lengths()) == 0).sum())


def apply_protocol(split: Split, protocol: Protocol, *, seed: int = 0) -> Split:
    """The split that a protocol trains on.

    ``strict`` carves a tenth of each user's training pairs into validation where the split has
    none; ``legacy`` and ``fixed`` move validation pairs into train.

    Raises:
        InputError: nothing is left to choose the epoch on, or to judge it by.
    """
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


def open_arena(split: Split) -> Arena:
    """Rows of every part, for ranking and evaluation."""

    def rows(pairs: Pairs) -> CsrRows:
        return csr_rows(pairs.users, pairs.items, len(split.users))

    known = merge_pairs(split.train, split.valid)
    return Arena(split, rows(split.train), rows(split.valid), rows(split.test), rows(known))


def training_graph(split: Split) -> BipartiteGraph:
    """The training pairs of a split over all its users and items."""
    return BipartiteGraph.from_pairs(
        split.train.users,
        split.train.items,
        num_users=len(split.users),
        num_items=len(split.items),
    )


def rank_parts(
    scorer: Scorer, arena: Arena, parts: tuple[str, ...], ks: tuple[int, ...]
) -> dict[str, dict[str, float]]:
    """Full-ranking metrics of several parts of a split; empty for a part without pairs.

    Train is ranked unmasked (how well what was seen is remembered), validation without the train
    items, test without the train and validation items.
    """
    left_out = {"train": None, "valid": arena.train, "test": arena.known}
    metrics = {}
    for part in parts:
        relevant = getattr(arena, part)
        metrics[part] = {}
        if relevant.columns.shape[0]:
            evaluation = evaluate(scorer, relevant, ks=ks, seen=left_out[part])
            metrics[part] = evaluation.metrics
    return metrics


_NO_PAIRS = Pairs(np.zeros(0, np.int32), np.zeros(0, np.int32))
