"""The command sweep, in this process."""

import json
import re
import tomllib

import pytest

from lightgcn_jax.cli.front import received
from lightgcn_jax.cli.program import LIGHTGCN, _parsed
from lightgcn_jax.data import generate_world
from lightgcn_jax.runs import RunDirectory
from lightgcn_jax.settings import from_flat
from lightgcn_jax.sweeps import Range, SweepConfig
from lightgcn_jax.sweeps.directory import SweepDirectory
from tests.lightgcn.cli.test_cli import call, error_of

# What compiles fastest.
QUICK = (
    *("--model", "mf", "--dim", 2, "--sampling", "users", "--no-reject-seen", "--epochs", 2),
    *("--evaluate-every", 1, "--batch-size", 128, "--negatives", 8, "--ks", 5, 10),
)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A CSV log of 60 users and 60 items."""
    interactions = generate_world(60, 60, mean_degree=10, groups=3, string_ids=False).interactions
    path = tmp_path_factory.mktemp("log") / "log.csv"
    rows = zip(interactions.user_rows, interactions.item_rows, strict=True)
    path.write_text("user,item\n" + "".join(f"{user},{item}\n" for user, item in rows))
    return ("--data", path)


@pytest.fixture(scope="module")
def swept(source, tmp_path_factory):
    """Two groups; in the first, one of two trials diverges."""
    out = tmp_path_factory.mktemp("sweeps") / "my sweep"
    flags = ("--set", "learning_rate=0.05,1e30", "sampling=users,interactions", "--seeds", 2)
    quick = [flag for flag in QUICK if flag not in ("--sampling", "users")]
    return out, call("sweep", *source, *quick, *flags, "--refit", "--out", out)


def config_of(*arguments):
    return _parsed(LIGHTGCN, ["sweep", *map(str, arguments)]).config()


def test_what_it_says(swept):
    out, (status, printed, err) = swept
    assert status == 0
    assert "4 trials of 2 seeds, judged by valid recall@10" in err
    assert "Split: random share of each user" in err
    assert "settings selected on validation, test not ranked" in err
    cells = re.findall(r" ([\d.]+) ±[\d.]+▲? +[\d.]+ *$", printed, re.MULTILINE)
    values = [float(cell) for cell in cells]
    assert len(values) == 2
    assert values == sorted(values, reverse=True)
    assert printed.count("▲") == 2  # the best row, and what the mark means
    summary = RunDirectory.open(out / "best").summary()
    assert f"{summary['test']['recall@10']:.4f}" in printed
    assert "protocol strict: epoch selected on validation, test ranked once" in printed
    assert re.search(r"^ popularity +10 +[\d.]+", printed, re.MULTILINE)
    assert "protocol fixed: trained on train and validation" in printed
    assert f"The sweep lies in {out}, its picture in {out / 'sweep.png'}." in printed


def test_diverged_trials_are_shown(swept):
    _, (_, printed, err) = swept
    shown = re.findall(r"^ +(\d) +1e\+30 +(\w+) +diverged", printed, re.MULTILINE)
    assert shown == [("2", "users"), ("3", "interactions")]
    assert err.count("trained one by one") == 2


def test_resume_says_the_same(swept):
    out, (_, printed, _) = swept
    again = call("sweep", "--resume", out)
    assert (again.status, again.out) == (0, printed)
    assert call("sweep", "--resume", out, "--quiet").out == f"{out}\n"
    for others in (("--dim", 4), ("--set", "dim=1,2"), ("--study",), ("--dataset", "ml-100k")):
        assert "leave the other flags out" in error_of("sweep", "--resume", out, *others)


def test_what_the_directory_remembers(swept, source):
    out, _ = swept
    plan = json.loads((out / "sweep.json").read_text())["config"]
    assert plan["search"]["learning_rate"] == [0.05, 1e30]
    assert (plan["base"]["epochs"], plan["base"]["seeds"]) == (2, 2)
    assert RunDirectory.open(out / "split").data["data"] == str(source[1])
    again = call("sweep", *source, "--set", "l2=1,2", *QUICK, "--out", out)
    assert (again.status, again.out) == (2, "")
    assert "expected a new or empty directory" in again.err


def test_its_flags_and_those_of_its_runs_are_kept_and_repeat_them(swept, tmp_path):
    out, _ = swept
    kept = tomllib.loads((out / "sweep.toml").read_text())
    assert kept["set"] == ["learning_rate=0.05,1e30", "sampling=users,interactions"]
    assert not {"out", "quiet"} & kept.keys()
    assert received(LIGHTGCN, ["sweep", "--config", str(out / "sweep.toml")]).asked == kept
    assert not (out / "split" / "run.toml").exists()
    of_best = tomllib.loads((out / "best" / "run.toml").read_text())
    assert not {"set", "refit"} & of_best.keys()
    assert of_best["learning-rate"] == 0.05
    assert of_best["sampling"] in ("users", "interactions")
    for name in ("best", "best-refit"):
        config = out / name / "run.toml"
        again = call("train", "--config", config, "--quiet", "--out", tmp_path / name)
        assert again.status == 0, again.err
        ours, theirs = (run / "metrics.jsonl" for run in (out / name, tmp_path / name))
        assert ours.read_bytes() == theirs.read_bytes()


def test_a_closed_form_keeps_the_flags_that_it_reads(tmp_path):
    """Swept beside trained models, the best is fitted by flags of its own."""
    out = tmp_path / "sweep"
    config = SweepConfig({"ks": (5, 10), "epochs": 2}, {"model": ("popular", "mf")})
    out.mkdir()
    (out / "sweep.toml").write_text(
        'set = ["model=popular,mf"]\nks = [5, 10]\nepochs = 2\ndata = "log.csv"\n'
    )
    kept = SweepDirectory(out).flags_of_run(config.trial_config({"model": "popular"}), ["model"])
    assert kept == {"ks": [5, 10], "data": "log.csv", "model": "popular"}
    trained = SweepDirectory(out).flags_of_run(config.trial_config({"model": "mf"}), ["model"])
    assert trained == {"ks": [5, 10], "epochs": 2, "data": "log.csv", "model": "mf"}


def test_study_is_labelled(source, tmp_path):
    out = tmp_path / "sweep"
    flags = ("--set", "model=popular,random", "--ks", 5, 10, "--study", "--out", out)
    status, printed, err = call("sweep", *source, *flags)
    assert status == 0
    assert "test recall@10 (study)" in printed
    assert "TEST ranked for every trial" in printed
    assert "TEST ranked for every trial" in err
    assert "Its run" not in printed
    assert not (out / "best").exists()


def test_flags_describe_a_sweep():
    config = config_of(
        "--set", "dim=4,8", "alphas=0.5/0.25/0.25,none", "learn-alphas=true,False", "loss=bpr",
        "--layers", 2, "--together", 3, "--study", "--select-by", "ndcg@20",
    )  # fmt: skip
    search = {
        "dim": (4, 8),
        "alphas": ((0.5, 0.25, 0.25), None),
        "learn_alphas": (True, False),
        "loss": ("bpr",),
    }
    base = {"layers": 2, "select_by": "ndcg@20"}
    assert config == SweepConfig(base, search, together=3, study=True)


@pytest.mark.parametrize(("flags", "sampler"), [((), "random"), (("--sampler", "tpe"), "tpe")])
def test_flags_describe_a_search(flags, sampler):
    config = config_of(
        "--range", "learning_rate=1e-4..1e-1", "dim=4..1e2:linear", "l2=1e-5..2e-5:log",
        "--trials", 7, "--draw-seed", 5, "--set", "model=mf,lightgcn", *flags,
    )  # fmt: skip
    search = {
        "model": ("mf", "lightgcn"),
        "learning_rate": Range(1e-4, 1e-1, "log"),
        "dim": Range(4, 100, "linear"),
        "l2": Range(1e-5, 2e-5, "log"),
    }
    assert config == SweepConfig({}, search, trials=7, seed=5, sampler=sampler)
    assert config.num_trials == 7


def test_the_metric_goes_with_the_cutoffs_and_holds_for_closed_forms():
    assert config_of("--set", "dim=1,2", "--ks", 5, 10).shared.metric == "recall@10"
    flags = ("--set", "low_pass_weight=0.1,0.2", "--model", "gfcf")
    assert config_of(*flags, "--ks", 5, 10).shared.metric == "recall@10"
    assert config_of(*flags, "--select-by", "ndcg@50").shared.metric == "ndcg@50"


def test_settings_of_one_of_the_models_may_be_given():
    config = config_of("--set", "model=popular,mf,ngcf", "--message-dropout", 0.1, "--dim", 8)
    popular, mf, ngcf = map(config.trial_config, config.planned)
    select_by = {"select_by": "recall@20"}
    assert popular == from_flat({"model": "popular"})
    assert mf == from_flat(select_by | {"model": "mf", "dim": 8})
    assert ngcf == from_flat(select_by | {"model": "ngcf", "dim": 8, "message_dropout": 0.1})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "expected settings to try .--set or --range., got none"),
        (("--set", "dim"), "--set: expected NAME=…, got 'dim'"),
        (("--set", "dims=1,2"), r"--set dims: .* did you mean dim\?"),
        (("--set", "dim=1,2", "dim=3"), "--set dim: expected once"),
        (("--set", "dim=1,2", "--range", "dim=3..4"), "--range dim: expected once"),
        (("--set", "dim=1,x"), "dim=x: dim: expected a whole number of at least 1, got 'x'"),
        (("--set", "dim=1,1e3"), "trial dim=1000.0: dim: expected a whole number"),
        (("--set", "l2=1e-3,x"), "trial l2=x: l2: expected a number of at least 0, got 'x'"),
        (("--set", "learn_alphas=yes"), "learn_alphas: expected True or False, got 'yes'"),
        (("--set", "loss=bpr,mse"), "trial loss=mse: loss: expected one of"),
        (("--set", "model=mf,svd"), "model: expected one of .*'mf'"),
        (("--set", "model=svd"), "model: expected one of"),
        (("--set", "dim=1,2", "--dim", "3"), "--dim: is swept already"),
        (("--set", "dim=1,2", "--neighbours", "3"), "--neighbours: .* which lightgcn does not"),
        (("--set", "ks=1,2"), "ks: expected a setting in which trials may differ"),
        (("--set", "dim=1,2", "--protocol", "legacy"), "--protocol: expected strict"),
        (("--set", "dim=1,2", "--sampler", "tpe"), "trials: expected how many"),
        (("--range", "l2=1"), "--range l2: expected LOW..HIGH, .*; got '1'"),
        (("--range", "l2=1..2:cubic"), "--range l2: expected LOW..HIGH, .*scale.*'cubic'"),
        (("--range", "l2=2..1"), "--range l2: .* expected low < high"),
        (("--range", "dim=1..x"), "--range dim: .* high: expected a number, got 'x'"),
        (("--range", "dim=1..1.5", "--trials", 2), "dim: expected whole numbers"),
        (("--range", "l2=1e-3..1"), "trials: expected how many"),
        (("--range", "loss=1..2", "--trials", "3"), "loss: expected values"),
    ],
)
def test_refusals(arguments, message):
    assert re.search(message, error_of("sweep", *arguments))
