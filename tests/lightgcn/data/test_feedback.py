"""Ratings are merged before the threshold and events after it; what became a positive is said."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightgcn_jax.data.feedback import of_events, positives
from lightgcn_jax.data.interactions import Interactions
from lightgcn_jax.errors import InputError

quick = settings(deadline=None)


def log(rows, times=True):
    users, items, ratings = zip(*rows, strict=True)
    timestamps = range(len(rows)) if times else None
    return Interactions.from_arrays(users, items, ratings, timestamps)


def pairs_of(data):
    users, items = data.users.external(data.user_rows), data.items.external(data.item_rows)
    return sorted(zip(users, items, strict=True))


ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=40
)


@quick
@given(ROWS, st.integers(1, 5), st.booleans())
def test_each_kind_of_feedback_is_its_definition(rows, threshold, times):
    """Python's dict keeps the last row of a pair; a set of the rows that reach the threshold."""
    data = log(rows, times)
    last = {(user, item): rating for user, item, rating in rows}
    rated = sorted(pair for pair, rating in last.items() if rating >= threshold)
    clicked = sorted({(user, item) for user, item, rating in rows if rating >= threshold})
    for feedback, expected in (("ratings", rated), ("events", clicked)):
        if expected:
            assert pairs_of(positives(data, threshold, feedback)) == expected
        else:
            with pytest.raises(InputError, match="removed all"):
                positives(data, threshold, feedback)


def test_a_later_impression_erases_no_click():
    clicks = [("u", "a", 1), ("u", "a", 0), ("u", "b", 0), ("v", "a", 0), ("v", "a", 1)]
    found = positives(log(clicks), 1)
    assert pairs_of(found) == [("u", "a"), ("v", "a")]
    assert "all ratings are 0 or 1, so rows are read as events" in found.notes[0]
    assert pairs_of(positives(log(clicks), 1, "ratings")) == [("v", "a")]
    assert positives(log(clicks), 1, "ratings").notes == ()


def test_the_last_of_several_ratings_counts():
    stars = [("u", "a", 5), ("u", "a", 2), ("v", "a", 4)]
    found = positives(log(stars), 4)
    assert pairs_of(found) == [("v", "a")]
    assert "rows are read as ratings: of a repeated pair the last row decides" in found.notes[0]
    assert pairs_of(positives(log(stars), 4, "events")) == [("u", "a"), ("v", "a")]


def test_a_guess_that_changes_nothing_is_not_said():
    assert positives(log([("u", "a", 5), ("v", "a", 4)]), 4).notes == ()


@pytest.mark.parametrize(
    ("values", "note"),
    [
        ([1, 2, 3, 4, 5], r"2 of 5 ratings are below 3, the middle of 1 … 5"),
        ([0.5, 5, 5], r"1 of 3 ratings are below 2\.75, the middle of 0\.5 … 5"),
        ([0, 1, 1, 0], "2 of 4 pairs have no row rated above 0, and count as positives all the"),
        ([0, 3, 10], "1 of 3 ratings are 0, and their pairs count as positives all the same"),
        ([-1, 7, 8], "1 of 3 ratings are 0 or below"),
        ([1, 1, 1], None),
        (
            np.geomspace(1, 1e5, 40).round(),
            "^ratings are not used: --min-rating leaves",
        ),
        (None, None),
    ],
)
def test_low_ratings_that_become_positives_are_counted(values, note):
    count = 3 if values is None else len(values)
    data = Interactions.from_arrays(range(count), range(count), values)
    found = positives(data)
    assert len(found) == count
    if note is None:
        assert found.notes == ()
    else:
        assert re.search(note, found.notes[0])
        assert "--min-rating" in found.notes[0]


def test_low_ratings_are_those_of_the_pairs_that_stay():
    found = positives(log([("u", "a", 1), ("u", "a", 5), ("v", "b", 2), ("v", "c", 5)]))
    assert found.notes[0].startswith("1 of 3 ratings are below 3.5")


def test_a_pair_with_one_click_is_no_low_one():
    rows = [("u", "a", 1), ("u", "a", 0), ("v", "b", 0), ("v", "b", 0), ("v", "c", 1)]
    assert positives(log(rows)).notes[0].startswith("1 of 3 pairs have no row rated above 0")
    assert positives(log(rows), feedback="ratings").notes[0].startswith("2 of 3 ratings are 0,")


def test_events_are_chosen_by_their_type():
    data = Interactions.from_arrays(["u", "u", "v", "v"], ["a", "a", "a", "b"])
    types = ["view", "click", "buy", "view"]
    found = of_events(data, types, ["click", "buy"])
    assert pairs_of(found) == [("u", "a"), ("v", "a")]
    assert found.items.ids.to_list() == ["a"]
    assert found.notes == ("events: view (2), buy (1), click (1); click, buy count",)
    with pytest.raises(InputError, match=r"event 'clik': no row has this type; the types are view"):
        of_events(data, types, ["clik"])


def test_feedback_of_another_name_is_refused():
    with pytest.raises(InputError, match="feedback: expected events or ratings, got 'clicks'"):
        positives(log([(1, 2, 5)]), 4, "clicks")
