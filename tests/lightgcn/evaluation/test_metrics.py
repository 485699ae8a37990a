import math

import jax.numpy as jnp
import numpy as np
import pytest

from lightgcn_jax.data import Pairs
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import InnerProduct, evaluate, metric_names, user_metrics
from lightgcn_jax.evaluation.ranking import rank_block
from lightgcn_jax.graph import csr_rows
from tests.lightgcn import oracles

LOG2_3, LOG2_5 = math.log2(3), math.log2(5)


def test_hand_computed_case():
    """Places 1–4 hold hit, miss, hit, miss; the user has 3 relevant items."""
    got = user_metrics(jnp.array([[True, False, True, False]]), jnp.array([3]), (1, 2, 4))
    expected = {
        "recall@1": 1 / 3,
        "precision@1": 1.0,
        "f1@1": 2 * (1 / 3) / (4 / 3),
        "ndcg@1": 1.0,
        "map@1": 1.0,
        "mrr@1": 1.0,
        "hit_rate@1": 1.0,
        "recall@2": 1 / 3,
        "precision@2": 1 / 2,
        "ndcg@2": 1 / (1 + 1 / LOG2_3),
        "map@2": 1 / 2,
        "recall@4": 2 / 3,
        "precision@4": 2 / 4,
        "f1@4": 4 / 7,
        "ndcg@4": (1 + 1 / 2) / (1 + 1 / LOG2_3 + 1 / 2),
        "map@4": (1 + 2 / 3) / 3,
        "mrr@4": 1.0,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], [value], rtol=1e-6, err_msg=name)


def test_ideal_gain_counts_relevant_items_not_hits():
    """One hit at place 4 of 5 relevant: the ideal has four hits, not one."""
    got = user_metrics(jnp.array([[False, False, False, True]]), jnp.array([5]), (4,))
    ideal = 1 + 1 / LOG2_3 + 1 / 2 + 1 / LOG2_5
    np.testing.assert_allclose(got["ndcg@4"], [(1 / LOG2_5) / ideal], rtol=1e-6)
    np.testing.assert_allclose(got["map@4"], [(1 / 4) / 4], rtol=1e-6)
    np.testing.assert_allclose(got["mrr@4"], [1 / 4], rtol=1e-6)


def test_no_hit_gives_zeros():
    got = user_metrics(jnp.zeros((1, 3), bool), jnp.array([2]), (3,))
    assert all(values.tolist() == [0.0] for values in got.values())


@pytest.mark.parametrize("masked", [True, False])
def test_evaluate_agrees_with_the_oracle(masked):
    rng = np.random.default_rng(0)
    users, items = rng.normal(size=(40, 5)), rng.normal(size=(80, 5))
    parts = rng.choice(3, size=(40, 80), p=[0.8, 0.12, 0.08])
    parts[[3, 17]] = 0  # two users without relevant items
    relevant, seen = np.nonzero(parts == 1), np.nonzero(parts == 2)
    ks = (1, 5, 20)
    got = evaluate(
        InnerProduct(jnp.asarray(users, jnp.float32), jnp.asarray(items, jnp.float32)),
        csr_rows(*relevant, 40),
        ks=ks,
        seen=csr_rows(*seen, 40) if masked else None,
    )
    assert list(got.metrics) == metric_names(ks)
    assert got.users_without_items == 2
    assert got.users.tolist() == [user for user in range(40) if user not in (3, 17)]
    for k in ks:
        each, recommended = [], set()
        for user in got.users:
            left_out = np.flatnonzero(parts[user] == 2) if masked else ()
            ranked = oracles.stable_top_k(items @ users[user], k, left_out)
            recommended |= set(ranked)
            each.append(oracles.user_metrics(ranked, np.flatnonzero(parts[user] == 1), k))
        for name in each[0]:
            per_user = [one[name] for one in each]
            np.testing.assert_allclose(got.per_user[f"{name}@{k}"], per_user, rtol=1e-5, atol=1e-7)
            np.testing.assert_allclose(got.metrics[f"{name}@{k}"], np.mean(per_user), rtol=1e-6)
        assert got.metrics[f"coverage@{k}"] == len(recommended) / 80


def test_evaluations_of_one_shape_compile_once():
    rng = np.random.default_rng(0)
    relevant, seen = (csr_rows(*np.nonzero(rng.random((31, 47)) < 0.2), 31) for _ in range(2))
    compiled = []
    for _ in range(3):
        users, items = jnp.asarray(rng.normal(size=(31, 4))), jnp.asarray(rng.normal(size=(47, 4)))
        evaluate(InnerProduct(users, items), relevant, ks=(3, 6), seen=seen)
        compiled.append(rank_block._cache_size())
    assert compiled[1:] == compiled[:-1]


@pytest.mark.parametrize("ks", [(0, 2), (-1,), (5,), (2.5,)])
def test_cut_offs_outside_the_catalogue_are_refused(ks):
    with pytest.raises(InputError, match="ks: expected 1 to 4, got"):
        evaluate(InnerProduct(jnp.ones((2, 3)), jnp.ones((4, 3))), csr_rows([0], [1], 2), ks=ks)
    with pytest.raises(InputError, match="ks: expected at least one cut-off, got none"):
        evaluate(InnerProduct(jnp.ones((2, 3)), jnp.ones((4, 3))), csr_rows([0], [1], 2), ks=())


def test_parts_of_a_split_and_columns_are_evaluated_as_rows_are():
    rng = np.random.default_rng(0)
    scorer = InnerProduct(
        jnp.asarray(rng.normal(size=(9, 4))), jnp.asarray(rng.normal(size=(30, 4)))
    )
    parts = rng.choice(3, size=(9, 30), p=[0.7, 0.2, 0.1])
    parts[4] = 0
    test, train = np.nonzero(parts == 2), np.nonzero(parts == 1)
    expected = evaluate(scorer, csr_rows(*test, 9), ks=(3, 7), seen=csr_rows(*train, 9))
    for relevant, seen, ks in (
        (Pairs.from_rows(*test), Pairs.from_rows(*train), (np.int64(3), np.int32(7))),
        (test, train, jnp.array([7, 3])),
        (Pairs.from_rows(*test), csr_rows(*train, 9), np.array([3, 7])),
    ):
        got = evaluate(scorer, relevant, ks=ks, seen=seen)
        assert got.metrics == expected.metrics
        assert got.users_without_items == expected.users_without_items >= 1


@pytest.mark.parametrize(
    ("relevant", "message"),
    [
        (csr_rows([0], [4], 2), "relevant: expected items of 0 to 3, got 4"),
        (csr_rows([0], [1], 3), "relevant: expected 2 rows, one for each query, got 3"),
        (([2], [1]), "relevant, users: expected rows in"),
        (Pairs.from_rows([0], [4]), "relevant, items: expected rows in"),
        (([0, 0], [1, 1]), "pairs: expected each once"),
    ],
)
def test_relevant_items_that_do_not_fit_are_refused(relevant, message):
    with pytest.raises(InputError, match=message):
        evaluate(InnerProduct(jnp.ones((2, 3)), jnp.ones((4, 3))), relevant, ks=(1,))


def test_nobody_to_evaluate_is_an_error():
    with pytest.raises(InputError, match="at least one user with a relevant item"):
        evaluate(InnerProduct(jnp.ones((2, 3)), jnp.ones((4, 3))), csr_rows([], [], 2), ks=(1,))
