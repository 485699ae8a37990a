"""Lazy Adam: a step that reads and writes the rows of its batch, and no others."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightgcn_jax.models import MF, MLP
from lightgcn_jax.training import (
    AllItems,
    Batch,
    PerUserNegatives,
    StepInputs,
    TracedSettings,
    compile_steps,
    epoch_shuffle,
    initial_state,
    make_optimizer,
    train_step,
)
from lightgcn_jax.training.batch_rows import BatchRows
from lightgcn_jax.training.epoch import EpochPlan
from tests.lightgcn.oracles import bpr_gradient_step_loss
from tests.lightgcn.steps import DIM, GRAPH, NODES, changed
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of

LAZY = {"lazy_adam": True, "learning_rate": 0.1}
STEPS_AN_EPOCH = 4


def optimizer_of(strategies):
    return make_optimizer(strategies.optimization, STEPS_AN_EPOCH)


def stepped(strategies, batches, graph=GRAPH):
    """The states before and after each of some steps."""
    inputs, optimizer = StepInputs.of(graph, strategies), optimizer_of(strategies)
    step = jax.jit(lambda state, batch: train_step(state, batch, inputs, strategies, optimizer)[0])
    states = [initial_state(jax.random.key(0), graph.num_nodes, strategies, optimizer)]
    for batch in batches:
        states.append(step(states[-1], batch))
    return states


def test_distinct_rows_are_taken_and_written_once():
    rows = BatchRows.of(jnp.int32([5, 1, 5, 5, 0]), 6)
    assert rows.numbers.tolist() == [0, 1, 5, 6 + 3, 6 + 4]
    tables = {"table": jnp.arange(12.0).reshape(6, 2), "count": jnp.int32(7)}
    taken = rows.taken(tables)
    np.testing.assert_array_equal(taken["table"], [[0, 1], [2, 3], [10, 11], [0, 0], [0, 0]])
    looked_up = rows.as_tables(taken)["table"][jnp.int32([5, 0, 5])]
    np.testing.assert_array_equal(looked_up, [[10, 11], [0, 1], [10, 11]])
    after = rows.written(tables, {"table": -taken["table"] - 1, "count": jnp.int32(8)})
    expected = np.arange(12.0).reshape(6, 2)
    expected[[0, 1, 5]] = -expected[[0, 1, 5]] - 1
    np.testing.assert_array_equal(after["table"], expected)
    assert after["count"] == 8


@pytest.mark.parametrize("fields", [{"model": MF(DIM, biases=True)}, {"score": MLP(4)}])
def test_where_a_batch_reads_all_rows_it_is_adam(fields):
    """All users and all items, some of them twice; the weights of a score are always Adam's."""
    fields = {"model": MF(DIM), "negatives": AllItems()} | fields
    users = np.r_[:NUM_USERS, 0, 0].astype(np.int32)
    positives = (users * 3 % NUM_ITEMS).astype(np.int32)
    items = np.arange(NUM_ITEMS, dtype=np.int32)
    given = users, positives, items, items != positives[:, None]
    batch = Batch(*map(jnp.asarray, given), jnp.ones(len(users)))
    lazy, dense = (
        stepped(changed(**fields, optimization=LAZY | {"lazy_adam": lazy}), [batch] * 5)[-1]
        for lazy in (True, False)
    )
    assert jax.tree.structure(lazy) == jax.tree.structure(dense)
    for one, other in zip(*map(jax.tree.leaves, (lazy, dense)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def lazily(tables, gradient, rows, count, rate):
    """Algorithm 1 of Kingma and Ba on some rows of the parameters and their moments."""
    tables = [table.copy() for table in tables]
    table, mean, square = tables
    mean[rows] = 0.9 * mean[rows] + 0.1 * gradient[rows]
    square[rows] = 0.999 * square[rows] + 0.001 * gradient[rows] ** 2
    corrected = mean[rows] / (1 - 0.9**count), square[rows] / (1 - 0.999**count)
    table[rows] -= rate * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
    return tables


def tables_of(state):
    adam = state.opt_state[0]
    return [np.asarray(one.model.table) for one in (state.params, adam.mu, adam.nu)]


@pytest.mark.parametrize("sharing", ["shared", "per-user"])
def test_each_step_is_the_float64_oracle_and_leaves_other_rows_as_they_are(sharing):
    """Three steps of a falling rate; a user and an item stand twice in each batch."""
    strategies = changed(
        model=MF(DIM), optimization=LAZY | {"schedule": "linear", "epochs": 1, "l2": 0.1}
    )
    rng, batches = np.random.default_rng(0), []
    for _ in range(3):
        users, positives = rng.choice(NUM_USERS, 3), rng.choice(NUM_ITEMS, 3)
        users[1], positives[2] = users[0], positives[0]
        negatives = rng.choice(NUM_ITEMS, 2 if sharing == "shared" else (3, 2))
        batches.append((users, positives, negatives, rng.random((3, 2)) < 0.7))

    def gradient_of(table, users, positives, negatives, valid):
        negatives, found = np.broadcast_to(negatives, (3, 2)), np.zeros_like(table)
        for index in np.ndindex(*table.shape):
            shift = np.zeros_like(table)
            shift[index] = 1e-5
            above, below = (
                bpr_gradient_step_loss(
                    moved, users, positives, negatives, valid, NUM_USERS, np.eye(NODES), (1.0,), 0.1
                )
                for moved in (table + shift, table - shift)
            )
            found[index] = (above - below) / 2e-5
        return found

    with jax.enable_x64(True):
        given = [Batch(*map(jnp.asarray, batch), jnp.ones(3)) for batch in batches]
        states = stepped(strategies, given)
        for number, batch in enumerate(batches, 1):
            before, after = states[number - 1 : number + 1]
            users, positives, negatives, _ = batch
            rows = np.unique(np.r_[users, NUM_USERS + np.r_[positives, negatives.ravel()]])
            tables = [table.astype(np.float64) for table in tables_of(before)]
            rate = 0.1 * (1 - (number - 1) / STEPS_AN_EPOCH)
            expected = lazily(tables, gradient_of(tables[0], *batch), rows, number, rate)
            others = np.setdiff1d(np.arange(NODES), rows)
            assert len(others) > 5
            for found, wanted, start in zip(tables_of(after), expected, tables, strict=True):
                np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5)
                np.testing.assert_array_equal(found[others], start[others])


def compiled_steps(graph, strategies, plan, seeds=1):
    """The steps of an epoch as a run compiles them, and what they take."""
    inputs, keys = StepInputs.of(graph, strategies), jax.random.split(jax.random.key(0), seeds)
    states = [
        initial_state(key, graph.num_nodes, strategies, optimizer_of(strategies)) for key in keys
    ]
    arguments = (
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *states),
        keys,
        jnp.stack([epoch_shuffle(key, graph.num_edges, strategies) for key in keys]),
        TracedSettings.stacked([strategies] * seeds),
        jnp.int32(0),
        inputs,
    )
    steps = compile_steps(strategies, lambda _: optimizer_of(strategies), plan)
    return jax.jit(steps, donate_argnums=0).lower(*arguments).compile(), arguments


@pytest.mark.parametrize("seeds", [1, 3])
def test_tables_are_only_written_in_place(seeds):
    """Of the compiled steps, the last of which is skipped; there is no second table of any kind."""
    graph = graph_of(range(8), range(8), 5_000, 3_000)
    found = {}
    for lazy in (True, False):
        strategies = changed(model=MF(64), optimization={"lazy_adam": lazy})
        compiled, _ = compiled_steps(graph, strategies, EpochPlan(3, 2, 2), seeds)
        table = rf"= f32\[(?:{seeds},)?{graph.num_nodes},64\]\S* ([\w-]+)\("
        found[lazy] = set(re.findall(table, compiled.as_text()))
        memory, size = compiled.memory_analysis(), 4 * seeds * graph.num_nodes * 64
        assert (memory.temp_size_in_bytes < size) == lazy
        assert memory.alias_size_in_bytes >= 3 * size
    passed_on = {"parameter", "get-tuple-element", "bitcast", "fusion"}
    assert found[True] - passed_on <= {"scatter", "dynamic-update-slice"}
    assert {"multiply", "divide"} <= found[False]


def test_seeds_under_vmap_train_as_alone():
    strategies = changed(model=MF(DIM), negatives=PerUserNegatives(2), optimization=LAZY)
    plan = EpochPlan(STEPS_AN_EPOCH, 1, STEPS_AN_EPOCH)
    steps, (states, keys, shuffles, traced, *rest) = compiled_steps(GRAPH, strategies, plan, 3)
    single, _ = compiled_steps(GRAPH, strategies, plan)
    per_seed = states, keys, shuffles, traced
    own = [
        jax.tree.map(lambda leaf, seed=seed: leaf[seed : seed + 1], per_seed) for seed in range(3)
    ]
    alone = [single(*jax.tree.map(jnp.copy, one), *rest)[0] for one in own]
    together, _ = steps(*per_seed, *rest)
    for seed, state in enumerate(alone):
        np.testing.assert_allclose(
            together.params.model.table[seed], state.params.model.table[0], rtol=1e-4, atol=1e-5
        )
