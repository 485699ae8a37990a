"""Generated worlds have the structure they claim, at any size, and the same for the same seed."""

import tracemalloc

import numpy as np
import polars as pl
import pytest
from scipy import stats

from lightgcn_jax.data.interactions import TEST, TRAIN
from lightgcn_jax.data.synthetic import World, block_world, default_world, generate_world
from lightgcn_jax.errors import InputError


@pytest.fixture(scope="module")
def world() -> World:
    return default_world()


def _recall(scores: np.ndarray, seen: np.ndarray, wanted: np.ndarray, cutoff: int) -> float:
    top = np.argsort(-np.where(seen, -1.0, scores), axis=1, kind="stable")[:, :cutoff]
    hits = np.take_along_axis(wanted, top, axis=1).sum(axis=1)
    relevant = wanted.sum(axis=1)
    return float((hits[relevant > 0] / relevant[relevant > 0]).mean())


def test_default_world_has_the_size_it_claims(world):
    interactions = world.interactions
    assert (interactions.num_users, interactions.num_items) == (2000, 1500)
    assert 39_000 < len(interactions) < 41_000
    assert not interactions.has_duplicates
    degrees = np.bincount(interactions.user_rows, minlength=2000)
    assert degrees.min() >= 5
    assert degrees.max() > 3 * degrees.mean()


def test_external_ids_are_strings_or_row_numbers():
    named = generate_world(30, 20, 4.0, groups=2).interactions
    assert named.users.external([12]) == ["user-12"]
    assert named.items.external([7]) == ["item-7"]
    plain = generate_world(30, 20, 4.0, groups=2, string_ids=False).interactions
    assert plain.users.ids.dtype == pl.Int64
    assert plain.items.external([7]) == [7]
    np.testing.assert_array_equal(plain.pair_keys, named.pair_keys)


@pytest.mark.parametrize("affinity", [0.0, 0.3, 0.8, 1.0])
def test_share_inside_the_own_group_is_the_affinity(affinity):
    world = generate_world(2000, 1000, 15.0, groups=5, affinity=affinity)
    rows = world.interactions
    inside = world.user_groups[rows.user_rows] == world.item_groups[rows.item_rows]
    # The sign test at six sigma; with affinity 0 and 1 there is no spread at all.
    spread = np.sqrt(affinity * (1 - affinity) / inside.size)
    assert abs(inside.mean() - affinity) <= 6 * spread


def test_items_are_drawn_by_their_popularity():
    # Two draws a user from 500 items: repetition hardly matters, so the counts are multinomial.
    world = generate_world(
        50_000, 500, 2.0, groups=2, affinity=0.5, popularity_exponent=0.5, activity_exponent=0.0
    )
    probability = np.zeros(500)
    for group in (0, 1):
        user = np.flatnonzero(world.user_groups == group)[:1]
        share = np.bincount(world.user_groups, minlength=2)[group] / 50_000
        probability += share * world.preference(user)[0]
    counts = np.bincount(world.interactions.item_rows, minlength=500)
    # Without replacement within a user the very head is a little flatter, hence the loose bound.
    assert stats.chisquare(counts, probability * counts.sum()).pvalue > 1e-6
    assert np.corrcoef(counts, probability)[0, 1] > 0.97


def test_degrees_follow_the_power_law_and_the_mean():
    world = generate_world(20_000, 20_000, 12.0, groups=4, activity_exponent=0.5)
    degrees = np.sort(np.bincount(world.interactions.user_rows, minlength=20_000))[::-1]
    assert degrees.mean() == pytest.approx(12.0, rel=0.02)
    ranks = np.arange(20, 2000)
    slope = np.polyfit(np.log(ranks + 1), np.log(degrees[ranks]), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.05)
    uniform = generate_world(500, 500, 12.0, groups=2, activity_exponent=0.0)
    assert set(np.bincount(uniform.interactions.user_rows)) == {12}


def test_groups_are_of_equal_size_and_share_the_head():
    world = generate_world(103, 101, 4.0, groups=4)
    assert np.ptp(np.bincount(world.user_groups)) <= 1
    assert np.ptp(np.bincount(world.item_groups)) <= 1
    mass = np.bincount(world.item_groups, weights=world.item_popularity)
    assert mass.max() < 1.5 * mass.min()


def test_preference_is_a_distribution_with_the_affinity_inside(world):
    users = np.array([0, 5, 1999])
    preference = world.preference(users)
    assert preference.shape == (3, 1500)
    assert preference.dtype == np.float64
    np.testing.assert_allclose(preference.sum(axis=1), 1.0)
    for row, user in enumerate(users):
        own = world.item_groups == world.user_groups[user]
        np.testing.assert_allclose(preference[row, own].sum(), 0.8)
    some = np.array([3, 1, 400])
    np.testing.assert_array_equal(world.preference(users, some), preference[:, some])


def test_single_group_leaves_popularity_only():
    world = generate_world(50, 60, 5.0, groups=1, affinity=0.2)
    expected = world.item_popularity / world.item_popularity.sum()
    np.testing.assert_allclose(world.preference([0])[0], expected)


def test_personal_ranking_clearly_beats_popularity(world):
    rows = world.interactions
    withheld = np.random.default_rng(1).random(len(rows)) < 0.2
    seen, wanted = np.zeros((2, rows.num_users, rows.num_items), dtype=bool)
    seen[rows.user_rows[~withheld], rows.item_rows[~withheld]] = True
    wanted[rows.user_rows[withheld], rows.item_rows[withheld]] = True
    oracle = _recall(world.preference(np.arange(rows.num_users)), seen, wanted, 20)
    popular = _recall(np.broadcast_to(seen.sum(axis=0), seen.shape), seen, wanted, 20)
    assert oracle > 3 * popular


def test_same_seed_same_world_other_seed_another():
    first, again, other = (generate_world(300, 200, 6.0, groups=4, seed=s) for s in (7, 7, 8))
    np.testing.assert_array_equal(first.interactions.pair_keys, again.interactions.pair_keys)
    np.testing.assert_array_equal(first.interactions.timestamps, again.interactions.timestamps)
    np.testing.assert_array_equal(first.user_groups, again.user_groups)
    assert not np.array_equal(first.interactions.pair_keys, other.interactions.pair_keys)


def test_times_are_whole_seconds_within_two_years(world):
    times = world.interactions.timestamps
    assert times is not None
    np.testing.assert_array_equal(times, np.floor(times))
    assert 0.95 * 2 * 365 * 86_400 < np.ptp(times) < 2 * 365 * 86_400


def test_memory_grows_with_edges_not_with_users_times_items():
    def peak(users: int, items: int) -> int:
        tracemalloc.start()
        generate_world(users, items, 10.0, groups=10, string_ids=False)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1000, 1000)  # imports and caches
    small, large = peak(20_000, 20_000), peak(40_000, 40_000)
    assert large < 2.5 * small
    assert large < 100 * 400_000  # bytes an edge; a boolean U × I would be 1.6 GB


def test_many_runs_of_users_give_the_same_kind_of_world(monkeypatch):
    monkeypatch.setattr("lightgcn_jax.data.synthetic._CHUNK", 1000)
    rows = generate_world(2000, 1000, 10.0, groups=5, affinity=0.8).interactions
    assert (np.diff(rows.pair_keys) > 0).all()
    assert len(rows) == pytest.approx(20_000, rel=0.03)
    assert np.bincount(rows.user_rows, minlength=2000).min() >= 2


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"users": 0}, "users"),
        ({"items": 0}, "items"),
        ({"groups": 51}, "groups"),
        ({"affinity": 1.1}, "affinity"),
        ({"popularity_exponent": float("nan")}, "popularity_exponent"),
        ({"mean_degree": 0.5}, "mean_degree"),
        ({"mean_degree": 45.0}, "mean_degree"),
    ],
)
def test_arguments_out_of_range_are_named(arguments, named):
    with pytest.raises(InputError, match=f"{named} must lie between"):
        generate_world(**({"users": 50, "items": 50, "mean_degree": 4.0, "groups": 2} | arguments))


@pytest.mark.parametrize("shape", [(1, 2, 2), (3, 5, 4), (4, 10, 8), (2, 3, 20)])
@pytest.mark.parametrize("seed", [0, 1])
def test_block_world_withholds_one_own_item_of_each_user(shape, seed):
    groups, users_per_group, items_per_group = shape
    rows = block_world(groups, users_per_group, items_per_group, seed)
    users = groups * users_per_group
    assert (rows.num_users, rows.num_items) == (users, groups * items_per_group)
    assert len(rows) == users * items_per_group
    assert not rows.has_duplicates
    assert (rows.user_rows // users_per_group == rows.item_rows // items_per_group).all()
    assert rows.parts is not None
    np.testing.assert_array_equal(np.sort(rows.user_rows[rows.parts == TEST]), np.arange(users))
    trained = np.bincount(rows.item_rows[rows.parts == TRAIN], minlength=rows.num_items)
    assert trained.min() >= 1
    again = block_world(groups, users_per_group, items_per_group, seed)
    np.testing.assert_array_equal(rows.pair_keys, again.pair_keys)


def test_block_world_refuses_groups_without_an_answer():
    with pytest.raises(InputError, match="items_per_group must lie between 2"):
        block_world(2, 3, 1)
