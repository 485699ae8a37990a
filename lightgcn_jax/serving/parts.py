"""What recommendations are made of: ids, what scores, who has what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.data.titles import Titles
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.ranking import ReadyScorer, queries_at_once, ready_scorer
from lightgcn_jax.evaluation.scorer import Scorer, Tables
from lightgcn_jax.graph.bipartite import CsrRows
from lightgcn_jax.serving.fold_in import Learnt
from lightgcn_jax.shown import Shown


@dataclass(frozen=True, eq=False, repr=False)
class Parts(Shown):
    """A model that scores items, and what is known of its users and items.

    Attributes:
        users: U external user ids.
        items: I external item ids.
        scorer: of U users and I items; ``InnerProduct(users, items)`` for embeddings.
        seen: row u holds the items that user u has, which are not recommended: in a run its
            training, validation and test items.
        model: the model's name, for messages.
        offset_columns: the last columns of the vectors that only add to scores (biases, popularity)
            and say nothing about who is like whom.
        train: row u holds the items of user u that the model was made from. Of users and items
            without any the model knows nothing: such users are recommended popular items, and
            neither has neighbours. None where the model knows everybody.
        titles: what people call the items, where that is known.
        learnt: what the model learnt, by which newcomers get vectors; None where they get them from
            others' final vectors.

    Raises:
        InputError: scorer, ids and seen items do not fit each other, or the scorer holds a value
            that is not finite.
    """

    users: IdMap
    items: IdMap
    scorer: Scorer
    seen: CsrRows
    model: str = "a model of your own"
    offset_columns: int = 0
    train: CsrRows | None = None
    titles: Titles | None = None
    learnt: Learnt | None = None

    def __post_init__(self):
        _check_parts(self.users, self.items, self.scorer, {"seen": self.seen, "train": self.train})

    def facts(self) -> dict[str, str]:
        """What recommends, and what it knows."""
        return {
            "model": self.model,
            "knows": f"{len(self.users):,} users, {len(self.items):,} items, "
            f"{len(self.seen.columns):,} seen pairs",
        }

    @cached_property
    def _ready(self) -> ReadyScorer:
        # Once, not at every call: it copies the items.
        return ready_scorer(self.scorer)

    @property
    def at_once(self) -> int:
        """How many queries are ranked in one block."""
        return queries_at_once(self._ready)

    @cached_property
    def _cold_users(self) -> np.ndarray:
        """``bool[U]``, of whom the model knows nothing."""
        if self.train is None:
            return np.zeros(len(self.users), bool)
        return np.asarray(self.train.lengths()) == 0

    @cached_property
    def _cold_items(self) -> np.ndarray:
        """``bool[I]``, of which the model knows nothing."""
        cold = np.full(len(self.items), self.train is not None)
        if self.train is not None:
            cold[np.asarray(self.train.columns)] = False
        return cold


def _check_parts(
    users: IdMap, items: IdMap, scorer: Scorer, pairs: Mapping[str, CsrRows | None]
) -> None:
    if isinstance(scorer, Tables):
        _check_tables(scorer, users, items)
    found = scorer.num_queries, scorer.num_items
    if found != (len(users), len(items)):
        raise InputError(
            f"scorer: expected {len(users)} users and {len(items)} items as there are ids, got "
            f"{found[0]} and {found[1]}"
        )
    for field, rows in pairs.items():
        if rows is None:
            continue
        largest = np.asarray(rows.columns).max(initial=-1)
        if rows.num_rows != len(users) or largest >= len(items):
            raise InputError(
                f"{field}: expected {len(users)} rows of items below {len(items)}, got "
                f"{rows.num_rows} rows of items up to {largest}"
            )
    for path, leaf in jax.tree.leaves_with_path(scorer):
        if jnp.issubdtype(leaf.dtype, jnp.floating) and not np.isfinite(leaf).all():
            field = f"scorer{jax.tree_util.keystr(path)}"
            raise InputError(f"{field}: expected finite numbers, got NaN or infinity")


def _check_tables(tables: Tables, users: IdMap, items: IdMap) -> None:
    dims = tables.queries.shape[1:]
    for field, table, ids in (
        ("user_embeddings", tables.queries, users),
        ("item_embeddings", tables.items, items),
    ):
        if table.dtype != np.float32 or len(dims) != 1 or table.shape != (len(ids), *dims):
            raise InputError(
                f"{field}: expected float32[{len(ids)}, D], one row for each id and one D for "
                f"users and items, got {table.dtype}{list(table.shape)}"
            )
        odd = np.asarray(table)[~np.isfinite(table)]
        if odd.size:
            raise InputError(f"{field}: expected finite numbers, got {odd[0]}")
