import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightgcn_jax.data import TEST, TRAIN, IdMap, Interactions, load_dataset
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph.bipartite import csr_rows
from pinsage_jax.data.items import ItemData
from pinsage_jax.data.sources import from_files
from pinsage_jax.data.world import PinWorld, generate_pins
from pinsage_jax.features.table import FeatureTable
from pinsage_jax.tasks.edge_choice import held_out_edges
from pinsage_jax.tasks.holdout import (
    cooccurrence_task,
    explicit_task,
    given_task,
    permuted,
    time_task,
)
from pinsage_jax.tasks.pairs import ExplicitPairs
from pinsage_jax.tasks.task import HeldOut
from tests.lightgcn.laws import LEVEL, chi_square

DATA = generate_pins(PinWorld(items=600, boards=120, mean_board_size=15), seed=3).data
TASK = cooccurrence_task(DATA, seed=5)
EDGES = DATA.interactions
assert TASK.fresh is not None
assert TASK.fresh_edges is not None
assert EDGES.timestamps is not None
FRESH, (BACK_ITEMS, BACK_CONTEXTS) = TASK.fresh, TASK.fresh_edges
TIMES = EDGES.timestamps


def pairs_of(held: HeldOut):
    """The one positive of each query: int[Q], int[Q]."""
    assert (np.diff(held.relevant.offsets) == 1).all()
    assert (np.asarray(held.seen.columns) == held.queries[:, 0]).all()
    return held.queries[:, 0], np.asarray(held.relevant.columns)


def rows_of(rows):
    offsets, columns = np.asarray(rows.offsets), np.asarray(rows.columns)
    return [columns[one:other].tolist() for one, other in itertools.pairwise(offsets)]


def together(interactions):
    """How many contexts hold both of two items, int[I, I]; and who holds what, bool[C, I]."""
    held = np.zeros((interactions.num_users, interactions.num_items), bool)
    held[interactions.user_rows, interactions.item_rows] = True
    return held.T.astype(int) @ held.astype(int), held


def test_held_out_edges_are_nowhere_in_train():
    train, fresh_items = TASK.train, np.flatnonzero(~TASK.train_items)
    everything, trained = set(EDGES.pair_keys.tolist()), set(train.pair_keys.tolist())
    assert trained < everything
    given_back = BACK_CONTEXTS.astype(np.int64) * EDGES.num_items + BACK_ITEMS
    assert set(given_back.tolist()) <= everything - trained
    held = sum(len(part.queries) for part in (TASK.valid, TASK.test, FRESH))
    lost = len(everything) - len(trained) - len(given_back) - held
    assert 0 <= lost <= 5  # fresh edges of a context where no training item remains
    # Degrees, which features and negatives read, and the lists that are walked count train alone.
    degrees = np.bincount(train.item_rows, minlength=600)
    assert (degrees[fresh_items] == 0).all()
    assert degrees.sum() == len(trained)
    assert set(np.unique(BACK_ITEMS)) == set(fresh_items)
    assert (TASK.train.users, TASK.train.items) == (EDGES.users, EDGES.items)


@pytest.mark.parametrize("part", ["valid", "test", "fresh"])
def test_a_held_out_pair_shares_a_context_that_train_does_not_know_of(part):
    queries, positives = pairs_of(getattr(TASK, part))
    all_together, _ = together(EDGES)
    train_together, _ = together(TASK.train)
    assert (all_together[queries, positives] > train_together[queries, positives]).all()
    assert TASK.train_items[queries].all()
    assert (TASK.train_items[positives] == (part != "fresh")).all()
    assert (queries != positives).all()


def test_shares_of_edges_and_items_are_held_out():
    degrees = np.bincount(EDGES.item_rows, minlength=600)
    assert (~TASK.train_items).sum() == round(0.1 * (degrees > 1).sum())
    assert (degrees[~TASK.train_items] > 1).all()
    ordinary = TASK.train_items[EDGES.item_rows].sum()
    assert len(TASK.valid.queries) == len(TASK.test.queries) == int(0.1 * ordinary)
    trained = np.bincount(TASK.train.item_rows, minlength=600)
    assert (trained[TASK.train_items & (degrees > 0)] > 0).all()
    back = np.bincount(BACK_ITEMS, minlength=600)
    fresh = ~TASK.train_items
    assert (back[fresh] == degrees[fresh] - degrees[fresh] // 2).all()


def test_training_pairs_come_from_train():
    train_together, _ = together(TASK.train)
    drawn = TASK.pairs.draw(np.random.default_rng(0), 5_000)
    assert (train_together[drawn.queries[:, 0], drawn.positives] > 0).all()


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.tuples(st.integers(0, 6), st.integers(0, 5)), min_size=1),
    st.integers(0, 5),
    st.sampled_from([(0.1, 0.1), (0.4, 0.5)]),
)
def test_every_item_and_context_keeps_an_edge(edges, seed, shares):
    items, contexts = np.array(sorted(edges)).T
    codes = held_out_edges(np.random.default_rng(seed), items, contexts, *shares)
    train = codes == TRAIN
    assert set(items[train]) == set(items)
    assert set(contexts[train]) == set(contexts)
    assert (codes == TEST).sum() <= shares[1] * len(edges)


def test_a_query_is_uniform_among_what_its_context_keeps():
    """2,000 contexts of 6 items, each in one of its own as well: who is asked about item p?"""
    copies, items = 2_000, np.arange(12_000)
    contexts = np.concatenate([items // 6, copies + items])
    data = from_files(Interactions.from_arrays(contexts, np.tile(items, 2)), None)
    task = cooccurrence_task(data, valid=0.1, test=0.1, held_out_items=0)
    assert task.fresh is None
    assert task.fresh_edges is None
    query, positive = pairs_of(task.test)
    assert (query // 6 == positive // 6).all()
    asked = np.zeros((6, 6))
    np.add.at(asked, (query % 6, positive % 6), 1)
    off_diagonal = ~np.eye(6, dtype=bool)
    assert not asked[~off_diagonal].any()
    assert chi_square(asked[off_diagonal], np.ones(30)) > LEVEL


def test_a_task_depends_on_the_edges_and_the_seed_alone():
    order = np.random.default_rng(0).permutation(len(EDGES))
    shuffled = dataclasses.replace(
        EDGES,
        user_rows=EDGES.user_rows[order],
        item_rows=EDGES.item_rows[order],
        timestamps=TIMES[order],
    )
    same = cooccurrence_task(dataclasses.replace(DATA, interactions=shuffled), seed=5)
    other = cooccurrence_task(DATA, seed=6)
    for part in ("valid", "test", "fresh"):
        mine, theirs = pairs_of(getattr(TASK, part)), pairs_of(getattr(same, part))
        assert np.array_equal(mine, theirs)
        assert not np.array_equal(mine, pairs_of(getattr(other, part)))
    assert set(same.train.pair_keys) == set(TASK.train.pair_keys)


def test_copies_of_an_edge_are_held_out_together_and_isolated_items_stay():
    edges = Interactions(
        users=IdMap.from_values(range(4)),
        items=IdMap.from_values(range(9)),  # nobody holds 7 and 8
        user_rows=np.repeat(np.arange(3, dtype=np.int32), 7).repeat(2),
        item_rows=np.tile(np.arange(7, dtype=np.int32), 3).repeat(2),
    )
    task = cooccurrence_task(from_files(edges, None), held_out_items=0.2, seed=0)
    counts = np.unique(task.train.pair_keys, return_counts=True)[1]
    assert (counts == 2).all()
    assert task.train_items[7:].all()
    assert (~task.train_items).sum() == 1
    assert "3 items have no training edge" in task.notes[0]


def test_queries_are_capped():
    task = cooccurrence_task(DATA, seed=5, max_queries=17)
    parts = (getattr(task, name) for name in ("valid", "test", "fresh"))
    assert [len(part.queries) for part in parts] == [17] * 3
    assert any(note.startswith("valid: 17 of") for note in task.notes)
    again, other = (cooccurrence_task(DATA, seed=seed, max_queries=17).test for seed in (5, 6))
    assert np.array_equal(pairs_of(task.test), pairs_of(again))
    assert not np.array_equal(pairs_of(task.test), pairs_of(other))
    everything = cooccurrence_task(DATA, seed=5, max_queries=None)
    chosen, whole = (
        set(zip(*map(np.ndarray.tolist, pairs_of(one.valid)), strict=True))
        for one in (task, everything)
    )
    assert chosen < whole
    assert np.array_equal(pairs_of(everything.test), pairs_of(TASK.test))


def by_time():
    """Users 0 and 1 meet items 0 to 9 in this order; user 2 meets 5 alone."""
    items = [*range(10), *range(10), 5]
    users = [0] * 10 + [1] * 10 + [2]
    return from_files(Interactions.from_arrays(users, items, timestamps=range(21)), None)


def test_users_are_asked_for_what_comes_later():
    task = time_task(by_time(), valid=0.2, test=0.2, last=3)
    assert len(task.train) == 6 + 6 + 1
    assert task.valid.queries.tolist() == [[5, 4, 3]] * 2
    # Test begins where validation ends, so its queries end with validation's items.
    assert task.test.queries.tolist() == [[7, 6, 5]] * 2
    assert rows_of(task.valid.relevant) == [[6, 7]] * 2
    assert rows_of(task.test.relevant) == [[8, 9]] * 2
    assert rows_of(task.valid.seen) == [[*range(6)]] * 2
    assert rows_of(task.test.seen) == [[*range(8)]] * 2
    assert task.train_items.all()
    drawn = task.pairs.draw(np.random.default_rng(0), 200)
    assert (drawn.positives <= 5).all()
    assert (drawn.queries[:, 0] == drawn.positives - 1).all()


def test_one_moment_for_all_leaves_users_from_before_and_after():
    # All of user 0 lies before the cut, which falls into user 1; user 2 comes too late.
    task = time_task(by_time(), valid=0.2, test=0.1, last=3, per_user=False)
    assert task.valid.queries.tolist() == [[4, 3, 2]]
    assert rows_of(task.valid.relevant) == [[5, 6, 7, 8]]
    assert rows_of(task.test.relevant) == [[9]]
    assert any("test: 1 users have no interaction before" in note for note in task.notes)
    assert task.test.queries.tolist() == [[8, 7, 6]]
    with pytest.raises(InputError, match=r"test: none of its 1 users has an interaction before"):
        time_task(by_time(), valid=0.2, test=0.04, per_user=False)


def test_a_given_split_is_asked_as_it_is():
    users = np.repeat(np.arange(30), 12)
    items = np.tile(np.arange(12), 30) + np.repeat(np.arange(30) % 3, 12)
    parts = np.tile([0] * 10 + [2] * 2, 30)
    data = from_files(Interactions.from_arrays(users, items, parts=parts), None)
    task = given_task(data, last=4, seed=1)
    assert len(task.test.queries) == len(task.valid.queries) == 30
    assert rows_of(task.test.relevant)[:2] == [[10, 11], [11, 12]]
    assert [len(row) for row in rows_of(task.test.seen)] == [10] * 30
    assert [len(row) for row in rows_of(task.valid.seen)] == [9] * 30
    for part in (task.valid, task.test):
        for query, known in zip(part.queries.tolist(), rows_of(part.seen), strict=True):
            # All that is known: for test that is what was carved for validation too.
            assert sorted(query) == known
    assert task.pairs.query_items == 4
    assert len(task.train) == 270
    assert not np.array_equal(task.valid.queries, given_task(data, last=4, seed=2).valid.queries)
    assert len(given_task(data, max_queries=7).test.queries) == 7
    with pytest.raises(InputError, match="the files gave no split"):
        given_task(by_time())


def test_explicit_pairs_are_held_out_by_shares():
    rng = np.random.default_rng(0)
    keys = rng.permutation(600 * 600)[:1000]
    pairs = tuple(part[keys // 600 != keys % 600] for part in (keys // 600, keys % 600))
    task = explicit_task(dataclasses.replace(DATA, pairs=pairs), valid=0.1, test=0.2)
    assert isinstance(task.pairs, ExplicitPairs)
    parts = [pairs_of(task.valid), pairs_of(task.test), (task.pairs.queries, task.pairs.positives)]
    found = [set(zip(*map(np.ndarray.tolist, part), strict=True)) for part in parts]
    assert set.union(*found) == set(zip(*map(np.ndarray.tolist, pairs), strict=True))
    assert sum(map(len, found)) == len(pairs[0])
    assert [len(one) for one in found[:2]] == [round(share * len(pairs[0])) for share in (0.1, 0.2)]
    assert len(task.train) == len(EDGES)
    with pytest.raises(InputError, match="pairs: expected explicit query–positive pairs, pins"):
        explicit_task(DATA)


def test_permuted_answers_are_uniform_and_unseen():
    few = generate_pins(PinWorld(items=12, boards=6, mean_board_size=5, looks=1, uses=1)).data
    task = cooccurrence_task(few, held_out_items=0.2, seed=0)
    rows, pool = np.arange(4_000), np.flatnonzero(task.train_items)
    query = int(pool[0])
    one = HeldOut(
        np.full((4_000, 1), query, np.int32),
        csr_rows(np.repeat(rows, 2), np.tile(pool[1:3], 4_000), 4_000),
        csr_rows(rows, np.full(4_000, query), 4_000),
    )
    wrong = permuted(dataclasses.replace(task, test=one, fresh=one), seed=1)
    assert wrong.fresh is not None
    assert (np.diff(wrong.test.relevant.offsets) == 2).all()
    for part, allowed in ((wrong.test, pool), (wrong.fresh, np.arange(12))):
        counts = np.bincount(np.asarray(part.relevant.columns), minlength=12)
        law = np.isin(np.arange(12), allowed[allowed != query]).astype(float)
        assert chi_square(counts, law) > LEVEL
    assert wrong.test.seen is one.seen
    assert wrong.train is task.train
    everything = csr_rows(np.repeat(rows, len(pool)), np.tile(pool, 4_000), 4_000)
    full = one._replace(seen=everything)
    with pytest.raises(InputError, match="test: a query has more positives than items"):
        permuted(dataclasses.replace(task, test=full))


def test_permuted_popularity_is_chance():
    """The share of positives among the most popular tenth is a tenth, where the truth has more."""
    degrees = np.bincount(TASK.train.item_rows, minlength=600) + np.arange(600) / 1000
    popular = np.isin(np.arange(600), np.argsort(-degrees)[:60])
    right, wrong = (
        popular[np.asarray(task.test.relevant.columns)].mean() for task in (TASK, permuted(TASK))
    )
    share = popular[TASK.train_items].mean()
    bound = 4 * np.sqrt(share * (1 - share) / len(TASK.test.queries))
    assert right > share + bound
    assert abs(wrong - share) < bound


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"valid": 0.0}, "valid: expected a share above 0 and below 1, got 0.0"),
        ({"test": 1.2}, "test: expected a share above 0 and below 1"),
        ({"valid": 0.5, "test": 0.5}, "valid and test: expected a sum below 1"),
        ({"held_out_items": 1.0}, r"held_out_items: expected a share in \[0, 1\), got 1.0"),
        ({"held_out_items": 1e-6}, "held_out_items: 1e-06 of"),
        ({"seed": -1}, "seed: expected an integer of 0 or more"),
        ({"max_queries": 0}, "max_queries: expected an integer of 1 or more"),
        ({"test": 1e-6}, "test: nothing is left to ask for"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        cooccurrence_task(DATA, **options)


def test_a_graph_without_anything_to_hold_out_is_refused():
    tree = from_files(Interactions.from_arrays([0, 0, 1], [0, 1, 2]), None)
    with pytest.raises(InputError, match="valid: nothing is left"):
        cooccurrence_task(tree, held_out_items=0)
    nothing = Interactions(
        users=IdMap.from_values([1]),
        items=IdMap.from_values([1, 2]),
        user_rows=np.zeros(0, np.int32),
        item_rows=np.zeros(0, np.int32),
    )
    with pytest.raises(InputError, match="interactions: expected edges to train on"):
        cooccurrence_task(from_files(nothing, None), held_out_items=0)


def test_a_task_checks_its_training_items():
    with pytest.raises(InputError, match=r"train_items: expected bool\[600\]"):
        dataclasses.replace(TASK, train_items=np.ones(5, bool))
    with pytest.raises(InputError, match="train: expected no edge of a held-out item"):
        dataclasses.replace(TASK, train_items=np.zeros(600, bool))


def test_item_data_checks_itself():
    few = FeatureTable({}, 3)
    with pytest.raises(InputError, match="features: expected 600 rows, one for each item, got 3"):
        ItemData("x", EDGES, few, {})
    with pytest.raises(InputError, match=r"labels\['kind'\]: expected int32\[600\] or bool\[600,"):
        dataclasses.replace(DATA, labels={"kind": np.zeros(600)})
    with pytest.raises(InputError, match=r"labels\['kind'\]: expected classes from 0"):
        dataclasses.replace(DATA, labels={"kind": np.full(600, -2, np.int32)})
    with pytest.raises(InputError, match="queries: expected rows of 0 … 599, got values from 0 to"):
        dataclasses.replace(DATA, pairs=(np.array([0, 600]), np.array([1, 2])))
    assert "600 items" in DATA.describe()
    assert "labels: topic, look, use, style" in DATA.describe()


@pytest.mark.slow
def test_gowalla_is_asked_by_its_published_split(real_data):
    interactions = load_dataset("gowalla", data_dir=real_data)
    task = given_task(from_files(interactions, None, "gowalla"), max_queries=500)
    assert len(task.test.queries) == len(task.valid.queries) == 500
    assert task.train.num_items == 40_981
    withheld = np.concatenate([part.relevant.columns for part in (task.valid, task.test)])
    assert len(withheld) > 1_000
    keys = set(task.train.pair_keys.tolist())
    assert len(keys) == len(task.train) < 810_128


def contexts_of_sizes(sizes, num_items=50, seed=0):
    """Contexts of so many distinct items each."""
    rng = np.random.default_rng(seed)
    items = [rng.permutation(num_items)[:size] for size in sizes]
    users = np.repeat(np.arange(len(sizes)), sizes)
    return from_files(Interactions.from_arrays(users, np.concatenate(items)), None)


@pytest.mark.parametrize("shares", [(0.1, 0.1), (0.2, 0.4), (0.45, 0.5)])
@pytest.mark.parametrize("fresh", [0, 0.1])
def test_shares_are_of_the_edges_that_make_pairs(shares, fresh):
    """300 orders of one item beside 40 of three: 120 edges, of which shares are taken."""
    data = contexts_of_sizes([1] * 300 + [3] * 40)
    task = cooccurrence_task(data, valid=shares[0], test=shares[1], held_out_items=fresh)
    base = int(next(note for note in task.notes if "of the" in note).split("of the ")[1].split()[0])
    assert base == 120 if not fresh else 60 < base < 120
    asked = len(task.valid.queries), len(task.test.queries)
    assert all(count <= share * base for count, share in zip(asked, shares, strict=True))
    if not fresh and shares == (0.1, 0.1):
        assert asked == (12, 12)
    assert task.pairs.num_pairs > 0
    counts = np.bincount(task.train.user_rows)
    assert (counts[:300][np.bincount(data.interactions.user_rows)[:300] > 0] <= 1).all()


def test_what_the_data_hold_is_not_denied():
    with pytest.raises(InputError, match="two different items, got 300 contexts and each of them "):
        cooccurrence_task(contexts_of_sizes([1] * 300))
    message = (
        r"expected one that holds two different items in training; of 3 contexts 2 hold several, "
        r"and none of these keeps two: 0 edges are held out .*, 2 with held-out items \(--fresh\)"
    )
    few = from_files(Interactions.from_arrays([0, 0, 1, 1, 2], [0, 1, 0, 1, 2]), None)
    with pytest.raises(InputError, match=message):
        cooccurrence_task(few, held_out_items=0.5)
