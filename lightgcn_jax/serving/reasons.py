"""Which of somebody's items speak for an item, in numbers that are exact where the model is linear.

A closed form that scores a row of interactions (`filter`, `gfcf`, `itemcf`) is linear in it, once
the graph is fixed, with the newcomer in it or not: the score of an item is the sum over somebody's
items of what the item scores for a row of that one alone. So is the folded-in vector of LightGCN
and SGC: Σ_j n^p m_j W, and with it the inner product. Of other models with vectors nothing adds up;
they give the cosine of the two items' vectors.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.scorer import Embedded, FromHistories, InnerProduct, exact_scores
from lightgcn_jax.serving.answers import histories_of
from lightgcn_jax.serving.fold_in import Scored
from lightgcn_jax.serving.newcomers import Newcomers

# Lists of one item are scored so many at a time, and filled up to this length.
_AT_ONCE, _LENGTH = 32, 16
_SHARE = "what the item adds to the score; the numbers of all of somebody's items add up to it"
_FOLDED = (
    "what the item adds to the score of somebody new who has these items; the numbers of all of "
    "them add up to it"
)
_COSINE = "the cosine of the vectors of the two items; these do not add up to the score"
_CLOSE = 1e-3


class Reasons(NamedTuple):
    """How much each of somebody's items speaks for each of some items.

    Attributes:
        values: ``float32[n, m]``, of n items of theirs for m others.
        adds_up: whether a column adds up to a score.
        number: what a value is, a sentence.
    """

    values: np.ndarray
    adds_up: bool
    number: str


def reasons(
    recommender: Newcomers, given: np.ndarray, items: np.ndarray, user: int | None = None
) -> Reasons:
    """What of somebody's items speaks for some items.

    Args:
        recommender: the model.
        given: ``int[n]``, rows of distinct items of theirs, n of at least 1.
        items: ``int[m]``, rows of the others.
        user: the row of the user whose items they are, whose weights count; None of somebody new.

    Raises:
        InputError: the model has neither vectors nor a row of interactions to take apart.
    """
    scorer = recommender.scorer
    if isinstance(scorer, FromHistories):
        values = _shares(scorer, given, items, user is not None)
        return Reasons(values * _weights(recommender, given, user)[:, None], True, _SHARE)
    if type(scorer) is InnerProduct:
        values = _folded_shares(recommender, scorer, given, items)
        if values is not None:
            return Reasons(values, True, _FOLDED)
    if not isinstance(scorer, Embedded):
        raise InputError(f"reasons: expected a model of vectors or items, got {recommender.model}")
    vectors = np.asarray(scorer.embeddings()[1])
    width = vectors.shape[1] - recommender.offset_columns
    theirs, others = (_unit(vectors[rows, :width]) for rows in (given, items))
    return Reasons(theirs @ others.T, False, _COSINE)


def _unit(vectors: np.ndarray) -> np.ndarray:
    """On the host: any number of rows then needs no program of its own."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def _shares(
    scorer: FromHistories, given: np.ndarray, items: np.ndarray, is_trained: bool
) -> np.ndarray:
    """What each item of a row alone makes of the others' scores."""
    parts, whole = [], histories_of([given] * _AT_ONCE)
    for start in range(0, len(given), _AT_ONCE):
        part = given[start : start + _AT_ONCE]
        filled = np.pad(part, (0, _AT_ONCE - len(part)), mode="edge")
        alone = scorer.of_histories(histories_of([*filled[:, None]], _LENGTH), whole, is_trained)
        table = np.asarray(_all_scores(alone, jnp.arange(_AT_ONCE, dtype=jnp.int32)))
        parts.append(table[items, : len(part)].T)
    return np.concatenate(parts)


_all_scores = jax.jit(exact_scores)


def _weights(recommender: Newcomers, given: np.ndarray, user: int | None) -> np.ndarray:
    """What the user's interactions weigh, ``float32[n]``; 1 of somebody new."""
    train = recommender.train
    if user is None or train is None or train.weights is None:
        return np.ones(len(given), np.float32)
    start, end = np.asarray(train.offsets)[user : user + 2]
    held = np.asarray(train.columns)[start:end]
    places = np.minimum(np.searchsorted(held, given), len(held) - 1)
    weights = np.asarray(train.weights)[start:end][places]
    return np.where(held[places] == given, weights, 0)


def _folded_shares(
    recommender: Newcomers, scorer: InnerProduct, given: np.ndarray, items: np.ndarray
) -> np.ndarray | None:
    """The parts of the product with a folded-in vector; None where that is no sum."""
    making = recommender.fold_in.users
    if not isinstance(making.maker, Scored):
        return None
    alone = making.vectors([*given[:, None]])
    power = making.maker.sums.power
    two = alone[:2]
    together = making.vectors([given[:2]])[0]
    parted = (float(len(two)) ** power * two).sum(axis=0)
    if np.abs(parted - together).max() > _CLOSE * np.abs(together).max():
        return None  # a score that adds columns, or a model that bends the sum
    parts = float(len(given)) ** power * alone
    return parts @ np.asarray(scorer.items)[items].T
