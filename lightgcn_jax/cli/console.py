"""What the commands write: results to stdout, all else to stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.table import Table

from lightgcn_jax.consoles import PlainConsole, shown
from lightgcn_jax.errors import printable
from lightgcn_jax.processes.joining import is_silent

# Off a terminal nothing is wrapped or cut: a line of a table is a line of the file.
_WIDE = 10_000
# Texts are not broken into lines shorter than this.
_LEAST_TEXT = 12


def say(message: str) -> None:
    """Write one line to stderr.

    Args:
        message: the line.
    """
    print(shown(message), file=sys.stderr)


def tell(path: Path) -> None:
    """Write a path to stdout: to a terminal what it can show, else the name as it is.

    Args:
        path: what a command wrote.
    """
    print(printable(str(path)) if sys.stdout.isatty() else path)


def results(wide: int = _WIDE) -> Console:
    """Stdout, where ids are never taken for markup.

    Args:
        wide: columns of a line where stdout is no terminal.
    """
    width = None if sys.stdout.isatty() else wide
    return PlainConsole(width=width)


def messages(*, quiet: bool = False) -> Console:
    """Stderr.

    Args:
        quiet: write nothing, as where another process talks for this one.
    """
    quiet = quiet or is_silent()
    width = None if sys.stderr.isatty() else _WIDE
    return PlainConsole(stderr=True, quiet=quiet, width=width)


class WholeTable:
    """A table that never cuts a heading or a number, as narrow as the console is.

    Long texts are broken into lines first. What is still too wide is divided: the columns stand in
    several tables one below the other, each of which begins with the first ones.
    """

    def __init__(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        numbers: Sequence[str],
        keys: int,
        cut: str | None,
    ):
        self._columns, self._rows = columns, rows
        self._numbers, self._keys, self._cut = numbers, keys, cut
        cells = zip(columns, *rows, strict=True)
        self._full = [max(map(cell_len, one)) for one in cells]
        self._least = [
            full if name in numbers else max(cell_len(name), min(full, _LEAST_TEXT))
            for name, full in zip(columns, self._full, strict=True)
        ]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        for places in self._divided(options.max_width):
            yield self._drawn(places, options.max_width)

    def _divided(self, width: int) -> list[list[int]]:
        """The columns of each table: all of them, or the first ones and an even share of others."""
        keys, others = [*range(self._keys)], [*range(self._keys, len(self._columns))]
        for count in range(1, len(others) + 1):
            size = -(-len(others) // count)
            tables = [keys + others[at : at + size] for at in range(0, len(others), size)]
            if all(_taken((self._least[at] for at in one), 1) <= width for one in tables):
                return tables
        return [[*keys, one] for one in others] or [keys]

    def _drawn(self, places: Sequence[int], width: int) -> Table:
        full, widths = ([of[at] for at in places] for of in (self._full, self._least))
        gap = 2 if _taken(full, 2) <= width else 1
        left = max(0, width - _taken(widths, gap))
        for at, wanted in enumerate(full):
            more = min(left, wanted - widths[at])
            widths[at] += more
            left -= more
        drawn = Table(box=box.SIMPLE_HEAD, padding=(0, gap - 1, 0, 0), pad_edge=False)
        for place, taken in zip(places, widths, strict=True):
            name = self._columns[place]
            drawn.add_column(
                name,
                width=taken,
                justify="right" if name in self._numbers else "left",
                overflow="ellipsis" if name == self._cut else "fold",
                no_wrap=name == self._cut,
            )
        for row in self._rows:
            drawn.add_row(*(row[place] for place in places))
        return drawn


def _taken(widths: Iterable[int], gap: int) -> int:
    """What columns take, with a blank at either edge."""
    widths = [*widths]
    return sum(widths) + gap * (len(widths) - 1) + 2


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    numbers: Sequence[str] = (),
    keys: int = 1,
    cut: str | None = None,
) -> WholeTable:
    """A table.

    Args:
        columns: their headings.
        rows: a cell for each column.
        numbers: the columns that stand to the right.
        keys: how many of the first columns say what a row is of; they are repeated where the
            columns do not fit beside each other.
        cut: a column whose texts are cut to a line where they do not fit.
    """
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    return WholeTable([*map(printable, columns)], cells, numbers, keys, cut)


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
) -> WholeTable:
    """Metrics such as ``recall@20`` of each part of the split that has any: a line a cut-off.

    Args:
        parts: the values, by part and metric.
        spreads: statistics over seeds, by part and metric; the half width of the confidence
            interval is shown behind the value.
    """

    def cell(part: str, key: str) -> str:
        if key not in parts[part]:
            return "–"
        value, spread = f"{parts[part][key]:.4f}", (spreads or {}).get(part, {}).get(key, {})
        half = spread.get("ci95_half_width")
        return value if half is None else f"{value} ±{half:.4f}"

    filled = {part: metrics for part, metrics in parts.items() if metrics}
    keys = [key.partition("@") for metrics in filled.values() for key in metrics]
    names = list(dict.fromkeys(name for name, _, _ in keys))
    cutoffs = list(dict.fromkeys(k for _, _, k in keys))
    rows = [
        (part, k, *(cell(part, f"{name}@{k}") for name in names))
        for part in filled
        for k in cutoffs
    ]
    return table(("part", "k", *names), rows, numbers=("k", *names), keys=2)
