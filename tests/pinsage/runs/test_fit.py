"""Whole runs on a tiny world: broken off and resumed, damaged, diverged, and what they learn."""

import contextlib
import json
import re
import shutil
import signal

import jax
import numpy as np
import pytest

from lightgcn_jax.errors import InputError
from lightgcn_jax.interrupts import Interrupted
from pinsage_jax import (
    PinSageConfig,
    PinWorld,
    cooccurrence_task,
    fit,
    generate_pins,
    open_items,
    permuted,
    resume,
    time_task,
)
from pinsage_jax.config import settings_from, stream
from pinsage_jax.encoder.pinsage import init_params
from pinsage_jax.evaluation import parts
from pinsage_jax.evaluation.baselines import evaluate_baseline
from pinsage_jax.evaluation.metrics import chance
from pinsage_jax.evaluation.parts import evaluate_part, query_scorer
from pinsage_jax.runs import fit as runs
from pinsage_jax.runs.directory import PinSageRun
from pinsage_jax.runs.evaluate import evaluate_fresh, evaluate_run
from pinsage_jax.runs.finished import FinishedRun, read_vectors
from pinsage_jax.runs.stored_task import load_task
from pinsage_jax.training.trainer import TrainingDiverged
from tests.pinsage.trained import (
    Breaking,
    Killed,
    assert_same_vectors,
    pins,
    pins_task,
    tiny,
    without_seconds,
)
from tests.unlisted import without_sums

# Epochs 3 and 4 use neighbours that are drawn in epoch 3.
CONFIG = tiny(epochs=4, refresh_every=2, steps_per_epoch=25, learning_rate=1e-2)
DATA = {"dataset": "pins"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that nothing disturbed."""
    path = tmp_path_factory.mktemp("runs") / "whole"
    return fit(pins_task(), CONFIG, out=path, data=DATA)


@pytest.fixture
def copy(run, tmp_path):
    return without_sums(run.path, tmp_path / "copy")


@pytest.fixture
def unfinished(copy):
    """All epochs are done, but nothing is embedded."""
    (copy / "summary.json").unlink()
    shutil.rmtree(copy / "vectors")
    return copy


def killed_at(name, monkeypatch, *, step=None):
    """The process ends where a run calls a function, or saves the checkpoint after this step."""
    original = getattr(runs, name)

    def kill(*arguments, **settings):
        if step in (None, *arguments[1:2]):
            raise Killed
        return original(*arguments, **settings)

    monkeypatch.setattr(runs, name, kill)


@pytest.mark.slow
def test_a_run_that_was_broken_off_ends_as_one_that_was_not(run, tmp_path, monkeypatch):
    """Before the first checkpoint, between an epoch's figures and its checkpoint, in an epoch, and
    before all items are embedded, one after another."""
    path, whole = tmp_path / "broken", PinSageRun(run.path)
    with pytest.raises(Killed):
        fit(pins_task(), CONFIG, out=path, data=DATA, reporter=Breaking("evaluated", 1))
    with monkeypatch.context() as patch:
        killed_at("save_checkpoint", patch, step=2 * CONFIG.steps_per_epoch)
        with pytest.raises(Killed):
            resume(path)
    assert [one["epoch"] for one in PinSageRun(path).read_metrics()] == [0, 1, 2]
    again = Breaking("advanced", 4)
    with pytest.raises(Killed):
        resume(path, reporter=again)
    assert [one["epoch"] for one in again.records] == [2, 3]
    with monkeypatch.context() as patch:
        killed_at("embed_all", patch)
        with pytest.raises(Killed):
            resume(path)
    with pytest.raises(InputError, match="go on with pinsage-jax train --resume"):
        open_items(path)
    again = Breaking()
    resumed = resume(path, reporter=again)
    assert not again.records
    assert without_seconds(PinSageRun(path).read_metrics()) == without_seconds(whole.read_metrics())
    assert len(whole.read_metrics()) == 5  # with the start
    assert same_params(resumed, run)
    assert_same_vectors(resumed.items, run.items)
    for name in ("model.safetensors", "vectors/layer-0.npy"):
        assert (path / name).read_bytes() == (run.path / name).read_bytes(), name
    (figures,) = without_seconds([PinSageRun(path).summary])
    assert [figures] == without_seconds([whole.summary])


def test_a_run_ends_where_it_was_broken_off(tmp_path):
    """Killed while it is embedded too, it goes on at the chunk, or trains on after all."""
    path, config = tmp_path / "broken", tiny(layers=1)
    with pytest.raises(Killed):
        fit(pins_task(), config, out=path, reporter=Breaking("advanced", 1))
    with pytest.raises(InputError, match="expected an epoch that was evaluated, the run"):
        resume(path, train=False)
    with pytest.raises(Killed):
        resume(path, reporter=Breaking("evaluated", 2))
    whole = resume(shutil.copytree(path, tmp_path / "whole"), train=False)
    with pytest.raises(Killed):
        resume(path, train=False, reporter=Breaking("embedded", 1))
    trained = shutil.copytree(path, tmp_path / "trained")
    again = Breaking()
    ended = resume(path, train=False, reporter=again)
    assert len(again.shares) == 1  # the first of two layers was there
    assert_same_vectors(ended.items, whole.items)
    assert ended.summary["epochs"] == 1
    assert len(PinSageRun(path).read_metrics()) == 2  # the start and the epoch that was saved
    assert len(open_items(path).items) == len(pins_task().train.items)
    assert resume(trained).summary["epochs"] == config.epochs


class Calls:
    """A reporter that counts the calls of the steps."""

    made = 0

    def noted(self, message): ...

    def advanced(self, **_):
        self.made += 1

    def evaluated(self, record): ...

    def embedded(self, **_): ...


class Ending:
    """A request for an end that comes after so many calls of the steps."""

    signal_number = signal.SIGTERM

    def __init__(self, calls, after):
        self._calls, self._after = calls, after

    def __bool__(self):
        return self._calls.made >= self._after


def interrupted(start, monkeypatch, *, after):
    """Start something that a signal breaks off after so many calls of the steps."""
    calls = Calls()
    ending = Ending(calls, after)
    with monkeypatch.context() as patch:
        patch.setattr(runs, "deferred", lambda: contextlib.nullcontext(ending))
        with pytest.raises(Interrupted) as caught:
            start(calls)
    assert caught.value.status == 143
    return str(caught.value)


def same_params(one, other):
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, one.params, other.params)))


def test_a_run_that_a_signal_breaks_off_loses_no_step(run, tmp_path, monkeypatch):
    """In the first epoch, after the first of its two folds."""
    path = tmp_path / "broken"
    said = interrupted(
        lambda calls: fit(pins_task(), CONFIG, out=path, data=DATA, reporter=calls),
        monkeypatch,
        after=1,
    )
    assert said == f"interrupted in epoch 1; go on with: pinsage-jax train --resume {path}"
    assert [one["epoch"] for one in PinSageRun(path).read_metrics()] == [0]
    calls = Calls()
    resumed = resume(path, reporter=calls)
    assert calls.made == 2 * CONFIG.epochs - 1
    assert same_params(resumed, run)
    records = (without_seconds(PinSageRun(one).read_metrics()) for one in (path, run.path))
    assert next(records) == next(records)
    assert without_seconds([resumed.summary]) == without_seconds([run.summary])


@pytest.mark.slow
def test_a_run_on_the_host_loses_no_step_either(tmp_path, monkeypatch):
    config = tiny(tables="host", epochs=2, refresh_every=1, folds=3, steps_per_epoch=7)
    path, whole = tmp_path / "broken", fit(pins_task(), config)
    said = interrupted(lambda calls: fit(pins_task(), config, reporter=calls), monkeypatch, after=2)
    assert said.endswith("nothing was written, the run had no directory")
    interrupted(
        lambda calls: fit(pins_task(), config, out=path, reporter=calls), monkeypatch, after=4
    )
    interrupted(lambda calls: resume(path, reporter=calls), monkeypatch, after=8)
    resumed = resume(path)
    assert same_params(resumed, whole)
    assert resumed.summary["nodes_note"] == whole.summary["nodes_note"]


@pytest.mark.slow
def test_cut_offs_and_the_metric_that_chooses_are_the_run_s(tmp_path):
    config = tiny(pooling="none", select_by="recall@20", ks=(5, 20))
    run = fit(pins_task(), config, out=tmp_path / "run", data=DATA)
    stored = PinSageRun.open(tmp_path / "run")
    assert stored.config == config
    assert run.summary["selected_by"] == "valid recall@20"
    names = {"mrr"} | {f"{name}@{k}" for name in ("hit_rate", "recall", "ndcg") for k in (5, 20)}
    assert set(run.summary["test"]) == names
    figures = evaluate_run(tmp_path / "run", probe=False)
    assert figures["parts"]["test"] == pytest.approx(run.summary["test"])
    assert set(figures["baselines"]["popularity"]) == names
    assert set(figures["added"]["fresh"]) == names


def test_a_run_of_before_there_was_a_choice_has_the_defaults(copy):
    settings = json.loads((copy / "config.json").read_text())
    for name in ("ks", "select_by"):
        del settings["config"][name]
    (copy / "config.json").write_text(json.dumps(settings))
    assert PinSageRun.open(copy).config == CONFIG
    del settings["config"]["dim"]
    (copy / "config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match=r"missing or unknown settings: \['dim'\]"):
        _ = PinSageRun.open(copy).config


def test_what_a_finished_run_holds(run):
    stored = PinSageRun.open(run.path)
    assert stored.config == CONFIG
    assert stored.record["data"] == DATA
    assert stored.record["notes"] == list(run.prepared.notes)
    assert_same_vectors(read_vectors(stored, CONFIG), run.items)
    # The start, unless an epoch's gain exceeds its standard error: then the best one.
    values = [one["valid"]["mrr"] for one in stored.read_metrics()]
    assert stored.summary["best_epoch"] in (0, int(np.argmax(values)))
    assert stored.summary["ranked_items"] == pins_task().train_items.sum()
    assert len(list(stored.checkpoints.iterdir())) == 2


def nearer_than_random(run):
    """How often a test positive is nearer to its query than another item, over all other items."""
    vectors = run.items.vectors / np.linalg.norm(run.items.vectors, axis=1, keepdims=True)
    test, pool = run.task.test, np.flatnonzero(run.task.train_items)
    shares = []
    for query, positive in zip(test.queries[:, 0], np.asarray(test.relevant.columns), strict=True):
        others = pool[(pool != query) & (pool != positive)]
        nearness = vectors @ vectors[query]
        shares.append((nearness[others] < nearness[positive]).mean())
    return np.mean(shares)


def test_evaluating_again_gives_the_summary_s_figures(run):
    figures = evaluate_run(run.path)
    for part in ("valid", "test"):
        assert figures["parts"][part] == pytest.approx(run.summary[part])
    assert figures["triplets"] == pytest.approx(nearer_than_random(run), abs=0.02)
    assert set(figures["probe"]) == {"topic", "look", "use"}
    # All pins of this world are of one style.
    assert "2 classes, got 283 and 1" in figures["not_probed"]["style"]
    assert not evaluate_run(run.path, probe=False)["probe"]
    # Items that come later, from disk as from memory.
    added = evaluate_fresh(FinishedRun.of(run))
    for part in ("fresh", "test"):
        assert figures["added"][part] == pytest.approx(added[part])


def test_in_memory_the_same_comes_out(run):
    other = fit(pins_task(), CONFIG)
    assert other.path is None
    assert_same_vectors(other.items, run.items)
    assert other.summary["test"] == run.summary["test"]


def test_a_finished_run_is_not_resumed_and_a_taken_folder_is_left_alone(run, tmp_path):
    with pytest.raises(InputError, match="finished already"):
        resume(run.path)
    before = sorted(run.path.rglob("*"))
    for taken in (run.path, run.path / "config.json"):
        with pytest.raises(InputError, match="expected a new or empty directory"):
            fit(pins_task(), CONFIG, out=taken)
    assert sorted(run.path.rglob("*")) == before
    with pytest.raises(InputError, match=r"expected a run directory, config.json is missing"):
        resume(tmp_path)


def test_a_run_that_another_process_holds_is_left_alone(unfinished):
    with PinSageRun(unfinished).held(), pytest.raises(InputError, match="another process"):
        resume(unfinished)


def test_settings_that_do_not_fit_leave_no_folder(tmp_path):
    for changes, message in (
        ({"columns": ("nix",)}, "expected the columns 'nix', which are missing"),
        ({"hard_band": (10, 5000)}, "expected ranks up to the .* other items of the catalogue"),
    ):
        with pytest.raises(InputError, match=message):
            fit(pins_task(), tiny(**changes), out=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def edited(change):
    """A change of config.json."""

    def damage(path):
        record = json.loads((path / "config.json").read_text())
        change(record)
        (path / "config.json").write_text(json.dumps(record))

    return damage


def content(name, given=b"damaged"):
    return lambda path: (path / name).write_bytes(given)


def cut(name):
    return lambda path: (path / name).write_bytes((path / name).read_bytes()[:-200])


def missing(name):
    return lambda path: (path / name).unlink()


def other_vectors(path):
    np.save(path / "vectors" / "layer-1.npy", np.zeros((300, 3), np.float32))


DAMAGE = [
    (content("config.json"), PinSageRun.open, "config.json: expected JSON"),
    (content("config.json", b"[]"), PinSageRun.open, "config.json: expected an object"),
    (edited(lambda r: r.update(format=9)), PinSageRun.open, "expected format 3, got 9"),
    (edited(lambda r: r["config"].update(dims=3)), open_items, "unknown settings: .'dims'."),
    (edited(lambda r: r.update(config=3)), open_items, "expected settings, got 3"),
    (
        edited(lambda r: r["config"].update(dim=0)),
        open_items,
        "dim: expected a whole number of at least 1",
    ),
    (content("summary.json"), open_items, "summary.json: expected JSON"),
    (content("items.parquet"), open_items, "items.parquet: expected a Parquet file"),
    (missing("contexts.parquet"), open_items, "contexts.parquet: expected this file"),
    (content("schema.json", b"{}"), open_items, "schema: expected an object"),
    (missing("schema.json"), open_items, "schema.json: expected this file"),
    (cut("task.safetensors"), open_items, "task.safetensors: expected safetensors"),
    (cut("model.safetensors"), open_items, "model.safetensors: expected safetensors"),
    (missing("model.safetensors"), open_items, "model.safetensors: expected this file"),
    (
        edited(lambda r: r["config"].update(word_dim=9)),
        open_items,
        r"expected shape \[9, 16\], got",
    ),
    (cut("vectors/layer-2.npy"), open_items, "layer-2.npy: expected the vectors of a finished"),
    (missing("vectors/layer-0.npy"), open_items, "layer-0.npy: expected the vectors of a finished"),
    (other_vectors, open_items, r"layer-1.npy: expected float32\[300, 16\], got float32\[300, 3\]"),
    (content("columns.parquet"), evaluate_run, "columns.parquet: expected a Parquet file"),
]


@pytest.mark.parametrize(("damage", "read", "message"), DAMAGE)
def test_damage_is_named(damage, read, message, copy):
    damage(copy)
    with pytest.raises(InputError, match=message):
        read(copy)


def test_damage_that_resuming_meets_is_named(unfinished):
    metrics = unfinished / "metrics.jsonl"
    kept = metrics.read_text()
    metrics.write_text(kept[:-20])
    with pytest.raises(InputError, match=r"metrics.jsonl: line 5: expected a JSON object a line"):
        resume(unfinished)
    metrics.write_text(kept)
    for folder in PinSageRun(unfinished).checkpoints.iterdir():
        (folder / "manifest.json").unlink()
    with (
        pytest.warns(UserWarning, match="passed over"),
        pytest.raises(InputError, match="all 2 checkpoints are damaged"),
    ):
        resume(unfinished)


@pytest.mark.slow
def test_a_diverged_loss_names_its_step_and_leaves_the_last_checkpoint(unfinished, run):
    """The newest checkpoint is damaged and passed over, so the last epoch is done again: first at
    a learning rate that no loss survives."""
    checkpoints = PinSageRun(unfinished).checkpoints
    (max(checkpoints.iterdir()) / "progress.json").write_text("{}")
    (checkpoints / ".step-x.tmp").mkdir()
    edited(lambda record: record["config"].update(learning_rate=1e30))(unfinished)
    with (
        pytest.warns(UserWarning, match="damaged checkpoint passed over"),
        pytest.raises(TrainingDiverged, match=r"the loss is (nan|inf) at step \d+ of epoch 4"),
    ):
        resume(unfinished)
    edited(lambda record: record["config"].update(learning_rate=CONFIG.learning_rate))(unfinished)
    with pytest.warns(UserWarning, match="damaged checkpoint passed over"):
        assert_same_vectors(resume(unfinished).items, run.items)
    assert not (checkpoints / ".step-x.tmp").exists()


# With a structure the start may be the best epoch.
SHORT = tiny(epochs=1, steps_per_epoch=2, structure=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"pooling": "none", "id_embedding": True, "log_degree": False, "curriculum": "none"},
        {"negative_choice": "separate", "loss": "bpr", "pooling": "max", "layers": 1},
        {
            "negative_choice": "distance-weighted",
            "unit_length": True,
            "loss": "softmax",
            "pooling": "mean",
            "layers": 1,
        },
        {"refresh_every": 1, "epochs": 2, "hard_ranking": "walks", "layers": 1},
        {"tables": "host", "negative_law": "degree", "layers": 1},
    ],
)
@pytest.mark.slow
def test_every_variant_trains(changes):
    out = fit(pins_task(), settings_from(SHORT, **changes))
    if out.config.unit_length:
        np.testing.assert_allclose(np.linalg.norm(out.items.vectors, axis=1), 1, atol=1e-5)
    key, _ = jax.random.split(stream(out.config, "init"))
    start = init_params(key, out.prepared.model)
    moved = jax.tree.map(lambda one, two: not np.array_equal(one, two), start, out.params)
    assert all(jax.tree.leaves(moved))
    steps = re.findall(r"(\d+) steps within", out.summary["nodes_note"])
    assert sum(map(int, steps)) == 2 * out.config.epochs


@pytest.mark.slow
def test_a_tower_composes_the_queries_of_users():
    task = time_task(pins(), last=3)
    out = fit(task, settings_from(SHORT, query="tower", pooling="none"))
    assert "tower_0" in out.params
    assert 0 < out.summary["test"]["mrr"] <= 1


# The mean of two worlds; the deviation of the difference of two MRRs is about 0.01.
VARIANTS = {
    "default": {},
    "narrow structure": {"structure": 32},
    "no structure": {"structure": 0},
    "features alone": {"structure": 0, "pooling": "none"},
}
BESIDE = ("popularity", "features", "pagerank")


@pytest.fixture(scope="module")
def ranked():
    """Figures of test on 1,000 pins, by variant and baseline. Styles are planted in the boards
    alone: only the graph knows of them."""
    world = PinWorld(
        items=1_000, boards=250, mean_board_size=20, styles=4, visual_signal=0.9, text_signal=0.9
    )
    found = {name: [] for name in (*VARIANTS, *BESIDE)}
    for seed in range(2):
        task = cooccurrence_task(generate_pins(world, seed).data, seed=seed)
        for name, changes in VARIANTS.items():
            config = settings_from(PinSageConfig(seed=seed), **changes)
            found[name].append(fit(task, config).summary["test"])
        for name in BESIDE:
            found[name].append(evaluate_baseline(task, name)["test"])
    return {
        name: {metric: np.mean([one[metric] for one in parts]) for metric in parts[0]}
        for name, parts in found.items()
    }


@pytest.mark.slow
def test_the_default_ranks_better_than_popularity_and_features(ranked):
    for other in ("popularity", "features", "features alone"):
        assert ranked["default"]["mrr"] > ranked[other]["mrr"]
        assert ranked["default"]["hit_rate@100"] > ranked[other]["hit_rate@100"] + 0.06


@pytest.mark.slow
def test_neighbours_tell_what_features_do_not(ranked):
    near, alone = ranked["no structure"], ranked["features alone"]
    assert near["mrr"] > alone["mrr"] + 0.01
    assert near["hit_rate@100"] > alone["hit_rate@100"] + 0.06


@pytest.mark.slow
def test_structure_of_few_entries_ranks_better_than_walks_of_so_small_a_graph(ranked):
    """128 entries for 250 contexts hold their noise as well, and do not."""
    assert ranked["narrow structure"]["mrr"] > ranked["pagerank"]["mrr"] + 0.01


def test_wrong_answers_score_chance(run):
    """The hits among n wrong answers are binomial, n times the chance of one."""
    pool = np.flatnonzero(run.task.train_items)
    hits = pairs = 0
    for seed in range(10):
        wrong = permuted(run.task, seed).test
        figures = evaluate_part(
            run.prepared.model, run.params, run.items.vectors, wrong, candidates=pool
        )
        hits += figures["hit_rate@10"] * len(wrong.relevant.columns)
        pairs += len(wrong.relevant.columns)
    share = chance(len(pool) - 1, 10)  # the query itself is not ranked
    assert abs(hits - pairs * share) < 4 * np.sqrt(pairs * share * (1 - share))


def test_queries_of_many_items_are_composed_in_blocks(run, monkeypatch):
    queries = np.random.default_rng(0).integers(-1, 20, size=(7, 50)).astype(np.int32)
    model, vectors = run.prepared.model, run.items.vectors
    whole = query_scorer(model, run.params, vectors, queries).queries
    monkeypatch.setattr(parts, "_BLOCK_BYTES", 3 * 50 * vectors[:1].nbytes)
    found = query_scorer(model, run.params, vectors, queries).queries
    np.testing.assert_allclose(found, whole, rtol=1e-6, atol=1e-8)
    means = [vectors[row[row >= 0]].mean(axis=0) for row in queries]
    np.testing.assert_allclose(found, means, rtol=1e-5, atol=1e-6)


def test_the_task_of_a_run_can_be_evaluated_without_the_data(run):
    task = load_task(PinSageRun.open(run.path))
    pool = np.flatnonzero(task.train_items)
    figures = evaluate_part(
        run.prepared.model, run.params, run.items.vectors, task.test, candidates=pool
    )
    assert figures == pytest.approx(run.summary["test"])
