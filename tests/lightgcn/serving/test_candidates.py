"""Sources merged, against a loop that lets them take turns."""

from fractions import Fraction

import numpy as np
import pytest

from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import InnerProduct
from lightgcn_jax.models.trivial import PopularScorer
from lightgcn_jax.serving.two_stage import Source, candidates_of
from lightgcn_jax.serving.two_stage.candidates import merged

USERS, ITEMS = 6, 40


def turns(lists, sizes, total):
    """The rule in words: item p of a source of size n comes at p / n, earlier sources first."""
    proposals = sorted(
        (Fraction(place + 1, size), source, item)
        for source, (one, size) in enumerate(zip(lists, sizes, strict=True))
        for place, item in enumerate(one)
        if item >= 0
    )
    items = list(dict.fromkeys(item for _, _, item in proposals))[:total]
    places = [[list(one).index(item) if item in one else -1 for one in lists] for item in items]
    return items, places


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sizes", [(3, 1, 2), (1, 1, 1), (7, 2, 3)])
def test_sources_take_turns_in_proportion_to_their_sizes(seed, sizes):
    rng = np.random.default_rng(seed)
    lists = [np.stack([rng.permutation(15)[:9] for _ in range(4)]).astype(np.int32) for _ in sizes]
    lists[1][2, 5:] = -1  # fewer there
    found = merged(lists, sizes, 10)
    for row in range(4):
        items, places = turns([one[row] for one in lists], sizes, 10)
        assert found.items[row, : len(items)].tolist() == items
        assert (found.items[row, len(items) :] == -1).all()
        assert found.places[row, : len(items)].tolist() == places
        assert (found.places[row, len(items) :] == -1).all()


def sources():
    rng = np.random.default_rng(0)
    tables = rng.normal(size=(USERS, 4)), rng.normal(size=(ITEMS, 4))
    popularity = rng.permutation(ITEMS).astype(np.float32)
    return [
        Source("model", InnerProduct(*(one.astype(np.float32) for one in tables)), 6),
        Source("popular", PopularScorer(popularity, USERS), 2),
    ]


def test_seen_items_are_never_proposed_and_the_first_of_each_source_always():
    seen = np.arange(USERS).repeat(5), np.tile([0, 3, 7, 11, 20], USERS)
    found = candidates_of(sources(), np.arange(USERS), 8, seen=seen)
    assert not np.isin(found.items, seen[1]).any()
    assert all(len(set(row)) == 8 for row in found.items.tolist())
    # With sizes that add up to C every source has its first items in.
    for at, source in enumerate(sources()):
        assert all(set(range(source.size)) <= set(row) for row in found.places[:, :, at].tolist())
    again = candidates_of(sources(), np.arange(USERS)[::-1], 8, seen=seen)
    assert np.array_equal(again.items[::-1], found.items)


def test_where_items_run_out_places_stay_empty():
    seen = np.zeros(ITEMS - 3, int), np.arange(ITEMS - 3)
    found = candidates_of(sources(), np.array([0, 1]), 30, seen=seen)
    assert sorted(found.items[0, :3].tolist()) == [ITEMS - 3, ITEMS - 2, ITEMS - 1]
    assert (found.items[0, 3:] == -1).all()
    assert (found.items[1] >= 0).all()


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="size of at least 1"):
        candidates_of([], np.arange(2), 5)
    first, second = sources()
    with pytest.raises(InputError, match="size of at least 1"):
        candidates_of([first, second._replace(size=0)], np.arange(2), 5)
    other = Source("other", PopularScorer(np.ones(3, np.float32), USERS), 1)
    with pytest.raises(InputError, match="the same items"):
        candidates_of([first, other], np.arange(2), 3)
