"""The parts of a split, ranked: what is relevant in each, and what each ranking leaves out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lightgcn_jax.data.pairs import Pairs, merge_pairs
from lightgcn_jax.data.splits import Split
from lightgcn_jax.evaluation.metrics import evaluate
from lightgcn_jax.evaluation.scorer import Scorer
from lightgcn_jax.graph.bipartite import CsrRows, csr_rows


class EvaluationSets(NamedTuple):
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


def evaluation_sets(split: Split) -> EvaluationSets:
    """Rows of every part, for ranking and evaluation."""

    def rows(pairs: Pairs) -> CsrRows:
        return csr_rows(pairs.users, pairs.items, len(split.users))

    known = rows(merge_pairs(split.train, split.valid))
    return EvaluationSets(split, rows(split.train), rows(split.valid), rows(split.test), known)


def rank_parts(
    scorer: Scorer, sets: EvaluationSets, parts: tuple[str, ...], ks: tuple[int, ...]
) -> dict[str, dict[str, float]]:
    """Full-ranking metrics of several parts of a split; empty for a part without pairs.

    Train is ranked unmasked (how well what was seen is remembered), validation without the train
    items, test without the train and validation items.
    """
    left_out = {"train": None, "valid": sets.train, "test": sets.known}
    metrics = {}
    for part in parts:
        relevant = getattr(sets, part)
        metrics[part] = {}
        if relevant.columns.shape[0]:
            evaluation = evaluate(scorer, relevant, ks=ks, seen=left_out[part])
            metrics[part] = evaluation.metrics
    return metrics
