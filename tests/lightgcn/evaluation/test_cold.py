"""Users and items without training interactions: counted, and what each policy makes of them."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from lightgcn_jax.data import IdMap, Pairs, Split
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import InnerProduct, evaluate
from lightgcn_jax.evaluation.cold import PopularForCold, cold_counts
from lightgcn_jax.evaluation.parts import evaluation_sets, rank_parts
from lightgcn_jax.graph import csr_rows
from lightgcn_jax.models import MF
from lightgcn_jax.runs import RunDirectory, compare_runs, evaluate_run, fit
from lightgcn_jax.settings import TrainConfig, from_flat

# Users 0 and 1 train on items 0 to 2, item 1 twice; user 2 and item 3 come in test alone.
TRAIN = Pairs.from_rows(np.array([0, 0, 1]), np.array([0, 1, 1]))
TEST = Pairs.from_rows(np.array([0, 1, 1, 2, 2]), np.array([2, 0, 3, 1, 3]))
NONE = Pairs.from_rows(np.array([], int), np.array([], int))
SCORES = np.array([[1, 2, 3, 4], [4, 3, 2, 1], [1, 1, 1, 9]], np.float32)


def split_of(test=TEST, valid=NONE):
    ids = IdMap.from_values(["a", "b", "c"]), IdMap.from_values(["i", "j", "k", "l"])
    return Split(*ids, TRAIN, valid, test, description="by hand")


def scorer():
    return InnerProduct(jnp.asarray(SCORES), jnp.eye(4))


def test_what_no_training_interaction_names_is_counted():
    counts = cold_counts(TEST, TRAIN)
    # Item 2 has no training user either; user 1's pair with item 0 alone is known.
    assert counts == (1, 3, 2, 4, 4, 5)
    assert counts.sentence("test", "skip") == (
        "1 of 3 test users and 2 of 4 test items have no training interaction: their 4 of 5 pairs "
        "are left out of the means (cold skip)."
    )
    assert "ranked for these users by popularity (cold popular)" in counts.sentence("x", "popular")
    known = Pairs.from_rows(np.array([1]), np.array([0]))
    assert cold_counts(known, TRAIN).sentence("test", "skip") is None
    unknown_item = Pairs.from_rows(np.array([1]), np.array([3]))
    assert cold_counts(unknown_item, TRAIN).sentence("test", "keep") == (
        "1 of 1 test items have no training interaction: their 1 of 1 pairs are in the means "
        "(cold keep)."
    )


def recall(cold, k=1):
    sets = evaluation_sets(split_of(), cold)
    assert sets.users_without_test_items == 0
    return rank_parts(scorer(), sets, ("test",), (k,))["test"][f"recall@{k}"]


def test_the_policies_by_hand():
    # skip: user 1 alone is judged, by item 0, which is first.
    assert recall("skip") == 1.0
    # keep: user 0 ranks 3 before 2 (recall 0), user 1 finds one of two, user 2 one of two.
    assert recall("keep") == pytest.approx((0 + 1 / 2 + 1 / 2) / 3)
    # popular: user 2 gets item 1 first, of two users, in place of item 3; the others as before.
    assert recall("popular") == pytest.approx((0 + 1 / 2 + 1 / 2) / 3)
    assert recall("popular", 2) == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    assert recall("keep", 2) == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)


def test_popularity_ranks_for_the_unknown_alone():
    wrapped = PopularForCold.of(scorer(), csr_rows(TRAIN.users, TRAIN.items, 3))
    scores = np.asarray(wrapped.scores(jnp.arange(3)))
    np.testing.assert_array_equal(scores[:, :2], SCORES[:2].T)
    np.testing.assert_array_equal(scores[:, 2], [1, 2, 0, 0])
    sets = evaluation_sets(split_of(), "popular")
    assert isinstance(sets.ranking(scorer()), PopularForCold)
    found = evaluate(sets.ranking(scorer()), sets.test, ks=(1,), seen=sets.known)
    assert found.ranked[:, 0].tolist() == [3, 0, 1]
    # Where everybody is known nothing is wrapped.
    known = evaluation_sets(split_of(test=Pairs.from_rows(np.array([1]), np.array([3]))), "popular")
    assert isinstance(known.ranking(scorer()), InnerProduct)


def test_a_run_keeps_the_policy_and_its_counts(tmp_path):
    for name, settings in (("skip", {}), ("keep", {"cold": "keep"})):
        config = from_flat({"model": "popular", "ks": (1, 2), "protocol": "fixed"} | settings)
        summary = fit(split_of(), config, out=tmp_path / name).summary
        assert summary["cold"]["policy"] == name
        assert summary["cold"]["test"] == cold_counts(TEST, TRAIN)._asdict()
        assert RunDirectory.open(tmp_path / name).config.cold == name
        figures = evaluate_run(tmp_path / name, (1, 2))
        assert figures["test"] == summary["test"]
        assert figures["cold"] == summary["cold"]
    kept = evaluate_run(tmp_path / "skip", (1, 2), cold="keep")["test"]
    assert kept == evaluate_run(tmp_path / "keep", (1, 2))["test"]
    assert kept != evaluate_run(tmp_path / "skip", (1, 2))["test"]
    both = compare_runs([tmp_path / "skip", tmp_path / "keep"], 2)
    # What one run cannot know no run is judged by.
    assert (both.users, both.test_pairs) == (1, 1)
    assert "4 of 5 test pairs are left out" in " ".join(both.notes)
    alike = compare_runs([tmp_path / "keep", tmp_path / "keep"], 2)
    assert (alike.users, alike.test_pairs) == (3, 5)


def test_where_all_is_unknown_nothing_is_judged_and_nothing_chosen(tmp_path):
    unknown = Pairs.from_rows(np.array([2, 2]), np.array([0, 3]))
    config = from_flat({"model": "popular", "ks": (1,), "protocol": "fixed"})
    summary = fit(split_of(unknown), config, out=tmp_path / "run").summary
    assert summary["test"] == {}
    with pytest.raises(InputError, match=r"it has none \(cold skip, 2 pairs\)"):
        evaluate_run(tmp_path / "run", (1,), beyond=True)
    trained = TrainConfig(model=MF(dim=2), ks=(1,))
    with pytest.raises(InputError, match=r"valid: expected pairs to choose the epoch by.* among 2"):
        fit(split_of(NONE, valid=unknown), trained)
    with pytest.raises(InputError, match=r"cold: expected one of \('skip', 'popular', 'keep'\)"):
        dataclasses.replace(trained, cold="maybe")
