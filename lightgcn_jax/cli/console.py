"""What the commands write: results to stdout, all else to stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

# Off a terminal nothing is wrapped or cut: a line of a table is a line of the file.
_WIDE = 10_000


def say(message: str) -> None:
    """Write one line to stderr.

    Args:
        message: the line.
    """
    print(message, file=sys.stderr)


def results() -> Console:
    """Stdout, where ids are never taken for markup."""
    width = None if sys.stdout.isatty() else _WIDE
    return Console(markup=False, emoji=False, highlight=False, width=width)


def messages(*, quiet: bool = False) -> Console:
    """Stderr.

    Args:
        quiet: write nothing.
    """
    width = None if sys.stderr.isatty() else _WIDE
    return Console(
        stderr=True, quiet=quiet, markup=False, emoji=False, highlight=False, width=width
    )


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Sequence[str] = ()
) -> Table:
    """A table.

    Args:
        columns: their headings.
        rows: a cell for each column.
        numbers: the columns that stand to the right.
    """
    drawn = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        justify = "right" if column in numbers else "left"
        drawn.add_column(column, justify=justify, overflow="fold")
    for row in rows:
        drawn.add_row(*map(str, row))
    return drawn


def facts(pairs: Iterable[tuple[str, str]]) -> Table:
    """Names and what they are, a line each.

    Args:
        pairs: a name and what it is.
    """
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column()
    grid.add_column(overflow="fold")
    for pair in pairs:
        grid.add_row(*pair)
    return grid


def metrics_table(
    parts: Mapping[str, Mapping[str, float]],
    spreads: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None,
) -> Table:
    """Metrics such as ``recall@20`` of each part of the split that has any: a line a cut-off.

    Args:
        parts: the values, by part and metric.
        spreads: statistics over seeds, by part and metric; the half width of the confidence
            interval is shown behind the value.
    """

    def cell(part: str, key: str) -> str:
        value = f"{parts[part][key]:.4f}"
        return value if spreads is None else f"{value} ±{spreads[part][key]['ci95_half_width']:.4f}"

    filled = {part: metrics for part, metrics in parts.items() if metrics}
    keys = [key.partition("@") for metrics in filled.values() for key in metrics]
    names = list(dict.fromkeys(name for name, _, _ in keys))
    cutoffs = list(dict.fromkeys(k for _, _, k in keys))
    rows = [
        (part, k, *(cell(part, f"{name}@{k}") for name in names))
        for part in filled
        for k in cutoffs
    ]
    return table(("part", "k", *names), rows, numbers=("k", *names))
