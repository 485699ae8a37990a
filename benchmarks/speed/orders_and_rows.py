"""Applications of Ã with rows in other orders, for a few rows only, and to wide tables at once.

All samples of a graph are in alternation. The storage is ``native`` or ``csr``.

The restricted applications read the rows of a training batch, in room for as many entries as
training makes; what they take is divided by that room. Their break-even share is the share of all
entries below which they are faster than the full application.
"""

from __future__ import annotations

import argparse
import statistics

from rich.table import Table

from benchmarks.harness.report import (
    Claim,
    Report,
    cores,
    note,
    ratio_claim,
    seconds_text,
    whole_number,
)
from benchmarks.speed.applications import (
    LOOP,
    ORDERINGS,
    TABLES,
    Found,
    full_title,
    measure,
    rows_title,
    transposed_title,
    wide_titles,
)
from benchmarks.workloads.graphs import GRAPHS, load_graph
from lightgcn_jax.diffusion import choose_backend
from lightgcn_jax.settings import TrainConfig

_GRAPH, _DIM = "gowalla", 64
_TOLERANCE = 1e-4


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options.

    Args:
        parser: that of ``python -m benchmarks orders_and_rows``.
    """
    parser.add_argument(
        "--graphs",
        nargs="+",
        metavar="X",
        choices=GRAPHS,
        default=[_GRAPH],
        help=f"graphs, of {', '.join(GRAPHS)} (default {_GRAPH})",
    )
    parser.add_argument(
        "--backend",
        choices=("native", "csr"),
        default=choose_backend().name,
        help="the storage (default: what `auto` takes)",
    )
    parser.add_argument(
        "--dim", type=whole_number, default=_DIM, help=f"width of a table (default {_DIM})"
    )
    parser.add_argument(
        "--rounds", type=whole_number, default=20, help="samples of each (default 20)"
    )


def run(args: argparse.Namespace) -> Report:
    """Measure; see the module.

    Args:
        args: the parsed options.

    Returns:
        Seconds of the applications, and what is claimed of them.
    """
    found: dict[str, Found] = {}
    for name in args.graphs:
        note(f"{name}: loading")
        found[name] = measure(load_graph(name, args.data_dir), args.backend, args.dim, args.rounds)
    return Report(
        name="orders_and_rows",
        settings={
            "graphs": list(args.graphs),
            "dim": args.dim,
            "rounds": args.rounds,
            "backend": args.backend,
            "applications_a_sample": LOOP,
            "tables": TABLES,
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


def _nanoseconds(found: Found, title: str, entries: int) -> float:
    return statistics.median(found.samples[title]) / entries * 1e9


def _restricted_numbers(found: Found, ordering: str) -> dict[str, float]:
    """Nanoseconds an entry, and the shares at which the restricted applications break even."""
    room = found.rooms[ordering]
    full = _nanoseconds(found, full_title(ordering), room.all_entries)
    rows = _nanoseconds(found, rows_title(ordering), room.entries)
    transposed = _nanoseconds(found, transposed_title(ordering), room.entries)
    return {
        "share": room.entries / room.all_entries,
        "full_ns": full,
        "rows_ns": rows,
        "transposed_ns": transposed,
        "rows_break_even": full / rows,
        "transposed_break_even": full / transposed,
    }


def _seconds_a_table(found: Found, dim: int) -> dict[str, float]:
    """Median seconds for as many columns as one table has."""
    return {title: statistics.median(found.samples[title]) / TABLES for title in wide_titles(dim)}


def _claims(found: dict[str, Found], dim: int) -> list[Claim]:
    """Claims about Gowalla with D = 64."""
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
        ratio("co_clustering_speedup", full_title("none"), full_title(ordering), 1.1),
        ratio("restricted_last_speedup", full_title(ordering), rows_title(ordering), 1.5),
    ]


def _orderings_table(name: str, found: Found, dim: int) -> Table:
    table = Table(
        "ordering", "application", "speedup", "computing it", title=f"{name}, D = {dim}: orderings"
    )
    medians = {
        ordering: statistics.median(found.samples[full_title(ordering)]) for ordering in ORDERINGS
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
    table = Table("what", f"time for {dim} columns", title=f"{name}: {TABLES * dim} columns")
    for title, seconds in _seconds_a_table(found, dim).items():
        table.add_row(title, seconds_text(seconds))
    one = statistics.median(found.samples[full_title("co-clustering")])
    table.add_row(f"one table of {dim}", seconds_text(one))
    return table
