"""A second stage from the command line: trained, judged, asked."""

import json

import numpy as np
import pytest

from lightgcn_jax.data import generate_world
from lightgcn_jax.runs import RunDirectory, verify
from lightgcn_jax.serving.two_stage import RankedRecommender
from tests.lightgcn.cli.test_cli import call, error_of


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A CSV log with a time for each row."""
    made = generate_world(60, 60, mean_degree=10, groups=3).interactions
    times = np.random.default_rng(0).permutation(len(made))
    users, items = made.users.external(made.user_rows), made.items.external(made.item_rows)
    rows = [f"{user},{item},{when}" for user, item, when in zip(users, items, times, strict=True)]
    path = tmp_path_factory.mktemp("log") / "log.csv"
    path.write_text("\n".join(["user,item,timestamp", *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def run(log, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    flags = ("--data", log, "--split", "temporal-per-user", "--model", "itemcf", "--ks", 10)
    assert call("train", *flags, "--quiet", "--out", path).status == 0
    return path


def test_a_run_without_a_second_stage_says_how_to_get_one(run):
    for arguments in (("rank", "evaluate", run), ("recommend", run, "--user", "u", "--ranked")):
        assert f"has no second stage: lightgcn-jax rank train {run}" in error_of(*arguments)
    assert "expected no --liked" in error_of("recommend", run, "--liked", "a", "--ranked")


@pytest.mark.slow
def test_train_evaluate_recommend(run, log):
    status, out, err = call("rank", "train", run, "--events", log, "--epochs", 1)
    assert (status, out) == (0, "")
    assert "ndcg@10 of validation users" in err
    assert verify(run).is_whole
    found = json.loads(call("rank", "evaluate", run, "--k", 5, 10, "--json").out)
    test = RunDirectory.open(run).summary()["test"]
    assert found["before"]["ndcg@10"] == pytest.approx(test["ndcg@10"], abs=1e-6)
    printed = call("rank", "evaluate", run).out
    assert f"{found['after']['ndcg@10']:.4f}" in printed
    assert f"recall@{found['total']} of the candidates: {found['candidates']:.4f}" in printed
    user = RunDirectory.open(run).split.users.ids[0]
    asked = ("recommend", run, "--user", user, "--k", 5, "--json")
    [answer] = json.loads(call(*asked, "--ranked").out)
    expected = RankedRecommender.from_run(run).recommend(user, k=5)
    assert [entry["id"] for entry in answer["items"]] == expected.ids
