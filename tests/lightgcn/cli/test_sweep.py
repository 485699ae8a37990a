"""The command sweep, in this process."""

import dataclasses
import json
import re

import pytest

from lightgcn_jax.cli.program import LIGHTGCN, _parsed
from lightgcn_jax.data import generate_world
from lightgcn_jax.errors import InputError
from lightgcn_jax.runs import RunDirectory
from lightgcn_jax.settings import TrainConfig
from lightgcn_jax.sweeps import Range, SweepConfig
from tests.lightgcn.cli.test_cli import call, error_of

# What compiles fastest.
QUICK = (
    *("--model", "mf", "--dim", 2, "--sampling", "users", "--no-reject-seen", "--epochs", 2),
    *("--evaluate-every", 1, "--batch-size", 128, "--negatives", 8, "--ks", 5, 10),
)

pytestmark = pytest.mark.slow


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
    out = tmp_path_factory.mktemp("sweeps") / "my sweep"
    flags = ("--set", "learning_rate=0.002,0.05", "l2=0,0.01", "--seeds", 2)
    return out, call("sweep", *source, *QUICK, *flags, "--refit", "--out", out)


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
    assert len(values) == 4
    assert values == sorted(values, reverse=True)
    assert printed.count("▲") == 2  # the best row, and what the mark means
    summary = RunDirectory.open(out / "best").summary()
    assert f"{summary['test']['recall@10']:.4f}" in printed
    assert "protocol strict: epoch selected on validation, test ranked once" in printed
    assert "protocol fixed: trained on train and validation" in printed
    assert f"The sweep lies in {out}, its picture in {out / 'sweep.png'}." in printed


def test_resume_says_the_same(swept):
    out, (_, printed, _) = swept
    again = call("sweep", "--resume", out)
    assert (again.status, again.out) == (0, printed)
    assert call("sweep", "--resume", out, "--quiet").out == f"{out}\n"
    for others in (("--dim", 4), ("--set", "dim=1,2"), ("--study",), ("--dataset", "ml-100k")):
        assert "leave the other flags out" in error_of("sweep", "--resume", out, *others)


def test_study_is_labelled(source, tmp_path):
    out = tmp_path / "sweep"
    flags = ("--set", "init_std=0.05,0.1", "--study", "--out", out)
    status, printed, err = call("sweep", *source, *QUICK, *flags)
    assert status == 0
    assert "test recall@10 (study)" in printed
    assert "TEST ranked for every trial" in printed
    assert "TEST ranked for every trial" in err
    assert "Its run" not in printed
    assert not (out / "best").exists()


def test_a_diverged_trial_is_shown(source, tmp_path):
    flags = ("--set", "learning_rate=0.01,1e30", "--out", tmp_path / "sweep")
    status, printed, err = call("sweep", *source, *QUICK, *flags)
    assert status == 0
    assert re.search(r"1 +1e\+30 +diverged", printed)
    assert "trained one by one" in err


def test_flags_describe_a_sweep():
    config = config_of(
        "--set", "dim=4,8", "alphas=0.5/0.25/0.25,none", "learn-alphas=true,false", "loss=bpr",
        "--layers", 2, "--together", 3, "--study", "--select-by", "ndcg@20",
    )  # fmt: skip
    base = TrainConfig(
        dim=4, alphas=(0.5, 0.25, 0.25), learn_alphas=True, layers=2, select_by="ndcg@20"
    )
    values = {
        "dim": (4, 8),
        "alphas": ((0.5, 0.25, 0.25), None),
        "learn_alphas": (True, False),
        "loss": ("bpr",),
    }
    assert config == SweepConfig(base, values, select_by="ndcg@20", together=3, study=True)


def test_flags_describe_a_search():
    config = config_of(
        "--range", "learning_rate=1e-4..1e-1", "dim=4..64:linear", "l2=1e-5..2e-5:log",
        "--trials", 7, "--draw-seed", 5, "--set", "model=mf,lightgcn",
    )  # fmt: skip
    assert config.ranges == {
        "learning_rate": Range(1e-4, 1e-1),
        "dim": Range(4, 64, "linear"),
        "l2": Range(1e-5, 2e-5, "log"),
    }
    assert (config.trials, config.seed, config.models) == (7, 5, ("mf", "lightgcn"))
    assert len(config.combinations) == 7


def test_the_metric_goes_with_the_cutoffs_and_holds_for_closed_forms():
    trained = config_of("--set", "dim=1,2", "--ks", 5, 10)
    assert (trained.metric, trained.base.select_by) == ("recall@10", "recall@10")
    flags = ("--set", "low_pass_weight=0.1,0.2", "--model", "gfcf")
    assert config_of(*flags, "--ks", 5, 10).metric == "recall@10"
    assert config_of(*flags, "--select-by", "ndcg@50").metric == "ndcg@50"


def test_settings_of_one_of_the_models_may_be_given():
    config = config_of("--set", "model=popular,mf,ngcf", "--message-dropout", 0.1, "--dim", 8)
    popular, mf, ngcf = (trial.config for trial in config.combinations)
    assert popular == TrainConfig(model="popular")
    assert mf == TrainConfig(model="mf", dim=8)
    assert ngcf == TrainConfig(model="ngcf", dim=8, message_dropout=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "expected --set NAME=VALUE,VALUE or --range"),
        (("--set", "dim"), "--set: expected NAME=…, got 'dim'"),
        (("--set", "dims=1,2"), r"--set dims: .* did you mean dim\?"),
        (("--set", "dim=1,2", "dim=3"), "--set dim: expected once"),
        (("--set", "dim=1,x"), "--set dim: expected a whole number, got 'x'"),
        (("--set", "l2=1e-3,x"), "--set l2: expected a number, got 'x'"),
        (("--set", "learn_alphas=yes"), "--set learn_alphas: expected true or false"),
        (("--set", "loss=bpr,mse"), "trial loss=mse: loss: expected one of"),
        (("--set", "model=mf,svd"), "model: expected one of mf"),
        (("--set", "model=svd"), "model: expected one of"),
        (("--set", "dim=1,2", "--dim", "3"), "--dim: is swept already"),
        (("--set", "dim=1,2", "--neighbours", "3"), "--neighbours: .* which lightgcn does not"),
        (("--set", "ks=1,2"), "ks: expected a setting in which trials may differ"),
        (("--set", "dim=1,2", "--protocol", "legacy"), "protocol: expected strict"),
        (("--range", "l2=1"), "--range l2: expected LOW..HIGH"),
        (("--range", "l2=1..2:cubic"), "--range l2: expected LOW..HIGH"),
        (("--range", "l2=2..1"), "--range l2: expected low < high"),
        (("--range", "dim=1..1e3"), "--range dim: expected a whole number, got '1e3'"),
        (("--range", "l2=1e-3..1"), "trials: expected how many"),
        (("--range", "loss=1..2", "--trials", "3"), "loss: expected values"),
    ],
)
def test_refusals(arguments, message):
    assert re.search(message, error_of("sweep", *arguments))


def test_what_the_directory_remembers(swept, source):
    out, _ = swept
    plan = json.loads((out / "sweep.json").read_text())
    assert plan["values"] == {"learning_rate": [0.002, 0.05], "l2": [0.0, 0.01]}
    assert plan["data"]["data"] == str(source[1])
    with pytest.raises(InputError, match="expected a new or empty directory"):
        _parsed(
            LIGHTGCN,
            ["sweep", *map(str, source), "--set", "l2=1,2", *map(str, QUICK), "--out", str(out)],
        ).run()
    assert dataclasses.asdict(RunDirectory.open(out / "split").config)["epochs"] == 2
