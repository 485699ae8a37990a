"""Run directories that were damaged at random: a run is refused by name, or works."""

import shutil

import numpy as np
import polars as pl
import pytest

from lightgcn_jax.errors import InputError
from pinsage_jax import FeatureTable, cooccurrence_task, fit, from_files, keep_added, open_items
from pinsage_jax.cli.embed import Embed
from pinsage_jax.runs.directory import PinSageRun
from pinsage_jax.runs.evaluate import evaluate_run
from pinsage_jax.runs.finished import read_finished
from tests.mutations import damaged, harmed, refused
from tests.pinsage.trained import pins, tiny
from tests.unlisted import without_sums

CONFIG = tiny(walks=10, steps_per_epoch=2, epochs=1, log_degree=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose feature has a slash in its name, in a folder that looks like a pattern."""
    features = {**pins().features.columns}
    features["price/kg"] = FeatureTable.from_mapping({"n": np.arange(300.0)}).columns["n"]
    data = from_files(pins().interactions, FeatureTable(features, 300))
    path = tmp_path_factory.mktemp("runs") / "run[1]"
    result = fit(cooccurrence_task(data), CONFIG, out=path)
    live = open_items(path)
    live.add(["a", "b"], data.features.take([0, 1]), [["board-0"], []])
    keep_added(path, live)
    assert result.path == path
    return path


def test_a_feature_may_have_a_slash_in_its_name(run):
    assert evaluate_run(run)["parts"]["test"]["mrr"] > 0
    live = open_items(run)
    assert live.added is not None
    assert live.added.table.columns["price/kg"].values.tolist() == [0, 1]
    live.update(["a"], contexts=[["board-3"]])


@pytest.mark.parametrize("name", ["item_id", "structure", "log_degree"])
def test_a_feature_may_not_have_the_name_of_another_input(name):
    features = {**pins().features.columns}
    features[name] = FeatureTable.from_mapping({"n": np.arange(300.0)}).columns["n"]
    task = cooccurrence_task(from_files(pins().interactions, FeatureTable(features, 300)))
    with pytest.raises(InputError, match=f"columns: .*'{name}'.* rename"):
        fit(task, tiny(id_embedding=True))


def test_another_run_beside_it_is_not_read(run, tmp_path):
    """A folder called run[1] is no pattern that run1 fits."""
    without_sums(run, tmp_path / "run[1]")
    shutil.copytree(run, tmp_path / "run1")
    (tmp_path / "run[1]" / "items.parquet").unlink()
    assert "items.parquet: expected this file" in (
        refused(lambda: PinSageRun.open(tmp_path / "run[1]").read_ids("items")) or ""
    )


def outcomes(run, folder, seeds):
    """How many damaged runs were refused and how many opened, by the file that was damaged."""
    copy = without_sums(run, folder / "copy")
    files = sorted(
        path.relative_to(copy)
        for path in copy.rglob("*")
        if path.is_file() and "checkpoints" not in path.parts and path.name != ".lock"
    )
    counts = {}
    for file in files:
        content = (copy / file).read_bytes()
        counts[str(file)] = [0, 0]
        for seed in seeds:
            rng = np.random.default_rng(seed)
            (copy / file).write_bytes(harmed(file.name, content, rng))
            message = refused(lambda: (open_items(copy).similar(["pin-3"], 2), read_finished(copy)))
            assert message is None or str(copy) in message, message
            counts[str(file)][message is None] += 1
        (copy / file).write_bytes(content)
    return counts


def test_damaged_runs_are_refused_or_opened(run, tmp_path):
    counts = outcomes(run, tmp_path, range(2))
    assert sum(refusals for refusals, _ in counts.values()) > 10


def added_from(run, folder, seeds):
    """How many damaged files of contexts were refused, and of how many an item was added."""
    copy = folder / "copy"
    shutil.copytree(run, copy)
    table = pl.read_parquet(copy / "columns.parquet").drop(" row").head(4)
    table.insert_column(0, pl.Series("item", [f"new-{row}" for row in range(4)]))
    table.write_parquet(folder / "new.parquet")
    contexts = folder / "contexts.csv"
    rows = "".join(f"board-{row},new-{row % 4}\n" for row in range(12)).encode()
    counts = [0, 0]
    for seed in seeds:
        contexts.write_bytes(damaged(b"user,item\n" + rows, np.random.default_rng(seed)))
        embed = Embed(copy, folder / "new.parquet", contexts=contexts, quiet=True)
        message = refused(embed.run)
        counts[message is None] += 1
        assert len(open_items(copy).items) == (302 if message else 306)
        if message is None:
            Embed(copy, remove=tuple(f"new-{row}" for row in range(4))).run()
    return counts


@pytest.mark.slow
def test_damaged_contexts_are_refused_or_read(run, tmp_path):
    assert all(added_from(run, tmp_path, range(12)))


@pytest.mark.slow
def test_many_damaged_contexts_are_refused_or_read(run, tmp_path):
    assert all(added_from(run, tmp_path, range(100, 250)))


@pytest.mark.slow
def test_many_damaged_runs_are_refused_or_opened(run, tmp_path):
    outcomes(run, tmp_path, range(100, 130))
