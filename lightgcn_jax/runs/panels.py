"""Pictures made of panels: what a panel shows is plain numbers, and each knows how to draw itself.

Whoever draws a picture says which panels stand in which row. Matplotlib is imported only here and
only when something is drawn.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lightgcn_jax.errors import InputError, printable
from lightgcn_jax.files import replacing

SUFFIXES = (".png", ".svg")
_ROW_HEIGHT, _WIDTH, _HEAD = 4.0, 13.0, 0.5  # inches
_POPULARITY = {"color": "0.25", "linestyle": "--", "linewidth": 1.5}
_MOST_LEGEND_LINES = 8
# Characters of a label from which on two do not stand beside each other.
_LONG = 22
# Names of groups that stand beside each other without touching.
_MOST_ABREAST = 6


@dataclass(frozen=True)
class Panel:
    """A part of a picture with axes of its own.

    Attributes:
        title: what is shown.
    """

    title: str

    def draw(self, axes: Any) -> None:
        """Draw it, without the title.

        Args:
            axes: where to.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Curves(Panel):
    """Values over epochs.

    Attributes:
        label: of the vertical axis, with its unit.
        curves: by label, the epochs and the values at them.
        chosen: the epoch that was kept; None marks none.
        line: a label and a value that all is read against; None draws none.
    """

    label: str
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    chosen: int | None = None
    line: tuple[str, float] | None = None

    def draw(self, axes: Any) -> None:
        for label, (epochs, values) in self.curves.items():
            axes.plot(epochs, values, marker=".", label=label)
        if self.chosen is not None:
            axes.axvline(self.chosen, color="C3", alpha=0.7, label=f"chosen: epoch {self.chosen}")
        if self.line is not None:
            axes.axhline(self.line[1], label=self.line[0], **_POPULARITY)
        axes.set(xlabel="epoch", ylabel=self.label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        last = max(max(epochs) for epochs, _ in self.curves.values())
        axes.set_xlim(-0.02 * last, 1.04 * last)
        if len(axes.get_legend_handles_labels()[0]) <= _MOST_LEGEND_LINES:
            axes.legend(fontsize=9)


@dataclass(frozen=True)
class Bars(Panel):
    """Values of groups, one bar for each of several series.

    Attributes:
        across: what the groups are, below the horizontal axis.
        label: of the vertical axis, with its unit.
        groups: their names.
        series: by label, a value for each group; NaN where there is none.
        line: a label and a value for each group that its bars are read against; None draws none.
        percent: whether the values are shares, shown in per cent.
    """

    across: str
    label: str
    groups: Sequence[str]
    series: Mapping[str, Sequence[float]]
    line: tuple[str, Sequence[float]] | None = None
    percent: bool = False

    def draw(self, axes: Any) -> None:
        places, width = np.arange(len(self.groups)), 0.8 / len(self.series)
        for at, (label, values) in enumerate(self.series.items()):
            shift = (at - (len(self.series) - 1) / 2) * width
            axes.bar(places + shift, values, width, label=label, color=f"C{at}")
        if self.line is not None:
            label, values = self.line
            axes.hlines(values, places - 0.45, places + 0.45, label=label, **_POPULARITY)
        axes.set_xticks(places, self.groups)
        if len(self.groups) > _MOST_ABREAST:
            axes.tick_params(axis="x", rotation=45)
        axes.set(xlabel=self.across, ylabel=self.label)
        # The legend stands above the bars.
        _, top = axes.get_ylim()
        axes.set_ylim(0, 1.25 * top)
        if self.percent:
            axes.yaxis.set_major_formatter(
                lambda share, _: f"{100 * share:g}%" if share <= 1 else ""
            )
        if len(self.series) > 1 or self.line is not None:
            handles, labels = axes.get_legend_handles_labels()
            order = np.argsort([label not in self.series for label in labels], kind="stable")
            axes.legend(
                [handles[at] for at in order],
                [labels[at] for at in order],
                fontsize=9,
                loc="upper left",
                ncols=1 if max(map(len, labels)) > _LONG else 2,
            )


@dataclass(frozen=True)
class Intervals(Panel):
    """Values with intervals, one below the other.

    Attributes:
        label: of the horizontal axis, with its unit.
        names: of the values, from top to bottom.
        values: the values.
        low: the lower ends of their intervals; NaN where there is none.
        high: the upper ends.
        colors: of the values, places in the list of colours.
        zero: whether the values are differences, read against 0.
    """

    label: str
    names: Sequence[str]
    values: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    colors: Sequence[int]
    zero: bool = False

    def draw(self, axes: Any) -> None:
        places = np.arange(len(self.names))
        rows = zip(places, self.values, self.low, self.high, self.colors, strict=True)
        for place, value, low, high, number in rows:
            color = f"C{number % 10}"
            if not np.isnan(low):
                axes.plot([low, high], [place, place], color=color, linewidth=2, marker="|")
            axes.plot([value], [place], color=color, marker="o")
            text = f"{value:+.4f}" if self.zero else f"{value:.4f}"
            axes.annotate(
                text, (value, place), (0, 7), textcoords="offset points", ha="center", fontsize=9
            )
        if self.zero:
            axes.axvline(0, **_POPULARITY)
        axes.set_yticks(places, self.names, parse_math=False)
        axes.set_ylim(len(places) - 0.5, -0.6)
        axes.margins(x=0.15)
        axes.set_xlabel(self.label)


def check_picture(path: Path, flag: str = "--out") -> None:
    """Refuse a picture that could not be written, before anything takes time.

    Args:
        path: the file to write.
        flag: what an error calls it.

    Raises:
        InputError: matplotlib is missing, the name ends otherwise, or there is no such folder.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{flag}: expected a name in {' or '.join(SUFFIXES)}, got {path}")
    if not path.parent.is_dir():
        raise InputError(f"{flag}: {path.parent}: no such folder")
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError(
            "a picture needs matplotlib, which is not installed; type: "
            "pip install 'lightgcn-pinsage-jax[plot]'"
        )


def draw_picture(
    path: Path,
    title: str,
    lines: Sequence[str],
    rows: Sequence[Sequence[Panel]],
    *,
    row_height: float = _ROW_HEIGHT,
) -> Path:
    """Draw rows of panels, and write the picture in one moment.

    Args:
        path: the file; it ends in .png or .svg.
        title: what stands above all.
        lines: smaller lines below it.
        rows: the panels of each row, none of them empty.
        row_height: in inches.

    Returns:
        The file.
    """
    from matplotlib.figure import Figure

    head = 0.1 + 0.18 * len(lines)
    height = _HEAD + head + row_height * len(rows)
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    # Names come from files: $ must not start a formula, nor a control sign reach a font.
    figure.suptitle(printable(title), fontsize=15, weight="bold", parse_math=False)
    above, *below = figure.subfigures(
        1 + len(rows), 1, height_ratios=[head, *[row_height] * len(rows)], squeeze=False
    )[:, 0]
    text = "\n".join(map(printable, lines))
    above.text(0.5, 0.5, text, ha="center", va="center", fontsize=10, parse_math=False)
    for part, panels in zip(below, rows, strict=True):
        drawn = part.subplots(1, len(panels), squeeze=False)[0]
        for axes, panel in zip(drawn, panels, strict=True):
            axes.grid(alpha=0.3)
            axes.set_axisbelow(True)
            panel.draw(axes)
            axes.set_title(printable(panel.title), fontsize=11, parse_math=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lower()[1:], dpi=120)
    return path
