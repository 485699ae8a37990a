"""Runs of the ablation are kept and taken up, and judged as they say."""

import copy
import dataclasses
import json
import os

import numpy as np
import pytest

from lightgcn_jax.errors import InputError
from lightgcn_jax.graph.bipartite import csr_rows
from pinsage_jax.cli import main
from pinsage_jax.config import PinSageConfig, settings_from
from pinsage_jax.data.world import PinWorld
from pinsage_jax.evaluation.baselines import BASELINES, evaluate_baseline, features
from pinsage_jax.evaluation.metrics import evaluate_items, ranks_of
from pinsage_jax.experiments.ablation import Outcome, Run, carry_out, planned
from pinsage_jax.experiments.bench import Bench, fresh_figures, hard_triplets, shared
from pinsage_jax.experiments.claims import STATEMENTS, claims, grid
from pinsage_jax.experiments.experiment import DataSet, Experiment, Variant, narrowed
from pinsage_jax.experiments.table_1 import (
    COMBINED,
    DATASETS,
    PAPER,
    PINSAGE,
    POPULARITY,
    RANDOM,
    named,
    table_1,
)
from pinsage_jax.runs.evaluate import evaluate_fresh, renumbered, with_fresh_items
from pinsage_jax.runs.finished import FinishedRun
from pinsage_jax.runs.fit import fit
from pinsage_jax.tasks.new_partners import only_new_partners
from pinsage_jax.tasks.task import HeldOut
from pinsage_jax.training.preparation import prepare

CONFIG = PinSageConfig(
    dim=8,
    word_dim=4,
    neighbors=3,
    walks=8,
    walk_length=4,
    negatives=8,
    hard_band=(5, 60),
    hard_pool=8,
    hard_cap=2,
    batch_size=16,
    steps_per_epoch=2,
    epochs=2,
    fan=2,
    structure=4,
    folds=2,
    curriculum="paper",
)
WORLD = PinWorld(items=160, boards=60, mean_board_size=8, looks=2, uses=2, styles=2)
TINY = DataSet("tiny", CONFIG, {"visual": "visual", "words": "annotation"}, WORLD, triplets=True)
(VISUAL,) = (one for one in table_1(TINY).variants if one.name == "visual")
CHOSEN = Experiment(TINY, (RANDOM, POPULARITY, VISUAL, COMBINED, PINSAGE))


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("runs") / "ablation"


@pytest.fixture(scope="module")
def done(out):
    """One seed of a few variants, and what was said."""
    said = []
    return carry_out(planned([CHOSEN], 1), out, say=said.append), said


@pytest.fixture(scope="module")
def bench():
    return Bench(TINY, TINY.load(), 0)


@pytest.fixture(scope="module")
def plain():
    """A bench where nothing is trained."""
    return Bench(TINY, TINY.load(), 0, trained=False)


@pytest.fixture(scope="module")
def fitted(bench):
    """Features alone: what compiles fastest."""
    config = COMBINED.settings(CONFIG, 0)
    prepared = shared(bench.task, bench.prepared, dataclasses.replace(CONFIG, seed=0), config)
    return fit(bench.task, config, prepared=prepared)


# What is run.


def test_table_1_has_all_rows_of_the_paper():
    variants = table_1(DATASETS["pins"]).variants
    assert [one.paper for one in variants if one.paper] == list(PAPER.values())
    assert [one.name for one in variants[2:8]] == [
        *("cooccurrence", "item-cosine", "pagerank", "structure", "visual", "words")
    ]
    settings = {one.name: one.settings(CONFIG, 3) for one in variants if one.kind == "trained"}
    assert all(one.seed == 3 and one.dim == CONFIG.dim for one in settings.values())
    assert (settings["combined"].layers, settings["max-pooling"].pooling) == (0, "max")
    assert settings["mean-pooling-xent"].loss == "binary"
    with_hard = [name for name, one in settings.items() if one.hard_negatives]
    assert with_hard == ["mean-pooling-hard", "pinsage", "pinsage-softmax"]
    words = [one.name for one in table_1(DATASETS["ml-latest-small"]).variants]
    assert words[6:9] == ["title", "genres", "tags"]
    assert [one.name for one in variants[-2:]] == ["oracle-topic", "oracle-all"]
    assert not any(name.startswith("oracle") for name in words)


def test_seeds_come_before_variants():
    runs = planned(narrowed([table_1(TINY)], ["pinsage", "random"]), 2)
    assert [str(run) for run in runs] == [
        "tiny random seed 0",
        "tiny pinsage seed 0",
        "tiny random seed 1",
        "tiny pinsage seed 1",
    ]


def test_what_is_not_known_is_refused():
    with pytest.raises(InputError, match="unknown data set 'pin': expected one of pins, pins-1, "):
        named(["pin"])
    with pytest.raises(InputError, match="unknown variant 'mean': expected one of random, "):
        narrowed([table_1(TINY)], ["mean"])


def test_a_variant_that_a_data_set_lacks_is_left_out_there():
    found = narrowed(named(["pins", "ml-latest-small"]), ["title"], epochs=7)
    assert [(data.name, len(variants)) for data, variants in found] == [("ml-latest-small", 1)]
    assert found[0].data.config.epochs == 7


def test_grid_and_claims_change_what_they_say():
    worlds = [one.data.world for one in grid()]
    signals = {(one.graph_signal, one.visual_signal, one.text_signal) for one in worlds}
    assert signals == {(g, f, f) for g in (0, 0.5, 1) for f in (0, 0.5, 1)}
    data, variants = claims()
    settings = {one.name: one.settings(data.config, 0) for one in variants}
    assert {claim.first for claim in STATEMENTS} | {claim.second for claim in STATEMENTS} == set(
        settings
    )
    assert settings["separate-50"].negatives == settings["shared-50"].negatives == 50
    assert settings["no-hard"].hard_negatives == 0


# Runs.


@pytest.mark.slow
def test_runs_are_kept(done, out):
    outcome, said = done
    assert [run.variant.name for run, _, _ in outcome.results] == [
        *("random", "popularity", "visual", "combined", "pinsage")
    ]
    kept = json.loads((out / "tiny" / "pinsage-seed0.json").read_text())
    assert kept["figures"] == outcome.results[-1].figures
    assert kept["settings"]["config"]["pooling"] == "importance"
    assert kept["settings"]["data"]["world"]["items"] == 160
    assert kept["details"]["best_epoch"] in (1, 2)
    assert any("5 of 5: tiny pinsage seed 0: hit_rate@10" in line for line in said)
    assert any(line.startswith("  hard negatives: ranks 5 to 60") for line in said)


@pytest.mark.slow
def test_trained_runs_have_all_figures(done):
    for run, figures, _ in done[0].results:
        assert figures["seconds"] > 0
        assert 0 <= figures["hit_rate@10"] <= figures["hit_rate@100"] <= 1
        assert 0 <= figures["fresh/hit_rate@10"] <= figures["fresh/hit_rate@100"] <= 1
        assert 0 <= figures["new_partner/hit_rate@10"] <= figures["new_partner/hit_rate@100"] <= 1
        assert 0 < figures["new_partner/mrr"] < 1
        assert ("hard_triplets" in figures) == (run.variant.kind == "trained")


@pytest.mark.slow
def test_finished_runs_are_not_run_again(done, out, monkeypatch):
    monkeypatch.setattr("pinsage_jax.experiments.ablation.Bench", None)
    again = carry_out(planned([CHOSEN], 1), out)
    assert again == done[0]


@pytest.mark.slow
def test_what_is_missing_is_run(done, out, monkeypatch):
    asked = []

    class Counted(Bench):
        def run(self, variant):
            asked.append(variant.name)
            return super().run(variant)

    monkeypatch.setattr("pinsage_jax.experiments.ablation.Bench", Counted)
    runs = planned([CHOSEN], 1)
    before = done[0].results[2]
    before.run.path(out).unlink()
    again = carry_out(runs, out)
    assert asked == ["visual"]
    without = {name: one for name, one in before.figures.items() if name != "seconds"}
    assert again.results[2].figures | without == again.results[2].figures


@pytest.mark.usefixtures("done")
@pytest.mark.slow
def test_other_settings_are_refused(out):
    experiments = narrowed([CHOSEN], ["pinsage"], epochs=3)
    with pytest.raises(InputError, match=r"pinsage-seed0.json: .* config.epochs 2, asked for is 3"):
        carry_out(planned(experiments, 1), out)
    other = dataclasses.replace(TINY, world=dataclasses.replace(WORLD, styles=3))
    with pytest.raises(InputError, match=r"data.world.styles 2, asked for is 3"):
        carry_out(planned([Experiment(other, (RANDOM,))], 1), out)


def test_a_damaged_file_is_refused(tmp_path):
    run = Run(TINY, RANDOM, 0)
    run.path(tmp_path).parent.mkdir()
    path, fine = run.path(tmp_path), {"settings": run.settings(), "figures": {}, "details": {}}
    for name, odd in (("settings", 3), ("figures", {"mrr": "high"}), ("details", None)):
        path.write_text(json.dumps({**fine, name: odd}))
        with pytest.raises(InputError, match=rf"{path.name}: {name}.*: expected"):
            carry_out([run], tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match=rf"{path.name}: expected a file"):
        carry_out([run], tmp_path)


def test_no_run_starts_after_the_minutes(tmp_path):
    runs = planned([CHOSEN], 1)
    assert carry_out(runs, tmp_path, minutes=0) == Outcome([], runs)


# What runs share.


@pytest.mark.slow
def test_sharing_changes_nothing(bench):
    config = settings_from(CONFIG, pooling="mean", curriculum="none")
    ours, own = shared(bench.task, bench.prepared, CONFIG, config), prepare(bench.task, config)
    assert ours.features is bench.prepared.features
    assert ours.table is bench.prepared.table
    assert (ours.hard, ours.model) == (None, own.model)
    np.testing.assert_array_equal(ours.table.ids, own.table.ids)
    for name, values in own.features.items():
        np.testing.assert_array_equal(ours.features[name], values)
    assert set(ours.seconds) == {"features", "neighbours"}
    alone = shared(bench.task, bench.prepared, CONFIG, COMBINED.settings(CONFIG, 0))
    assert (np.asarray(alone.table.ids) == -1).all()
    assert set(alone.seconds) == {"features"}


@pytest.mark.slow
def test_other_settings_share_nothing(bench):
    config = settings_from(CONFIG, curriculum="none", log_degree=False)
    assert "log_degree" not in shared(bench.task, bench.prepared, CONFIG, config).features


# What is compared without training.


@pytest.mark.slow
@pytest.mark.parametrize("variant", table_1(TINY).variants[1:5], ids=lambda one: one.name)
def test_a_baseline_s_row_is_that_of_its_name(variant, plain):
    figures, details = plain.run(variant)
    parts, pool = (
        evaluate_baseline(plain.task, variant.name),
        np.flatnonzero(plain.task.train_items),
    )
    assert {name: figures[name] for name in parts["test"]} == parts["test"]
    assert figures["fresh/mrr"] == parts["fresh"]["mrr"]
    assert figures["known/mrr"] == parts["known"]["mrr"]
    assert details == {"ranked_items": len(pool)}
    # The scores are those of the ordinary ranking: partners are left out, they are not liked less.
    scorer = BASELINES[variant.name](plain.task, plain.task.test)
    new = only_new_partners(plain.task, plain.task.test).held_out
    ranks = ranks_of(scorer, new, candidates=pool)
    assert figures["new_partner/mrr"] == pytest.approx((1 / ranks).mean())
    assert figures["new_partner/hit_rate@10"] == pytest.approx((ranks <= 10).mean())


def test_a_column_s_row_is_the_cosine_of_that_column(plain):
    figures, _ = plain.run(VISUAL)
    pool = np.flatnonzero(plain.task.train_items)
    scorer = features(plain.task, plain.task.test, ["visual"])
    expected = evaluate_items(scorer, plain.task.test, candidates=pool).metrics
    assert {name: figures[name] for name in expected} == expected


def test_oracles_know_more_than_anything_else(plain):
    rows = {one.name: one for one in table_1(TINY).variants}
    names = ("oracle-all", "oracle-topic", "popularity", "random")
    figures = [plain.run(rows[name])[0] for name in names]
    for name in ("hit_rate@100", "mrr"):
        values = [one[name] for one in figures]
        assert values == sorted(values, reverse=True)
    for name in ("new_partner/mrr", "fresh/mrr"):
        assert figures[0][name] > figures[1][name]


def test_data_without_a_world_have_no_oracle(plain):
    bench = copy.copy(plain)
    bench._data = dataclasses.replace(TINY, world=None)
    with pytest.raises(InputError, match="oracle-all: tiny is no generated world"):
        bench.run(Variant("oracle-all", "oracle"))


# Items that come later.


@pytest.mark.slow
def test_fresh_pairs_are_ranked_among_all_known_items(fitted):
    task = fitted.task
    live = with_fresh_items(FinishedRun.of(fitted))
    vectors, ids = live.vectors.astype(np.float64), task.data.interactions.items
    places = live.items.rows(ids.ids)
    assert sorted(places) == list(range(len(task.train_items)))
    ordinary = task.train_items
    np.testing.assert_array_equal(live.vectors[places[ordinary]], fitted.items.vectors[ordinary])

    def hit_rate(held_out):
        hits = []
        for query, positive in zip(
            held_out.queries[:, 0], np.asarray(held_out.relevant.columns), strict=True
        ):
            scores = vectors @ vectors[places[query]]
            scores[places[query]] = -np.inf
            hits.append((scores > scores[places[positive]]).sum() < 10)
        return np.mean(hits)

    found = evaluate_fresh(FinishedRun.of(fitted))
    assert not task.train_items[np.asarray(task.fresh.relevant.columns)].any()
    assert found["fresh"]["hit_rate@10"] == pytest.approx(hit_rate(task.fresh))
    assert found["test"]["hit_rate@10"] == pytest.approx(hit_rate(task.test))


@pytest.mark.slow
def test_added_items_know_the_edges_that_were_given_back(fitted):
    """The degree is the one thing that features alone see of contexts."""
    task, live = fitted.task, with_fresh_items(FinishedRun.of(fitted))
    items, _ = task.fresh_edges
    degrees = np.bincount(items, minlength=len(task.train_items))
    fresh = np.flatnonzero(~task.train_items)
    assert degrees[fresh].min() > 0
    encoded = fitted.prepared.schema.encode(task.data.features, degrees)
    model, params = fitted.prepared.model, {"params": fitted.params}
    h = model.apply(params, {name: one[fresh] for name, one in encoded.items()}, method="encode")
    places = live.items.rows(task.data.interactions.items.ids)[fresh]
    np.testing.assert_allclose(
        live.vectors[places], model.apply(params, h, method="head"), atol=1e-5
    )


def test_renumbering_keeps_pairs_and_pads():
    held_out = HeldOut(
        np.array([[0, -1], [2, 1]], np.int32),
        csr_rows([0, 1, 1], [1, 0, 3], 2),
        csr_rows([0, 1, 1], [0, 1, 2], 2),
    )
    moved = renumbered(held_out, np.array([3, 2, 1, 0]))
    np.testing.assert_array_equal(moved.queries, [[3, -1], [1, 2]])
    np.testing.assert_array_equal(moved.relevant.columns, [2, 0, 3])
    np.testing.assert_array_equal(moved.seen.columns, [3, 1, 2])


def test_no_ratio_to_nothing():
    figures = fresh_figures({"mrr": 0.1, "hit_rate@10": 0.2}, {"mrr": 0.2, "hit_rate@10": 0.0})
    assert figures["fresh/known mrr"] == 0.5
    assert "fresh/known hit_rate@10" not in figures


# Fine distinctions.


def test_hard_triplets_by_hand():
    vectors = np.array([[1, 0], [0.8, 0.6], [0, 1], [1, 0], [0.8, 0.6]], np.float32)
    held_out = HeldOut(
        np.array([[0], [0], [2]], np.int32),
        csr_rows([0, 1, 2], [1, 3, 1], 3),
        csr_rows([0, 1, 2], [0, 0, 2], 3),
    )
    pool = np.full((5, 4), -1, np.int32)
    pool[0] = [1, 2, 3, 4]
    # From 0, item 1: farther than 3, as far as 4, nearer than 2. Item 3: nearer than all. Item 2
    # has no pool.
    assert hard_triplets(vectors, held_out, pool) == pytest.approx((1.5 / 3 + 1) / 2)
    assert hard_triplets(vectors, held_out, np.full((5, 4), -1)) is None


def test_triplets_are_judged_by_what_training_does_not_draw(bench):
    judged, trained = bench._unseen_hard, np.asarray(bench.prepared.hard.ids)
    asked = np.unique(bench.task.test.queries)
    assert (judged[asked] >= 0).any()
    for row in asked:
        assert not set(judged[row][judged[row] >= 0]) & set(trained[row])


# The command.


@pytest.fixture
def call(monkeypatch, capsys):
    monkeypatch.setitem(DATASETS, "tiny", TINY)

    def command(*arguments):
        status = main(["ablation", *map(str, arguments)])
        return status, *capsys.readouterr()

    return command


def test_command_runs_and_says_what_is_left(call, tmp_path):
    flags = ("--datasets", "tiny", "--only", "random", "popularity", "--seeds", 2)
    status, printed, _ = call(*flags, "--minutes", 0, "--out", tmp_path / "runs")
    assert status == 0
    assert "4 runs are left after 0 minutes: tiny random seed 0, " in printed
    assert "…" not in printed
    _, printed, _ = call(*flags, "--seeds", 3, "--minutes", 0, "--out", tmp_path / "runs")
    assert "tiny random seed 2, …. Call again" in " ".join(printed.split())
    file = tmp_path / "all.json"
    status, printed, err = call(*flags, "--out", tmp_path / "runs", "--json", file)
    assert status == 0
    assert "4 of 4: tiny popularity seed 1" in err
    assert "only the order compares" in printed
    assert any(line.split()[:2] == ["popularity", "2"] for line in printed.splitlines())
    assert set(json.loads(file.read_text())["tiny"]) == {"random", "popularity"}
    assert "hard negatives" not in err  # nothing is trained, so none are ranked


def test_command_refuses_in_one_line(call, tmp_path):
    assert call("--datasets", "tin", "--out", tmp_path)[2].startswith(
        "error: unknown data set 'tin'"
    )
    assert "--seeds: expected at least 1, got 0" in call("--seeds", 0, "--out", tmp_path)[2]
