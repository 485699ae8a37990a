import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import (
    InnerProduct,
    degree_groups,
    evaluate,
    item_groups,
    user_groups,
)
from lightgcn_jax.evaluation.groups import popularity_tenths
from lightgcn_jax.graph import csr_rows
from tests.lightgcn.worlds import graph_of

KS = (2, 5)


@pytest.fixture(scope="module")
def judged():
    """40 users and 30 items of skewed degrees, two users and items new, three users untested."""
    rng = np.random.default_rng(0)
    likes = rng.random((40, 1)) * rng.random((1, 30)) ** 2 * 1.5
    parts = np.where(rng.random((40, 30)) < likes, rng.integers(1, 4, (40, 30)), 0)
    parts[[4, 9]] = np.where(parts[[4, 9]] == 1, 0, parts[[4, 9]])
    parts[:, [3, 8]] = np.where(parts[:, [3, 8]] == 1, 0, parts[:, [3, 8]])
    parts[[1, 2, 30]] = np.minimum(parts[[1, 2, 30]], 1)
    train = graph_of(*np.nonzero(parts == 1), 40, 30)
    relevant = csr_rows(*np.nonzero(parts >= 2), 40)
    tables = (jnp.asarray(rng.normal(size=(n, 4)), jnp.float32) for n in (40, 30))
    evaluation = evaluate(InnerProduct(*tables), relevant, ks=KS, seen=train.items_of_user)
    return evaluation, train, relevant, parts


def test_hand_computed_groups():
    groups = degree_groups(np.array([5, 1, 0, 3, 2, 9, 0, 4, 4]), 3)
    # 1 2 3 | 4 4 5 | 9 would be the thirds of seven; 3 stands at place 2 of 7: ⌊3 · 2/7⌋ = 0.
    assert groups.labels == ["new", "1–3", "4", "5–9"]
    assert groups.members.tolist() == [3, 1, 0, 1, 1, 3, 0, 2, 2]
    assert degree_groups(np.array([1200, 3400, 0]), 1).labels == ["new", "1,200–3,400"]


@given(degrees=st.lists(st.integers(0, 12), max_size=60), count=st.integers(1, 6))
def test_groups_are_ranges_of_degrees_from_cold_to_hot(degrees, count):
    degrees = np.array(degrees, int)
    groups = degree_groups(degrees, count)
    assert groups.members.shape == degrees.shape
    used = set(groups.members.tolist())
    assert used == set(range(len(groups.labels)))
    assert len(used) <= count + (degrees == 0).any()
    assert ("new" in groups.labels) == bool((degrees == 0).any())
    if degrees.size:
        order = np.argsort(degrees, kind="stable")
        assert (np.diff(groups.members[order]) >= 0).all()
        assert len(set(zip(degrees, groups.members, strict=True))) == len(set(degrees.tolist()))
    for group, label in enumerate(groups.labels):
        inside = degrees[groups.members == group]
        ends = [0, 0] if label == "new" else [int(end) for end in label.split("–")]
        assert (inside.min(), inside.max()) == (ends[0], ends[-1])


@given(size=st.integers(1, 50), count=st.integers(1, 8))
def test_distinct_degrees_make_groups_of_equal_size(size, count):
    groups = degree_groups(np.random.default_rng(size).permutation(size) + 1, count)
    sizes = np.bincount(groups.members)
    assert len(sizes) == min(size, count)
    assert sizes.max() - sizes.min() <= 1


def test_weighted_means_over_user_groups_are_the_evaluation(judged):
    evaluation, train, relevant, parts = judged
    groups = user_groups(evaluation, train, relevant)
    assert groups[0].label == "new"
    assert len(groups) == 5
    weights = np.array([group.users for group in groups])
    assert weights.sum() == (parts >= 2).any(axis=1).sum() < 40
    assert sum(group.test_pairs for group in groups) == (parts >= 2).sum()
    for name in evaluation.per_user:
        means = np.array([group.metrics[name] for group in groups])
        assert means @ weights / weights.sum() == pytest.approx(evaluation.metrics[name]), name
    assert list(groups[0].metrics) == [name for name in evaluation.metrics if "cov" not in name]


def test_user_groups_average_their_own_users(judged):
    evaluation, train, relevant, parts = judged
    new = user_groups(evaluation, train, relevant)[0]
    inside = np.isin(evaluation.users, np.flatnonzero((parts == 1).sum(axis=1) == 0))
    assert new.users == inside.sum() > 0
    for name, values in evaluation.per_user.items():
        assert new.metrics[name] == pytest.approx(values[inside].mean())


def test_item_groups_agree_with_counting(judged):
    evaluation, train, relevant, parts = judged
    degrees = (parts == 1).sum(axis=0)
    groups = item_groups(evaluation, train, relevant, 3)
    members = degree_groups(degrees, 3).members
    assert [group.items for group in groups] == np.bincount(members).tolist()
    for number, group in enumerate(groups):
        tested = [(u, i) for u, i in np.argwhere(parts >= 2) if members[i] == number]
        assert group.test_pairs == len(tested)
        assert group.test_share == len(tested) / (parts >= 2).sum()
        for k in KS:
            lists = dict(zip(evaluation.users, evaluation.ranked[:, :k].tolist(), strict=True))
            found = sum(i in lists[u] for u, i in tested)
            assert group.recall[f"recall@{k}"] == pytest.approx(found / len(tested))
            shown = [i for one in lists.values() for i in one if i >= 0]
            share = sum(members[i] == number for i in shown) / len(shown)
            assert group.recommended[f"recommended@{k}"] == pytest.approx(share)


def test_item_groups_add_up_to_all_hits(judged):
    evaluation, train, relevant, parts = judged
    groups = item_groups(evaluation, train, relevant)
    assert groups[0].label == "new"
    assert sum(group.test_share for group in groups) == pytest.approx(1)
    wanted = (parts >= 2).sum(axis=1)[evaluation.users]
    for k in KS:
        hits = sum(group.recall[f"recall@{k}"] * group.test_pairs for group in groups)
        assert hits == pytest.approx((evaluation.per_user[f"recall@{k}"] * wanted).sum())
        assert sum(group.recommended[f"recommended@{k}"] for group in groups) == pytest.approx(1)


def test_a_group_without_test_pairs_has_no_recall():
    train = graph_of([0, 0, 0, 1], [0, 1, 2, 1], num_users=2, num_items=3)
    tables = InnerProduct(jnp.ones((2, 1)), jnp.ones((3, 1)))
    relevant = csr_rows([0], [1], 2)
    groups = item_groups(evaluate(tables, relevant, ks=(1,)), train, relevant, 2)
    assert [(group.label, group.test_pairs, group.recall) for group in groups] == [
        ("1", 0, {}),
        ("2", 1, {"recall@1": 0.0}),
    ]
    assert [group.recommended["recommended@1"] for group in groups] == [1.0, 0.0]


def test_no_groups_are_refused():
    with pytest.raises(InputError, match="groups: expected at least 1, got 0"):
        degree_groups(np.array([1, 2]), 0)


def test_tenths_of_the_catalogue_by_popularity():
    # Twenty items of 0 … 19 users; two of the first tenth and two of the last are recommended.
    tenths = popularity_tenths(np.array([[0, 19], [18, 1], [-1, -1]]), np.arange(20))
    assert tenths.labels[0] == "0–1"
    assert tenths.labels[-1] == "18–19"
    np.testing.assert_allclose(tenths.recommended, [0.5] + [0] * 8 + [0.5])
    np.testing.assert_allclose(tenths.interactions, np.arange(20).reshape(10, 2).sum(1) / 190)
    # Of fewer than ten items some parts hold none.
    assert popularity_tenths(np.array([[2]]), np.array([5, 5, 7])).labels.count("–") == 7
    for nothing in (np.full((1, 2), -1), np.zeros(20, int)):
        ranked, degrees = (nothing, np.arange(20)) if nothing.ndim > 1 else ([[1]], nothing)
        with pytest.raises(InputError, match="expected recommendations and training interactions"):
            popularity_tenths(np.asarray(ranked), degrees)
