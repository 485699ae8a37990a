"""Going on with new data: ids grow, what was held out stays so, inputs mean the same."""

import dataclasses
import shutil

import numpy as np
import pytest

from lightgcn_jax.data import Interactions
from lightgcn_jax.errors import InputError
from pinsage_jax import cooccurrence_task, fit, resume, time_task
from pinsage_jax.data.items import ItemData, kept_edges
from pinsage_jax.features.table import FeatureTable
from pinsage_jax.runs.continuation import continue_from, merge_task
from pinsage_jax.runs.finished import open_items, read_finished
from tests.pinsage.trained import Breaking, Killed, pins, tiny, without_seconds

# One linear map a kind of input: little to compile. Every item has a vector of its own.
CONFIG = tiny(layers=0, pooling="none", id_embedding=True, folds=0, epochs=1, steps_per_epoch=2)


def some_items(data, rows):
    """The data without all other items; contexts stay."""
    order = np.flatnonzero(rows)
    places = np.cumsum(rows) - 1
    edges = kept_edges(data.interactions, rows[data.interactions.item_rows])
    items = dataclasses.replace(edges.items, ids=edges.items.ids.gather(order))
    edges = dataclasses.replace(
        edges, items=items, item_rows=places[edges.item_rows].astype(np.int32)
    )
    labels = {name: label[order] for name, label in data.labels.items()}
    return ItemData(data.name, edges, data.features.take(order), labels)


@pytest.fixture(scope="module")
def before():
    """The pins of the first days: all but every tenth."""
    return some_items(pins(), np.arange(300) % 10 > 0)


@pytest.fixture(scope="module")
def task(before):
    return cooccurrence_task(before)


@pytest.fixture(scope="module")
def run(task, tmp_path_factory):
    return fit(task, CONFIG, out=tmp_path_factory.mktemp("runs") / "first")


def contexts_of(train, rows):
    return {train.users.ids[int(c)] for c in train.user_rows[np.isin(train.item_rows, rows)]}


def test_what_is_held_out_is_not_given_away(task):
    """All of the log once more, held-out memberships among it."""
    merged = merge_task(task, pins())
    train, new = merged.train, slice(len(task.train), None)
    assert len(train) > len(task.train) + 30  # those of the new items
    np.testing.assert_array_equal(train.item_rows[: len(task.train)], task.train.item_rows)
    assert train.items.ids[:270].equals(task.train.items.ids)
    assert len(np.unique(train.pair_keys[new])) == len(train.pair_keys[new])
    assert not np.isin(train.item_rows[new], np.flatnonzero(~task.train_items)).any()
    added = set(zip(train.item_rows[new].tolist(), train.user_rows[new].tolist(), strict=True))
    for part in (task.valid, task.test, task.fresh):
        for row, query in enumerate(part.queries[:, 0]):
            start, end = part.relevant.offsets[row : row + 2]
            shared = set(task.train.user_rows[task.train.item_rows == query].tolist())
            for positive in np.asarray(part.relevant.columns[start:end]).tolist():
                assert not {(positive, context) for context in shared} & added
    assert merged.valid is task.valid
    assert merged.notes[-1].startswith("new data: 0 new contexts, 30 new items, ")


def test_features_of_new_items_and_new_features_of_known_ones(task):
    train = task.train
    known, other = train.items.ids[0], train.items.ids[1]
    given = Interactions.from_arrays(
        ["new-board"] * 3, [known, other, "new-pin"], timestamps=[1, 2, 3]
    )
    columns = task.data.features.columns
    new = {name: one.take(np.array([5, -1, 7])) for name, one in columns.items()}
    order = given.items.rows([known, other, "new-pin"])
    table = FeatureTable(new, 3).take(np.argsort(order))
    merged = merge_task(task, ItemData("new", given, table, {}))
    found = merged.data.features
    for row, like in ((0, 5), (1, 1), (270, 7)):
        for name, one in columns.items():
            expected = one.take(np.array([like])).values
            assert np.array_equal(found.columns[name].take(np.array([row])).values, expected)
    assert merged.train.users.ids[-1] == "new-board"
    label = next(iter(task.data.labels))
    assert merged.data.labels[label][-1] == -1
    # Without any, new items have none.
    blank = merge_task(task, ItemData("new", given, FeatureTable({}, 3), {}))
    assert all(column.absent()[-1] for column in blank.data.features.columns.values())
    assert "1 new items have none" in " ".join(blank.notes)


def test_repeated_memberships_of_users_count_once():
    """As where a task of users is made, at their latest time: folds know each by its place."""
    old = time_task(pins())
    boards, new_pins = old.train.users.ids[:2].to_list(), ["new-1", "new-1", "new-2", "new-1"]
    given = Interactions.from_arrays([*boards, *boards], new_pins, timestamps=[1, 2, 3, 4])
    merged = merge_task(old, ItemData("new", given, FeatureTable({}, 2), {}))
    train = merged.train
    assert len(np.unique(train.pair_keys)) == len(train) == len(old.train) + 3
    new = np.arange(len(old.train), len(train))
    assert train.timestamps is not None
    assert sorted(train.timestamps[new].tolist()) == [1, 3, 4]
    merged.pairs.apart(np.arange(len(train)) % 2 == 0)


def test_ids_of_another_kind_altogether_are_refused(task):
    given = Interactions.from_arrays(["b", "b"], [1, 2])
    with pytest.raises(InputError, match="contexts of the new data are unknown to the run"):
        merge_task(task, ItemData("new", given, FeatureTable({}, 2), {}))


@pytest.mark.slow
def test_the_encoder_goes_on_and_a_broken_run_is_resumed(run, tmp_path):
    config = dataclasses.replace(CONFIG, epochs=1, learning_rate=1e-3)
    with pytest.raises(Killed):
        continue_from(
            run.path, pins(), config, out=tmp_path / "a", reporter=Breaking("advanced", 1)
        )
    resumed = resume(tmp_path / "a")
    told = Breaking()
    whole = continue_from(run.path, pins(), config, out=tmp_path / "b", reporter=told)
    np.testing.assert_array_equal(resumed.items.vectors, whole.items.vectors)
    # Before the first step known items have the vectors of the run, but for their new contexts.
    old, new = read_finished(run.path), read_finished(tmp_path / "b")
    assert without_seconds(told.records)[0]["epoch"] == 0
    assert new.schema == old.schema
    first = np.asarray(new.structure.contexts)
    assert first.shape == old.structure.contexts.shape
    words = "words_item_id"
    assert new.params[words].shape[0] == old.params[words].shape[0] + 30
    best = whole.summary["best_epoch"]
    assert np.array_equal(new.params[words][:270], old.params[words]) == (best == 0)
    assert len(open_items(tmp_path / "b").items) == 300
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(InputError, match=r"dim: expected 16 as in .*first, got 8"):
        continue_from(run.path, pins(), dataclasses.replace(config, dim=8))
