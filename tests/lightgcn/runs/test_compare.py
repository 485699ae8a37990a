import dataclasses

import numpy as np
import polars as pl
import pytest
import scipy.stats

from lightgcn_jax.data import IdMap, Pairs, generate_world, ratio_split
from lightgcn_jax.data.pairs import PARTS
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import catalogue_metrics, evaluate, holm, item_groups, user_groups
from lightgcn_jax.evaluation.parts import evaluation_sets
from lightgcn_jax.graph.bipartite import training_graph
from lightgcn_jax.runs import RunDirectory, fit, load_scorer
from lightgcn_jax.runs.compare import compare_runs
from lightgcn_jax.runs.evaluate import evaluate_run
from lightgcn_jax.settings import from_flat

K = 10


@pytest.fixture(scope="module")
def split():
    world = generate_world(users=120, items=80, mean_degree=12, groups=4, seed=1, string_ids=False)
    return ratio_split(world.interactions, seed=0)


def renumbered(split):
    """The same pairs with users and items in other rows, and their ids as strings."""
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(ids)) for ids in (split.users, split.items)]
    users, items = (
        IdMap(ids.ids.gather(order).cast(pl.String))
        for ids, order in zip((split.users, split.items), orders, strict=True)
    )
    user_rows, item_rows = (np.argsort(order) for order in orders)
    parts = {
        part: Pairs.from_rows(user_rows[pairs.users], item_rows[pairs.items])
        for part in ("train", "valid", "test")
        for pairs in [getattr(split, part)]
    }
    return dataclasses.replace(split, users=users, items=items, **parts)


@pytest.fixture(scope="module")
def runs(split, tmp_path_factory):
    """A run of each kind, by name."""
    folder = tmp_path_factory.mktemp("runs")
    config = {"ks": (K,)}
    made = {
        "popular": (split, from_flat({"model": "popular", **config})),
        "itemcf": (split, from_flat({"model": "itemcf", **config})),
        "legacy": (split, from_flat({"model": "popular", "protocol": "legacy", **config})),
        "other rows": (renumbered(split), from_flat({"model": "itemcf", **config})),
    }
    for name, (its_split, its_config) in made.items():
        fit(its_split, its_config, out=folder / name)
    return {name: folder / name for name in made}


def by_user(path, metric):
    """A metric of every test user, by external id in decimal form."""
    directory = RunDirectory.open(path)
    sets = evaluation_sets(directory.split)
    got = evaluate(load_scorer(directory), sets.test, ks=(K,), seen=sets.known)
    users = map(str, directory.split.users.external(got.users))
    return dict(zip(users, got.per_user[metric].tolist(), strict=True))


def test_runs_are_tested_on_the_same_users(runs):
    names = ["popular", "itemcf", "legacy", "other rows"]
    found = compare_runs([runs[name] for name in names], K, ("recall", "ndcg"))
    assert found.baseline == 0
    assert [run.name for run in found.runs] == names
    assert [run.model for run in found.runs] == ["popular", "itemcf", "popular", "itemcf"]
    for metric in (f"recall@{K}", f"ndcg@{K}"):
        values = {name: by_user(runs[name], metric) for name in names}
        users = list(values["popular"])
        aligned = {name: np.array([each[user] for user in users]) for name, each in values.items()}
        tests = [
            scipy.stats.ttest_rel(aligned[name], aligned["popular"]).pvalue for name in names[1:]
        ]
        assert found.users == len(users)
        for run, name, p in zip(found.runs[1:], names[1:], holm(np.array(tests)), strict=True):
            test = run.tests[metric]
            difference = aligned[name].mean() - aligned["popular"].mean()
            assert run.metrics[metric] == pytest.approx(aligned[name].mean())
            assert test.paired.difference == pytest.approx(difference)
            assert test.paired.low < difference < test.paired.high
            assert test.t_test_p == pytest.approx(p)
            assert test.p == max(test.t_test_p, test.permutation_p)
        tests = [run.tests[metric] for run in found.runs[1:]]
        corrected = holm(np.array([test.paired.permutation_p for test in tests]))
        assert [test.permutation_p for test in tests] == corrected.tolist()
    assert found.runs[0].tests == {}
    # Rows and the kind of id change nothing.
    assert found.runs[1].metrics == pytest.approx(found.runs[3].metrics)
    assert found.runs[1].tests[f"ndcg@{K}"] == found.runs[3].tests[f"ndcg@{K}"]
    assert found.runs[1].tests[f"ndcg@{K}"].p < 0.01 < found.runs[1].metrics[f"ndcg@{K}"]


def test_a_run_does_not_differ_from_itself_in_other_rows(runs):
    found = compare_runs([runs["itemcf"], runs["other rows"], runs["itemcf"]], K)
    assert found.notes == ()
    for run in found.runs[1:]:
        for test in run.tests.values():
            assert test.paired.difference == 0
            assert np.isnan([test.paired.low, test.paired.high, test.t_test_p]).all()
            assert test.p == test.permutation_p == 1
    assert found.best(f"recall@{K}") == [0, 1, 2]


def test_another_baseline_turns_the_difference_round(runs):
    pair = [runs["popular"], runs["itemcf"]]
    one, other = compare_runs(pair, K), compare_runs(pair, K, baseline=1, seed=0)
    assert other.runs[1].tests == {}
    for name, test in one.runs[1].tests.items():
        assert other.runs[0].tests[name].paired.difference == -test.paired.difference
        assert other.runs[0].tests[name].t_test_p == test.t_test_p


def fewer_test_users(split, users):
    """The split with the test pairs of its first test users."""
    kept = np.isin(split.test.users, np.unique(split.test.users)[:users])
    return dataclasses.replace(split, test=Pairs(split.test.users[kept], split.test.items[kept]))


def test_few_test_users_are_noted_and_show_nothing(split, tmp_path):
    """What 2 users can show at most is p = 2 / 2², whatever the tests say of its spread."""
    for users, limit in (
        (1, "no difference can be told from chance (p is at least 1)"),
        (2, "no difference can be told from chance (p is at least 0.5)"),
        (5, "no difference can be told from chance (p is at least 0.0625)"),
        (6, "only a large difference can be told from chance"),
        (19, "only a large difference can be told from chance"),
    ):
        few = fewer_test_users(split, users)
        paths = [tmp_path / f"{users}-{model}" for model in ("popular", "itemcf")]
        for path, model in zip(paths, ("popular", "itemcf"), strict=True):
            fit(few, from_flat({"model": model, "ks": (K,)}), out=path)
        found = compare_runs(paths, K)
        assert found.users == users
        assert found.notes == (f"{users} test users are few: {limit}, and intervals are rough",)
        for test in found.runs[1].tests.values():
            assert test.p >= test.permutation_p >= 2 / 2**users
    again = fewer_test_users(split, 20)
    path = tmp_path / "20"
    fit(again, from_flat({"model": "popular", "ks": (K,)}), out=path)
    assert compare_runs([path, path], K).notes == ()


def test_differing_protocols_and_training_pairs_are_noted(runs, split):
    found = compare_runs([runs["popular"], runs["legacy"]], K)
    valid, train = len(split.valid), len(split.train)
    assert found.notes == (
        "protocols differ, and figures with them: popular strict, legacy legacy",
        f"pairs trained on differ: legacy has {valid} that popular has not, and lacks 0 of its "
        f"{train:,}",
    )


def test_differing_catalogues_and_left_out_pairs_are_noted(runs, split, tmp_path):
    fewer = Pairs(split.train.users[2:], split.train.items[2:])
    items = split.items.grow([10**6])
    smaller = dataclasses.replace(split, train=fewer, items=items)
    fit(smaller, from_flat({"model": "popular", "ks": (K,)}), out=tmp_path / "popular")
    found = compare_runs([runs["popular"], tmp_path / "popular"], K)
    # Of one name, so that paths are shown.
    one, other = str(runs["popular"]), str(tmp_path / "popular")
    assert [run.name for run in found.runs] == [one, other]
    known = len(split.train) + len(split.valid)
    assert found.notes == (
        f"pairs trained on differ: {other} has 0 that {one} has not, and lacks 2 of its "
        f"{len(split.train):,}",
        f"pairs left out of the lists differ: {other} has 0 that {one} has not, and lacks 2 of "
        f"its {known:,}",
        f"catalogues differ: {other} ranks {len(items)} items, {one} {len(split.items)}",
    )


def test_other_test_pairs_are_refused(runs, split, tmp_path):
    config = from_flat({"model": "popular", "ks": (K,)})
    fewer = Pairs(split.test.users[1:], split.test.items[1:])
    fit(dataclasses.replace(split, test=fewer), config, out=tmp_path / "fewer")
    user, item = split.users.ids[0], split.items.external(split.test.items[:1])[0]
    named = f"user {user} with item {item}"
    with pytest.raises(InputError, match=f"fewer: .*got 0 others, while 1 are missing, .*{named}"):
        compare_runs([runs["itemcf"], tmp_path / "fewer"], K)
    with pytest.raises(InputError, match=f"itemcf: .*got 1 others, while 0 are missing, .*{named}"):
        compare_runs([runs["itemcf"], tmp_path / "fewer"], K, baseline=1)
    users = IdMap(split.users.ids + 10**6)
    fit(dataclasses.replace(split, users=users), config, out=tmp_path / "others")
    count = len(split.test)
    with pytest.raises(InputError, match=f"got {count} others, while {count} are missing"):
        compare_runs([runs["itemcf"], tmp_path / "others"], K)


def test_what_cannot_be_compared_is_refused(runs, split, tmp_path):
    pair = [runs["itemcf"], runs["popular"]]
    for arguments, message in (
        ((pair[:1],), "runs: expected at least two to compare, got 1"),
        ((pair, K, ("recall", "auc", "coverage")), "expected some of .*, got auc, coverage"),
        ((pair, K, ()), "expected some of .*, got none"),
        ((pair, K, ("recall",), 2), "baseline: expected 0 to 1, got 2"),
        ((pair, 81), "ks: expected 1 to 80"),
        (([runs["itemcf"], tmp_path],), "holds no config.json"),
    ):
        with pytest.raises(InputError, match=message):
            compare_runs(*arguments)
    none = np.zeros(0, np.int32)
    untested = dataclasses.replace(split, test=Pairs(none, none))
    fit(untested, from_flat({"model": "popular", "ks": (K,)}), out=tmp_path / "untested")
    with pytest.raises(InputError, match="untested: expected test pairs to compare by"):
        compare_runs([tmp_path / "untested"] * 2, K)
    assert evaluate_run(tmp_path / "untested", (K,))["test"] == {}
    for asked in ({"beyond": True}, {"groups": 2}):
        with pytest.raises(
            InputError, match="untested: expected test pairs to evaluate the run by"
        ):
            evaluate_run(tmp_path / "untested", (K,), **asked)


def test_a_run_is_judged_by_one_ranking(runs):
    path, ks = runs["other rows"], (K,)
    plain = evaluate_run(path, ks)
    summary = RunDirectory.open(path).summary()
    assert {part: plain[part] for part in PARTS} == {part: summary[part] for part in PARTS}
    judged = evaluate_run(path, ks, beyond=True, groups=3)
    assert {name: judged[name] for name in plain} == plain
    directory = RunDirectory.open(path)
    sets, train = evaluation_sets(directory.split), training_graph(directory.split)
    evaluation = evaluate(load_scorer(directory), sets.test, ks=ks, seen=sets.known)
    lists = evaluation.ranked, train, ks
    assert judged["beyond"] == catalogue_metrics(*lists, users=evaluation.users)
    shown = evaluation.metrics[f"coverage@{K}"] * len(directory.split.items)
    assert len(np.unique(evaluation.ranked)) == round(shown)
    for kind, make in (("users", user_groups), ("items", item_groups)):
        groups = make(evaluation, train, sets.test, 3)
        assert judged["groups"][kind] == [group._asdict() for group in groups]
    with pytest.raises(InputError, match="groups: expected at least 1, or 0 for none, got -1"):
        evaluate_run(path, ks, groups=-1)
