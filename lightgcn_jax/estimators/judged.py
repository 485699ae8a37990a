"""Scores of single pairs, and which pairs of some test data a model can be judged by."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from lightgcn_jax.data import IdMap, Interactions, Split
from lightgcn_jax.data.pairs import Pairs, merge_pairs, pair_keys
from lightgcn_jax.errors import InputError
from lightgcn_jax.estimators.tables import as_list, is_many
from lightgcn_jax.evaluation.cold import is_known
from lightgcn_jax.evaluation.scorer import Scorer, exact_pair_scores
from lightgcn_jax.fields import scalar


def scores_of(
    scorer: Scorer, user_ids: IdMap, item_ids: IdMap, users: Any, items: Any
) -> float | np.ndarray:
    """The score of a user and an item, or of several pairs.

    Args:
        scorer: of U users and I items.
        user_ids: U.
        item_ids: I.
        users: an id, or n of them.
        items: an id, or n of them; one of either counts for all of the other.

    Returns:
        A number, or ``float32[n]``.

    Raises:
        InputError: an id is unknown, or the lengths differ.
    """
    asked = scalar(users), scalar(items)
    user_rows = _known("user", user_ids, asked[0])
    item_rows = _known("item", item_ids, asked[1])
    if len(user_rows) != len(item_rows) and 1 not in (len(user_rows), len(item_rows)):
        raise InputError(
            f"score: expected as many items as users, got {len(item_rows)} and {len(user_rows)}"
        )
    user_rows, item_rows = np.broadcast_arrays(user_rows, item_rows)
    scores = exact_pair_scores(scorer, user_rows, item_rows)
    return scores if any(map(is_many, asked)) else float(scores[0])


def _known(kind: str, ids: IdMap, asked: Any) -> np.ndarray:
    several = as_list(asked) or []
    rows = ids.rows(several)
    if (rows < 0).any():
        odd = several[int((rows < 0).argmax())]
        raise InputError(f"{kind}: unknown id {odd!r}; known ids look like {ids.ids[0]!r}")
    return rows


def held_out(split: Split) -> tuple[pl.Series, pl.Series]:
    """The ids of the users and items of a split's test part.

    Args:
        split: that a model was fitted on.

    Raises:
        InputError: it has none.
    """
    if not len(split.test):
        raise InputError(
            "test: the model was fitted on everything, so nothing was held out; pass test data, "
            "or fit a split, fit(ratio_split(interactions))"
        )
    return pairs_of(split)


def pairs_of(data: Split | Interactions) -> tuple[pl.Series, pl.Series]:
    """The ids of the users and items of all pairs; of a split, of its test part.

    Args:
        data: what somebody passed as test data.
    """
    if isinstance(data, Split):
        users, items = data.test.users, data.test.items
    else:
        users, items = data.user_rows, data.item_rows
    return data.users.ids.gather(users), data.items.ids.gather(items)


def to_be_found(split: Split, users: pl.Series, items: pl.Series) -> tuple[Pairs, str | None]:
    """The pairs that a model can find: of users and items of its training, and not trained on.

    Args:
        split: that the model was fitted on.
        users: n ids.
        items: n ids.

    Returns:
        The pairs, and what was left out, None where nothing was.

    Raises:
        InputError: no pair is left.
    """
    rows = split.users.rows(users), split.items.rows(items)
    inside = (rows[0] >= 0) & (rows[1] >= 0)
    pairs = Pairs.from_rows(rows[0][inside], rows[1][inside])
    named, trained = is_known(pairs, split.train), merge_pairs(split.train, split.valid)
    new = ~np.isin(pair_keys(pairs.users, pairs.items), trained.keys)
    left, repeated = int((named & new).sum()), int((named & ~new).sum())
    if not left:
        raise InputError(
            f"test: expected pairs of known users and items that training does not hold, got none "
            f"among {len(users):,} ({repeated:,} were trained on)"
        )
    note = None
    if left < len(users):
        note = (
            f"{left:,} of {len(users):,} test pairs are looked for: {repeated:,} were trained on, "
            f"{len(users) - left - repeated:,} name a user or an item that training does not know"
        )
    return Pairs(pairs.users[named & new], pairs.items[named & new]), note
