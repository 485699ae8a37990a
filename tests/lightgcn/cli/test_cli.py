"""The command line, in this process: output, streams and exit statuses of every command."""

import contextlib
import errno
import importlib
import importlib.metadata
import importlib.util
import io
import itertools
import json
import re
import shutil
import warnings
from pathlib import Path
from typing import NamedTuple, get_args

import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest

from lightgcn_jax.cli import main
from lightgcn_jax.cli import training as train_command
from lightgcn_jax.cli.program import LIGHTGCN, _parsed
from lightgcn_jax.data import generate_world, ratio_split, read_interactions
from lightgcn_jax.errors import InputError
from lightgcn_jax.runs import Interrupted, RunDirectory, continue_from, fit
from lightgcn_jax.runs.interrupt import gone_unless_begun
from lightgcn_jax.serving import Recommender
from lightgcn_jax.settings import PRESETS, TrainConfig, flat, from_flat
from lightgcn_jax.settings.names import DEFAULTS, KINDS, replaced
from tests.lightgcn.drawn import drawing
from tests.unlisted import without_sums

# The function of that name hides its module from `import`.
fitting = importlib.import_module("lightgcn_jax.runs.fit")
QUICK = (
    "--dim",
    "8",
    "--layers",
    "1",
    "--epochs",
    "2",
    "--evaluate-every",
    "1",
    "--batch-size",
    "128",
)


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


def call(*arguments: object) -> Outcome:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(argument) for argument in arguments])
    return Outcome(status, out.getvalue(), err.getvalue())


def error_of(*arguments: object) -> str:
    """The one line that a failing command writes."""
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Path:
    """A CSV log with columns of unusual names, 60 users and 60 items."""
    interactions = generate_world(60, 60, mean_degree=10, groups=3, string_ids=False).interactions
    path = tmp_path_factory.mktemp("log") / "log.csv"
    frame = pl.DataFrame(
        {
            "who": interactions.user_rows,
            "what": [f"[red]item {row}" for row in interactions.item_rows],
            "stars": np.arange(len(interactions)) % 5 + 1,
            "timestamp": interactions.timestamps,
        }
    )
    frame.write_csv(path)
    return path


@pytest.fixture(scope="module")
def source(log) -> tuple[object, ...]:
    return ("--data", log, "--user-column", "who", "--item-column", "what")


@pytest.fixture(scope="module")
def trained(source, tmp_path_factory) -> tuple[Path, Outcome]:
    run = tmp_path_factory.mktemp("runs") / "first run"
    filters = ("--rating-column", "stars", "--min-rating", "2", "--k-core", "2")
    outcome = call("train", *source, *filters, *QUICK, "--ks", "5", "10", "--out", run)
    return run, outcome


@pytest.fixture(scope="module")
def run(trained) -> Path:
    return trained[0]


def test_train_says_what_it_trains_on_and_what_came_out(trained):
    run, (status, out, err) = trained
    assert status == 0
    assert "selected by recall@10, as 20 is not in --ks" in err
    assert "one interaction per user-item pair: " in err
    assert "rating ≥ 2: " in err
    assert "k-core of users ≥ 2, items ≥ 2: " in err
    assert "Split: random share of each user: train 0.8, valid 0.1, test 0.1, seed 0" in err
    assert "Protocol strict: epoch selected on validation" in err
    assert "compiling …" in err
    assert "epoch 2 " in err
    assert "protocol strict" in out
    assert f"lightgcn-jax recommend '{run}' --user " in out
    assert f"lightgcn-jax train --final '{run}' --out '{run}-served'" in out
    assert "[red]item " in out  # an id is no markup
    summary = RunDirectory.open(run).summary()
    assert f"{summary['test']['recall@10']:.4f}" in out
    data = RunDirectory.open(run).data
    assert (data["user_column"], data["min_rating"], data["k_core"]) == ("who", 2.0, 2)
    # What was rated 1 is hidden from those who rated it so.
    assert len(RunDirectory.open(run).also_seen)


def test_a_picture_of_a_run(run, tmp_path, monkeypatch):
    with drawing(monkeypatch) as figures:
        status, out, err = call("plot", run, "--out", tmp_path / "run.svg")
    assert (status, out, err) == (0, "", f"wrote {tmp_path / 'run.svg'}\n")
    assert "<svg" in (tmp_path / "run.svg").read_text()
    texts = figures.texts()
    assert "lightgcn on log.csv" in texts
    best = RunDirectory.open(run).summary()["best_epoch"]
    assert {f"chosen: epoch {best}", "ranked by popularity", "Training loss", "epoch"} <= {*texts}
    assert {"Popularity of the first 10 recommended", "of recommendations"} <= {*texts}
    assert "recall@10 (share of items found)" in texts
    assert figures.scales() == {"linear"}
    # What is drawn are the run's figures: of the groups, weighted by their users, that of test.
    users = next(axes for axes in figures[-1].axes if "activity" in axes.get_title())
    counts = [
        int(tick.get_text().partition("n = ")[2].replace(",", ""))
        for tick in users.get_xticklabels()
    ]
    mean = np.average([bar.get_height() for bar in users.patches], weights=counts)
    assert mean == pytest.approx(RunDirectory.open(run).summary()["test"]["recall@10"], abs=1e-6)


@pytest.mark.parametrize(
    ("out", "message"),
    [("run.pdf", "expected a name in .png or .svg"), ("nix/run.png", "nix: no such folder")],
)
def test_a_picture_that_cannot_be_written(out, message, run, tmp_path):
    assert message in error_of("plot", run, "--out", tmp_path / out)


def test_a_picture_without_matplotlib(run, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert "pip install 'lightgcn-pinsage-jax[plot]'" in error_of("plot", run)
    compared = error_of("compare", run, run, "--plot", tmp_path / "both.png")
    assert "pip install 'lightgcn-pinsage-jax[plot]'" in compared


def test_python_gives_the_same_run(trained, log):
    run, _ = trained
    interactions = read_interactions(
        log, user_column="who", item_column="what", rating_column="stars"
    )
    filtered = interactions.deduplicated().with_min_rating(2).with_k_core(2, 2)
    config = from_flat(
        {"dim": 8, "layers": 1, "epochs": 2, "evaluate_every": 1, "batch_size": 128, "ks": (5, 10)}
    )
    result = fit(ratio_split(filtered, seed=0), config)
    stored = RunDirectory.open(run)
    times = {"train_seconds", "compile_seconds", "evaluate_seconds"}
    for name in stored.summary().keys() - times:
        assert result.summary[name] == stored.summary()[name], name
    assert result.user_embeddings.tobytes() == stored.embeddings()[0].tobytes()


def test_settings_not_given_are_those_of_the_preset():
    command = _parsed(
        LIGHTGCN, ["train", "--preset", "paper", "--dim", "4", "--alphas", "1", "0", "0", "0"]
    )
    expected = replaced(PRESETS["paper"], {"dim": 4, "alphas": (1, 0, 0, 0)})
    assert command._config() == expected
    assert _parsed(LIGHTGCN, ["train"])._config() == TrainConfig()


@pytest.mark.parametrize(
    ("ks", "select_by"),
    [((5,), "recall@5"), ((10, 30), "recall@10"), ((20, 40), "recall@20"), ((50, 9), "recall@9")],
)
def test_the_selecting_metric_follows_the_cutoffs(ks, select_by):
    command = _parsed(LIGHTGCN, ["train", "--quiet", "--ks", *map(str, ks)])
    assert command._config().metric == select_by


@pytest.fixture(scope="module")
def flags() -> dict[str, str]:
    """What --help says of each flag, on one line."""
    said = call("train", "--help").out.partition("\nexamples:\n")[0]
    text = " ".join(re.sub(r"(?m)^\w+:$", "", said).split())
    starts = [*re.finditer(r" --([a-z][a-z0-9-]+)(?:, --no-[a-z-]+)? ", text), re.search("$", text)]
    return {start[1]: text[start.end() : end.start()] for start, end in itertools.pairwise(starts)}


def test_every_setting_is_a_flag_with_its_text_and_its_default_in_each_preset(flags):
    presets = {preset: flat(config) for preset, config in PRESETS.items()}
    for name, kind in KINDS.items():
        said = flags[name.replace("_", "-")]
        choices = ",".join(map(str, get_args(kind)))
        metavar = {int: "INT", float: "FLOAT", str: "STR", bool: ""}.get(kind, f"{{{choices}}}")
        assert said.startswith(metavar) or name in ("ks", "alphas"), name
        text = said.removeprefix(metavar).rpartition("(")[0]
        assert len(text) > 10 or name == "select_by", name
        values = {"default": DEFAULTS[name]} | {
            preset: values[name] for preset, values in presets.items() if name in values
        }
        shown = {
            preset: " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            for preset, value in values.items()
        }
        if len(set(shown.values())) == 1:
            shown = {"default": shown["default"]}
        for preset, value in shown.items():
            assert f"{preset}: {value}" in said or shown == {"default": "None"}, name


def test_every_preset_can_be_asked_for(flags):
    assert get_args(train_command.Preset) == tuple(PRESETS)
    assert "{default,paper,fast}" in flags["preset"]


def test_help_says_what_reads_a_setting(flags):
    assert flags["init-std"].endswith(
        "standard deviation of the initial embeddings. (default: 0.1)"
    )
    assert flags["learning-rate"].endswith("(default: 0.005; paper: 0.001; fast: 0.03)")
    assert flags["svd-iterations"].endswith("(gfcf, spectral; default: 4)")
    assert flags["hidden"].endswith("(score mlp; default: 64)")
    assert flags["margin"].endswith("(loss max-margin; default: 1.0)")
    assert flags["hard-pool"].endswith("(negative sampler hard; default: 1024)")
    assert flags["temperature"].endswith(
        "(loss bpr, binary, softmax, bilateral-softmax; default: 1.0; paper: 1.0; fast: 0.12)"
    )
    assert "0 makes `lightgcn` matrix factorisation" in flags["layers"]
    assert flags["alphas"].endswith("(lightgcn; default: None; fast: 0.0 0.1 0.3 0.6)")


@pytest.mark.parametrize(
    ("flags", "description"),
    [
        (("--split", "ratio", "--split-seed", "3", "--shares", ".6", ".2", ".2"), "0.2, seed 3"),
        (("--split", "leave-k-out", "--leave-k", "2"), "leave 2 out: .* latest"),
        (("--split", "temporal", "--unseen", "drop"), "temporal cut of all interactions"),
        (("--split", "temporal-per-user"), "temporal cut of each user's history"),
    ],
)  # fmt: skip
def test_splits(source, flags, description):
    chosen = _parsed(LIGHTGCN, ["train", *map(str, source), *flags]).source
    split = chosen.split_up(chosen.interactions())
    assert re.search(description, split.description)


def test_a_split_given_by_the_files_is_taken(tmp_path):
    (tmp_path / "train.txt").write_text("0 1 2\n1 2 3\n")
    (tmp_path / "test.txt").write_text("0 3\n1 1\n")
    chosen = _parsed(LIGHTGCN, ["train", "--data", str(tmp_path)]).source
    split = chosen.split_up(chosen.interactions())
    assert split.description == "split given by the files"
    assert len(split.test) == 2


@pytest.mark.slow
def test_quiet_training_with_the_legacy_protocol_and_seeds(source, tmp_path):
    flags = (*source, *QUICK, "--ks", "5", "--protocol", "legacy", "--seeds", "2")
    quiet = call("train", *flags, "--out", tmp_path / "run", "--quiet")
    assert quiet == (0, f"{tmp_path / 'run'}\n", "")
    loud = call("train", "--resume", tmp_path / "run")
    assert loud.status == 0
    assert "Protocol legacy: epoch selected on TEST, for comparison with papers only" in loud.err
    assert "epoch selected on TEST" in loud.out
    assert "Means over 2 seeds" in loud.out


def test_a_run_is_named_after_its_data_by_default(source, monkeypatch, tmp_path):
    def stop(*_, out, **__):
        raise InputError(f"out is {out}")

    monkeypatch.setattr(train_command, "fit", stop)
    monkeypatch.chdir(tmp_path)
    status, _, err = call("train", *source, "--quiet")
    assert status == 2
    assert err.startswith(f"error: out is {Path('runs') / 'log-'}")


def test_a_place_that_is_taken_is_noticed_before_data_are_read(run, tmp_path):
    nowhere = ("--data", tmp_path / "nix.csv")
    assert "--overwrite replaces the run that lies" in error_of("train", *nowhere, "--out", run)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear")
    said = error_of("train", *nowhere, "--out", tmp_path / "letters")
    assert "already holds something" in said
    assert "--overwrite" not in said
    said = error_of("train", *nowhere, "--out", tmp_path / "letters", "--overwrite")
    assert "expected a run in" in said
    for how in (("--refit", tmp_path / "nix"), ("--from", tmp_path / "nix", *nowhere)):
        assert "already holds something" in error_of("train", *how, "--out", tmp_path / "letters")
    sweep = ("sweep", *nowhere, "--set", "dim=4,8", "--out", tmp_path / "letters")
    assert "go on with a sweep by resuming it" in error_of(*sweep)


def test_a_run_is_overwritten_by_a_whole_one(run, source, tmp_path, monkeypatch):
    place = shutil.copytree(run, tmp_path / "run")
    popular = ("train", *source, "--model", "popular", "--ks", "5", "--quiet", "--out", place)
    # Settings that do not fit are found after the data are read; what lay there stays.
    assert error_of(*popular, "--overwrite", "--k-core", "500")
    assert RunDirectory.open(place).config.ks == (5, 10)
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "fit_closed_form", out_of_memory)
        assert "no room" in error_of(*popular, "--overwrite")
    assert RunDirectory.open(place).summary() == RunDirectory.open(run).summary()
    assert call(*popular, "--overwrite").status == 0
    assert RunDirectory.open(place).summary()["model"] == "popular"
    assert [one.name for one in tmp_path.iterdir()] == ["run"]


def out_of_memory(*_, **__):
    raise MemoryError("no room")


def test_a_run_that_fails_before_its_first_step_leaves_no_folder(source, tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "fit_closed_form", out_of_memory)
    said = error_of("train", *source, "--model", "popular", "--quiet", "--out", tmp_path / "run")
    assert "no room" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("left", ["metrics.jsonl", "checkpoints"])
def test_a_run_that_has_begun_stays(left, tmp_path):
    (tmp_path / left).touch()
    with pytest.raises(MemoryError), gone_unless_begun(tmp_path, KeyError):
        out_of_memory()
    assert (tmp_path / left).exists()
    (tmp_path / left).unlink()
    for told in (KeyError("diverged"), Interrupted("stopped")):
        with pytest.raises(type(told)), gone_unless_begun(tmp_path, KeyError):
            raise told
        assert tmp_path.exists()


def test_resuming_a_finished_run(run):
    status, out, err = call("train", "--resume", run)
    assert status == 0
    assert "already finished" in err
    assert "recommend" in out
    for flags in (("--dim", "4"), ("--preset", "paper"), ("--k-core", "2"), ("--out", "x")):
        assert "leave the other flags out" in error_of("train", "--resume", run, *flags)


@pytest.mark.slow
def test_going_on_with_new_data(run, tmp_path):
    new = tmp_path / "new.csv"
    new.write_text("user,item\n" + "".join(f"{u},new {i}\n" for u in (1, 999) for i in range(10)))
    flags = ("--out", tmp_path / "second", "--epochs", "1", "--k-core", "2")
    said = error_of("train", "--from", run, "--data", new, *flags, "--quiet")
    assert "10 of 10 items of the new data are unknown to the run: 'new 0' in the new" in said
    assert not (tmp_path / "second").exists()
    flags += ("--unknown-ids", "allow")
    status, _, err = call("train", "--from", run, "--data", new, *flags)
    assert status == 0
    assert "20 interactions, 2 users, 10 items" in err
    # Made of both the run and the new data, and still said before training.
    assert "1 of 2 users of the new data are unknown to the run\n" in err
    note = "new data: 1 new users, 10 new items, new pairs 20 to train, 0 to valid, 0 to test\n"
    assert err.index(note) < err.index("epoch 1 ")
    assert note in call("evaluate", tmp_path / "second").out
    old, grown = RunDirectory.open(run), RunDirectory.open(tmp_path / "second")
    assert grown.config == replaced(old.config, {"epochs": 1})
    assert grown.split.users.ids.to_list() == [*old.split.users.ids, 999]
    assert len(grown.split.items) == len(old.split.items) + 10
    assert "--from: expected the new data" in error_of("train", "--from", run)


def test_a_preset_beside_from_gives_the_settings_but_for_the_model(run):
    flags = ["train", "--from", str(run), "--data", "new.csv", "--quiet", "--preset"]
    config = _parsed(LIGHTGCN, [*flags, "paper", "--dim", "8"])._config()
    assert config == replaced(PRESETS["paper"], {"dim": 8})
    with pytest.raises(InputError, match=r"protocol: expected strict as in .*, got legacy"):
        continue_from(run, RunDirectory.open(run).split, config)
    assert "--model: expected lightgcn as in" in error_of(*flags, "fast", "--model", "mf")


def test_what_a_run_holds_and_new_settings_do_not_read_is_named(run, tmp_path):
    copy = without_sums(run, tmp_path / "copy")
    settings = json.loads((copy / "config.json").read_text())
    settings["config"]["temperature"] = 0.5
    (copy / "config.json").write_text(json.dumps(settings))
    said = error_of("train", "--from", copy, "--data", "new.csv", "--loss", "max-margin")
    assert f"--from: {copy} holds temperature: a setting of loss bpr or binary or softmax" in said


def squared_hinge(positive, negatives, valid):
    return jnp.where(valid, jnp.maximum(0, 1 + negatives - positive) ** 2, 0).mean()


def test_a_run_with_objects_of_ones_own_serves_and_is_resumed_from_python_alone(run, tmp_path):
    own = tmp_path / "own"
    stored = RunDirectory.open(run)
    fit(stored.split, stored.config, loss=squared_hinge, out=own)
    user = stored.split.users.ids[0]
    (answer,) = json.loads(call("recommend", own, "--user", user, "--k", "3", "--json").out)
    assert len(answer["items"]) == 3
    assert call("evaluate", own).status == 0
    (own / "summary.json").unlink()
    said = error_of("train", "--resume", own, "--quiet")
    assert "loss: the run was made with one of your own" in said
    assert "squared_hinge; give the same object from Python as loss=" in said
    for flags in (("--refit", own), ("--from", own, "--data", "new.csv")):
        assert "only where it names all that it was made of" in error_of("train", *flags)


def test_a_run_of_the_first_format_is_refused_by_every_command(run, tmp_path):
    old = without_sums(run, tmp_path / "old")
    settings = json.loads((old / "config.json").read_text()) | {"format": 1}
    (old / "config.json").write_text(json.dumps(settings))
    version = settings["versions"]["lightgcn-pinsage-jax"]
    for command in (
        ("evaluate", old), ("recommend", old, "--user", "1"), ("similar", old, "--item", "1"),
        ("export", old, "--to", tmp_path / "e.npz"), ("train", "--resume", old),
        ("train", "--refit", old), ("train", "--from", old, "--data", "x"), ("compare", old, run),
    ):  # fmt: skip
        said = error_of(*command)
        assert "expected a run of format 2, got 1; open it with the version that wrote it" in said
        assert f"lightgcn-pinsage-jax {version}" in said


def test_a_closed_form_from_the_command_line(source, run, tmp_path):
    flags = ("--model", "gfcf", "--singular-vectors", "6", "--ks", "5", "--protocol", "legacy")
    status, out, err = call("train", *source, *flags, "--out", tmp_path / "run")
    assert status == 0
    assert "Protocol legacy: fitted on train and validation, nothing selected" in err
    assert "gfcf fitted in " in err
    assert "selected by" not in err
    assert out.startswith("gfcf, fitted in ")
    for command in ("recommend", "similar"):
        assert f"lightgcn-jax {command} " in out
    assert "lightgcn-jax export " not in out
    refusal = "expected a model whose scores are inner products of its embeddings, got gfcf"
    assert refusal in error_of("export", tmp_path / "run", "--to", tmp_path / "e.npz")
    summary = RunDirectory.open(tmp_path / "run").summary()
    assert f"{summary['test']['recall@5']:.4f}" in out
    assert json.loads(call("evaluate", tmp_path / "run", "--json").out)["test"] == summary["test"]
    again = call("train", "--resume", tmp_path / "run")
    assert "already finished" in again.err
    assert again.out.splitlines()[1:] == out.splitlines()[1:]
    new = ("--from", tmp_path / "run", "--data", "nowhere.csv")
    assert "expected the run of a trained model to go on from, got gfcf" in error_of("train", *new)
    mixed = ("--from", run, "--data", "nowhere.csv", "--model", "gfcf")
    assert "--model: expected lightgcn as in" in error_of("train", *mixed)


def test_somebody_new_is_recommended_to_by_what_they_like(source, run, tmp_path):
    flags = ("--model", "filter", "--response", "gfcf", "--low-pass-rank", 3, "--ks", 5)
    assert call("train", *source, *flags, "--out", tmp_path / "run").status == 0
    recommender = Recommender.from_run(tmp_path / "run")
    liked = recommender.items.ids[:2].to_list()
    ask = ("recommend", tmp_path / "run", "--liked", *liked, "--k", 3)
    expected = recommender.recommend_from(liked, 3)
    found = json.loads(call(*ask, "--json").out)
    assert [one["id"] for one in found["items"]] == expected.ids
    assert all(one in call(*ask).out for one in expected.ids)
    refusals = [
        (
            ("--user", "u"),
            "recommend: expected one of --user ID …, --users FILE, --all-users and --liked ID …",
        ),
        (("--among", liked[0]), "--liked: expected neither --among nor --exclude beside it"),
    ]
    for flags, said in refusals:
        assert said in error_of(*ask, *flags)
    assert "expected one of --user ID" in error_of("recommend", tmp_path / "run")
    # A model with vectors of items folds the newcomer in.
    assert "1 " in call("recommend", run, "--liked", liked[0], "--k", 3).out
    popular = ("--model", "popular", "--ks", 5, "--out", tmp_path / "popular")
    assert call("train", *source, *popular).status == 0
    refusal = error_of("recommend", tmp_path / "popular", "--liked", liked[0])
    assert "one that scores a list of items" in refusal


def test_a_run_is_written_for_other_programs(run, tmp_path):
    for form, name, flags in (
        ("program", "recommend.npz", ("--k", 4)),
        ("folder", "shared", ()),
        ("index", "index", ("--target-recall", 0.9)),
    ):
        target = tmp_path / name
        done = call("export", run, "--to", target, "--form", form, *flags)
        assert done.status == 0
        assert f"wrote {target}" in done.err
        assert target.exists()
    assert "of the exact search" in done.err
    there = Recommender.load(tmp_path / "shared")
    assert there.recommend(there.users.ids[0], 3) is not None
    for flags, form in ((("--k", 3), "program"), (("--target-recall", 0.9), "index")):
        said = error_of("export", run, "--to", tmp_path / "e.npz", *flags)
        assert f"{flags[0]}: expected --form {form} beside it" in said


def test_models_without_vectors_say_so(source, tmp_path):
    out = call("train", *source, "--model", "popular", "--ks", "5", "--out", tmp_path / "run").out
    assert "lightgcn-jax recommend " in out
    assert "lightgcn-jax similar " not in out
    assert "lightgcn-jax export " not in out
    said = error_of("similar", tmp_path / "run", "--user", "1")
    assert "gfcf, spectral), got popular" in said
    said = error_of("export", tmp_path / "run", "--to", tmp_path / "e.npz")
    assert "got popular, whose scores are no such products" in said
    assert not (tmp_path / "e.npz").exists()


def test_evaluate(run):
    figures = json.loads(call("evaluate", run, "--json").out)
    summary = RunDirectory.open(run).summary()
    for part in ("train", "valid", "test"):
        assert figures[part] == pytest.approx(summary[part])
    status, out, err = call("evaluate", run, "--k", 3, 10)
    assert (status, err) == (0, "")
    assert out.startswith("Protocol strict")
    lines = [line.split()[:2] for line in out.splitlines() if len(line.split()) > 1]
    assert [k for part, k in lines if part == "test"] == ["3", "10"]
    assert [k for part, k in lines if part == "popularity"] == ["3", "10"]
    assert "popularity: test, ranked by the items' numbers of training users" in out


def test_recommend(run):
    recommender = Recommender.from_run(run)
    users = [str(user) for user in recommender.users.ids[:2]]
    status, out, err = call("recommend", run, "--user", *users, "--k", 3, "--json")
    assert (status, err) == (0, "")
    answers = json.loads(out)
    for user, answer, expected in zip(users, answers, recommender.recommend(users, 3), strict=True):
        assert answer["user"] == int(user)  # as the log has it, not as the command line
        assert [item["id"] for item in answer["items"]] == expected.ids
        assert [item["score"] for item in answer["items"]] == expected.scores.tolist()
    status, out, err = call("recommend", run, "--user", *users, "--k", 3)
    assert (status, err) == (0, "")
    assert all(item["id"] in out for answer in answers for item in answer["items"])


def call_warned(*arguments: object):
    """What a command says where warnings are no errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        return call(*arguments)


def test_recommend_filters(run):
    recommender = Recommender.from_run(run)
    user, items = recommender.users.ids[0], [str(item) for item in recommender.items.ids]

    def ids(*flags: object) -> list[str]:
        outcome = call_warned("recommend", run, "--user", user, "--k", len(items), "--json", *flags)
        [answer] = json.loads(outcome.out)
        assert answer["by"] == "model"
        cut = f"warning: k: {len(items)} were asked for, .* may be recommended\n"
        assert re.fullmatch(cut if {"--among", "--exclude"} & {*flags} else "", outcome.err)
        return [item["id"] for item in answer["items"]]

    unseen = ids()
    assert set(unseen) < set(items)
    assert set(ids("--include-seen")) == set(items)
    assert set(ids("--among", *unseen[:3])) == set(unseen[:3])
    assert ids("--exclude", *unseen[:2]) == unseen[2:]


def test_unknown_users_are_named_and_the_others_answered(run):
    user = RunDirectory.open(run).split.users.ids[0]
    status, out, err = call("recommend", run, "--user", "nobody", user, "x", "--json")
    assert (status, err) == (2, "error: unknown user ids: 'nobody', 'x'\n")
    nobody, known, _ = json.loads(out)
    assert nobody == {"user": "nobody", "items": None}
    assert len(known["items"]) == 20
    assert "unknown user ids: 'nobody'" in error_of("recommend", run, "--user", "nobody")


def test_similar(run):
    recommender = Recommender.from_run(run)
    item, user = recommender.items.ids[0], recommender.users.ids[0]
    status, out, _ = call("similar", run, "--item", item, "--k", 3, "--json")
    assert status == 0
    assert [one["id"] for one in json.loads(out)[0]["items"]] == (
        recommender.similar_items(item, 3).ids
    )
    (answer,) = json.loads(call("similar", run, "--user", user, "--k", 3, "--json").out)
    assert [one["id"] for one in answer["users"]] == recommender.similar_users(user, 3).ids
    assert "similar item" in call("similar", run, "--item", item, "--k", 3).out
    assert "either --item" in error_of("similar", run)
    assert "either --item" in error_of("similar", run, "--item", item, "--user", user)


def test_export(run, tmp_path):
    target = tmp_path / "e.npz"
    assert call("export", run, "--to", target) == (0, "", f"wrote {target}\n")
    with np.load(target) as stored:
        assert stored["item_ids"].tolist() == RunDirectory.open(run).split.items.ids.to_list()


def test_data(log, source):
    status, out, _ = call("data", "list")
    assert status == 0
    assert re.search(r"synthetic +2,000 +1,500 ", out)
    assert "gowalla" in out
    out = call("data", "describe", "ml-100k").out
    assert "943 users, 1,682 items, 100,000 interactions" in out
    assert "no redistribution" in out
    out = call("data", "describe", log, *source[2:], "--rating-column", "stars").out
    assert "ratings" in out
    assert "1 to 5" in out
    assert "2020-01-0" in out
    assert "40,017" in call("data", "download", "synthetic").out
    assert "unknown data set" in error_of("data", "download", "netflix")
    assert "expected a file, a folder, or one of" in error_of("data", "describe", "netflix")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "--data", "nowhere.csv"), "nowhere.csv: no such file"),
        (("train", "--data", "x", "--dataset", "gowalla"), "--dataset or --data, got both"),
        (("train", "--item-column", "x"), "--item-column: says how to read a file"),
        (("train", "--dataset", "nix"), "unknown data set 'nix'"),
        (("train", "--dim", "0"), "dim: expected a whole number of at least 1, got 0"),
        (("train", "--model", "mf", "--layers", "2"), "--layers: a setting of gcn, .*, which mf d"),
        (("train", "--margin", "2"), "--margin: a setting of loss max-margin, got loss bpr; leave"),
        (("train", "--hidden", "8"), "--hidden: a setting of score mlp, got score inner; leave"),
        (
            ("train", "--negative-sampler", "all", "--negative-sharing", "shared"),
            "--negative-sharing: a setting of .* uniform or popularity, got negative_sampler all",
        ),
        (("train", "--lazy-adam"), "lazy_adam: expected mf, .* got LightGCN, whose scores"),
        (("train", "--ks", "5", "--select-by", "recall@20"), "select_by: expected one of recall@5"),
        (("train", "--preset", "fast", "--score", "mlp"), "--preset: fast holds popularity_offset"),
        (("train", "--select-by", "auc@20"), "select_by: expected one of recall@10"),
        (("train", "--model", "gfcf", "--epochs", "100"), "--epochs: a setting of mf, .*, which"),
        (("train", "--model", "popular", "--seeds", "2"), "--seeds: .*, which popular does not"),
        (("train", "--low-pass-weight", "0.3"), "--low-pass-weight: a setting of gfcf, which li"),
        (("train", "--model", "gfcf", "--preset", "paper"), "--preset: paper holds .*: a setting"),
        (("train", "--model", "gfcf", "--singular-vectors", "0"), "singular_vectors: expected a w"),
        (("train", "--min-rating", "3"), "these interactions have no ratings"),
        (("train", "--split", "given"), "the files gave no split"),
        (("train", "--unseen", "drop"), "--unseen: belongs to given and temporal splits"),
        (("train", "--quiet", "--ks", "20", "2000"), "at most 1500 .*, got 2000"),
        (("train", "--resume", "nowhere"), "nowhere: expected a run directory"),
        (("train", "--from", "nowhere", "--data", "x"), "nowhere: expected a run directory"),
        (("evaluate", "nowhere"), "nowhere: expected a run directory"),
        (("recommend", "nowhere", "--user", "1"), "nowhere: expected a run directory"),
        (("export", "nowhere", "--to", "e.txt"), "ends in .npz, .safetensors, .parquet"),
    ],
)  # fmt: skip
def test_what_a_user_can_mend_is_one_line(arguments, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    *notes, error = err.splitlines()
    assert error.startswith("error: ")
    assert re.search(message, error)
    assert not any(line.startswith("error") for line in notes)


def test_cutoffs_and_numbers_beyond_the_catalogue(run):
    size = len(RunDirectory.open(run).split.items)
    assert f"expected 1 to {size}" in error_of("evaluate", run, "--k", 500)
    user = RunDirectory.open(run).split.users.ids[0]
    cut = call_warned("recommend", run, "--user", user, "--k", 500, "--include-seen", "--json")
    assert cut.err == f"warning: k: 500 were asked for, {size} may be recommended\n"
    assert len(json.loads(cut.out)[0]["items"]) == size
    assert "k: expected 1 to" in error_of("recommend", run, "--user", user, "--k", 0)
    assert "among: unknown item ids: 'x'" in error_of(
        "recommend", run, "--user", user, "--among", "x"
    )


@pytest.mark.parametrize(
    "arguments",
    [(), ("trian",), ("train", "--dims", "3"), ("train", "--dim", "x"), ("recommend", "run"),
     ("data",), ("train", "--split", "half"), ("train", "--model", "svd")],
)  # fmt: skip
def test_wrong_usage(arguments):
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    assert "Traceback" not in err


def test_a_misspelt_command_and_a_misspelt_flag_are_put_right():
    assert "trian: expected one of train, sweep, " in error_of("trian")
    assert error_of("trian").endswith("; did you mean train?\n")
    assert "did you mean" not in error_of("frobnicate")
    said = "--dims: train has no such flag; did you mean --dim?; see lightgcn-jax train --help"
    assert error_of("train", "--dims", "3") == f"error: {said}\n"
    assert "did you mean temporal?" in error_of("train", "--split", "temproal")
    assert "expected list, " not in error_of("data", "lst")
    assert "did you mean list?" in error_of("data", "lst")
    assert "--to" in error_of("export", "run")


def test_the_other_spelling_of_a_flag_is_taken():
    for spelling in (["--neighbours", "7"], ["--neighbors", "7"], ["--neighbors=7"]):
        command = _parsed(LIGHTGCN, ["train", "--model", "itemcf", *spelling])
        assert command._config().model.neighbours == 7


def test_the_version_is_that_of_the_distribution():
    expected = importlib.metadata.version("lightgcn-pinsage-jax")
    assert call("--version") == (0, f"lightgcn-jax {expected}\n", "")
    assert call("--no-compilation-cache", "--version").status == 0


@pytest.mark.parametrize(
    "command", [(), *((name,) for name in LIGHTGCN.commands), ("data", "describe")]
)
def test_help(command):
    status, out, err = call(*command, "--help")
    assert (status, err) == (0, "")
    assert f"usage: {' '.join(('lightgcn-jax', *command))}" in out


@pytest.mark.parametrize(
    ("raised", "status", "message"),
    [
        (Interrupted("interrupted in epoch 3; go on with: …"), 130, "interrupted in epoch 3; go"),
        (KeyboardInterrupt(), 130, "interrupted; nothing is half written"),
        (OSError(errno.ENOSPC, "No space left", "runs/x"), 2, "error: runs/x: No space left\n"),
        (InputError("two\nlines"), 2, "error: two lines\n"),
    ],
)
def test_how_training_may_end(monkeypatch, raised, status, message):
    def end(*_, **__):
        raise raised

    monkeypatch.setattr(train_command, "fit", end)
    outcome = call("train", "--quiet")
    assert outcome.status == status
    assert outcome.err.startswith(message)
    assert outcome.err.count("\n") == 1


def test_a_bug_is_not_hidden(monkeypatch):
    monkeypatch.setattr(train_command, "fit", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        call("train", "--quiet")
