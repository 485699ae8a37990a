"""Applications of Ã on one graph, timed in alternation: what ``orders_and_rows`` is made of.

Every sample is a loop of applications inside one compiled program, so that a call costs nothing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness.report import alternate, note
from benchmarks.workloads.gowalla import draw_batches
from lightgcn_jax.arrays import Ids
from lightgcn_jax.diffusion import Operator, RowStorage, diffuse, diffusion_operator
from lightgcn_jax.graph import BipartiteGraph, NodeOrder, node_order
from lightgcn_jax.settings import TrainConfig
from lightgcn_jax.training import StepInputs
from lightgcn_jax.training.strategies import StepCost

ORDERINGS = ("none", "degree", "rcm", "co-clustering")
LOOP = 10
"""Applications in a sample."""
TABLES = 4
"""Tables that stand side by side in the wide applications."""

_RESTRICTED_ORDERINGS = ("none", "co-clustering")


class Room(NamedTuple):
    """The capacity in which the restricted applications of an operator read a batch's rows.

    Attributes:
        entries: entries that there is room for.
        all_entries: entries of the matrix.
        picked: entries of the rows, a mean over the batches.
        in_training: whether training would restrict the last application, and the first backward.
    """

    entries: int
    all_entries: int
    picked: float
    in_training: tuple[bool, bool]


class Found(NamedTuple):
    """What was measured on one graph.

    Attributes:
        samples: seconds of one application, by its title.
        ordering_seconds: seconds that computing each ordering took.
        rooms: the capacity by ordering.
        differences: largest error over largest value, by title.
    """

    samples: dict[str, list[float]]
    ordering_seconds: dict[str, float]
    rooms: dict[str, Room]
    differences: dict[str, float]


def measure(graph: BipartiteGraph, backend: str, dim: int, rounds: int) -> Found:
    """Time all applications of one graph in alternation.

    Args:
        graph: the interactions.
        backend: name of the storage, which can multiply single rows.
        dim: D.
        rounds: samples of each.

    Returns:
        Seconds, capacities and errors.
    """
    operators, nodes, ordering_seconds = {}, {}, {}
    # Degrees come from the device: the first ordering that counts them would wait for a compiler.
    node_order(graph, "degree")
    for ordering in ORDERINGS:
        start = time.perf_counter()
        order = node_order(graph, ordering)
        ordering_seconds[ordering] = time.perf_counter() - start
        reordered = graph if order is None else graph.reordered(*order)
        operators[ordering] = diffusion_operator(reordered, backend=backend)
        nodes[ordering] = _nodes(graph, order)
    key = jax.random.key(0)
    x = jax.random.normal(key, (graph.num_nodes, dim))
    differences = _ordering_differences(operators, nodes, x)
    calls: dict[str, Callable[[], Any]] = {
        full_title(ordering): _loop_of(diffuse, operator, x)
        for ordering, operator in operators.items()
    }
    config, rooms = TrainConfig(), {}
    batches = _batch_nodes(graph, config)
    expected = StepCost.of(graph, config.strategies).entries
    for ordering in _RESTRICTED_ORDERINGS:
        operator = operators[ordering]
        rows = jnp.argsort(nodes[ordering]).astype(jnp.int32)[batches]
        room = rooms[ordering] = _room(operator, rows, expected)
        calls |= _restricted_calls(ordering, operator, x, rows, room)
        differences |= _restricted_differences(ordering, operator, x, rows[0], room)
    calls |= _wide_calls(operators["co-clustering"], graph.num_nodes, dim)
    note(f"{rounds} rounds of {len(calls)} in alternation")
    samples = alternate(calls, rounds=rounds)
    return Found(
        {title: [seconds / LOOP for seconds in values] for title, values in samples.items()},
        ordering_seconds,
        rooms,
        differences,
    )


def _nodes(graph: BipartiteGraph, order: NodeOrder | None) -> Ids:
    """Which node of the graph stands at each row of the reordered one."""
    if order is None:
        return jnp.arange(graph.num_nodes, dtype=jnp.int32)
    return jnp.concatenate([order.users, graph.num_users + order.items]).astype(jnp.int32)


def full_title(ordering: str) -> str:
    """The title of the full application.

    Args:
        ordering: the order of the rows.

    Returns:
        A key of the samples.
    """
    return f"full, {ordering}"


def rows_title(ordering: str) -> str:
    """The title of the application that makes the rows of a batch.

    Args:
        ordering: the order of the rows.

    Returns:
        A key of the samples.
    """
    return f"rows of a batch, {ordering}"


def transposed_title(ordering: str) -> str:
    """The title of the transposed application to the rows of a batch.

    Args:
        ordering: the order of the rows.

    Returns:
        A key of the samples.
    """
    return f"transposed from a batch, {ordering}"


def wide_titles(dim: int) -> tuple[str, str, str]:
    """The titles of several tables joined by vmap, in turn, and of one table as wide as all.

    Args:
        dim: D of one table.

    Returns:
        Three keys of the samples.
    """
    return (
        f"{TABLES} tables of {dim}, joined",
        f"{TABLES} tables of {dim}, in turn",
        f"one table of {TABLES * dim}",
    )


def _loop_of(apply: Callable, operator: Operator, x: jax.Array) -> Callable[[], Any]:
    @jax.jit
    def loop(operator, x):
        return jax.lax.fori_loop(0, LOOP, lambda _, y: apply(operator, y), x)

    return lambda: loop(operator, x).block_until_ready()


def _batch_nodes(graph: BipartiteGraph, config: TrainConfig) -> Ids:
    """The nodes whose rows training reads, one batch for each pass of a loop; ``int32[L, Q]``."""
    inputs = StepInputs.of(graph, config.strategies, backend="csr")
    return jnp.stack([batch.nodes(graph.num_users) for batch in draw_batches(inputs, config, LOOP)])


def _room(operator: Operator, rows: Ids, expected: float) -> Room:
    storage = cast(RowStorage, operator.storage)
    counts = [int(storage.row_lengths(batch).sum()) for batch in rows]
    # A graph that training would not restrict is measured in the room of the largest batch.
    restriction = operator.planned_for(expected).restriction
    planned = 0 if restriction is None else restriction.capacity
    return Room(
        max(planned, *counts),
        storage.num_entries,
        statistics.fmean(counts),
        (restriction is not None, restriction is not None and restriction.backward),
    )


def _restricted_calls(
    ordering: str, operator: Operator, x: jax.Array, rows: Ids, room: Room
) -> dict[str, Callable[[], Any]]:
    """Loops over the batches; each pass overwrites the last one's result, as the full ones do."""

    @jax.jit
    def of_rows(storage, x, rows):
        return jax.lax.fori_loop(
            0, LOOP, lambda k, _: storage.multiply_rows(x, rows[k], room.entries), x[rows[0]]
        )

    @jax.jit
    def transposed(storage, x, rows):
        return jax.lax.fori_loop(
            0,
            LOOP,
            lambda k, _: storage.multiply_rows_transposed(x[rows[k]], rows[k], room.entries),
            x,
        )

    storage = operator.storage
    return {
        rows_title(ordering): lambda: of_rows(storage, x, rows).block_until_ready(),
        transposed_title(ordering): lambda: transposed(storage, x, rows).block_until_ready(),
    }


def _wide_calls(operator: Operator, num_nodes: int, dim: int) -> dict[str, Callable[[], Any]]:
    def joined(operator, tables):
        return jax.vmap(diffuse, in_axes=(None, 0))(operator, tables)

    def in_turn(operator, tables):
        return jax.lax.map(lambda table: diffuse(operator, table), tables)

    tables = jax.random.normal(jax.random.key(1), (TABLES, num_nodes, dim))
    wide = jnp.moveaxis(tables, 0, 1).reshape(num_nodes, TABLES * dim)
    calls = (
        _loop_of(joined, operator, tables),
        _loop_of(in_turn, operator, tables),
        _loop_of(diffuse, operator, wide),
    )
    return dict(zip(wide_titles(dim), calls, strict=True))


def _ordering_differences(
    operators: dict[str, Operator], nodes: dict[str, Ids], x: jax.Array
) -> dict[str, float]:
    apply = jax.jit(diffuse)
    expected = apply(operators["none"], x)
    return {
        full_title(ordering): _difference(
            apply(operator, x[nodes[ordering]]), expected[nodes[ordering]]
        )
        for ordering, operator in operators.items()
        if ordering != "none"
    }


def _restricted_differences(
    ordering: str, operator: Operator, x: jax.Array, rows: Ids, room: Room
) -> dict[str, float]:
    storage = cast(RowStorage, operator.storage)
    y = x[rows]
    spread = jnp.zeros_like(x).at[rows].add(y)
    return {
        rows_title(ordering): _difference(
            storage.multiply_rows(x, rows, room.entries), diffuse(operator, x)[rows]
        ),
        transposed_title(ordering): _difference(
            storage.multiply_rows_transposed(y, rows, room.entries),
            diffuse(operator.transpose(), spread),
        ),
    }


def _difference(result: jax.Array, expected: jax.Array) -> float:
    scale = max(float(jnp.abs(expected).max()), float(np.finfo(np.float32).tiny))
    return float(jnp.abs(result - expected).max()) / scale
