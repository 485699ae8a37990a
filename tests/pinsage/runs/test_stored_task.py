"""A task that was written into a run directory is the task that was written."""

import dataclasses
import json

import numpy as np
import pytest

from lightgcn_jax.data import Interactions
from lightgcn_jax.errors import InputError
from pinsage_jax.data.items import ItemData
from pinsage_jax.features.columns import Column
from pinsage_jax.features.table import FeatureTable
from pinsage_jax.runs.directory import PinSageRun, read_tensors
from pinsage_jax.runs.stored_task import load_task, read_table, save_task, write_table
from pinsage_jax.tasks.holdout import cooccurrence_task, explicit_task, given_task, time_task

ITEMS, CONTEXTS = 40, 25


def item_data():
    """Every context holds six items; some memberships are for testing by the files' own split."""
    rng = np.random.default_rng(0)
    contexts = np.repeat(np.arange(CONTEXTS, dtype=np.int32), 6)
    items = np.concatenate([rng.choice(ITEMS, 6, replace=False) for _ in range(CONTEXTS)])
    interactions = Interactions.from_arrays(
        [f"board {row}" for row in contexts],
        items,
        timestamps=rng.permutation(len(items)).astype(float),
    )
    count = interactions.num_items
    features = FeatureTable.from_mapping(
        {
            "looks": rng.normal(size=(count, 3)).astype(np.float32),
            "name": [None if row == 3 else f"item {row}" for row in range(count)],
            "kinds": [["a", "b"], []] * (count // 2) + [["c"]] * (count % 2),
        }
    )
    labels = {
        "group": rng.integers(-1, 3, count).astype(np.int32),
        "tags": rng.random((count, 2)) < 0.5,
    }
    pairs = rng.integers(0, count, (2, 60)).astype(np.int32)
    queries, positives = pairs[:, pairs[0] != pairs[1]]
    return ItemData("boards", interactions, features, labels, (queries, positives))


def with_parts(data):
    parts = (np.arange(len(data.interactions)) % 6 >= 4).astype(np.uint8) * 2
    return dataclasses.replace(
        data, interactions=dataclasses.replace(data.interactions, parts=parts, timestamps=None)
    )


TASKS = {
    "contexts": lambda data: cooccurrence_task(data, seed=3),
    "explicit": lambda data: explicit_task(data),
    "times": lambda data: time_task(data, last=3),
    "given": lambda data: given_task(with_parts(data), last=4, valid=0.25),
}


def saved(folder, task):
    run = PinSageRun(folder)
    (folder / "config.json").write_text(
        '{"format": 2, "config": {}, "data": {"dataset": "boards"}}'
    )
    save_task(run, task)
    return run


@pytest.mark.parametrize("kind", TASKS)
def test_every_kind_of_task_comes_back(kind, tmp_path):
    task = TASKS[kind](item_data())
    again = load_task(saved(tmp_path, task))
    assert again.data.name == "boards"
    assert (again.train.items, again.train.users) == (task.train.items, task.train.users)
    for name in ("item_rows", "user_rows", "timestamps"):
        np.testing.assert_array_equal(getattr(again.train, name), getattr(task.train, name))
    np.testing.assert_array_equal(again.train_items, task.train_items)
    for part in ("valid", "test", "fresh"):
        one, two = getattr(task, part), getattr(again, part)
        assert (one is None) == (two is None)
        if one is None:
            continue
        np.testing.assert_array_equal(one.queries, two.queries)
        for first, second in ((one.relevant, two.relevant), (one.seen, two.seen)):
            np.testing.assert_array_equal(first.offsets, second.offsets)
            np.testing.assert_array_equal(first.columns, second.columns)
            assert second.longest == np.diff(first.offsets).max()
    assert (task.fresh_edges is None) == (again.fresh_edges is None) == (kind != "contexts")
    for one, two in zip(task.fresh_edges or (), again.fresh_edges or (), strict=True):
        np.testing.assert_array_equal(one, two)
    for name, label in task.data.labels.items():
        np.testing.assert_array_equal(again.data.labels[name], label)
    for name, column in task.data.features.columns.items():
        assert again.data.features.columns[name].kind == column.kind
        np.testing.assert_array_equal(
            np.array(again.data.features.columns[name].values, object),
            np.array(column.values, object),
        )


@pytest.mark.parametrize("kind", TASKS)
def test_the_same_pairs_are_drawn_from_what_came_back(kind, tmp_path):
    task = TASKS[kind](item_data())
    again = load_task(saved(tmp_path, task))
    assert type(again.pairs) is type(task.pairs)
    assert (again.pairs.num_pairs, again.pairs.query_items) == (
        task.pairs.num_pairs,
        task.pairs.query_items,
    )
    for one, two in zip(
        *(each.pairs.draw(np.random.default_rng(5), 50) for each in (task, again)), strict=True
    ):
        np.testing.assert_array_equal(one, two)


def test_items_without_columns_and_labels(tmp_path):
    data = item_data()
    bare = ItemData("bare", data.interactions, FeatureTable({}, data.interactions.num_items), {})
    again = load_task(saved(tmp_path, cooccurrence_task(bare)))
    assert again.data.features.num_rows == data.interactions.num_items
    assert not again.data.features.columns
    assert not again.data.labels


def test_pairs_that_a_run_cannot_keep(tmp_path):
    class Mine:
        num_pairs, query_items = 1, 1

        def draw(self, rng, count):
            raise NotImplementedError

    task = dataclasses.replace(cooccurrence_task(item_data()), pairs=Mine())
    with pytest.raises(InputError, match="expected pairs that a run can keep, got Mine"):
        saved(tmp_path, task)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("item_rows", r"task.safetensors: expected an array 'item_rows', it is missing"),
        ("valid relevant offsets", "expected an array 'valid relevant offsets'"),
        ("test queries", "expected an array 'test queries'"),
        ("pairs", "expected an array 'pairs'"),
    ],
)
def test_missing_arrays_are_named(missing, message, tmp_path):
    run = saved(tmp_path, cooccurrence_task(item_data()))
    arrays = run.read_arrays("task")
    del arrays[missing]
    run.write_arrays("task", arrays)
    with pytest.raises(InputError, match=message):
        load_task(run)


def test_arrays_that_do_not_fit_each_other_are_named(tmp_path):
    run = saved(tmp_path, cooccurrence_task(item_data()))
    arrays = run.read_arrays("task")
    for name, value in (
        ("item_rows", arrays["item_rows"] + ITEMS),
        ("train_items", np.ones(3, bool)),
    ):
        run.write_arrays("task", arrays | {name: value})
        with pytest.raises(InputError, match=name.split("_")[0]):
            load_task(run)


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "task.safetensors"
    with pytest.raises(InputError, match="expected this file, it is missing"):
        read_tensors(path)
    path.write_bytes(b"no tensors")
    with pytest.raises(InputError, match="expected safetensors"):
        read_tensors(path)
    PinSageRun(tmp_path).write_arrays("task", {"one": np.arange(1000)})
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(InputError, match="expected safetensors"):
        read_tensors(path)


VECTORS = np.arange(9, dtype=np.float32).reshape(3, 3)
TABLE = FeatureTable(
    {
        "looks": Column("vector", VECTORS),
        "sound": Column("vector", VECTORS * 2, np.array([False, True, False])),
        "title": Column("text", ["a bed", None, "два слова"]),
        "shape": Column("category", [None, "round", "square"]),
        "tags": Column("categories", [["x", "y"], [], ["z"]]),
        "price": Column("number", np.array([1.5, np.nan, 3.0])),
    },
    3,
)


def test_every_kind_comes_back(tmp_path):
    write_table(tmp_path, TABLE)
    again = read_table(PinSageRun(tmp_path))
    assert again.num_rows == 3
    assert list(again.columns) == list(TABLE.columns)
    for name, column in TABLE.columns.items():
        other = again.columns[name]
        assert other.kind == column.kind
        if column.kind in ("vector", "number"):
            np.testing.assert_array_equal(other.values, column.values)
        else:
            assert list(other.values) == list(column.values)
        np.testing.assert_array_equal(other.absent(), column.absent())


def test_rows_without_columns(tmp_path):
    write_table(tmp_path, FeatureTable({}, 4))
    assert read_table(PinSageRun(tmp_path)).num_rows == 4


def test_what_does_not_fit_is_named(tmp_path):
    write_table(tmp_path, TABLE)
    kinds = json.loads((tmp_path / "columns.json").read_text())
    (tmp_path / "columns.json").write_text(json.dumps({"looks": kinds["looks"]}))
    with pytest.raises(InputError, match=r"columns.parquet: expected the columns that"):
        read_table(PinSageRun(tmp_path))
    (tmp_path / "columns.parquet").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"columns.parquet: expected a Parquet file"):
        read_table(PinSageRun(tmp_path))
