"""Less work for an application of Ã: reordered graphs, a few rows alone, wide tables at once.

Every sample is a loop of applications inside one compiled program. All samples of a graph are in
alternation. The storage is ``csr``.

The restricted applications read the rows of a training batch, in room for as many entries as
training makes; what they take is divided by that room. Their break-even share is the share of all
entries below which they are faster than the full application.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

from benchmarks.harness.report import (
    Claim,
    Report,
    alternate,
    cores,
    note,
    ratio_claim,
    seconds_text,
    whole_number,
)
from benchmarks.workloads.gowalla import draw_batches
from benchmarks.workloads.graphs import GRAPHS, load_graph
from lightgcn_jax.arrays import Ids
from lightgcn_jax.diffusion import Operator, RowStorage, diffuse, diffusion_operator
from lightgcn_jax.graph import BipartiteGraph, NodeOrder, node_order
from lightgcn_jax.settings import TrainConfig
from lightgcn_jax.training import StepInputs
from lightgcn_jax.training.strategies import StepCost

ORDERINGS = ("none", "degree", "rcm", "co-clustering")
_RESTRICTED_ORDERINGS = ("none", "co-clustering")
_GRAPH, _DIM = "gowalla", 64
_LOOP, _TABLES = 10, 4
_TOLERANCE = 1e-4


class Room(NamedTuple):
    """What the restricted applications of an operator read.

    Attributes:
        entries: capacity for the entries of a batch's rows.
        all_entries: of the matrix.
        picked: entries of the rows, mean of the batches.
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
        ordering_seconds: to compute each ordering.
        rooms: by ordering.
        differences: largest error over largest value, by title.
    """

    samples: dict[str, list[float]]
    ordering_seconds: dict[str, float]
    rooms: dict[str, Room]
    differences: dict[str, float]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--graphs",
        nargs="+",
        metavar="X",
        choices=GRAPHS,
        default=[_GRAPH],
        help=f"{', '.join(GRAPHS)} (default {_GRAPH})",
    )
    parser.add_argument(
        "--dim", type=whole_number, default=_DIM, help=f"width of a table (default {_DIM})"
    )
    parser.add_argument(
        "--rounds", type=whole_number, default=20, help="samples of each (default 20)"
    )


def run(args: argparse.Namespace) -> Report:
    """Measure; see the module."""
    found: dict[str, Found] = {}
    for name in args.graphs:
        note(f"{name}: loading")
        found[name] = measure(load_graph(name, args.data_dir), args.dim, args.rounds)
    return Report(
        name="less_work",
        settings={
            "graphs": list(args.graphs),
            "dim": args.dim,
            "rounds": args.rounds,
            "backend": "csr",
            "applications_a_sample": _LOOP,
            "tables": _TABLES,
            "batch_size": TrainConfig().optimization.batch_size,
        },
        samples={
            f"{name}: {title}": samples
            for name, one in found.items()
            for title, samples in one.samples.items()
        },
        claims=_claims(found, args.dim),
        details={
            name: {
                "ordering_seconds": one.ordering_seconds,
                "restricted": {
                    ordering: room._asdict() | _restricted_numbers(one, ordering)
                    for ordering, room in one.rooms.items()
                },
                "seconds_a_table": _seconds_a_table(one, args.dim),
                "differences": one.differences,
            }
            for name, one in found.items()
        },
        threads={"jax": cores()},
        tables=[
            table(name, one, args.dim)
            for name, one in found.items()
            for table in (_orderings_table, _restricted_table, _wide_table)
        ],
    )


def measure(graph: BipartiteGraph, dim: int, rounds: int) -> Found:
    """Everything of one graph, in alternation."""
    operators, nodes, ordering_seconds = {}, {}, {}
    # Degrees come from the device: the first ordering that counts them would wait for a compiler.
    node_order(graph, "degree")
    for ordering in ORDERINGS:
        start = time.perf_counter()
        order = node_order(graph, ordering)
        ordering_seconds[ordering] = time.perf_counter() - start
        reordered = graph if order is None else graph.reordered(*order)
        operators[ordering] = diffusion_operator(reordered, backend="csr")
        nodes[ordering] = _nodes(graph, order)
    key = jax.random.key(0)
    x = jax.random.normal(key, (graph.num_nodes, dim))
    differences = _ordering_differences(operators, nodes, x)
    calls: dict[str, Callable[[], Any]] = {
        _full(ordering): _loop_of(diffuse, operator, x) for ordering, operator in operators.items()
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
        {title: [seconds / _LOOP for seconds in values] for title, values in samples.items()},
        ordering_seconds,
        rooms,
        differences,
    )


def _nodes(graph: BipartiteGraph, order: NodeOrder | None) -> Ids:
    """Which node of the graph stands at each row of the reordered one."""
    if order is None:
        return jnp.arange(graph.num_nodes, dtype=jnp.int32)
    return jnp.concatenate([order.users, graph.num_users + order.items]).astype(jnp.int32)


def _full(ordering: str) -> str:
    return f"full, {ordering}"


def _rows(ordering: str) -> str:
    return f"rows of a batch, {ordering}"


def _transposed(ordering: str) -> str:
    return f"transposed from a batch, {ordering}"


def _wide(dim: int) -> tuple[str, str, str]:
    """Titles: tables joined by vmap, one after another, and one table as wide as all."""
    return (
        f"{_TABLES} tables of {dim}, joined",
        f"{_TABLES} tables of {dim}, in turn",
        f"one table of {_TABLES * dim}",
    )


def _loop_of(apply: Callable, operator: Operator, x: jax.Array) -> Callable[[], Any]:
    @jax.jit
    def loop(operator, x):
        return jax.lax.fori_loop(0, _LOOP, lambda _, y: apply(operator, y), x)

    return lambda: loop(operator, x).block_until_ready()


def _batch_nodes(graph: BipartiteGraph, config: TrainConfig) -> Ids:
    """The nodes whose rows training reads, one batch for each pass of a loop; ``int32[L, Q]``."""
    inputs = StepInputs.of(graph, config.strategies, backend="csr")
    return jnp.stack(
        [batch.nodes(graph.num_users) for batch in draw_batches(inputs, config, _LOOP)]
    )


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
            0, _LOOP, lambda k, _: storage.multiply_rows(x, rows[k], room.entries), x[rows[0]]
        )

    @jax.jit
    def transposed(storage, x, rows):
        return jax.lax.fori_loop(
            0,
            _LOOP,
            lambda k, _: storage.multiply_rows_transposed(x[rows[k]], rows[k], room.entries),
            x,
        )

    storage = operator.storage
    return {
        _rows(ordering): lambda: of_rows(storage, x, rows).block_until_ready(),
        _transposed(ordering): lambda: transposed(storage, x, rows).block_until_ready(),
    }


def _wide_calls(operator: Operator, num_nodes: int, dim: int) -> dict[str, Callable[[], Any]]:
    def joined(operator, tables):
        return jax.vmap(diffuse, in_axes=(None, 0))(operator, tables)

    def in_turn(operator, tables):
        return jax.lax.map(lambda table: diffuse(operator, table), tables)

    tables = jax.random.normal(jax.random.key(1), (_TABLES, num_nodes, dim))
    wide = jnp.moveaxis(tables, 0, 1).reshape(num_nodes, _TABLES * dim)
    calls = (
        _loop_of(joined, operator, tables),
        _loop_of(in_turn, operator, tables),
        _loop_of(diffuse, operator, wide),
    )
    return dict(zip(_wide(dim), calls, strict=True))


def _ordering_differences(
    operators: dict[str, Operator], nodes: dict[str, Ids], x: jax.Array
) -> dict[str, float]:
    apply = jax.jit(diffuse)
    expected = apply(operators["none"], x)
    return {
        _full(ordering): _difference(apply(operator, x[nodes[ordering]]), expected[nodes[ordering]])
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
        _rows(ordering): _difference(
            storage.multiply_rows(x, rows, room.entries), diffuse(operator, x)[rows]
        ),
        _transposed(ordering): _difference(
            storage.multiply_rows_transposed(y, rows, room.entries),
            diffuse(operator.transpose(), spread),
        ),
    }


def _difference(result: jax.Array, expected: jax.Array) -> float:
    scale = max(float(jnp.abs(expected).max()), float(np.finfo(np.float32).tiny))
    return float(jnp.abs(result - expected).max()) / scale


def _nanoseconds(found: Found, title: str, entries: int) -> float:
    return statistics.median(found.samples[title]) / entries * 1e9


def _restricted_numbers(found: Found, ordering: str) -> dict[str, float]:
    """Nanoseconds an entry, and the shares at which the restricted applications break even."""
    room = found.rooms[ordering]
    full = _nanoseconds(found, _full(ordering), room.all_entries)
    rows = _nanoseconds(found, _rows(ordering), room.entries)
    transposed = _nanoseconds(found, _transposed(ordering), room.entries)
    return {
        "share": room.entries / room.all_entries,
        "full_ns": full,
        "rows_ns": rows,
        "transposed_ns": transposed,
        "rows_break_even": full / rows,
        "transposed_break_even": full / transposed,
    }


def _seconds_a_table(found: Found, dim: int) -> dict[str, float]:
    """Medians, for as many columns as one table has."""
    return {title: statistics.median(found.samples[title]) / _TABLES for title in _wide(dim)}


def _claims(found: dict[str, Found], dim: int) -> list[Claim]:
    """What is claimed: of Gowalla, D = 64."""
    one, reason = found.get(_GRAPH), None
    if one is None or dim != _DIM:
        one, reason = None, f"claimed of {_GRAPH}, D = {_DIM}"
    elif not (worst := max(one.differences.values())) < _TOLERANCE:
        reason = f"results are off by {worst:.1g}"

    def ratio(name: str, over: str, under: str, target: float) -> Claim:
        if one is None or reason is not None:
            return ratio_claim(name, [], [], ">=", target, reason)
        return ratio_claim(name, one.samples[over], one.samples[under], ">=", target)

    ordering = "co-clustering"
    return [
        ratio("co_clustering_speedup", _full("none"), _full(ordering), 1.1),
        ratio("restricted_last_speedup", _full(ordering), _rows(ordering), 1.5),
    ]


def _orderings_table(name: str, found: Found, dim: int) -> Table:
    table = Table(
        "ordering", "application", "speedup", "computing it", title=f"{name}, D = {dim}: orderings"
    )
    medians = {
        ordering: statistics.median(found.samples[_full(ordering)]) for ordering in ORDERINGS
    }
    for ordering, median in medians.items():
        table.add_row(
            ordering,
            seconds_text(median),
            f"{medians['none'] / median:.2f} ×",
            seconds_text(found.ordering_seconds[ordering]),
        )
    return table


def _restricted_table(name: str, found: Found, dim: int) -> Table:
    columns = ("ordering", "application", "ns an entry", "break-even share")
    table = Table(*columns, title=f"{name}, D = {dim}: the rows of a batch")
    captions = []
    for ordering in found.rooms:
        numbers = _restricted_numbers(found, ordering)
        table.add_row(ordering, "full", f"{numbers['full_ns']:.3g}", "")
        for part in ("rows", "transposed"):
            share = numbers[f"{part}_break_even"]
            table.add_row(ordering, part, f"{numbers[f'{part}_ns']:.3g}", f"{share:.1%}")
        captions.append(f"{ordering}: room for {numbers['share']:.1%} of the entries")
    table.caption = "; ".join(captions)
    return table


def _wide_table(name: str, found: Found, dim: int) -> Table:
    table = Table("what", f"time for {dim} columns", title=f"{name}: {_TABLES * dim} columns")
    for title, seconds in _seconds_a_table(found, dim).items():
        table.add_row(title, seconds_text(seconds))
    one = statistics.median(found.samples[_full("co-clustering")])
    table.add_row(f"one table of {dim}", seconds_text(one))
    return table
