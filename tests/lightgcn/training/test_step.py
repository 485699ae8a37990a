import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lightgcn_jax.diffusion import Restriction, diffusion_operator
from lightgcn_jax.models.lightgcn import LightGCNParams
from lightgcn_jax.settings import TrainConfig
from lightgcn_jax.training.batch import Batch
from lightgcn_jax.training.epoch import ChunkPlan, make_chunk, plan_chunks
from lightgcn_jax.training.step import (
    Params,
    Rates,
    Run,
    TrainState,
    batch_loss,
    batch_nodes,
    draw_batch,
    epoch_order,
    expected_entries,
    train_step,
)
from tests.lightgcn.oracles import bpr_gradient_step_loss, dense_normalized_adjacency
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of, random_pairs

USERS, ITEMS = random_pairs(0, density=0.4)
NODES, DIM = NUM_USERS + NUM_ITEMS, 3
CONFIG = TrainConfig(
    dim=DIM, layers=2, batch_size=5, negatives=4, l2=0.1, ks=(5,), select_by="recall@5"
)


def make_run(dtype=jnp.float32):
    graph = graph_of(USERS, ITEMS)
    return Run.of(graph, diffusion_operator(graph, dtype=dtype), CONFIG)


def start(config, optimizer, seed=0):
    table = jax.random.normal(jax.random.key(seed), (NODES, config.dim))
    params = Params(LightGCNParams(table))
    return TrainState(params, optimizer.init(params), jnp.int32(0))


@pytest.mark.parametrize("sharing", ["shared", "per-user"])
def test_loss_and_gradient_are_the_float64_oracle(sharing):
    config = dataclasses.replace(CONFIG, negative_sharing=sharing)
    rng = np.random.default_rng(0)
    users, positives = rng.integers(0, NUM_USERS, 5), rng.integers(0, NUM_ITEMS, 5)
    negatives = rng.integers(0, NUM_ITEMS, 4 if sharing == "shared" else (5, 4))
    valid = rng.random((5, 4)) < 0.7
    table = rng.normal(size=(NODES, DIM))
    matrix = dense_normalized_adjacency(USERS, ITEMS, NUM_USERS, NUM_ITEMS)

    def oracle(table):
        return bpr_gradient_step_loss(
            table, users, positives, np.broadcast_to(negatives, (5, 4)), valid,
            NUM_USERS, matrix, (1 / 3,) * 3, config.l2,
        )  # fmt: skip

    with jax.enable_x64(True):
        batch = Batch(*map(jnp.asarray, (users, positives, negatives, valid)), jnp.ones(5))
        run = make_run(jnp.float64)
        function = jax.value_and_grad(batch_loss, has_aux=True)
        (value, _), gradient = function(
            Params(LightGCNParams(jnp.asarray(table))), batch, run, config
        )
        np.testing.assert_allclose(value, oracle(table), rtol=1e-10)
        numerical = np.zeros_like(table)
        for index in np.ndindex(*table.shape):
            step = np.zeros_like(table)
            step[index] = 1e-6
            numerical[index] = (oracle(table + step) - oracle(table - step)) / 2e-6
        np.testing.assert_allclose(gradient.model.table, numerical, atol=1e-8)


def test_the_step_is_gradient_descent():
    optimizer = optax.sgd(0.5)
    state, run = start(CONFIG, optimizer), make_run()
    batch = draw_batch(jax.random.key(0), run, jnp.arange(len(USERS)), jnp.int32(0), CONFIG)
    gradient = jax.grad(batch_loss, has_aux=True)(state.params, batch, run, CONFIG)[0]
    after, loss = train_step(state, batch, run, CONFIG, optimizer)
    np.testing.assert_allclose(
        after.params.model.table,
        state.params.model.table - 0.5 * gradient.model.table,
        rtol=1e-6,
        atol=1e-7,
    )
    assert after.step == 1
    assert loss.total > loss.ranking


def test_an_epoch_takes_every_interaction_once_and_pads_the_last_batch():
    run = make_run()
    order = epoch_order(jax.random.key(1), run.graph.num_edges, CONFIG)
    steps = -(-run.graph.num_edges // CONFIG.batch_size)
    taken = []
    for step in range(steps):
        batch = draw_batch(jax.random.key(step), run, order, jnp.int32(step), CONFIG)
        real = np.asarray(batch.weights) > 0
        taken += zip(
            np.asarray(batch.users)[real].tolist(),
            np.asarray(batch.positives)[real].tolist(),
            strict=True,
        )
    assert sorted(taken) == sorted(zip(USERS.tolist(), ITEMS.tolist(), strict=True))
    assert taken != sorted(taken)


def test_negatives_are_never_seen_where_valid():
    seen = set(zip(USERS.tolist(), ITEMS.tolist(), strict=True))
    run = make_run()
    for sharing in ("shared", "per-user"):
        config = dataclasses.replace(CONFIG, negative_sharing=sharing, sampling="users")
        batch = draw_batch(jax.random.key(0), run, jnp.zeros(0, jnp.int32), jnp.int32(0), config)
        items = np.broadcast_to(np.asarray(batch.negatives), batch.valid.shape)
        for row, user in enumerate(np.asarray(batch.users).tolist()):
            assert (user, int(batch.positives[row])) in seen
            for item, valid in zip(items[row].tolist(), np.asarray(batch.valid)[row], strict=True):
                assert valid == ((user, item) not in seen) or sharing == "per-user"
                assert not valid or (user, item) not in seen


def rates_of(config):
    return Rates.stacked([config] * config.seeds)


def run_epoch(config, plan, traces=None):
    optimizer, run = optax.adam(0.01), make_run()
    function = make_chunk(config, lambda _: optimizer, plan)

    def counted(*args):
        if traces is not None:
            traces.append(1)
        return function(*args)

    chunk = jax.jit(counted, donate_argnums=0)
    seeds = jnp.arange(config.seeds)
    states = jax.vmap(lambda seed: start(config, optimizer, seed))(seeds)
    keys = jax.vmap(jax.random.key)(seeds)
    orders = jax.vmap(lambda key: epoch_order(key, run.graph.num_edges, config))(keys)
    losses = []
    for index in range(plan.chunks):
        first = jnp.int32(index * plan.steps_per_chunk)
        states, loss = chunk(states, keys, orders, rates_of(config), first, run)
        losses.append(loss.total)
    return states, np.concatenate(losses, axis=1)


def test_chunks_of_any_length_train_alike_and_trace_once():
    config = dataclasses.replace(CONFIG, batch_size=2)
    steps = -(-len(USERS) // 2)
    whole, _ = run_epoch(config, ChunkPlan(steps, 1, steps))
    for length in (3, 5):
        traces = []
        parts, _ = run_epoch(config, ChunkPlan(steps, -(-steps // length), length), traces)
        assert len(traces) == 1
        for one, other in zip(jax.tree.leaves(parts), jax.tree.leaves(whole), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        assert parts.step[0] == steps


def test_the_chunk_calls_no_host_and_closes_over_no_graph():
    config, optimizer, run = CONFIG, optax.adam(0.01), make_run()
    states = jax.tree.map(lambda leaf: leaf[None], start(config, optimizer))
    keys, orders = jax.random.split(jax.random.key(0), 1), jnp.zeros((1, len(USERS)), jnp.int32)
    zero = jnp.int32(0)
    chunk = make_chunk(config, lambda _: optimizer, ChunkPlan(4, 2, 2))
    jaxpr = jax.make_jaxpr(chunk)(states, keys, orders, rates_of(config), zero, run)
    assert "callback" not in str(jaxpr)
    assert all(np.size(constant) < run.graph.num_edges for constant in jaxpr.consts)
    assert "scan" in str(jaxpr)


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.slow
def test_the_restriction_is_invisible(seeds):
    with jax.enable_x64(True):
        graph = graph_of(USERS, ITEMS)
        optimizer = optax.adam(1e-2)
        config = dataclasses.replace(CONFIG, seeds=seeds)
        plan = ChunkPlan(4, 1, 4)
        keys = jax.random.split(jax.random.key(1), seeds)
        orders = jnp.stack([epoch_order(key, graph.num_edges, config) for key in keys])
        ends = []
        for restriction in (None, Restriction(200, True)):
            operator = diffusion_operator(graph, dtype=jnp.float64)
            operator = dataclasses.replace(operator, restriction=restriction)
            run = Run.of(graph, operator, config)._replace(operator=operator)
            states = jax.tree.map(
                lambda *leaves: jnp.stack(leaves),
                *(start(config, optimizer, seed) for seed in range(seeds)),
            )
            chunk = jax.jit(make_chunk(config, lambda _: optimizer, plan))
            ends.append(chunk(states, keys, orders, rates_of(config), jnp.int32(0), run))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), *ends)


def test_expected_entries_are_the_mean_of_what_batches_hold():
    graph = graph_of(USERS, ITEMS)
    run = Run.of(graph, diffusion_operator(graph, backend="csr"), CONFIG)
    order = jnp.arange(graph.num_edges, dtype=jnp.int32)
    for changes in ({}, {"sampling": "users"}, {"negative_sharing": "per-user"}):
        config = dataclasses.replace(CONFIG, **changes)
        draw = jax.jit(lambda key, step, config=config: draw_batch(key, run, order, step, config))
        held = []
        steps = graph.num_edges // config.batch_size
        for index in range(100):
            batch = draw(jax.random.key(index), jnp.int32(index % steps))
            nodes = batch_nodes(batch, NUM_USERS)
            held.append(int(run.operator.storage.row_lengths(nodes).sum()))
        # Exact but for the last interactions of the epoch and, in the scheme of users, for
        # positives that follow their users' degrees.
        assert np.mean(held) == pytest.approx(expected_entries(graph, config), rel=0.1)


@pytest.mark.slow
def test_seeds_under_vmap_train_as_alone():
    config = dataclasses.replace(CONFIG, seeds=3)
    plan = ChunkPlan(4, 1, 4)
    together, losses = run_epoch(config, plan)
    optimizer, run = optax.adam(0.01), make_run()
    single = jax.jit(make_chunk(CONFIG, lambda _: optimizer, plan))
    for seed in range(3):
        states = jax.tree.map(lambda leaf: leaf[None], start(CONFIG, optimizer, seed))
        keys = jax.random.key(seed)[None]
        orders = epoch_order(jax.random.key(seed), run.graph.num_edges, CONFIG)[None]
        alone, loss = single(states, keys, orders, rates_of(CONFIG), jnp.int32(0), run)
        np.testing.assert_allclose(losses[seed], loss.total[0], rtol=1e-5)
        np.testing.assert_allclose(
            together.params.model.table[seed], alone.params.model.table[0], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("edges", [1, 100, 2048, 729_000, 810_128, 2_380_730, 10_000_000])
@pytest.mark.parametrize(
    ("batch_size", "dim", "seeds"),
    [(1, 64, 1), (37, 64, 1), (2048, 64, 1), (2048, 256, 1), (2048, 64, 4), (2048, 64, 8)],
)
def test_chunk_plans_cover_the_epoch_without_an_empty_chunk(edges, batch_size, dim, seeds):
    nodes = 70_839
    plan = plan_chunks(edges, nodes, TrainConfig(batch_size=batch_size, dim=dim), seeds)
    assert plan.steps_per_epoch == -(-edges // batch_size)
    covered = plan.chunks * plan.steps_per_chunk
    assert plan.steps_per_epoch <= covered < plan.steps_per_epoch + plan.steps_per_chunk
    # Some two seconds at 20 GB/s, or a single step where that takes longer.
    bytes_per_step = (4 * 3 * edges + 12 * nodes) * 4 * dim * seeds
    assert plan.steps_per_chunk == 1 or plan.steps_per_chunk * bytes_per_step < 40e9
