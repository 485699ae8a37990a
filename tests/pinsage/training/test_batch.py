"""What a step sees: its negatives, who is hidden from whom, who has lost the contexts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pinsage_jax.graph.neighborhoods import NeighborTable
from pinsage_jax.training.batch import (
    Batch,
    Partners,
    Targets,
    TrainingView,
    draw_targets,
    training_view,
)
from tests.pinsage.worlds import ITEMS, NEIGHBORS, PLAIN, item_arrays

CONFIG = dataclasses.replace(PLAIN, batch_size=4, negatives=5, hard_cap=2)
BATCH = Batch(
    jnp.array([[0], [1], [2], [39]], jnp.int32), jnp.array([4, 5, 6, 7], jnp.int32), jnp.ones(4)
)
each_side = pytest.mark.parametrize("partners_of", [Partners.of, Partners.on_host])


def targets_of(queries, positives):
    nothing = np.zeros((len(positives), 0), np.int32)
    queries, positives = np.array(queries, np.int32), np.array(positives, np.int32)
    return Targets(queries, positives, np.zeros(0, np.int32), nothing)


def hidden_of(partners, table):
    """The neighbours that each row must not see."""
    ids = np.asarray(table)
    hidden = np.asarray(partners.hide(np.arange(len(ids)), ids)) & (ids >= 0)
    return [set(row[out].tolist()) for row, out in zip(ids, hidden, strict=True)]


def everybody(items):
    """A table in which every item is a neighbour of every other."""
    return np.array([np.delete(np.arange(items), row) for row in range(items)], np.int32)


def test_negatives_are_training_items_and_hard_ones_wait_for_their_epoch():
    draw = jax.jit(draw_targets, static_argnames="config")
    given = item_arrays()
    for active in (0, 1, 2):
        targets = draw(jax.random.key(active), BATCH, given, jnp.int32(active), config=CONFIG)
        assert ((np.asarray(targets.negatives) >= 10) & (np.asarray(targets.negatives) < 30)).all()
        hard = np.asarray(targets.hard)
        assert (hard[:, active:] == -1).all()
        pool = np.asarray(given.hard_pool)
        for row in range(4):
            assert set(hard[row, :active]) <= set(pool[int(BATCH.queries[row, 0])])


@each_side
def test_a_query_and_its_positive_do_not_see_each_other(partners_of):
    partners = partners_of(targets_of([[0], [3]], [1, 0]), 5)
    # 0 is the query of one pair and the positive of another: it sees neither partner.
    assert hidden_of(partners, everybody(5)) == [{1, 3}, {0}, set(), {0}, set()]


@each_side
def test_a_positive_sees_no_item_of_its_query_and_none_of_them_sees_it(partners_of):
    targets = targets_of([[1, 2, 3], [5, -1, -1]], [0, 6])
    hidden = hidden_of(partners_of(targets, 7), everybody(7))
    assert hidden == [{1, 2, 3}, {0}, {0}, {0}, set(), {6}, {5}]


@each_side
def test_of_an_item_s_pairs_the_last_one_counts(partners_of):
    targets = targets_of([[0], [0], [2], [3]], [1, 2, 4, 4])
    # 0 keeps its second partner, 4 the query of the last pair; 2 has one partner in each part.
    assert hidden_of(partners_of(targets, 5), everybody(5)) == [{2}, {0}, {0, 4}, {4}, {3}]


def primitives(jaxpr):
    """The names and result shapes of all equations, those of inner programs included."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name, [variable.aval.shape for variable in equation.outvars]
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", None)
            if inner is not None:
                yield from primitives(inner)


def test_no_order_of_writing_decides_which_pair_counts():
    """An accelerator writes repeated places in any order: a maximum has none."""
    targets = jax.tree.map(jnp.asarray, targets_of([[0], [0]], [1, 2]))
    program = jax.make_jaxpr(lambda given: Partners.of(given, 5))(targets)
    names = {name for name, _ in primitives(program.jaxpr)}
    assert "scatter-max" in names
    assert "scatter" not in names


def whole_table_masked(table, targets, lost):
    """Masks laid over all rows in NumPy, row by row."""
    ids, weights = np.array(table.ids), np.array(table.weights)
    as_query = {int(item): pair for pair, row in enumerate(targets.queries) for item in row}
    as_positive = {int(item): pair for pair, item in enumerate(targets.positives)}
    for row in range(len(ids)):
        hidden = set()
        if row in as_query:
            hidden.add(int(targets.positives[as_query[row]]))
        if row in as_positive:
            hidden |= set(targets.queries[as_positive[row]].tolist())
        weights[row, np.isin(ids[row], list(hidden - {-1}))] = 0
        total = weights[row].sum(dtype=np.float32)
        weights[row] = weights[row] / (total if total > 0 else np.float32(1))
        if lost[row]:
            weights[row] = 0
        ids[row, weights[row] == 0] = -1
    return ids, weights


def test_masks_of_gathered_rows_are_those_of_the_whole_table():
    rng = np.random.default_rng(3)
    items = item_arrays()
    queries = rng.integers(0, ITEMS - 1, (12, 3))
    # Neighbours of the first item, so that there is something to hide; some queries are shorter.
    positives = np.asarray(items.table.ids)[queries[:, 0], 0]
    queries[::3, 1:] = -1
    targets, lost = targets_of(queries, positives), rng.random(ITEMS) < 0.2
    ids, weights = whole_table_masked(items.table, targets, lost)
    masked, _ = whole_table_masked(items.table, targets, np.zeros(ITEMS, bool))
    assert (masked == -1).sum() >= (np.asarray(items.table.ids) == -1).sum() + 10
    on_device = jax.tree.map(jnp.asarray, targets)
    view = TrainingView(items, Partners.of(on_device, ITEMS), jnp.asarray(lost))
    rows = rng.integers(0, ITEMS, 100)
    taken = jax.jit(lambda view, rows: view.take(rows))(view, jnp.asarray(rows))
    np.testing.assert_array_equal(taken.ids, ids[rows])
    np.testing.assert_allclose(taken.weights, weights[rows], atol=1e-7)


def test_a_step_masks_no_rows_but_those_that_it_reads():
    """No array of all items' neighbours is made: 1,000 items, of which it reads at most 40."""
    table = NeighborTable(
        ids=jnp.zeros((1_000, NEIGHBORS), jnp.int32), weights=jnp.ones((1_000, NEIGHBORS))
    )
    items = item_arrays(table=table)
    targets = draw_targets(jax.random.key(0), BATCH, item_arrays(), jnp.int32(0), CONFIG)

    def read(items, targets, rows):
        view = training_view(jax.random.key(0), targets, items, CONFIG)
        return view.take(rows)

    program = jax.make_jaxpr(read)(items, targets, jnp.arange(40))
    shapes = [shape for _, found in primitives(program.jaxpr) for shape in found]
    assert not [shape for shape in shapes if shape[:1] == (1_000,) and len(shape) > 1]


def test_a_share_of_items_loses_contexts_and_degree():
    config = dataclasses.replace(CONFIG, drop_contexts=0.5, mask_targets=False)
    items, rows = item_arrays(), jnp.arange(ITEMS)
    targets = draw_targets(jax.random.key(0), BATCH, items, jnp.int32(0), config)
    view = training_view(jax.random.key(1), targets, items, config)
    lost = np.asarray(view.features(rows)["log_degree"])[:, 0] == -3.0
    assert 8 <= lost.sum() <= 32  # 20 of 40 on average; four standard deviations
    ids = np.asarray(view.take(rows).ids)
    assert (ids[lost] == -1).all()
    np.testing.assert_array_equal(ids[~lost], np.asarray(items.table.ids)[~lost])
