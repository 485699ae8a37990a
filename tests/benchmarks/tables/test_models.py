import dataclasses
import io

import pytest
from rich.console import Console

from benchmarks.tables import models, presets, time_to_quality
from benchmarks.tables.models import Row
from lightgcn_jax.data import generate_world, ratio_split
from lightgcn_jax.errors import InputError
from lightgcn_jax.models import LightGCN, Random
from lightgcn_jax.settings import PRESETS, ClosedFormConfig, Selection, TrainConfig, model_name
from lightgcn_jax.training import Optimization, SharedNegatives


@pytest.fixture(scope="module")
def split():
    world = generate_world(users=60, items=40, mean_degree=8, groups=2, seed=1)
    return ratio_split(world.interactions, seed=0)


def test_gowalla_has_every_model_of_the_papers_under_both_protocols():
    rows = models.gowalla_rows(0.5)
    for protocol in ("strict", "legacy"):
        names = [row.name for row in rows if row.config.protocol == protocol]
        assert names[0] == "MF"
        assert [name for name in names if name.startswith("LightGCN")] == [
            f"LightGCN, {layers} layer{'s' * (layers > 1)}" for layers in (1, 2, 3, 4)
        ]
        assert {"NGCF, 3 layers", "GF-CF"} <= set(names)
    assert all(row.published for row in rows)
    trained = [row.config for row in rows if row.config.is_trained]
    assert len({(config.loss, config.negatives) for config in trained}) == 1
    # The scale multiplies epochs, and never below one.
    assert all(
        half.config.optimization.epochs == round(whole.config.optimization.epochs / 2)
        for half, whole in zip(rows, models.gowalla_rows(1.0), strict=True)
        if half.config.is_trained
    )
    shortest = [row.config for row in models.gowalla_rows(1e-9) if row.config.is_trained]
    assert {config.optimization.epochs for config in shortest} == {1}


def test_small_sets_have_every_model_with_seeds():
    rows = models.small_rows("lastfm", 5)
    names = {model_name(row.config) for row in rows}
    assert names >= {"mf", "gcn", "sgc", "ngcf", "gnn", "lightgcn"}
    for row in rows:
        seeded = model_name(row.config) not in ("popular", "itemcf")
        assert row.config.seeds == (5 if seeded else 1)
        assert row.config.protocol == "strict"


def test_a_row_is_trained_once_then_read_and_never_mixed_up(split, tmp_path):
    config = ClosedFormConfig(Random(), seeds=3, ks=(20,))
    first = models.train_or_read(split, config, tmp_path / "row")
    again = models.train_or_read(split, config, tmp_path / "row")
    assert again.already_finished
    assert again.summary["test"] == first.summary["test"]
    other = dataclasses.replace(config, seed=7)
    with pytest.raises(InputError, match="holds a run with other settings"):
        models.train_or_read(split, other, tmp_path / "row")


def test_lines_and_their_table(split):
    config = ClosedFormConfig(Random(), seeds=3, ks=(20,))
    result = models.fit(split, config)
    line = models.line_of(Row("random", config, (0.1, 0.2)), result)
    assert line["settings"] == {"model": "random", "ks": (20,), "seeds": 3}
    assert line["test"]["recall@20"] == result.summary["test"]["recall@20"]
    spread = result.summary["statistics"]["test"]["recall@20"]["ci95_half_width"]
    assert line["ci95_half_width"]["recall@20"] == spread
    console = Console(file=io.StringIO(), width=200)
    console.print(models.table_of("world", [line]))
    printed = console.file.getvalue()
    assert f"{line['test']['recall@20']:.4f} ±{spread:.4f}" in printed
    assert "0.1000" in printed
    plain = models.line_of(Row("popular", config), result)
    assert "published" not in plain


def test_the_order_of_recall():
    lines = [
        {"name": name, "protocol": "strict", "test": {"recall@20": recall}}
        for name, recall in [("GF-CF", 0.1), ("MF", 0.3), ("LightGCN, 3 layers", 0.2)]
    ] + [{"name": "MF", "protocol": "legacy", "test": {"recall@20": 0.0}}]
    assert models.order_of(lines, "strict") == ["GF-CF", "LightGCN, 3 layers", "MF"]


def test_time_to_quality_reports_what_the_untrained_model_ranks(split, monkeypatch):
    # In so small a world the deep layers alone, untrained, rank half of it well.
    fast = PRESETS["fast"]
    steps = dataclasses.replace(fast.optimization, epochs=2, batch_size=256)
    quick = dataclasses.replace(
        fast, model=LightGCN(), negatives=SharedNegatives(16), optimization=steps
    )
    monkeypatch.setitem(PRESETS, "fast", quick)
    monkeypatch.setattr(time_to_quality, "load_split", lambda *_: split)
    found = time_to_quality.train("any", "fast", None)
    assert found["epochs"] == found["best_epoch"] == 2
    assert found["protocol"].startswith("fixed")
    assert found["test"]["recall@20"] > found["step_0"]["recall@20"]
    assert found["seconds"] > 0


def test_a_preset_that_never_stops_early_is_ranked_once(split):
    quick = TrainConfig(
        optimization=Optimization(epochs=2, batch_size=256), selection=Selection(patience=0)
    )
    found = presets.judged(split, quick)
    assert found["epochs"] == 2
    assert found["interactions"] == len(split.train)
    popular = presets.judged(split, presets.ROWS["popular"])
    assert popular["epochs"] == 0
    assert 0 < popular["recall@20"] <= 1


def test_what_is_claimed_of_presets_is_the_worst_of_their_data():
    lines = [
        {"dataset": dataset, "row": row, "recall@20": recall}
        for dataset, row, recall in [
            ("lastfm", "item-based cosine", 0.2), ("lastfm", "fast", 0.3),
            ("ml-100k", "item-based cosine", 0.4), ("ml-100k", "fast", 0.3),
            ("gowalla", "fast", 0.01),
        ]
    ]  # fmt: skip
    (claim,) = presets.claims_of(lines)
    assert (claim.value, claim.holds) == (pytest.approx(0.75), False)
    assert not presets.claims_of(lines[1:3])
