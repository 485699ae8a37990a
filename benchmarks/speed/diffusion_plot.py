"""The medians of ``python -m benchmarks diffusion`` as bars, on a logarithmic scale."""

from __future__ import annotations

import importlib.util
import statistics
from pathlib import Path

from benchmarks.harness.report import seconds_text
from benchmarks.speed.diffusion_grid import Grid
from benchmarks.workloads.diffusion_contenders import STORAGE_NAMES
from lightgcn_jax.errors import InputError
from lightgcn_jax.files import replacing


def check_plot(path: Path) -> None:
    """Refuse before anything is measured what :func:`plot` could not write.

    Args:
        path: the file.

    Raises:
        InputError: matplotlib or the folder is missing.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError("plot: expected matplotlib, which the extra plot brings; it is missing")
    if not path.parent.is_dir():
        raise InputError(f"plot: expected a folder {path.parent}, there is none")


def plot(grid: Grid, path: Path) -> None:
    """Write a PNG, one panel for each graph, D and task.

    Args:
        grid: the medians are those of its samples; without any, nothing is written.
        path: the file, in a folder that exists.
    """
    from matplotlib.figure import Figure

    rows = list(dict.fromkeys((cell.graph, cell.dim) for cell in grid.samples))
    tasks = list(dict.fromkeys(cell.task for cell in grid.samples))
    if not rows:
        return
    size = 7 * len(tasks), 4 * len(rows)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(rows), len(tasks), squeeze=False)
    for panel, (graph, dim), task in (
        (panels[row, column], rows[row], tasks[column])
        for row in range(len(rows))
        for column in range(len(tasks))
    ):
        medians = {
            cell.contender: statistics.median(samples)
            for cell, samples in grid.samples.items()
            if (cell.graph, cell.dim, cell.task) == (graph, dim, task)
        }
        names = sorted(medians, key=medians.__getitem__, reverse=True)
        colors = ["C0" if name in STORAGE_NAMES else "C7" for name in names]
        bars = panel.barh(names, [1e3 * medians[name] for name in names], color=colors)
        panel.bar_label(bars, [seconds_text(medians[name]) for name in names], padding=2)
        panel.set_xscale("log")
        panel.margins(x=0.25)
        panel.set_title(f"{graph}, D = {dim}, {task}")
        panel.set_xlabel("ms")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
