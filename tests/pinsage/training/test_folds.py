"""Folds ask every training edge once, of a graph that does not hold it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pinsage_jax.encoder.pinsage import STRUCTURE
from pinsage_jax.features.schema import LOG_DEGREE
from pinsage_jax.graph.item_graph import ItemGraph
from pinsage_jax.graph.neighborhoods import NeighborTable
from pinsage_jax.tasks.holdout import explicit_task
from pinsage_jax.tasks.pairs import CooccurrencePairs
from pinsage_jax.tasks.task import graph_of
from pinsage_jax.training.folds import Fold, folds_of
from pinsage_jax.training.preparation import prepare
from pinsage_jax.training.step import StepRecord
from pinsage_jax.training.trainer import Trainer
from tests.pinsage.trained import pins, pins_task, tiny

FOLDS = 3
CONFIG = tiny(folds=FOLDS, curriculum="none", drop_contexts=0.0, steps_per_epoch=5)
each_pipeline = pytest.mark.parametrize("tables", ["device", "host"])


class Asked:
    """Pairs that remember which edges they were parted by."""

    def __init__(self, pairs):
        self.pairs, self.masks = pairs, []
        self.num_pairs, self.query_items = pairs.num_pairs, pairs.query_items

    def apart(self, asked):
        self.masks.append(asked)
        return self.pairs.apart(asked)


def in_order(edges, order):
    return dataclasses.replace(
        edges,
        item_rows=edges.item_rows[order],
        user_rows=edges.user_rows[order],
        ratings=None,
        timestamps=None,
    )


@pytest.fixture(scope="module")
def task():
    """A task in which every fifth training edge stands twice, far from its first copy."""
    one = pins_task()
    order = np.concatenate([np.arange(len(one.train)), np.arange(0, len(one.train), 5)])
    train = in_order(one.train, order)
    pairs = CooccurrencePairs(train.item_rows, train.user_rows, train.num_users)
    return dataclasses.replace(one, train=train, pairs=pairs)


@pytest.fixture(scope="module")
def prepared(task):
    return prepare(task, CONFIG)


def cut(task, prepared, config=CONFIG):
    """``bool[K, E]``, the edges that each fold asks about, and the folds."""
    pairs = Asked(task.pairs)
    whole = Fold(pairs, prepared.table, prepared.features)
    task = dataclasses.replace(task, pairs=pairs)
    folds = folds_of(task, config, whole, prepared.schema, prepared.structure, epoch=0)
    return np.array(pairs.masks), folds


def walked(edges, kept):
    return ItemGraph.from_pairs(
        edges.item_rows[kept],
        edges.user_rows[kept],
        num_items=edges.num_items,
        num_contexts=edges.num_users,
    )


def test_every_edge_is_asked_in_one_fold_and_its_copies_with_it(task, prepared):
    asked, folds = cut(task, prepared)
    assert len(folds) == FOLDS
    assert (asked.sum(axis=0) == 1).all()
    keys = task.train.pair_keys
    assert len(np.unique(keys)) < len(keys)
    of_key = {}
    for key, fold in zip(keys, asked.argmax(axis=0), strict=True):
        assert of_key.setdefault(key, fold) == fold
    sizes = np.bincount(list(of_key.values()), minlength=FOLDS)
    assert sizes.max() - sizes.min() <= 1


def test_the_cut_depends_on_the_seed_and_the_set_of_edges_alone(task, prepared):
    asked, folds = cut(task, prepared)
    again, others = cut(task, prepared)
    np.testing.assert_array_equal(asked, again)
    for one, two in zip(jax.tree.leaves(folds), jax.tree.leaves(others), strict=True):
        if not hasattr(one, "draw"):
            np.testing.assert_array_equal(one, two)
    order = np.random.default_rng(0).permutation(len(task.train))
    shuffled = in_order(task.train, order)
    pairs = CooccurrencePairs(shuffled.item_rows, shuffled.user_rows, shuffled.num_users)
    moved, _ = cut(dataclasses.replace(task, train=shuffled, pairs=pairs), prepared)
    np.testing.assert_array_equal(moved, asked[:, order])
    other, _ = cut(task, prepared, dataclasses.replace(CONFIG, seed=1))
    # Two cuts of one kind agree on a third of the edges.
    assert abs((other & asked).sum() / asked.shape[1] - 1 / FOLDS) < 0.1


def test_a_fold_asks_its_edges_from_what_their_contexts_keep(task, prepared):
    asked, folds = cut(task, prepared)
    items, contexts = task.train.item_rows, task.train.user_rows
    for mask, fold in zip(asked, folds, strict=True):
        member = np.zeros((2, task.train.num_items, task.train.num_users), bool)
        member[mask.astype(int), items, contexts] = True
        kept, out = member
        answerable = kept.any(axis=0)[contexts[mask]]
        assert fold.pairs.num_pairs == answerable.sum()
        drawn = fold.pairs.draw(np.random.default_rng(0), 20_000)
        queries = drawn.queries[:, 0]
        assert (kept[queries] & out[drawn.positives]).any(axis=1).all()
        assert set(drawn.positives) == set(items[mask][answerable])


def test_a_fold_walks_exactly_the_other_edges(task, prepared):
    asked, folds = cut(task, prepared)
    whole = prepared.features
    for mask, fold in zip(asked, folds, strict=True):
        graph = walked(task.train, ~mask)
        degrees = np.bincount(task.train.item_rows[~mask], minlength=task.train.num_items)
        np.testing.assert_array_equal(graph.item_degrees(), degrees)
        # Only items that share a kept context are neighbours.
        member = np.zeros((task.train.num_items, task.train.num_users), bool)
        member[task.train.item_rows[~mask], task.train.user_rows[~mask]] = True
        reach = member.astype(int) @ member.T > 0
        for _ in range(CONFIG.walk_length - 1):
            reach = reach @ reach
        ids = np.asarray(fold.table.ids)
        rows, places = np.nonzero(ids >= 0)
        assert reach[rows, ids[rows, places]].all()
        assert (ids[degrees == 0] == -1).all()
        assert set(fold.features) == set(whole)
        for name in set(whole) - {LOG_DEGREE, STRUCTURE}:
            assert fold.features[name] is whole[name]


def test_a_fold_s_degree_and_structure_are_of_its_graph(task, prepared):
    """The contexts' vectors are those of all edges; which of them are summed is the fold's."""
    asked, folds = cut(task, prepared)
    known = np.log1p(graph_of(task).item_degrees()[task.train_items])
    for mask, fold in zip(asked, folds, strict=True):
        kept = np.zeros((task.train.num_items, task.train.num_users))
        np.add.at(kept, (task.train.item_rows[~mask], task.train.user_rows[~mask]), 1)
        degrees = kept.sum(axis=1)
        # Two thirds are kept: three halves of them stand for all.
        log_degree = (np.log1p(np.rint(degrees * 1.5)) - known.mean()) / known.std()
        np.testing.assert_allclose(fold.features[LOG_DEGREE][:, 0], log_degree, atol=1e-5)
        sums = kept @ prepared.structure.contexts.astype(float)
        lengths = np.linalg.norm(sums, axis=1)
        scale = np.log1p(degrees) * np.sqrt(CONFIG.structure) / 2 / np.where(lengths, lengths, 1)
        expected = sums * scale[:, None]
        np.testing.assert_allclose(fold.features[STRUCTURE], expected, atol=1e-4)
        assert not fold.features[STRUCTURE][degrees == 0].any()


@pytest.mark.parametrize("kind", ["no folds", "given pairs"])
def test_without_folds_the_whole_is_trained_on(kind):
    task, config = pins_task(), dataclasses.replace(CONFIG, folds=0, pooling="none", layers=0)
    if kind == "given pairs":
        pairs = np.random.default_rng(0).integers(0, 300, (2, 500))
        queries, positives = pairs[:, pairs[0] != pairs[1]]
        task = explicit_task(dataclasses.replace(pins(), pairs=(queries, positives)))
        config = dataclasses.replace(config, folds=FOLDS)
    prepared = prepare(task, config)
    (fold,) = prepared.folds
    assert fold.pairs is task.pairs
    assert fold.table is prepared.table
    assert fold.features is prepared.features


class Numbered:
    """The pairs of a fold, which note when they are drawn from."""

    def __init__(self, pairs, number, heard):
        self.pairs, self.number, self.heard = pairs, number, heard

    def draw(self, rng, count):
        self.heard.extend([self.number] * (count // CONFIG.batch_size))
        return self.pairs.draw(rng, count)


def numbered(folds, heard):
    """Folds that can be told apart: fold k has k + 1 neighbours an item, and a degree of k."""
    items = len(folds[0].table.ids)
    for number, fold in enumerate(folds):
        ids = (np.arange(items)[:, None] + np.arange(1, 6)[None, :]) % items
        weights = np.where(np.arange(5) <= number, 1 / (number + 1), 0)
        table = NeighborTable(
            jnp.asarray(np.where(weights > 0, ids, -1), jnp.int32),
            jnp.asarray(np.tile(weights, (items, 1)), jnp.float32),
        )
        degree = np.full((items, 1), number, np.float32)
        features = fold.features | {LOG_DEGREE: degree}
        yield Fold(Numbered(fold.pairs, number, heard), table, features)


@each_pipeline
def test_an_epoch_passes_through_all_folds_and_begins_with_another(task, prepared, tables):
    config = dataclasses.replace(CONFIG, tables=tables, layers=1)
    trainer = Trainer(task, config, prepared)
    drawn, seen, epochs = [], [], trainer.epochs
    epochs.folds = tuple(numbered(prepared.folds, drawn))

    def note(degrees, neighbors, steps):
        """Of the arrays that so many steps read, the number of their fold."""
        (number,) = np.unique(degrees)
        assert neighbors == number + 1
        seen.extend([int(number)] * steps)
        nothing = np.zeros(steps)
        return None, StepRecord(nothing, nothing, nothing)

    def chunk(_state, batches, _keys, _active, items):
        near = int((items.table.weights > 0).sum(axis=1).max())
        return note(items.features[LOG_DEGREE], near, len(batches.positives))

    def step(_state, _key, given):
        near = int((given.blocks[0].weights > 0).sum(axis=1).max())
        return note(given.features[LOG_DEGREE], near, 1)

    if tables == "device":
        epochs._chunk = chunk
    else:
        epochs._step = step
    for epoch, expected in ((1, [1, 2, 2, 0, 0]), (2, [2, 0, 0, 1, 1]), (3, [0, 1, 1, 2, 2])):
        drawn.clear()
        seen.clear()
        list(epochs.run(None, epoch, steps=5, active=0))
        assert drawn == seen == expected
    # Fewer steps than folds: some wait for another epoch.
    seen.clear()
    list(epochs.run(None, 1, steps=2, active=0))
    list(epochs.run(None, 2, steps=2, active=0))
    assert seen == [2, 0, 0, 1]


@each_pipeline
def test_going_on_from_an_epoch_is_as_not_stopping(tables):
    config = dataclasses.replace(
        CONFIG, tables=tables, layers=0, pooling="none", steps_per_epoch=FOLDS
    )
    prepared = prepare(pins_task(), config)
    trainers = [Trainer(pins_task(), config, prepared) for _ in range(3)]
    program = "_chunk" if tables == "device" else "_step"
    for trainer in trainers:  # compiled once
        setattr(trainer.epochs, program, getattr(trainers[0].epochs, program))

    def trained(trainer, progress, epochs):
        losses = []
        for _ in range(epochs):
            progress, loss = trainer.train_epoch(progress)
            losses.append(loss)
        return progress, losses

    whole, losses = trained(trainers[0], trainers[0].start(), 3)
    gain = trainers[0].start().state.params["structure_gain"]
    assert whole.state.params["structure_gain"] != gain
    first, start = trained(trainers[1], trainers[1].start(), 1)
    last, rest = trained(trainers[2], first, 2)
    assert start + rest == losses
    for one, two in zip(jax.tree.leaves(whole), jax.tree.leaves(last), strict=True):
        np.testing.assert_array_equal(one, two)
