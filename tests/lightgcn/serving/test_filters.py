"""Filters of each user's own, and what is compiled for them."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pytest

from lightgcn_jax.data import IdMap, Interactions
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import InnerProduct, rank, ranking
from lightgcn_jax.graph import csr_rows
from lightgcn_jax.serving import Recommender
from lightgcn_jax.serving.filters import of_user, user_pairs

USERS, ITEMS = 70, 70


@pytest.fixture(scope="module")
def tables():
    rng = np.random.default_rng(1)
    return rng.normal(size=(USERS, 2)), rng.normal(size=(ITEMS, 2))


@pytest.fixture(scope="module")
def recommender(tables):
    users, items = (jnp.asarray(one, jnp.float32) for one in tables)
    seen = csr_rows(np.arange(USERS), np.full(USERS, 9), USERS)
    ids = [IdMap(pl.Series("id", np.arange(n))) for n in (USERS, ITEMS)]
    return Recommender(*ids, InnerProduct(users, items), seen)


def expected(tables, user, k, among=None, exclude=()):
    scores = tables[1] @ tables[0][user]
    scores[[9, *exclude]] = -np.inf
    if among is not None:
        scores[np.setdiff1d(np.arange(ITEMS), among)] = -np.inf
    best = np.argsort(-scores, kind="stable")[:k]
    return best[np.isfinite(scores[best])].tolist()


@pytest.mark.parametrize("users", [[3, 4, 5], [*range(USERS)]])
def test_each_user_has_filters_of_their_own(recommender, tables, users):
    rng = np.random.default_rng(len(users))
    hidden = {user: rng.choice(ITEMS, user % 30, replace=False) for user in range(0, USERS, 2)}
    only = {user: rng.choice(ITEMS, 20 + user % 7, replace=False) for user in range(USERS)}
    found = recommender.recommend(users, 12, among=only, exclude=hidden)
    for user, answer in zip(users, found, strict=True):
        assert answer.ids == expected(tables, user, 12, only[user], hidden.get(user, ()))
    # Beside a filter for everybody.
    found = recommender.recommend(users, 5, among=range(40), exclude=hidden)
    for user, answer in zip(users, found, strict=True):
        assert answer.ids == expected(tables, user, 5, range(40), hidden.get(user, ()))


def test_who_has_no_items_of_their_own_among_others_gets_none(recommender):
    one, other = recommender.recommend([1, 2], 3, among={1: [5, 6]})
    assert (sorted(one.ids), other.ids) == ([5, 6], [])


def test_other_numbers_compile_nothing(recommender):
    """Neither k, nor how many items are hidden or allowed, nor how many users ask."""
    recommender.recommend([0, 1, 2], 3, exclude={0: [1]})
    recommender.recommend([*range(40)], 3, exclude={0: [1]})
    before = ranking.rank_block._cache_size()
    for k, hidden in ((1, {0: [2, 3]}), (30, {1: range(60)}), (7, {2: [4], 0: [5], 1: [6]})):
        recommender.recommend([0, 1, 2], k, exclude=hidden)
        recommender.recommend([0, 1, 2, 3], k, among=hidden)
    for count in (33, 50, 70):
        recommender.recommend([*range(count)], 4, exclude={5: [1, 2]})
    assert ranking.rank_block._cache_size() == before


@pytest.mark.parametrize(
    "given",
    [
        {"a": [1, 2], "b": [3]},
        pl.DataFrame({"who": ["a", "a", "b"], "what": [1, 2, 3], "when": [7, 8, 9]}),
        pd.DataFrame({"when": [7, 8, 9], "item": [1, 2, 3], "user": ["a", "a", "b"]}),
        Interactions.from_arrays(["a", "a", "b"], [1, 2, 3]),
    ],
)
def test_pairs_in_any_form(given):
    users, items = user_pairs(given, "exclude")
    assert (users.to_list(), items.to_list()) == (["a", "a", "b"], [1, 2, 3])
    assert [*of_user(given, "a", "exclude")] == [1, 2]


def test_pairs_that_are_not_known(recommender):
    with pytest.warns(UserWarning, match="exclude: 1 of 2 pairs name an unknown user or item"):
        assert 5 not in recommender.recommend(1, 60, exclude={1: [5], 999: [3]}).ids
    with pytest.raises(InputError, match="got none among 1, such as 'x'; known ids look like 0"):
        recommender.recommend(1, exclude={"x": [3]})
    with pytest.raises(InputError, match="expected a table of users and items, got one column"):
        recommender.recommend(1, exclude=pl.DataFrame({"item": [1]}))


def test_masks_of_queries_go_along_with_blocks(tables, monkeypatch):
    monkeypatch.setattr(ranking, "_BLOCK_SCORES", 32 * ITEMS)
    allowed = np.random.default_rng(0).random((USERS, ITEMS)) < 0.5
    scorer = InnerProduct(*(jnp.asarray(one, jnp.float32) for one in tables))
    found = rank(scorer, np.arange(USERS), 5, allowed=allowed).items
    scores = np.where(allowed, tables[0] @ tables[1].T, -np.inf)
    np.testing.assert_array_equal(found, np.argsort(-scores, axis=1, kind="stable")[:, :5])
    with pytest.raises(InputError, match="allowed: expected bool of"):
        rank(scorer, [0], 5, allowed=allowed)


def test_items_that_were_looked_up_once_filter_alike(recommender):
    few = recommender.item_set(np.arange(30, 40))
    for filters in ({"among": few}, {"exclude": few}, {"among": few, "exclude": {1: [31]}}):
        plain = {name: [*one] if one is few else one for name, one in filters.items()}
        found, expected = (recommender.recommend(1, 8, **one).ids for one in (filters, plain))
        assert found == expected
    # Elsewhere the same ids have other rows.
    other = dataclasses.replace(recommender, items=IdMap(recommender.items.ids.reverse()))
    assert sorted(other.recommend(1, 10, among=few).ids) == [*range(30, 40)]
    assert repr(few) == "ItemSet\n  items: 10 of 70"
    with pytest.raises(InputError, match="items: unknown item ids: 99"):
        recommender.item_set([1, 99])


@pytest.mark.parametrize("form", [list, pd.Series, pl.Series, np.array, tuple, set])
def test_items_for_everybody_in_any_form(recommender, form):
    assert sorted(recommender.recommend(1, 3, among=form([7, 8, 11])).ids) == [7, 8, 11]
