import itertools
from collections import Counter, defaultdict
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightgcn_jax.data import Interactions
from lightgcn_jax.errors import InputError
from pinsage_jax.tasks.pairs import (
    AskedEdges,
    CooccurrencePairs,
    Draws,
    ExplicitPairs,
    UserHistories,
    _distinct_ranks,
)
from tests.lightgcn.laws import LEVEL, chi_square

DRAWS = 60_000
# Context 0 holds item 0 twice; context 1 one item, context 2 one item twice; context 4 nothing.
ITEMS = np.array([2, 0, 1, 0, 5, 3, 3, 4, 1, 0, 2])
CONTEXTS = np.array([0, 0, 0, 0, 1, 2, 2, 3, 3, 3, 3])
NUM_CONTEXTS = 5


def fits(drawn: Draws, law: Mapping[tuple, float]) -> bool:
    """Whether drawn pairs follow the law, and nothing outside it came."""
    seen = Counter(zip(map(tuple, drawn.queries.tolist()), drawn.positives.tolist(), strict=True))
    assert set(seen) <= set(law), set(seen) - set(law)
    counts = np.array([seen[pair] for pair in law])
    return chi_square(counts, np.array(list(law.values()))) > LEVEL


def rng(seed=0):
    return np.random.default_rng(seed)


def test_cooccurring_pairs_follow_the_law_of_the_docstring():
    source = CooccurrencePairs(ITEMS, CONTEXTS, NUM_CONTEXTS)
    law: dict[tuple, float] = defaultdict(float)
    for context in range(NUM_CONTEXTS):
        entries = ITEMS[np.equal(CONTEXTS, context)].tolist()
        for query in entries:
            others = [item for item in entries if item != query]
            for positive in others:
                law[(query,), positive] += 1 / len(others)
    assert source.num_pairs == round(sum(law.values())) == 8
    assert source.query_items == 1
    assert source.skipped_contexts == 2
    drawn = source.draw(rng(), DRAWS)
    assert drawn.queries.shape == (DRAWS, 1)
    assert drawn.queries.dtype == drawn.positives.dtype == np.int32
    assert fits(drawn, law)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=25))
def test_cooccurring_items_share_a_context_and_differ(edges):
    items, contexts = np.array(edges).T
    held = {}
    for item, context in edges:
        held.setdefault(context, set()).add(item)
    if all(len(some) == 1 for some in held.values()):
        with pytest.raises(InputError, match="two different items"):
            CooccurrencePairs(items, contexts, 5)
        return
    source = CooccurrencePairs(items, contexts, 5)
    assert source.num_pairs == sum(len(held[context]) > 1 for _, context in edges)
    drawn = source.draw(rng(1), 50)
    for query, positive in zip(drawn.queries[:, 0], drawn.positives, strict=True):
        assert query != positive
        assert any({query, positive} <= some for some in held.values())


def test_explicit_pairs_are_uniform_over_their_copies():
    source = ExplicitPairs(np.array([0, 0, 1]), np.array([1, 1, 2]))
    assert (source.num_pairs, source.query_items) == (3, 1)
    assert fits(source.draw(rng(), DRAWS), {((0,), 1): 2.0, ((1,), 2): 1.0})
    rows = source.positive_rows(4)
    assert rows.offsets.tolist() == [0, 1, 2, 2, 2]
    assert rows.columns.tolist() == [1, 2]


# Copies of an edge are asked together: 0 in context 0, 3 in context 2.
ASKED = np.array([0, 1, 0, 1, 1, 1, 1, 0, 1, 0, 1], bool)


def asked_law(items, contexts, asked):
    """Each asked edge whose context keeps one has weight 1, shared by the entries that are kept."""
    law: dict[tuple, float] = defaultdict(float)
    for positive, context in zip(items[asked].tolist(), contexts[asked], strict=True):
        kept = items[~asked & (contexts == context)].tolist()
        for query in kept:
            law[(query,), positive] += 1 / len(kept)
    return law


def test_asked_edges_are_found_from_what_their_context_keeps():
    source = CooccurrencePairs(ITEMS, CONTEXTS, NUM_CONTEXTS).apart(ASKED)
    law = asked_law(ITEMS, CONTEXTS, ASKED)
    # Contexts 1 and 2 keep nothing, context 0 asks for item 0 twice.
    assert source.num_pairs == round(sum(law.values())) == 4
    assert source.query_items == 1
    drawn = source.draw(rng(), DRAWS)
    assert drawn.queries.shape == (DRAWS, 1)
    assert drawn.queries.dtype == drawn.positives.dtype == np.int32
    assert fits(drawn, law)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=25),
    st.integers(0, 2**30 - 1),
)
def test_asked_positives_and_kept_queries_share_a_context(edges, bits):
    """Whatever the edges and whichever of them are asked, copies alike."""
    items, contexts = np.array(edges).T
    asked = (bits >> (items * 5 + contexts)) & 1 > 0
    law = asked_law(items, contexts, asked)
    if not law:
        with pytest.raises(InputError, match="folds: expected a context with an asked and a kept"):
            AskedEdges(items, contexts, asked)
        return
    source = AskedEdges(items, contexts, asked)
    assert source.num_pairs == round(sum(law.values()))
    drawn = source.draw(rng(1), 50)
    assert (drawn.queries[:, 0] != drawn.positives).all()
    assert set(zip(map(tuple, drawn.queries.tolist()), drawn.positives.tolist(), strict=True)) <= (
        set(law)
    )


def test_parts_are_not_parted_again_and_given_pairs_stay():
    parts = CooccurrencePairs(ITEMS, CONTEXTS, NUM_CONTEXTS).apart(ASKED)
    with pytest.raises(InputError, match="folds: the edges are parted already"):
        parts.apart(ASKED)
    given_pairs = ExplicitPairs(np.array([0, 1]), np.array([1, 2]))
    assert given_pairs.apart(ASKED) is given_pairs


def logs(timed=True):
    """User 0: 3, 1, 1, 2 with an equal time at the end; user 1: 0 alone; user 2: 2, 3."""
    return Interactions.from_arrays(
        [0, 0, 0, 0, 1, 2, 2],
        [10, 30, 20, 10, 0, 20, 30],
        timestamps=[2, 1, 9, 9, 5, 4, 6] if timed else None,
    )


def test_histories_by_time_end_right_before_the_positive():
    source = UserHistories(logs(), last=2)
    # A repeated pair counts at its latest: user 0 is 3, 1, 2; user 2 is 2, 3.
    law = {((3, -1), 1): 1.0, ((1, 3), 2): 1.0, ((2, -1), 3): 1.0}
    assert (source.num_pairs, source.query_items) == (3, 2)
    assert fits(source.draw(rng(), DRAWS), law)
    assert source.queries(rng(), np.array([2, 0, 1])).tolist() == [[3, 2], [2, 1], [0, -1]]


def test_events_of_one_moment_come_in_any_order():
    """6,000 users meet five items at once: each of them is the latest for as many as any other."""
    users, items = np.repeat(np.arange(6_000), 5), np.tile(np.arange(5), 6_000)
    interactions = Interactions.from_arrays(users, items, timestamps=np.ones(len(users)))
    source = UserHistories(interactions, last=5)
    queries = source.queries(rng(), np.arange(6_000))
    assert (np.sort(queries, axis=1) == np.arange(5)).all()
    for place in queries.T:
        assert chi_square(np.bincount(place, minlength=5), np.ones(5)) > LEVEL


def test_histories_without_times_are_random_others():
    interactions = Interactions.from_arrays([0] * 5 + [1] * 2 + [2], [0, 1, 2, 3, 4, 0, 1, 2])
    source = UserHistories(interactions, last=3)
    drawn = source.draw(rng(), DRAWS)
    sets = Draws(np.sort(drawn.queries, axis=1), drawn.positives)
    law = {
        (query, positive): 1 / 4
        for positive in range(5)
        for query in itertools.combinations([item for item in range(5) if item != positive], 3)
    }
    # User 1 has two items: one other is left.
    law |= {((-1, -1, 0), 1): 1.0, ((-1, -1, 1), 0): 1.0}
    assert source.num_pairs == 7
    assert fits(sets, law)
    assert (drawn.queries[:, 0] >= 0).all()
    # What is asked for a held-out positive holds all of a user's items, however many n is.
    found = source.queries(rng(), np.array([1, 2, 0]))
    assert found.tolist() == [[0, 1, -1, -1, -1], [2, -1, -1, -1, -1], [0, 1, 2, 3, 4]]


def test_queries_without_times_hold_a_thousand_items_of_a_longer_history():
    users = np.repeat([0, 1], [1_500, 3])
    source = UserHistories(Interactions.from_arrays(users, np.arange(1_503)), last=2)
    long, short = source.queries(rng(), np.array([0, 1]))
    assert len(np.unique(long)) == 1_000
    assert long.min() >= 0
    assert long.max() >= 1_000
    assert short[:4].tolist() == [1_500, 1_501, 1_502, -1]


def many_logs(timed, seed=0):
    """Seven users of up to nine distinct items, at times that are all different."""
    order = rng(seed).permutation(63)[:40]
    users, items = order // 9, order % 9
    times = rng(seed + 1).permutation(40) if timed else None
    return Interactions.from_arrays(users, items, timestamps=times)


def events_of(interactions, asked):
    """The rows of each user, with whether they are asked, by time where there is one."""
    events = defaultdict(list)
    times = interactions.timestamps
    order = np.arange(len(interactions.user_rows)) if times is None else np.argsort(times)
    for event in order:
        user, item = interactions.user_rows[event], interactions.item_rows[event]
        events[int(user)].append((int(item), bool(asked[event])))
    return events.values()


@pytest.mark.parametrize("last", [1, 3])
def test_asked_events_follow_the_last_kept_ones_before_them(last):
    interactions = many_logs(timed=True)
    asked = rng(4).random(len(interactions.user_rows)) < 0.4
    law: dict[tuple, float] = defaultdict(float)
    for events in events_of(interactions, asked):
        kept: list[int] = []
        for item, is_asked in events:
            if is_asked and kept:
                query = kept[: -last - 1 : -1]
                law[(*query, *[-1] * (last - len(query))), item] += 1
            if not is_asked:
                kept.append(item)
    source = UserHistories(interactions, last=last).apart(asked)
    assert source.num_pairs == sum(law.values()) < asked.sum()
    assert (source.last, source.query_items) == (last, last)
    assert fits(source.draw(rng(), DRAWS), law)


def test_asked_events_without_times_are_found_from_kept_ones_at_random():
    interactions = many_logs(timed=False)
    asked = rng(4).random(len(interactions.user_rows)) < 0.4
    law: dict[tuple, float] = defaultdict(float)
    for events in events_of(interactions, asked):
        kept = sorted(item for item, is_asked in events if not is_asked)
        sets = list(itertools.combinations(kept, min(2, len(kept)))) if kept else []
        for item, is_asked in events:
            for query in sets if is_asked else []:
                law[(*[-1] * (2 - len(query)), *query), item] += 1 / len(sets)
    source = UserHistories(interactions, last=2).apart(asked)
    assert source.num_pairs == round(sum(law.values()))
    drawn = source.draw(rng(), DRAWS)
    assert fits(Draws(np.sort(drawn.queries, axis=1), drawn.positives), law)


def test_asked_events_are_told_in_the_order_of_distinct_interactions():
    """Those are 3, 2, 1 of user 0, whom the hash meets 3, 1, 2; 0 of user 1; 2, 3 of user 2."""
    asked = np.array([0, 1, 0, 0, 0, 1], bool)
    source = UserHistories(logs(), last=2).apart(asked)
    law = {((1, 3), 2): 1.0, ((2, -1), 3): 1.0}
    assert source.num_pairs == 2
    assert fits(source.draw(rng(), DRAWS), law)
    with pytest.raises(InputError, match=r"asked: expected bool\[6\], .* got bool\[7\]"):
        UserHistories(logs(), last=2).apart(np.zeros(7, bool))


def test_who_keeps_or_asks_nothing_gives_no_pair():
    interactions = many_logs(timed=True)
    for asked in (np.zeros(40, bool), np.ones(40, bool)):
        with pytest.raises(InputError, match="interactions: expected a user with two different"):
            UserHistories(interactions, last=2).apart(asked)


def test_distinct_ranks_give_every_set_alike():
    sizes = np.repeat([5, 0, 2], [40_000, 3, 3])
    ranks = _distinct_ranks(rng(), sizes, 3)
    assert (ranks[sizes == 0] == -1).all()
    assert np.sort(ranks[sizes == 2], axis=1).tolist() == [[-1, 0, 1]] * 3
    sets = Counter(map(tuple, np.sort(ranks[sizes == 5], axis=1).tolist()))
    assert set(sets) == set(itertools.combinations(range(5), 3))
    assert chi_square(np.array(list(sets.values())), np.ones(10)) > LEVEL


def test_draws_depend_on_the_generator_alone():
    for source in (
        CooccurrencePairs(ITEMS, CONTEXTS, NUM_CONTEXTS),
        UserHistories(logs(timed=False), last=2),
    ):
        one, same, other = (source.draw(rng(seed), 50) for seed in (3, 3, 4))
        assert (one.queries == same.queries).all()
        assert (one.positives == same.positives).all()
        assert (one.positives != other.positives).any()


def test_what_gives_no_pair_is_refused():
    with pytest.raises(InputError, match=r"pairs\[1\]: expected two different items, got row 4"):
        ExplicitPairs(np.array([0, 4]), np.array([1, 4]))
    with pytest.raises(InputError, match="at least one query–positive pair"):
        ExplicitPairs(np.zeros(0, int), np.zeros(0, int))
    with pytest.raises(InputError, match=r"positives: expected item rows int\[2\]"):
        ExplicitPairs(np.array([0, 4]), np.array([1]))
    alone = Interactions.from_arrays([0, 0, 1], [3, 3, 4])
    with pytest.raises(InputError, match="a user with two different items"):
        UserHistories(alone, last=2)
    with pytest.raises(InputError, match="last: expected an integer of 1 or more, got 0"):
        UserHistories(logs(), last=0)
