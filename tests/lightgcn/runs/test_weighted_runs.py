"""Weights of interactions over a run's life: trained, stored, resumed, refitted, gone on from."""

import dataclasses
import json

import numpy as np
import pytest
import safetensors.numpy

from lightgcn_jax.data import Interactions, Pairs, ratio_split
from lightgcn_jax.errors import InputError
from lightgcn_jax.models import ItemCf, Popular
from lightgcn_jax.runs import (
    RunDirectory,
    SilentReporter,
    continue_from,
    evaluate_run,
    fit,
    refit,
    resume,
)
from lightgcn_jax.runs.continuation import merge_splits
from lightgcn_jax.serving import Recommender
from lightgcn_jax.settings.names import replaced

PARTS = ("train", "valid", "test")


class Broken(Exception):
    pass


class BreakAfterTwo(SilentReporter):
    def __init__(self):
        self.left = 2

    def advanced(self, **_):
        self.left -= 1
        if not self.left:
            raise Broken


def weigh(split, weight_of):
    """The split with weights by (user, item) in external ids."""
    parts = {}
    for part in PARTS:
        pairs = getattr(split, part)
        ids = zip(split.users.external(pairs.users), split.items.external(pairs.items), strict=True)
        weights = np.array([weight_of(*one) for one in ids], np.float32)
        parts[part] = dataclasses.replace(pairs, weights=weights)
    return dataclasses.replace(split, **parts)


def weight_of(user, item):
    return 0.25 + (int(str(user)[5:]) * 7 + int(str(item)[5:]) * 3) % 11


def weights_by_id(split):
    found = {}
    for part in PARTS:
        pairs = getattr(split, part)
        if not len(pairs):
            continue
        ids = zip(split.users.external(pairs.users), split.items.external(pairs.items), strict=True)
        found |= dict(zip(ids, pairs.weights.tolist(), strict=True))
    return found


@pytest.fixture(scope="module")
def split(small_split):
    return weigh(small_split, weight_of)


@pytest.fixture(scope="module")
def config(small_config):
    return replaced(small_config, {"epochs": 3})


@pytest.fixture(scope="module")
def run(split, config, tmp_path_factory):
    path = tmp_path_factory.mktemp("weighted") / "run"
    return fit(split, config, out=path)


def test_a_run_keeps_the_weights_of_all_its_pairs(split, run):
    stored = RunDirectory.open(run.directory).split
    assert weights_by_id(stored) == weights_by_id(split)
    for user, item in list(weights_by_id(split))[:5]:
        assert weights_by_id(stored)[user, item] == weight_of(user, item)


def test_weights_change_what_is_learnt_and_ones_do_not(small_split, run, config):
    ends = [fit(small_split, config), fit(weigh(small_split, lambda *_: 1), config)]
    np.testing.assert_array_equal(*(one.item_embeddings for one in ends))
    assert ends[0].summary["test"] == ends[1].summary["test"]
    assert not np.allclose(run.item_embeddings, ends[0].item_embeddings)


def test_a_broken_run_resumes_with_the_same_weights(split, run, config, tmp_path):
    with pytest.raises(Broken):
        fit(split, config, out=tmp_path / "run", reporter=BreakAfterTwo())
    resumed = resume(tmp_path / "run")
    np.testing.assert_array_equal(resumed.item_embeddings, run.item_embeddings)


def test_evaluation_and_refitting_see_them(split, run, tmp_path):
    figures = evaluate_run(run.directory, (5, 10), beyond=True, groups=2)
    assert figures["test"] == run.summary["test"]
    again = refit(run.directory, out=tmp_path / "refit")
    expected = weights_by_id(split)
    kept = RunDirectory.open(tmp_path / "refit").split
    assert len(kept.train) == len(split.train) + len(split.valid)
    assert weights_by_id(kept) == expected
    assert again.summary["protocol"] == "fixed"


@pytest.mark.parametrize("model", [ItemCf(20), Popular()], ids=["itemcf", "popular"])
def test_a_closed_form_is_rebuilt_with_them(split, model, tmp_path):
    result = fit(split, model=model, out=tmp_path / "run")
    users = split.users.ids[:5].to_list()
    answers = [
        one.recommend(users, k=5)
        for one in (Recommender.from_fit(result), Recommender.from_run(tmp_path / "run"))
    ]
    for before, after in zip(*answers, strict=True):
        assert before.ids == after.ids
        np.testing.assert_array_equal(before.scores, after.scores)


def test_somebody_new_weighs_what_others_do_whatever_the_unit(run):
    """Vectors are those of weights in another unit, and not those of the same run without."""
    liked = run.split.items.ids[:3].to_list()
    recommender = Recommender.from_run(run.directory)
    [vector] = recommender.new_user_vectors([liked])

    def with_weights(change):
        parts = {name: getattr(run.split, name) for name in PARTS}
        changed = {
            name: Pairs(pairs.users, pairs.items, change(pairs.weights))
            for name, pairs in parts.items()
        }
        learnt = recommender.learnt._replace(split=dataclasses.replace(run.split, **changed))
        return dataclasses.replace(recommender, learnt=learnt).new_user_vectors([liked])[0]

    np.testing.assert_allclose(with_weights(lambda weights: 4 * weights), vector, rtol=1e-5)
    assert np.abs(with_weights(np.ones_like) - vector).max() > 1e-3 * np.abs(vector).max()


def test_a_run_goes_on_with_new_weights(split, run, tmp_path):
    users = ["user-0", "user-0", "user-900", "user-900", "user-1", "user-2"]
    items = ["item-900", "item-1", "item-900", "item-2", "item-3", "item-900"]
    new = Interactions.from_arrays(users, items, weights=[2, 3, 4, 5, 6, 7])
    fresh = ratio_split(new, 1.0, 0.0, 0.0)
    known, merged = weights_by_id(split), weights_by_id(merge_splits(split, fresh, "allow"))
    trained = zip(
        split.users.external(split.train.users),
        split.items.external(split.train.items),
        strict=True,
    )
    held_out = known.keys() - set(trained)
    for pair, weight in zip(zip(users, items, strict=True), [2, 3, 4, 5, 6, 7], strict=True):
        if pair in held_out:
            assert merged[pair] == known[pair]
        else:
            assert merged[pair] == known.get(pair, 0) + weight
    result = continue_from(run.directory, fresh, out=tmp_path / "on", unknown_ids="allow")
    assert weights_by_id(result.split) == merged


def test_weights_are_in_the_run_and_the_new_data_or_in_neither(small_split, split):
    for old, new, lacking in ((split, small_split, "the new data"), (small_split, split, "the r")):
        with pytest.raises(InputError, match=f"in neither; only {lacking}"):
            merge_splits(old, new)


def test_a_run_without_weights_holds_and_opens_none(small_split, config, tmp_path):
    fit(small_split, config, out=tmp_path / "plain")
    stored = safetensors.numpy.load_file(tmp_path / "plain" / "pairs.safetensors")
    assert not any(name.endswith("weights") for name in stored)
    assert RunDirectory.open(tmp_path / "plain").split.train.weights is None


def test_damaged_weights_are_refused(run, tmp_path):
    path = tmp_path / "pairs.safetensors"
    stored = safetensors.numpy.load_file(run.directory / "pairs.safetensors")
    stored["train_weights"] = -stored["train_weights"]
    safetensors.numpy.save_file(stored, path)
    for name in ("users.parquet", "items.parquet", "config.json"):
        (tmp_path / name).write_bytes((run.directory / name).read_bytes())
    assert json.loads((tmp_path / "config.json").read_text())["format"] == 2
    with pytest.raises(InputError, match=r"pairs\.safetensors: .*expected a finite number above 0"):
        _ = RunDirectory.open(tmp_path).split
