"""What the flags of one's own data make of files, and what is said of it: nothing is trained."""

import dataclasses

import numpy as np
import polars as pl
import pytest

from lightgcn_jax.errors import InputError
from pinsage_jax.cli.source import FeatureReading, ItemSource


@pytest.fixture
def folder(tmp_path):
    """Sixty boards of eight of 120 items."""
    rng = np.random.default_rng(0)
    rows = [(f"b{board}", item) for board in range(60) for item in rng.permutation(120)[:8]]
    pl.DataFrame(rows, schema=["user", "item"], orient="row").write_csv(tmp_path / "boards.csv")
    return tmp_path


def source(folder, header, rows, **flags):
    """The source of items with such a feature file."""
    path = folder / "items.csv"
    path.write_text(header + "\n" + "".join(f"{row}\n" for row in rows))
    reading = {name: flags.pop(name) for name in FeatureReading.__annotations__ if name in flags}
    return ItemSource(
        data=folder / "boards.csv", features=path, reading=FeatureReading(**reading), **flags
    )


def test_kinds_are_declared_and_columns_skipped(folder):
    rows = [f"{item},1{item % 4},{item % 3},x" for item in range(120)]
    flags = {"kind": ("size=category", "a=b=text"), "skip_columns": ("noise",)}
    one = source(folder, "item,size,a=b,noise", rows, **flags)
    data, notes = one.load()
    kinds = {name: column.kind for name, column in data.features.columns.items()}
    assert kinds == {"size": "category", "a=b": "text"}
    assert any("features of items.csv: size category, a=b text (--kind" in note for note in notes)
    record = one.record(data.interactions)
    assert record["kind"] == flags["kind"]
    assert record["skip_columns"] == flags["skip_columns"]


@pytest.mark.parametrize("kind", ["a", "=text", "a=texts", "a="])
def test_kinds_that_are_none_are_refused(kind, folder):
    with pytest.raises(InputError, match=f"--kind: expected NAME=KIND with one of .*got '{kind}'"):
        source(folder, "item,a", ["1,2"], kind=(kind,)).load()


def test_flags_of_features_need_features(folder):
    bare = ItemSource(data=folder / "boards.csv", reading=FeatureReading(kind=("a=text",)))
    with pytest.raises(InputError, match="--kind: says how to read features, but there are no --f"):
        bare.load()
    named = ItemSource(items=50, reading=FeatureReading(skip_columns=("a",)))
    with pytest.raises(InputError, match="--skip-columns: says how to read features, but"):
        named.load()


def test_features_of_other_items_need_a_word(folder):
    rows = [f"{item:04},x" for item in range(120)]
    with pytest.raises(
        InputError, match=r"items.csv: features: expected ids .*'0000' here and 0 t"
    ):
        source(folder, "item,t", rows).load()
    rows[100:] = [f"{item},x" for item in range(100, 120)]
    one = source(folder, "item,t", rows)
    with pytest.raises(
        InputError, match=r"items.csv: 100 of 120 items of the features are unknown"
    ):
        one.load()
    data, notes = dataclasses.replace(one, unknown_ids="allow").load()
    assert data.features.missing() == {"t": 100}
    assert "100 rows of features belong to no item ('0000' here and 0 there differ" in notes[-1]


def test_columns_that_nobody_asks_for_need_not_be_readable(folder):
    rows = [f"{item},x,${item}" for item in range(120)]
    one = source(folder, "item,t,price", rows)
    with pytest.raises(
        InputError, match=r"column 'price': expected bare numbers .* a currency sign"
    ):
        one.load()
    data, notes = one.load(["t"])
    assert list(data.features.columns) == ["t"]
    assert any("left out, for it is not among the columns asked for: column 'price'" in note
               for note in notes)  # fmt: skip


def test_the_task_that_is_guessed_is_told(folder):
    data, _ = ItemSource(data=folder / "boards.csv").load()
    guessed = ItemSource(data=folder / "boards.csv").held_out(data)
    assert guessed.notes[0] == "task items, for the data come without a split (--task)"
    said = ItemSource(data=folder / "boards.csv", task="items").held_out(data)
    assert said.notes == guessed.notes[1:]
    parts = np.resize([0, 0, 0, 0, 0, 2], len(data.interactions)).astype(np.uint8)
    split = dataclasses.replace(
        data, interactions=dataclasses.replace(data.interactions, parts=parts)
    )
    users = ItemSource(data=folder / "boards.csv").held_out(split)
    assert users.notes[0] == "task users, for the data come with a split (--task)"
