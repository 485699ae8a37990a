"""The commands that judge finished runs and put them side by side, in this process."""

import contextlib
import dataclasses
import io
import json
import shutil

import numpy as np
import pytest

from lightgcn_jax.cli import main
from lightgcn_jax.data import Pairs, generate_world, ratio_split
from lightgcn_jax.runs import RunDirectory, fit
from lightgcn_jax.runs.compare import compare_runs
from lightgcn_jax.runs.evaluate import evaluate_run
from lightgcn_jax.settings import from_flat
from tests.lightgcn.drawn import drawing


def call(*arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(argument) for argument in arguments])
    return status, out.getvalue(), err.getvalue()


def output_of(*arguments):
    status, out, err = call(*arguments)
    assert (status, err) == (0, "")
    return out


def error_of(*arguments):
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    return err


def tables_of(out):
    """Rows of cells of each table that was printed, its head among them."""
    tables, rows = [], []
    for line in [*out.splitlines(), ""]:
        if line.strip() and line.startswith(" "):
            rows.append([cell.strip() for cell in line.split("  ") if cell.strip()])
        elif rows:
            tables.append([row for row in rows if not row[0].startswith("─")])
            rows = []
    return tables


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Four runs on one split, by name, and one on another."""
    folder = tmp_path_factory.mktemp("runs")
    world = generate_world(users=120, items=80, mean_degree=12, groups=4, seed=1)
    split = ratio_split(world.interactions, seed=0)
    for model, settings in (("popular", {}), ("itemcf", {}), ("spectral", {"dim": 8})):
        fit(split, from_flat(dict(model=model, ks=(5, 10), **settings)), out=folder / model)
    legacy = from_flat({"model": "popular", "ks": (5, 10), "protocol": "legacy"})
    fit(split, legacy, out=folder / "legacy")
    fit(ratio_split(world.interactions, seed=1), legacy, out=folder / "elsewhere")
    return folder


def test_compare_shows_figures_tests_and_what_marks_mean(runs):
    names = ("popular", "itemcf", "spectral")
    paths = [runs / name for name in names]
    out = output_of("compare", *paths, "--k", 10)
    found = compare_runs(paths, 10)
    assert out.startswith(f"{found.test_pairs} test pairs of {found.users} users\n")
    figures, tests = tables_of(out)
    assert figures[0] == ["run", "model", "protocol", "epoch", "recall@10", "ndcg@10"]
    assert [row[:4] for row in figures[1:]] == [[name, name, "strict", "–"] for name in names]
    columns = ("recall@10", "ndcg@10")
    highest = {name: max(run.metrics[name] for run in found.runs) for name in columns}
    for row, run in zip(figures[1:], found.runs, strict=True):
        for cell, name in zip(row[4:], ("recall@10", "ndcg@10"), strict=True):
            p = run.tests[name].p if run.tests else 1
            marks = " **" if p < 0.01 else " *" if p < 0.05 else ""
            best = "▲" if run.metrics[name] == highest[name] else ""
            assert cell == f"{run.metrics[name]:.4f}{best}{marks}"
    assert "**" in figures[2][4]
    assert [row[:2] for row in tests[1:]] == [
        [name, metric] for metric in ("recall@10", "ndcg@10") for name in names[1:]
    ]
    test = found.runs[1].tests["recall@10"]
    assert tests[1][2:4] == [
        f"{test.paired.difference:+.4f}",
        f"{test.paired.low:+.4f} to {test.paired.high:+.4f}",
    ]
    assert tests[1][4:] == ["<0.0001", f"{test.permutation_p:.4f}"]
    assert "▲ best of its column; against popular * p < 0.05, ** p < 0.01 in both tests" in out
    assert "p by Holm over the tests of a metric, 2" in out
    assert "Protocol strict: fitted on train, nothing selected" in out
    assert "Note: " not in out


def test_compare_against_another_run_in_other_metrics(runs):
    paths = [runs / name for name in ("popular", "itemcf")]
    flags = ("--k", 10, "--metric", "mrr", "hit_rate", "map", "--baseline", f"{runs}/./itemcf")
    figures, tests = tables_of(output_of("compare", *paths, *flags))
    assert figures[0][4:] == ["mrr@10", "hit_rate@10", "map@10"]
    assert tests[0][0] == "against itemcf"
    assert [row[0] for row in tests[1:]] == ["popular"] * 3
    assert tests[1][2].startswith("-")


def test_compare_draws_runs_with_their_intervals(runs, tmp_path, monkeypatch):
    paths = [runs / name for name in ("popular", "itemcf", "spectral")]
    with drawing(monkeypatch) as figures:
        status, _, err = call("compare", *paths, "--k", 10, "--plot", tmp_path / "all.png")
    assert (status, err) == (0, f"wrote {tmp_path / 'all.png'}\n")
    means, differences, *_ = figures[-1].axes
    assert [tick.get_text() for tick in means.get_yticklabels()] == [
        f"{path.name} ({path.name})" for path in paths
    ]
    found = compare_runs(paths, 10)
    ends = [line.get_xdata() for line in differences.lines if len(line.get_xdata()) == 2]
    for run, interval in zip(found.runs[1:], ends, strict=False):
        paired = run.tests["recall@10"].paired
        assert [*interval] == [paired.low, paired.high]
        assert run.half_widths["recall@10"] > 0
    assert "3 runs on own data" in figures.texts()


def test_a_picture_of_a_closed_form(runs, tmp_path, monkeypatch):
    with drawing(monkeypatch) as figures:
        assert call("plot", runs / "itemcf", "--out", tmp_path / "one.png")[0] == 0
    assert "itemcf on own data" in figures.texts()
    assert len(figures[-1].axes) == 3


def test_compare_as_json(runs):
    paths = [runs / "popular", runs / "legacy"]
    value = json.loads(output_of("compare", *paths, "--json", "--k", 10))
    found = compare_runs(paths, 10)
    assert [value[name] for name in ("baseline", "users", "test_pairs")] == [
        0, found.users, found.test_pairs,
    ]  # fmt: skip
    assert tuple(value["notes"]) == found.notes
    run = found.runs[1]
    assert value["runs"][1]["path"] == str(runs / "legacy")
    assert value["runs"][1]["metrics"] == run.metrics
    test = value["runs"][1]["tests"]["recall@10"]
    assert test["paired"]["difference"] == run.tests["recall@10"].paired.difference
    assert test["t_test_p"] == run.tests["recall@10"].t_test_p
    assert test["permutation_p"] == run.tests["recall@10"].permutation_p


def test_what_says_nothing_is_null_in_json(runs):
    value = json.loads(output_of("compare", *[runs / "itemcf"] * 2, "--json", "--k", 10))
    test = value["runs"][1]["tests"]["recall@10"]
    assert (test["t_test_p"], test["permutation_p"]) == (None, 1)
    paired = test["paired"]
    assert {name for name, field in paired.items() if field is None} == {
        "low", "high", "statistic", "t_test_p",
    }  # fmt: skip
    assert paired["difference"] == 0


def test_few_test_users_are_said_below(runs, tmp_path):
    split = RunDirectory.open(runs / "popular").split
    kept = split.test.users < 4
    few = dataclasses.replace(split, test=Pairs(split.test.users[kept], split.test.items[kept]))
    for model in ("popular", "itemcf"):
        fit(few, from_flat({"model": model, "ks": (10,)}), out=tmp_path / model)
    out = output_of("compare", tmp_path / "popular", tmp_path / "itemcf", "--k", 10)
    users = len(np.unique(few.test.users))
    assert f"Note: {users} test users are few: no difference can be told from chance" in out
    assert "*" not in tables_of(out)[0][2][4]


def test_what_differs_is_said_below(runs):
    out = output_of("compare", runs / "popular", runs / "legacy", "--k", 10)
    assert "Protocol strict: " in out
    assert "Protocol legacy: " in out
    assert "Note: protocols differ, and figures with them: popular strict, legacy legacy" in out
    assert "Note: pairs trained on differ: legacy has " in out


def test_a_run_compared_with_itself(runs):
    figures, tests = tables_of(output_of("compare", *[runs / "itemcf"] * 2, "--k", 10))
    assert figures[1] == figures[2]
    assert figures[1][4].endswith("▲")
    assert [row[2:] for row in tests[1:]] == [["+0.0000", "–", "–", "1.0000"]] * 2


def test_what_a_user_can_mend_is_one_line(runs, tmp_path):
    itemcf = runs / "itemcf"
    assert "expected at least two to compare, got 1" in error_of("compare", itemcf)
    assert "holds no config.json" in error_of("compare", itemcf, tmp_path)
    message = error_of("compare", itemcf, runs / "elsewhere", "--k", 10)
    assert "elsewhere: expected the test pairs of " in message
    assert "compare runs on the same split" in message
    flags = ("--baseline", runs / "popular")
    assert "--baseline: expected one of" in error_of("compare", itemcf, itemcf, *flags)
    assert "got auc" in error_of("compare", itemcf, itemcf, "--metric", "auc")
    unfinished = shutil.copytree(itemcf, tmp_path / "unfinished")
    (unfinished / "summary.json").unlink()
    assert "finished run" in error_of("compare", itemcf, unfinished, "--k", 10)
    for given in ((0,), (2, 3)):
        message = error_of("evaluate", itemcf, "--groups", *given)
        assert "--groups: expected one number of at least 1, or none" in message


def test_evaluate_beyond_and_by_groups(runs):
    itemcf = runs / "itemcf"
    parts, beyond, users, items = tables_of(output_of("evaluate", itemcf, "--beyond", "--groups"))
    assert tables_of(output_of("evaluate", itemcf)) == [parts]
    figures = evaluate_run(itemcf, (5, 10), beyond=True, groups=4)
    names = ["gini", "novelty", "diversity", "personalisation", "popularity", "popularity_lift"]
    assert beyond == [["k", *names]] + [
        [str(k), *(f"{figures['beyond'][f'{name}@{k}']:.4f}" for name in names)] for k in (5, 10)
    ]
    groups = figures["groups"]
    assert users[0] == ["training items", "users", "test pairs", "k", *parts[0][2:-1]]
    assert [row[:4] for row in users[1:]] == [
        [group["label"], str(group["users"]), str(group["test_pairs"]), k]
        for group in groups["users"]
        for k in ("5", "10")
    ]
    assert users[1][4] == f"{groups['users'][0]['metrics']['recall@5']:.4f}"
    shown = ["items", "test pairs", "share of test", "k", "recommended", "recall"]
    assert items[0] == ["training users", *shown]
    last = groups["items"][-1]
    assert items[-1] == [
        last["label"], str(last["items"]), str(last["test_pairs"]), f"{last['test_share']:.4f}",
        "10", f"{last['recommended']['recommended@10']:.4f}", f"{last['recall']['recall@10']:.4f}",
    ]  # fmt: skip


def test_evaluate_beyond_and_by_groups_as_json(runs):
    flags = ("--k", 1, "--beyond", "--groups", 2, "--json")
    value = json.loads(output_of("evaluate", runs / "popular", *flags))
    assert value == evaluate_run(runs / "popular", (1,), beyond=True, groups=2)
    assert "diversity@1" not in value["beyond"]
    assert len(value["groups"]["users"]) <= 2
    assert not {"beyond", "groups"} & set(
        json.loads(output_of("evaluate", runs / "popular", "--json"))
    )
    row = tables_of(output_of("evaluate", runs / "popular", *flags[:-1]))[1][1]
    assert row[3] == "–"
