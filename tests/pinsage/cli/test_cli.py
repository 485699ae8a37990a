"""The command line, in this process: output, streams and exit statuses of every command."""

import importlib
import io
import json
import shutil
import tomllib
import warnings

import numpy as np
import polars as pl
import pytest
import safetensors.numpy
from rich.console import Console

from lightgcn_jax.cli.program import _parsed
from lightgcn_jax.data import Interactions
from lightgcn_jax.sums import NAME, verified
from pinsage_jax import PinWorld, cooccurrence_task, generate_pins, open_items
from pinsage_jax.cli import main
from pinsage_jax.cli.program import PINSAGE
from pinsage_jax.cli.runs import parts_table
from pinsage_jax.cli.source import ItemSource
from pinsage_jax.data.sources import from_files
from pinsage_jax.evaluation.baselines import evaluate_baseline
from pinsage_jax.runs.directory import PinSageRun
from pinsage_jax.runs.evaluate import evaluate_run
from pinsage_jax.runs.negative_distances import negative_distances
from pinsage_jax.runs.stored_task import load_task
from tests.lightgcn.drawn import drawing
from tests.stopped import contents
from tests.unlisted import without_sums

exporting = importlib.import_module("lightgcn_jax.serving.export")
WORLD = ("--items", "300")
SMALL = (
    *("--dim", "16", "--neighbors", "5", "--walks", "10", "--walk-length", "5"),
    *("--fan", "2", "--structure", "8", "--folds", "2"),
)
TINY = (
    *(*SMALL, "--word-dim", "8", "--layers", "1", "--batch-size", "64", "--negatives", "32"),
    *("--steps-per-epoch", "4", "--epochs", "2"),
)
FLAT = (*TINY, "--pooling", "none", "--layers", "0")


@pytest.fixture
def call(capsys):
    """Status, stdout and stderr of a command line."""

    def called(*arguments):
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return called


@pytest.fixture
def error_of(call):
    """The one line that a failing command writes."""

    def called(*arguments):
        status, out, err = call(*arguments)
        assert (status, out) == (2, "")
        *notes, error = err.splitlines()
        assert error.startswith("error: ")
        assert not any(line.startswith("error") for line in notes)
        return error

    return called


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "first run"
    assert main(["train", *WORLD, *TINY, "--out", str(path), "--quiet"]) == 0
    return path


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


@pytest.fixture
def files(tmp_path):
    """Baskets and their products, with a column of each sort and names of one's own."""
    rng = np.random.default_rng(0)
    baskets = np.repeat(np.arange(60), 5)
    products = np.concatenate([rng.choice(40, 5, replace=False) for _ in range(60)])
    pl.DataFrame({"basket": baskets, "product": products}).write_csv(tmp_path / "baskets.csv")
    pl.DataFrame(
        {
            "sku": np.arange(41),
            "name": [f"thing number {row}" for row in range(41)],
            "price": rng.random(41).round(2),
        }
    ).write_csv(tmp_path / "products.csv")
    return tmp_path


OWN = ("--user-column", "basket", "--item-column", "product")


def test_training_says_what_it_trains_on_and_what_came_out(call, run, tmp_path):
    out = tmp_path / "second run"
    status, printed, err = call("train", *WORLD, *TINY, "--out", out)
    assert status == 0
    assert "Data pins: 300 items" in err
    assert "edges trained on" in err
    assert "items held out" in err
    assert "compiling …" in err
    assert "epoch 2  loss " in err
    assert "chosen by valid mrr; held-out positives ranked among all" in printed
    assert f"pinsage-jax similar '{out}' --item pin-0" in printed
    summary = PinSageRun.open(out).summary
    assert f"{summary['test']['mrr']:.4f}" in printed
    assert PinSageRun.open(out).record["data"]["items"] == 300
    kept = tomllib.loads((out / "run.toml").read_text())
    assert (kept["items"], kept["dim"]) == (300, PinSageRun.open(out).config.dim)
    assert "out" not in kept
    # Quiet or not, the same flags give the same run.
    np.testing.assert_array_equal(open_items(out).vectors, open_items(run).vectors)


def test_a_place_that_is_taken_is_noticed_before_data_are_read(error_of, copy, tmp_path):
    nowhere = ("--data", tmp_path / "nix.csv")
    assert "--overwrite replaces the run" in error_of("train", *nowhere, "--out", copy)
    # The run stays where another cannot be made.
    assert "nix.csv" in error_of("train", *nowhere, "--out", copy, "--overwrite")
    assert PinSageRun.open(copy).summary["best_epoch"] >= 0


def test_resuming(call, error_of, copy):
    status, out, err = call("train", "--resume", copy)
    assert (status, err) == (0, "This run had already finished; nothing was trained.\n")
    assert "chosen by valid mrr" in out
    assert call("train", "--resume", copy, "--quiet") == (0, f"{copy}\n", "")
    for flags in (("--dim", "4"), ("--items", "3"), ("--out", "x")):
        assert "leave the other flags out" in error_of("train", "--resume", copy, *flags)
    summary = PinSageRun(copy).summary
    (copy / "summary.json").unlink()
    assert "the run is not finished" in error_of("similar", copy, "--item", "pin-0")
    assert call("train", "--resume", copy, "--quiet") == (0, f"{copy}\n", "")
    assert PinSageRun(copy).summary["test"] == summary["test"]


@pytest.mark.slow
def test_a_run_goes_on_with_new_files(files, call, tmp_path):
    whole = pl.read_csv(files / "baskets.csv")
    early, later = tmp_path / "early.csv", tmp_path / "later.csv"
    whole.filter(pl.col("product") > 3).write_csv(early)
    whole.filter(pl.col("product") <= 3).write_csv(later)
    features = ("--features", files / "products.csv", "--quiet")
    first, next_run = tmp_path / "first", tmp_path / "next"
    assert call("train", "--data", early, *OWN, *features, *FLAT, "--out", first)[0] == 0
    status, printed, err = call(
        *("train", "--from", first, "--data", later, *OWN, *features[:2], "--unknown-ids", "allow"),
        *("--epochs", "1", "--out", next_run),
    )
    assert status == 0
    assert "new data: 0 new contexts, 4 new items, " in err
    assert "The run lies in" in printed
    assert PinSageRun.open(next_run).record["data"]["from"] == str(first)
    assert call("similar", next_run, "--item", "2", "--k", "2")[0] == 0


@pytest.mark.parametrize("name", ["pagerank", "features"])
def test_a_baseline_is_ranked_on_the_same_task(name, call, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    task = cooccurrence_task(generate_pins(PinWorld(items=300)).data)
    figures = evaluate_baseline(task, name)
    status, printed, err = call("train", "--model", name, *WORLD)
    assert status == 0
    assert "Data pins: 300 items" in err
    assert "edges trained on" in err
    assert f"{name}, without training: held-out positives ranked among all " in printed
    assert "both ranked among all 300 items" in printed
    lines = {line.split()[0]: line.split()[1:] for line in printed.splitlines() if line.strip()}
    assert lines["part"] == list(figures["test"])
    for part, values in figures.items():
        assert lines[part] == [f"{value:.4f}" for value in values.values()]
    status, quiet, err = call("train", "--model", name, *WORLD, "--quiet")
    assert (status, err) == (0, "")
    assert [line.split()[0] for line in quiet.splitlines() if line[1:2].isalpha()] == [
        *("part", "valid", "test", "fresh", "known")
    ]
    assert not list(tmp_path.iterdir())  # no run is written


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--dim", "4", "--no-mask-targets"), "--dim, --mask-targets: settings of the encoder, wh"),
        (("--seed", "1"), "--seed: settings of the encoder, which --model pagerank has not"),
        (("--out", "here"), "--out: --model pagerank has no run directory"),
        (("--resume", "here"), "--resume: --model pagerank has no run directory"),
        (("--overwrite",), "--overwrite: --model pagerank has no run directory"),
    ],
)
def test_a_baseline_has_no_settings_and_no_run(flags, message, error_of):
    assert message in error_of("train", "--model", "pagerank", *WORLD, *flags)


def test_the_other_spelling_of_a_flag_is_taken():
    for spelling in ("--neighbours", "--neighbors"):
        assert _parsed(PINSAGE, ["train", spelling, "7"]).settings == {"neighbors": 7}


def test_a_model_that_is_not_there_is_named(error_of):
    refused = error_of("train", "--model", "rank")
    assert "--model: expected one of pinsage, popularity, cooccurrence, item-cosine, " in refused


def test_a_part_without_a_figure_has_a_dash():
    stream = io.StringIO()
    parts = {"test": {"hit_rate@8": 0.5}, "fresh": {"hit_rate@9": 0.25}}
    Console(file=stream).print(parts_table(parts))
    rows = [line.split() for line in stream.getvalue().splitlines()]
    assert ["test", "0.5000"] in rows
    assert ["fresh", "–"] in rows


def test_evaluate(call, run):
    figures = evaluate_run(run)
    status, out, err = call("evaluate", run, "--json")
    assert (status, err) == (0, "")
    assert json.loads(out) == figures
    status, out, _ = call("evaluate", run)
    assert status == 0
    assert f"{figures['parts']['test']['hit_rate@10']:.4f}" in out
    task = cooccurrence_task(generate_pins(PinWorld(items=300)).data)
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}
    for name in ("popularity", "features"):
        expected = evaluate_baseline(task, name)["test"]
        assert rows[name] == [f"{value:.4f}" for value in expected.values()]
    assert "popularity, features: test, ranked by that alone" in out
    fresh = figures["added"]["fresh"]["hit_rate@10"]
    assert f"half of their contexts, which count 1.75 times: hit_rate@10 {fresh:.4f} (ord" in out
    assert "Triplets: a related item is nearer than a random one in" in out
    assert "Linear probe of topic: " in out
    assert "Linear probe" not in call("evaluate", run, "--no-probe")[1]


def test_similar(call, run):
    (near,) = open_items(run).similar(["pin-7"], 3)
    status, out, err = call("similar", run, "--item", "pin-7", "--k", "3")
    assert (status, err) == (0, "")
    assert all(one in out for one in near.ids)
    assert "words" in out
    assert "visual" not in out  # a vector's numbers tell nobody anything
    status, out, _ = call("similar", run, "--item", "pin-7", "pin-8", "--k", "3", "--json")
    answers = json.loads(out)[str(run)]
    assert [one["item"] for one in answers] == ["pin-7", "pin-8"]
    assert [one["id"] for one in answers[0]["neighbours"]] == near.ids
    assert [one["score"] for one in answers[0]["neighbours"]] == near.scores.tolist()
    (alike,) = open_items(run).similar(["pin-7"], 3, by="cosine")
    out = call("similar", run, "--item", "pin-7", "--k", "3", "--by", "cosine", "--json")[1]
    (answer,) = json.loads(out)[str(run)]
    assert [one["score"] for one in answer["neighbours"]] == alike.scores.tolist()


def test_similar_items_of_several_runs(call, run, copy):
    status, out, err = call("similar", run, "--item", "pin-7", "--k", "2", "--compare", copy)
    assert (status, err) == (0, "")
    assert str(run) in out
    assert str(copy) in out
    (near,) = open_items(run).similar(["pin-7"], 1)
    assert out.count(f"{near.ids[0]}  {near.scores[0]:.3f}") == 2
    both = json.loads(call("similar", run, "--item", "pin-7", "--compare", copy, "--json")[1])
    assert both[str(run)] == both[str(copy)]


def test_a_sheet_of_pictures(call, error_of, run, tmp_path):
    image = pytest.importorskip("PIL.Image")
    (near,) = open_items(run).similar(["pin-7"], 2)
    image.new("RGB", (4, 4), "red").save(tmp_path / "pin-7.png")
    image.new("RGB", (4, 4), "blue").save(tmp_path / f"{near.ids[0]}.jpg")
    sheet = ("--sheet", tmp_path / "sheet.png", "--pictures", tmp_path)
    status, _, err = call("similar", run, "--item", "pin-7", "--k", "2", *sheet)
    assert status == 0
    assert err == f"wrote {tmp_path / 'sheet.png'}\n2 pictures, 1 missing, 0 unreadable\n"
    named = (*sheet, "--picture-column", "words")  # whose words are no files
    assert call("similar", run, "--item", "pin-7", *named)[2].endswith("21 unreadable\n")
    for flags in (("--pictures", tmp_path), ("--picture-column", "words")):
        assert "but there is no --sheet" in error_of("similar", run, "--item", "pin-7", *flags)
    nowhere = (*sheet[:2], "--pictures", tmp_path / "nix")
    assert "nix: no such folder" in error_of("similar", run, "--item", "pin-7", *nowhere)
    refused = error_of("similar", run, "--item", "pin-7", *sheet, "--picture-column", "visual")
    assert "expected a text or category column of the run (words), got 'visual'" in refused


def test_recommending_to_boards_and_by_items(call, error_of, run, tmp_path):
    task = load_task(PinSageRun.open(run))
    board = task.train.users.ids[0]
    everything = pins_of(board)
    status, out, err = call("recommend", run, "--user", board, "--k", 5, "--json")
    assert (status, err) == (0, "")
    (answer,) = json.loads(out)
    assert answer["user"] == board
    # What was held out of the board is known to be there.
    assert len(answer["items"]) == 5
    assert not {one["id"] for one in answer["items"]} & everything
    assert call("recommend", run, "--all-users", "--k", 2, "--out", tmp_path / "r.csv")[0] == 0
    table = pl.read_csv(tmp_path / "r.csv")
    assert table.columns == ["user", "place", "item", "score"]
    assert table["user"].n_unique() == task.train.num_users
    flags = ("--items", "pin-3", "pin-4", "--k", 3, "--json")
    found = json.loads(call("recommend", run, *flags)[1])["items"]
    left = json.loads(call("recommend", run, *flags, "--exclude", found[0]["id"])[1])["items"]
    assert left[:2] == found[1:]
    assert "pin-3" not in {one["id"] for one in found}
    status, _, err = call("recommend", run, "--user", "nobody", board)
    assert (status, err) == (2, "error: unknown user ids: 'nobody'\n")
    assert "--items ID …" in error_of("recommend", run)


def pins_of(board):
    """All items of a board of the generated world, whatever is held out."""
    edges = generate_pins(PinWorld(items=300)).data.interactions
    rows = edges.item_rows[edges.user_rows == edges.users.row(board)]
    return set(edges.items.external(rows))


def test_a_picture_of_a_run(call, run, tmp_path, monkeypatch):
    with drawing(monkeypatch) as figures:
        status, out, err = call("plot", run, "--out", tmp_path / "run.png")
    assert (status, out, err) == (0, "", f"wrote {tmp_path / 'run.png'}\n")
    texts = figures.texts()
    assert "pinsage on pins" in texts
    assert {"Training loss", "ranked by popularity", "of recommendations", "mrr (0 to 1)"} <= {
        *texts
    }
    # Of the groups, weighted by their queries, the figure of test is the mean.
    queries = next(axes for axes in figures[-1].axes if axes.get_title().endswith("the query"))
    counts = [int(tick.get_text().partition("n = ")[2]) for tick in queries.get_xticklabels()]
    mean = np.average([bar.get_height() for bar in queries.patches], weights=counts)
    assert mean == pytest.approx(PinSageRun.open(run).summary["test"]["recall@10"], abs=1e-6)


@pytest.mark.slow
def test_a_plot_of_negatives(call, run, tmp_path):
    pytest.importorskip("matplotlib")
    status, _, err = call("evaluate", run, "--no-probe", "--plot", tmp_path / "negatives.png")
    assert (status, err) == (0, f"wrote {tmp_path / 'negatives.png'}\n")
    found = negative_distances(run)
    assert set(found) == {"uniform", "hard", "distance-weighted"}
    # Chosen among the shared ones.
    assert np.isin(found["distance-weighted"], found["uniform"]).all()
    assert all(((one >= 0) & (one <= 2)).all() for one in found.values())


def test_unknown_items_are_named_and_the_others_answered(call, error_of, run):
    status, out, err = call("similar", run, "--item", "nobody", "pin-7", "x", "--json")
    assert (status, err) == (2, "error: unknown item ids: 'nobody', 'x'\n")
    assert [one["item"] for one in json.loads(out)[str(run)]] == ["pin-7"]
    assert "unknown item ids: 'nobody'" in error_of("similar", run, "--item", "nobody")


def test_new_items_are_embedded_kept_and_found(call, error_of, copy, tmp_path):
    features = PinSageRun(copy).path / "columns.parquet"
    new = pl.read_parquet(features).drop(" row").head(3)
    ids = pl.Series("item", ["new-0", "new-1", "new-2"])
    new.insert_column(0, ids).with_columns(price=1.0).write_parquet(tmp_path / "new.parquet")
    (tmp_path / "contexts.csv").write_text(
        "user,item\nboard-0,new-0\nboard-1,new-0\nnowhere,new-0\nboard-2,new-2\nboard-3,pin-5\n"
    )
    flags = ("--items", tmp_path / "new.parquet", "--contexts", tmp_path / "contexts.csv")
    status, out, err = call("embed", copy, *flags, "--k", "2")
    assert status == 0
    assert "features of new.parquet: visual vector, words text, price number" in err
    assert "1 of 5 lines are left out: of other items, 0 of them of items that the run does" in err
    assert "\nadded 3 items in " in err
    assert "1 without a context of the run, 1 memberships in unknown contexts left out" in err
    assert "1 columns not read" in err
    assert "each counts as in 1.75 times as many contexts as it is in" in err
    (line,) = (one for one in out.splitlines() if one.split()[:3] == ["new-1", "0", "new-1"])
    assert new["words"][1].split()[0] in line  # what is known of an added item is shown
    assert open_items(copy).items.ids[300:].to_list() == ids.to_list()
    status, out, _ = call("similar", copy, "--item", "new-1", "--k", "3")
    assert status == 0
    assert "new-1" in out
    assert "item 'new-0' is known already" in error_of("embed", copy, *flags)
    refused = error_of("embed", copy, *flags[:2], "--user-column", "x")
    assert "--user-column: says how to read a file, but there is no --contexts" in refused
    export = tmp_path / "all.npz"
    assert call("export", copy, "--to", export)[0] == 0
    with np.load(export) as stored:
        assert stored["item_ids"][-1] == "new-2"
        np.testing.assert_array_equal(stored["items"], open_items(copy).vectors)


@pytest.fixture
def new_items(copy, tmp_path):
    """Three new items with features, and flags that add them."""
    table = pl.read_parquet(PinSageRun(copy).path / "columns.parquet").drop(" row").head(3)
    table.insert_column(0, pl.Series("item", ["new-0", "new-1", "new-2"]))
    table.write_parquet(tmp_path / "new.parquet")
    return ("--items", tmp_path / "new.parquet")


def test_added_items_are_corrected_and_removed(call, error_of, copy, new_items, tmp_path):
    assert "expected at most 2 new items" in error_of("embed", copy, *new_items, "--slack", "2")
    assert call("embed", copy, *new_items, "--quiet")[0] == 0
    (tmp_path / "late.csv").write_text("user,item\nboard-0,new-0\nboard-1,new-0\nboard-1,pin-5\n")
    late = ("--update", "--contexts", tmp_path / "late.csv")
    before = open_items(copy).vectors
    status, _, err = call("embed", copy, *late)
    assert status == 0
    assert "updated 1 items in " in err
    assert "0 without a context of the run" in err
    live = open_items(copy)
    assert live.contexts.external(live.added.contexts[0]) == ["board-0", "board-1"]
    changed = (live.vectors != before).any(axis=1)
    assert np.flatnonzero(changed).tolist() == [300]
    (tmp_path / "late.csv").write_text("user,item\nboard-2,new-0\n")
    assert call("embed", copy, *late, "--replace-contexts", "--quiet")[0] == 0
    live = open_items(copy)
    assert live.contexts.external(live.added.contexts[0]) == ["board-2"]
    assert "updated 3 items in " in call("embed", copy, "--update", *new_items)[2]
    assert call("embed", copy, "--remove", "new-1", "new-0") == (0, "", "removed 2 items\n")
    assert open_items(copy).items.ids[300:].to_list() == ["new-2"]
    assert "'pin-5' is one of training" in error_of("embed", copy, "--remove", "pin-5")
    (tmp_path / "late.csv").write_text("user,item\nboard-2,pin-0\n")
    assert "expected lines of items that were added" in error_of("embed", copy, *late)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "embed: expected --items, or --remove"),
        (("--update",), "embed: expected --items, --contexts or both"),
        (("--contexts", "x"), "embed: expected --items, or --remove"),
        (("--remove", "a", "--update"), "--remove: leave out --items, --contexts and --update"),
        (("--items", "x", "--replace-contexts"), "--replace-contexts: belongs to --update with"),
        (("--remove", "a", "--kind", "a=text"), "--kind: says how to read features, but there are"),
        (("--items", "x.csv", "--kind", "a"), "--kind: expected NAME=KIND with one of vector, "),
    ],
)
def test_flags_of_embed_that_do_not_go_together(flags, message, error_of, run):
    assert message in error_of("embed", run, *flags)


def test_new_items_in_contexts_of_another_spelling_are_refused(
    call, error_of, copy, new_items, tmp_path
):
    contexts = ("--contexts", tmp_path / "contexts.csv")
    contexts[1].write_text("user,item\nBoard-0,new-0\nBoard-1,new-0\nboard-2,new-1\n")
    refused = error_of("embed", copy, *new_items, *contexts)
    assert refused.startswith(f"error: 2 of 3 contexts of {contexts[1]} are unknown to the run: ")
    assert f"'Board-0' in {contexts[1]}, 'board-0' in the run" in refused
    contexts[1].write_text("user,item\nboard-0,New-0\nboard-1,New-1\nboard-2,new-1\n")
    refused = error_of("embed", copy, *new_items, *contexts)
    assert refused.startswith(f"error: 2 of 3 items of {contexts[1]} are unknown to the items: ")
    assert f"'New-0' in {contexts[1]}, 'new-0' in the items" in refused
    assert not (PinSageRun(copy).fresh / "added.parquet").exists()
    status, _, err = call("embed", copy, *new_items, *contexts, "--unknown-ids", "allow")
    assert status == 0
    assert "2 of 3 lines are left out: of other items, 2 of them of items that the run" in err


def test_more_items_than_a_run_has_room_for_by_default(call, copy, tmp_path):
    table = pl.read_parquet(PinSageRun(copy).path / "columns.parquet").drop(" row")
    many = table.sample(1_500, with_replacement=True, seed=0)
    many.insert_column(0, pl.Series("item", range(1_500)).cast(pl.String))
    many.write_parquet(tmp_path / "many.parquet")
    assert call("embed", copy, "--items", tmp_path / "many.parquet", "--quiet")[0] == 0
    assert len(open_items(copy).items) == 1_800
    assert call("similar", copy, "--item", "1499", "--k", "2")[0] == 0
    assert call("export", copy, "--to", tmp_path / "all.npz")[0] == 0


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".parquet"])
def test_export(suffix, call, run, tmp_path):
    target, vectors = tmp_path / f"items{suffix}", open_items(run).vectors
    assert call("export", run, "--to", target) == (0, "", f"wrote {target}\n")
    if suffix == ".npz":
        with np.load(target) as stored:
            np.testing.assert_array_equal(stored["items"], vectors)
    elif suffix == ".safetensors":
        stored = safetensors.numpy.load_file(target)
        np.testing.assert_array_equal(stored["items"], vectors)
        assert json.loads(stored["item_ids"].tobytes())[7] == "pin-7"
    else:
        frame = pl.read_parquet(target)
        assert frame["kind"].unique().to_list() == ["item"]
        np.testing.assert_array_equal(np.stack(frame["embedding"].to_list()), vectors)


def test_an_export_in_parts_is_the_whole_one(call, error_of, copy, tmp_path, monkeypatch):
    """Items that were added have parts of their own; a kill and a damaged part change no byte."""
    monkeypatch.setattr(exporting, "ROWS_OF_A_PART", 128)
    new = tmp_path / "new.parquet"
    table = pl.read_parquet(copy / "columns.parquet").drop(" row").head(2)
    table.insert_column(0, pl.Series("item", ["new-0", "new-1"])).write_parquet(new)
    assert call("embed", copy, "--items", new, "--quiet")[0] == 0
    assert call("export", copy, "--to", tmp_path / "all.parquet")[0] == 0
    out = tmp_path / "parts"
    flags = ("export", copy, "--partitioned", "--to", out)
    status, _, err = call(*flags)
    assert status == 0
    assert err.startswith("writing parts: 302 rows in ")
    assert err.endswith(f"wrote {out}: 302 vectors\n")
    assert pl.read_parquet(out / "part-*.parquet").equals(pl.read_parquet(tmp_path / "all.parquet"))
    assert set(verified(out).values()) == {"ok"}
    manifest = json.loads((out / "parts.json").read_text())
    assert (manifest["rows"], manifest["items"]) == ([128, 128, 44, 2], 302)
    assert "already holds something; choose another name" in error_of(*flags)
    # As a kill in the middle leaves it, and a disk that damages a part.
    whole = contents(out)
    state = {name: one for name, one in manifest.items() if name != "rows"}
    (out / ".state.json").write_text(json.dumps(state))
    for name in ("parts.json", NAME, "part-00002.parquet"):
        (out / name).unlink()
    (out / "part-00001.parquet").write_bytes(b"PAR1 no more PAR1")
    assert call(*flags)[0] == 0
    assert contents(out) == whole
    (out / ".state.json").write_text(json.dumps(state))
    assert call("embed", copy, "--remove", "new-1")[0] == 0
    assert "a table of other run was broken off here" in error_of(*flags)


def test_vectors_that_cannot_be_ranked_by_are_not_exported(error_of, run, tmp_path):
    copy = without_sums(run, tmp_path / "copy")
    vectors = np.load(copy / "vectors" / "layer-1.npy")
    vectors[7, 0] = np.nan
    np.save(copy / "vectors" / "layer-1.npy", vectors)
    out = tmp_path / "parts"
    said = error_of("export", copy, "--partitioned", "--to", out)
    assert "layer-1.npy: expected finite numbers, got others in row 7" in said
    assert [one.name for one in out.iterdir()] == [".lock"]


@pytest.mark.slow
def test_one_s_own_files(call, files):
    """Columns have names of their own; a text of digits stays a text when items come later."""
    source = ("--data", files / "baskets.csv", *OWN, "--features", files / "products.csv")
    flags = (*FLAT, "--id-column", "sku", "--fresh", "0")
    status, out, err = call("train", *source, *flags, "--out", files / "run")
    assert status == 0
    assert "Data baskets: 40 items; 60 contexts, 300 memberships; features: name, price" in err
    kinds = "features of products.csv: name text, price number (--kind, --skip-columns)"
    assert kinds in err
    assert kinds in PinSageRun(files / "run").record["data"]["notes"]
    assert "1 rows of features belong to no item" in err
    assert "pinsage-jax similar" in out
    (files / "new.csv").write_text("sku,name,price\n900,1984,3.5\n901,2001,\n")
    (files / "in.csv").write_text("basket,product\n0,900\n1,900\n")
    new = ("--items", files / "new.csv", "--id-column", "sku", "--contexts", files / "in.csv")
    status, out, err = call("embed", files / "run", *new, *OWN)
    assert status == 0
    assert "1 without a context of the run, 0 memberships in unknown contexts" in err
    assert "900" in out
    (answer,) = json.loads(call("similar", files / "run", "--item", "901", "--json")[1]).values()
    assert answer[0]["item"] == 901  # as the file has it, not as the command line


@pytest.mark.slow
def test_without_features_the_graph_alone_is_read(call, files):
    source = ("--data", files / "baskets.csv", *OWN)
    status, _, err = call("train", *source, *TINY, "--out", files / "run")
    assert status == 0
    assert "no --features: the graph alone is read" in err
    assert [one.name for one in PinSageRun(files / "run").read_schema().inputs()] == ["log_degree"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--columns", "nix"), "expected the columns 'nix', which are missing; there are 'visual'"),
        (("--features", "x.csv"), "--features: belongs to --data"),
        (("--user-column", "x"), "--user-column: says how to read a file, but there is no --data"),
        (
            ("--hard-band", "100", "5000", "--curriculum", "paper"),
            "band: expected ranks up to the ",
        ),
        (("--dataset", "nix"), "--dataset: expected one of pins, "),
        (("--dataset", "pins", "--data", "x"), "expected --dataset or --data, got both"),
        (("--data", "nowhere.csv"), "nowhere.csv: no such file"),
        (("--dim", "0"), "dim: expected a whole number of at least 1, got 0"),
        (("--layers", "0"), "layers: expected 0 with pooling none"),
        (("--valid", "0.6", "--test", "0.6"), "expected a sum below 1"),
        (("--fresh", "1.5"), "held_out_items: expected a share in"),
        (("--resume", "nowhere"), "nowhere: expected a run directory"),
        (("--finish",), "--finish: expected --resume RUN beside it"),
        (("--from", "run"), "--from: expected the new data as well, by --data or --dataset"),
        (
            ("--from", "run", "--dataset", "pins", "--valid", "0.2"),
            "--valid: what is held out and paired is the run's; leave it out",
        ),
        (
            ("--from", "run", "--dataset", "pins", "--preset", "paper"),
            "--preset: settings that",
        ),
    ],
)
def test_what_a_user_can_mend_is_one_line(arguments, message, error_of, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    world = () if {"--data", "--resume"} & {*arguments} else WORLD
    settings = () if {"--layers", "--dim", "--resume"} & {*arguments} else SMALL
    assert message in error_of("train", *world, *settings, *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evaluate", "nowhere"), "nowhere: expected a run directory"),
        (("similar", "nowhere", "--item", "1"), "nowhere: expected a run directory"),
        (("export", "nowhere", "--to", "e.txt"), "ends in .npz, .safetensors, .parquet"),
        (("embed", "nowhere", "--items", "x.csv"), "nowhere: expected a run directory"),
    ],
)
def test_runs_and_files_that_are_not_there(arguments, message, error_of, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert message in error_of(*arguments)


def test_new_items_that_do_not_fit(error_of, run, tmp_path):
    assert "expected this file, it is missing" in error_of(
        "embed", run, "--items", tmp_path / "nowhere.parquet"
    )
    (tmp_path / "new.csv").write_text("item,words\na,red\n")
    given = error_of("embed", run, "--items", tmp_path / "new.csv")
    assert "expected the columns 'visual', which are missing" in given
    assert not PinSageRun(run).fresh.exists()


def test_k_beyond_the_catalogue_gives_all_others(call, error_of, run):
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        _, out, err = call("similar", run, "--item", "pin-7", "--k", "500", "--json")
    assert err == "warning: k: 500 were asked for, 299 other items there are\n"
    assert len(json.loads(out)[str(run)][0]["neighbours"]) == 299
    assert "k: expected 1 to" in error_of("similar", run, "--item", "pin-7", "--k", "0")


@pytest.mark.parametrize("command", [(), *((name,) for name in PINSAGE.commands)])
def test_help(command, call):
    status, out, err = call(*command, "--help")
    assert (status, err) == (0, "")
    assert f"usage: {' '.join(('pinsage-jax', *command))}" in out


@pytest.mark.parametrize("arguments", [(), ("trian",), ("train", "--dims", "3"), ("similar",)])
def test_wrong_usage(arguments, call):
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--pairs", "explicit"), "expected --pairs explicit and --pairs-file together"),
        (("--pairs-file", "pairs.csv"), "expected --pairs explicit and --pairs-file together"),
        (("--task", "items", "--pairs", "consecutive"), "does not belong to --task items"),
    ],
)
def test_pairs_that_contradict_each_other_are_refused(flags, expected, error_of):
    assert expected in error_of("train", *WORLD, *FLAT, *flags)


def test_pairs_of_a_file_and_of_a_user_s_time(tmp_path):
    world = generate_pins(PinWorld(items=300)).data
    ids = world.interactions.items.ids.to_list()
    path = tmp_path / "pairs.csv"
    rows = [f"{ids[at]},{ids[at + 1]}" for at in range(40)]
    path.write_text("\n".join(["query,positive", *rows]))
    task = ItemSource(pairs="explicit", pairs_file=path).held_out(world)
    assert task.pairs.num_pairs == 32
    assert len(np.asarray(task.test.relevant.columns)) == 4
    log = Interactions.from_arrays(
        ["u"] * 6 + ["v"] * 6, list("abcdefbcdefa"), timestamps=[1, 2, 3, 4, 5, 6] * 2
    )
    consecutive = ItemSource(pairs="consecutive", valid=0.2, test=0.2)
    task = consecutive.held_out(from_files(log, None))
    assert task.test.queries.shape[1] == 1
    # The item before the test part, which is that of validation.
    assert {log.items.ids[int(row)] for row in task.test.queries[:, 0]} == {"e", "f"}
