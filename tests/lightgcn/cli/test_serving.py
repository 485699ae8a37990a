"""From the command line: cold users, runs that are to serve, and what ranking train asks for."""

import json
import re
import warnings

import numpy as np
import pytest

from lightgcn_jax.data import read_interactions
from lightgcn_jax.runs import RunDirectory, evaluate_run, fit, refit
from lightgcn_jax.serving import Recommender
from lightgcn_jax.settings import from_flat
from tests.lightgcn.cli.test_cli import call, error_of
from tests.lightgcn.cli.test_compare import output_of

NEW_USERS, LATE = ("new-1", "new-2"), "late"


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Twenty users of ten events each; two users and an item come after the cut."""
    rng = np.random.default_rng(0)
    rows = ["user,item,timestamp"]
    for user in range(20):
        for item in rng.choice(15, 10, replace=False):
            rows.append(f"user-{user},item-{item},{rng.integers(1000)}")
    rows += [f"{user},item-{item},{2000 + item}" for user in NEW_USERS for item in (3, 5)]
    rows += [f"user-{user},{LATE},2100" for user in range(6)]
    path = tmp_path_factory.mktemp("log") / "log.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def run(log, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    flags = ("--data", log, "--split", "temporal", "--model", "itemcf", "--ks", 5, "--out", path)
    status, out, err = call("train", *flags)
    assert status == 0, err
    return path, out, err


def test_train_says_who_is_cold_and_that_they_are_left_out(run):
    path, out, err = run
    said = r"2 of \d+ \(\d+%\) test users have no training interaction; evaluation counts them"
    assert re.search(said, err)
    counts = RunDirectory.open(path).summary()["cold"]
    assert counts["policy"] == "skip"
    assert (counts["test"]["users"], counts["test"]["items"]) == (2, 1)
    assert "are left out of the means (cold skip)." in out


def test_evaluate_takes_another_policy_and_ranks_train_when_asked(run):
    path, _, _ = run
    plain = json.loads(output_of("evaluate", path, "--json"))
    assert plain["train"] == {}
    assert plain["test"] == RunDirectory.open(path).summary()["test"]
    kept = json.loads(output_of("evaluate", path, "--json", "--cold", "keep", "--rank-train"))
    assert kept["train"]["recall@5"] > 0
    assert kept["cold"]["policy"] == "keep"
    assert kept["test"] != plain["test"]
    assert "(cold popular)." in output_of("evaluate", path, "--cold", "popular")


def test_recommend_answers_cold_users_with_popular_items_and_says_so(run):
    path, _, _ = run
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        status, out, err = call(
            "recommend", path, "--user", *NEW_USERS, "user-3", "--k", 3, "--json"
        )
    assert status == 0
    assert (
        err
        == (
            "warning: no training interaction names user 'new-1', 'new-2': popular items are the "
            "answer\n"
        )
        or "'new-2', 'new-1'" in err
    )
    first, second, third = json.loads(out)
    assert [one["by"] for one in (first, second, third)] == ["popularity", "popularity", "model"]
    split = RunDirectory.open(path).split
    degrees = np.bincount(split.train.items, minlength=len(split.items))
    owned = split.test.items[split.test.users == split.users.row("new-1")]
    degrees[owned] = -1
    scores = sorted(degrees, reverse=True)[:3]
    assert [one["score"] for one in first["items"]] == scores


def test_similar_says_that_it_cannot(run):
    path, _, _ = run
    status, out, err = call("similar", path, "--item", LATE, "item-3", "--k", 2, "--json")
    assert (status, err) == (
        2,
        "error: item: nothing is known of 'late': no training interaction names it\n",
    )
    assert [one["items"] is None for one in json.loads(out)] == [True, False]
    assert "nothing is known of 'late'" in error_of("similar", path, "--item", LATE)


def test_nobody_is_offered_what_they_have_unless_a_judge_asks(run):
    path, _, _ = run
    split = RunDirectory.open(path).split
    users = split.users.external(np.intersect1d(split.test.users, split.train.users))

    def offered(*flags):
        answers = json.loads(
            output_of("recommend", path, "--user", *users, "--k", 8, "--json", *flags)
        )
        return {(one["user"], item["id"]) for one in answers for item in one["items"]}

    def owned(*parts):
        return {
            (split.users.ids[user], split.items.ids[item])
            for part in parts
            for user, item in zip(part.users.tolist(), part.items.tolist(), strict=True)
        }

    assert not offered() & owned(split.train, split.valid, split.test)
    judged = offered("--offer-test")
    assert judged & owned(split.test)
    assert not judged & owned(split.train, split.valid)
    assert offered("--include-seen") & owned(split.train)


def test_refit_all_trains_on_everything(log, tmp_path):
    flags = ("--data", log, "--model", "itemcf", "--ks", 5)
    _, out, _ = call("train", *flags, "--refit", "all", "--out", tmp_path / "served")
    assert "protocol all: fitted on train, validation and test; no test figures" in out
    run = RunDirectory.open(tmp_path / "served")
    data = read_interactions(log).deduplicated()
    assert len(run.split.train) == len(data)
    assert run.summary()["test"] == run.summary()["valid"] == {}
    # Whoever is known at all gets recommendations of the model.
    recommender = Recommender.from_run(run.path)
    assert recommender.knows_user([*NEW_USERS, "user-1"]).all()
    assert LATE in recommender.similar_items("item-3", 15).ids
    assert "withholds nothing to judge it by" in output_of("evaluate", run.path)
    same = fit(run.split, from_flat({"model": "itemcf", "ks": (5,), "protocol": "all"}))
    assert Recommender.from_fit(same).recommend("user-1", 3).ids == (
        recommender.recommend("user-1", 3).ids
    )


def test_a_chosen_run_is_refitted_on_everything(run, tmp_path):
    path, _, _ = run
    split = RunDirectory.open(path).split
    call("train", "--final", path, "--out", tmp_path / "served")
    served = RunDirectory.open(tmp_path / "served")
    assert len(served.split.train) == sum(map(len, (split.train, split.valid, split.test)))
    assert refit(path, protocol="all").config == served.config
    assert evaluate_run(served.path, (5,))["test"] == {}


def test_what_refit_does_not_take(run, log, tmp_path, monkeypatch):
    path, _, _ = run
    assert "expected fixed or all" in error_of("train", "--refit", path, "--protocol", "legacy")
    for more in (("--protocol", "all"), ("--refit", "all"), ("--data", log)):
        assert "--final: takes the run's own" in error_of("train", "--final", path, *more)
    flags = ("train", "--data", log, "--model", "popular", "--refit", "all", "--quiet")
    assert "everything trains, got temporal" in error_of(*flags, "--split", "temporal")
    assert "expected protocol all, got strict" in error_of(*flags, "--protocol", "strict")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "all").mkdir()
    assert "all data or the run in the folder all" in error_of(*flags)


def test_default_cutoffs_fit_and_given_ones_are_refused(log, tmp_path):
    flags = ("--data", log, "--model", "popular")
    status, _, err = call("train", *flags, "--out", tmp_path / "run")
    assert status == 0
    assert "ks: the catalogue has 16 items, so of the default cut-offs 20, 50 are left out\n" in err
    assert RunDirectory.open(tmp_path / "run").config.ks == (10,)
    assert "--ks: expected cut-offs of at most 16" in error_of(
        "train", *flags, "--ks", 5, 17, "--quiet"
    )
