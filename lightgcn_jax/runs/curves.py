"""Loss and metric curves of a run, as PNG."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightgcn_jax.data.pairs import PARTS
from lightgcn_jax.files import replacing
from lightgcn_jax.runs.reporter import name_of_replica

Curves = Mapping[str, tuple[Sequence[float], Sequence[float]]]
"""By label, the epochs and the values at them."""


def plot_curves(path: Path, history: Sequence[Mapping[str, Any]], select_by: str) -> list[Path]:
    """Write loss.png, and metrics.png where any were ranked, where matplotlib is installed.

    Args:
        path: the run's directory.
        history: the records of metrics.jsonl.
        select_by: the metric to draw.

    Returns:
        The files written; none without matplotlib (the extra ``plot``).
    """
    if importlib.util.find_spec("matplotlib") is None:
        return []
    from matplotlib.figure import Figure

    def draw(name: str, label: str, curves: Curves) -> Path:
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        for title, points in curves.items():
            axes.plot(*points, label=title, marker=".")
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.legend()
        with replacing(path / name) as temporary:
            figure.savefig(temporary, format="png", dpi=120)
        return path / name

    written = [draw("loss.png", "mean training loss", loss_curves(history))]
    if metrics := metric_curves(history, select_by):
        written.append(draw("metrics.png", select_by, metrics))
    return written


def loss_curves(history: Sequence[Mapping[str, Any]]) -> Curves:
    """The mean training loss of each replica over the epochs.

    Args:
        history: the records of metrics.jsonl.
    """
    return _curves(history, "loss", lambda record: record.get("loss"))


def metric_curves(history: Sequence[Mapping[str, Any]], metric: str) -> Curves:
    """A metric of each part that was ranked, of each replica, over the epochs.

    Args:
        history: the records of metrics.jsonl.
        metric: its name.
    """

    def of_part(part: str) -> Curves:
        return _curves(history, part, lambda record: record.get(part, {}).get(metric))

    return {label: points for part in PARTS for label, points in of_part(part).items()}


def _curves(
    history: Sequence[Mapping[str, Any]],
    name: str,
    value_of: Callable[[Mapping[str, Any]], float | None],
) -> Curves:
    points: dict[str, tuple[list[float], list[float]]] = {}
    for record in history:
        value = value_of(record)
        if value is not None:
            epochs, values = points.setdefault(name_of_replica(record), ([], []))
            epochs.append(record["epoch"])
            values.append(value)
    several = len(dict.fromkeys(map(name_of_replica, history))) > 1
    return {f"{name}, {one}" if several else name: found for one, found in points.items()}
