"""The parts of a split, ranked: what is relevant in each, and what each ranking leaves out."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lightgcn_jax.data.pairs import MappedPairs, Pairs, merge_pairs
from lightgcn_jax.data.splits import Split
from lightgcn_jax.evaluation.cold import Cold, ColdCounts, PopularForCold, cold_counts, is_known
from lightgcn_jax.evaluation.metrics import evaluate
from lightgcn_jax.evaluation.ranking import ready_to_rank
from lightgcn_jax.evaluation.scorer import Scorer
from lightgcn_jax.evaluation.seen import SeenRows, whole_rows
from lightgcn_jax.evaluation.sharded import ShardedTables
from lightgcn_jax.graph.bipartite import CsrRows, rows_of_users


class EvaluationSets(NamedTuple):
    """A split under a protocol.

    Attributes:
        split: as trained and ranked; what ``strict`` carved or ``legacy`` merged is in it.
        cold: what becomes of pairs whose user or item no training interaction names.
        train: rows of training items, one row a user.
        valid: rows of validation items to be found; of those that training names under ``skip``.
        test: rows of test items, likewise.
        both: train and validation items together, left out when test is ranked.
    """

    split: Split
    cold: Cold
    train: CsrRows
    valid: CsrRows
    test: CsrRows
    both: CsrRows | SeenRows

    @property
    def known(self) -> CsrRows:
        """Rows of train and validation items together."""
        return whole_rows(self.both)

    def left_out(self, part: str) -> CsrRows | SeenRows | None:
        """What each user's ranking of a part leaves out.

        Nothing for train, which asks how well what was seen is remembered; the train items for
        valid; the train and validation items for test.

        Args:
            part: its name.
        """
        train = self.split.train
        if part == "valid" and isinstance(train, MappedPairs):
            return SeenRows(train, None, len(self.split.users), self.train)
        return {"train": None, "valid": self.train, "test": self.both}[part]

    @property
    def users_without_test_items(self) -> int:
        """Users who have nothing in test; what ``cold`` leaves out is counted apart."""
        return len(self.split.users) - len(np.unique(self.split.test.users))

    @property
    def cold_counts(self) -> dict[str, ColdCounts]:
        """What of the withheld parts no training interaction names."""
        split = self.split
        return {name: cold_counts(getattr(split, name), split.train) for name in ("valid", "test")}

    def cold_figures(self) -> dict[str, Any]:
        """The policy and the counts, as a JSON value."""
        counts = {name: one._asdict() for name, one in self.cold_counts.items()}
        return {"policy": self.cold} | counts

    @property
    def ranks_by_popularity(self) -> bool:
        """Whether there are users for whom items are ranked by their popularity."""
        return self.cold == "popular" and any(one.users for one in self.cold_counts.values())

    def ranking(self, scorer: Any) -> Any:
        """What ranks these parts: the scorer, under ``popular`` with users whom it cannot know.

        Args:
            scorer: of the split's users and items; on one device where ranks_by_popularity.
        """
        return PopularForCold.of(scorer, self.train) if self.ranks_by_popularity else scorer


def evaluation_sets(split: Split, cold: Cold = "skip") -> EvaluationSets:
    """Rows of every part, for ranking and evaluation.

    Args:
        split: the protocol is applied.
        cold: what becomes of pairs whose user or item no training interaction names.
    """

    def rows(pairs: Pairs) -> CsrRows:
        return rows_of_users(pairs, len(split.users))

    def found(pairs: Pairs) -> CsrRows:
        if cold == "skip":
            known = is_known(pairs, split.train)
            pairs = Pairs(pairs.users[known], pairs.items[known])
        return rows(pairs)

    if isinstance(split.train, MappedPairs):
        both = SeenRows(split.train, split.valid, len(split.users))
    else:
        both = rows(merge_pairs(split.train, split.valid))
    train, valid, test = rows(split.train), found(split.valid), found(split.test)
    return EvaluationSets(split, cold, train, valid, test, both)


def rank_parts(
    scorer: Scorer | ShardedTables,
    sets: EvaluationSets,
    parts: tuple[str, ...],
    ks: tuple[int, ...],
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
        ``{"valid": {"recall@20": …}, …}``; ``{}`` for a part without pairs to find.
    """
    ready = ready_to_rank(sets.ranking(scorer))
    return {
        part: evaluate(ready, relevant, ks=ks, seen=sets.left_out(part)).metrics
        if (relevant := getattr(sets, part)).columns.shape[0]
        else {}
        for part in parts
    }
