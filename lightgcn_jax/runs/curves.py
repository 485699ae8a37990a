"""Loss and metric curves of a run, as PNG."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightgcn_jax.data.pairs import PARTS
from lightgcn_jax.files import replacing
from lightgcn_jax.runs.reporter import name_of_replica


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

    replicas = list(dict.fromkeys(map(name_of_replica, history)))

    def draw(name: str, label: str, curves: Mapping[str, Any]) -> Path:
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        for curve, value_of in curves.items():
            for replica in replicas:
                points = [
                    (record["epoch"], value_of(record))
                    for record in history
                    if name_of_replica(record) == replica and value_of(record) is not None
                ]
                title = curve if len(replicas) == 1 else f"{curve}, {replica}"
                if points:
                    axes.plot(*zip(*points, strict=True), label=title, marker=".")
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.legend()
        with replacing(path / name) as temporary:
            figure.savefig(temporary, format="png", dpi=120)
        return path / name

    def part(name: str):
        return lambda record: record.get(name, {}).get(select_by)

    written = [draw("loss.png", "mean training loss", {"loss": lambda record: record["loss"]})]
    parts = [name for name in PARTS if any(part(name)(record) is not None for record in history)]
    if parts:
        written.append(draw("metrics.png", select_by, {name: part(name) for name in parts}))
    return written
