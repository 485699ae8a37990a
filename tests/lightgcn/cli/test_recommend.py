"""Recommendations to many users, read from a file and written to one."""

import json

import numpy as np
import polars as pl
import pytest

from lightgcn_jax.serving import Recommender
from tests.lightgcn.cli.test_cli import call, error_of

COLUMNS = ["user", "place", "item", "score"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Thirty users of eight items each, and one who comes after the cut."""
    folder, rng = tmp_path_factory.mktemp("many"), np.random.default_rng(0)
    rows = ["user,item,timestamp"]
    for user in range(30):
        rows += [f"u{user},{item},{rng.integers(99)}" for item in rng.choice(15, 8, replace=False)]
    (folder / "log.csv").write_text("\n".join([*rows, "late,3,500"]) + "\n")
    flags = ("--data", folder / "log.csv", "--split", "temporal", "--model", "itemcf", "--ks", 5)
    assert call("train", *flags, "--quiet", "--out", folder / "run").status == 0
    return folder / "run"


def test_all_users_get_a_row_for_each_place(run, tmp_path):
    status, out, err = call(
        "recommend", run, "--all-users", "--k", 4, "--out", tmp_path / "r.parquet"
    )
    assert (status, out) == (0, "")
    assert "popular items are the answer to 1 users without training interactions" in err
    found = pl.read_parquet(tmp_path / "r.parquet")
    assert found.columns == COLUMNS
    assert found["item"].dtype == pl.Int64
    recommender = Recommender.from_run(run)
    users = recommender.users.external(np.arange(31))
    with pytest.warns(UserWarning, match="popular items are the answer"):
        expected = recommender.recommend(users, 4)
    for user, ranked in zip(users, expected, strict=True):
        rows = found.filter(pl.col("user") == user)
        assert rows["item"].to_list() == ranked.ids
        assert rows["place"].to_list() == [*range(1, len(ranked.ids) + 1)]
        np.testing.assert_array_equal(rows["score"], ranked.scores)


def test_users_of_a_file_and_a_table_of_text(run, tmp_path):
    (tmp_path / "users.txt").write_text(" u3\nu1 \n \t\nu3\n")
    flags = ("recommend", run, "--users", tmp_path / "users.txt", "--k", 2)
    assert call(*flags, "--out", tmp_path / "r.csv").status == 0
    found = pl.read_csv(tmp_path / "r.csv")
    assert found.columns == COLUMNS
    assert found["user"].to_list() == ["u3", "u3", "u1", "u1"]
    printed = json.loads(call(*flags, "--json").out)
    assert [one["id"] for answer in printed for one in answer["items"]] == found["item"].to_list()


def test_unknown_users_of_a_file_are_named_and_the_others_written(run, tmp_path):
    (tmp_path / "users.txt").write_text("u1\nnobody\n")
    flags = ("--users", tmp_path / "users.txt", "--k", 2, "--out", tmp_path / "r.csv")
    status, _, err = call("recommend", run, *flags)
    assert status == 2
    assert "error: 1 unknown user ids: 'nobody'" in err
    assert pl.read_csv(tmp_path / "r.csv").height == 2
    (tmp_path / "users.txt").write_text("nobody\n")
    assert call("recommend", run, *flags).status == 2
    assert pl.read_csv(tmp_path / "r.csv").height == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "expected one of --user ID …, --users FILE, --all-users and --liked ID …"),
        (("--all-users", "--user", "u1"), "expected one of --user"),
        (("--all-users", "--out", "recs.xlsx"), "expected a name in .csv or .parquet"),
        (("--all-users", "--out", "nix/recs.csv"), "nix: no such folder"),
        (("--all-users", "--out", "recs.csv", "--json"), "expected neither --json nor --liked"),
        (("--users", "nix.txt"), "nix.txt: No such file"),
        (("--users", "empty.txt"), "expected an id a line, it holds none"),
    ],
)
def test_what_cannot_be_asked_for(flags, message, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("\n")
    assert message in error_of("recommend", run, *flags)
