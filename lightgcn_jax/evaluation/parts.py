"""The parts of a split, ranked: what is relevant in each, and what each ranking leaves out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lightgcn_jax.data.pairs import Pairs, merge_pairs
from lightgcn_jax.data.splits import Split
from lightgcn_jax.evaluation.metrics import evaluate
from lightgcn_jax.evaluation.ranking import ready_scorer
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

    def left_out(self, part: str) -> CsrRows | None:
        """What each user's ranking of a part leaves out.

        Nothing for train, which asks how well what was seen is remembered; the train items for
        valid; the train and validation items for test.

        Args:
            part: its name.
        """
        return {"train": None, "valid": self.train, "test": self.known}[part]

    @property
    def users_without_test_items(self) -> int:
        """Users that no figure on test counts."""
        return int((np.asarray(self.test.lengths()) == 0).sum())


def evaluation_sets(split: Split) -> EvaluationSets:
    """Rows of every part, for ranking and evaluation.

    Args:
        split: the protocol is applied.
    """

    def rows(pairs: Pairs) -> CsrRows:
        return csr_rows(pairs.users, pairs.items, len(split.users))

    known = rows(merge_pairs(split.train, split.valid))
    return EvaluationSets(split, rows(split.train), rows(split.valid), rows(split.test), known)


def rank_parts(
    scorer: Scorer, sets: EvaluationSets, parts: tuple[str, ...], ks: tuple[int, ...]
) -> dict[str, dict[str, float]]:
    """Full-ranking metrics of several parts of a split.

    Train and validation cannot share a ranking: what a user has seen is left out of one of them
    only, and takes most of the first places of the other.

    Args:
        scorer: of the split's users and items.
        sets: the parts, and what each leaves out.
        parts: names of those to rank.
        ks: cut-offs.

    Returns:
        ``{"valid": {"recall@20": …}, …}``; ``{}`` for a part without pairs.
    """
    ready = ready_scorer(scorer)
    return {
        part: evaluate(ready, relevant, ks=ks, seen=sets.left_out(part)).metrics
        if (relevant := getattr(sets, part)).columns.shape[0]
        else {}
        for part in parts
    }
