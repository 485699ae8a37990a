"""Recommendations to many users, read from a file and written to one."""

import json

import numpy as np
import polars as pl
import pytest

from lightgcn_jax.estimators import ItemCosine
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


def test_pairs_of_users_and_items_filter_for_each(run, tmp_path):
    plain = json.loads(call("recommend", run, "--user", "u3", "u1", "--k", 3, "--json").out)
    first = [one["items"][0]["id"] for one in plain]
    (tmp_path / "pairs.csv").write_text(f"user,item\nu3,{first[0]}\n")
    flags = ("--user", "u3", "u1", "--k", 3, "--json")
    left = json.loads(call("recommend", run, *flags, "--exclude-pairs", tmp_path / "pairs.csv").out)
    assert left[0]["items"][0] == plain[0]["items"][1]
    assert left[1] == plain[1]
    only = json.loads(call("recommend", run, *flags, "--among-pairs", tmp_path / "pairs.csv").out)
    assert [[item["id"] for item in one["items"]] for one in only] == [[first[0]], []]
    both = ("--user", "u3", "--exclude", first[0], "--exclude-pairs", tmp_path / "pairs.csv")
    assert "--exclude-pairs: expected no --exclude beside it" in error_of("recommend", run, *both)
    new = ("--liked", first[0], "--among-pairs", tmp_path / "pairs.csv")
    assert "--among-pairs: names users, but --liked asks for none" in error_of(
        "recommend", run, *new
    )


def test_titles_are_kept_and_shown(tmp_path):
    rows = [f"u{user},{item}" for user in range(6) for item in range(user, user + 5)]
    (tmp_path / "log.csv").write_text("user,item\n" + "\n".join(rows))
    titles = "".join(f"{item},Film {item}\n" for item in range(9))
    (tmp_path / "films.csv").write_text("id,title\n" + titles)
    flags = ("--data", tmp_path / "log.csv", "--model", "itemcf", "--ks", 3)
    named = ("--titles", tmp_path / "films.csv")
    status, out, err = call("train", *flags, *named, "--out", tmp_path / "run")
    assert status == 0
    assert "films.csv: titles of 9 of 10 items" in err
    assert "Film " in out
    run = tmp_path / "run"
    ask = ("recommend", run, "--user", "u0")
    (answer,) = json.loads(call(*ask, "--json").out)
    by_id = {one["id"]: one["title"] for one in answer["items"]}
    assert by_id
    assert by_id == {item: f"Film {item}" if item < 9 else None for item in by_id}
    assert call(*ask, "--out", tmp_path / "r.parquet").status == 0
    table = pl.read_parquet(tmp_path / "r.parquet")
    assert table.columns == ["user", "place", "item", "title", "score"]
    near = json.loads(call("similar", run, "--item", 4, "--json").out)
    assert near[0]["items"][0]["title"].startswith("Film ")
    assert "title" not in call("similar", run, "--item", 4, "--json").out.partition("items")[0]
    # A run refitted from it keeps them; control signs are shown, not sent.
    assert call("train", "--refit", run, "--quiet", "--out", tmp_path / "again").status == 0
    assert Recommender.from_run(tmp_path / "again").titles.of([3]).to_list() == ["Film 3"]
    assert "Film\\x1b[2J" in call("recommend", _retitled(run), "--user", "u0").out
    model = ItemCosine.load(run)
    frame = model.recommend("u0", as_frame=True)
    assert frame.columns == ["user", "item", "title", "rank", "score"]


def _retitled(run):
    """The run with a title that would clear a terminal."""
    (run / "sums.json").unlink()
    frame = pl.read_parquet(run / "items.parquet")
    frame.with_columns(title=pl.lit("Film\x1b[2J")).write_parquet(run / "items.parquet")
    return run


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--title-columns", "id", "name"), "--title-columns: says how to read a file, but there"),
        (
            ("--titles", "other.csv"),
            "it has none of them, its ids look like 'x1' (--title-columns)",
        ),
        (("--titles", "nix.csv"), "nix.csv: no such file"),
    ],
)
def test_titles_that_cannot_be_used(flags, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.csv").write_text("user,item\na,1\na,2\nb,1\nb,2\n")
    (tmp_path / "other.csv").write_text("id,title\nx1,One\n")
    flags = ("--data", "log.csv", *flags, "--quiet", "--out", "run")
    assert message in error_of("train", *flags)
