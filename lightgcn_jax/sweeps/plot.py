"""The picture of a sweep: a metric against the settings that were tried, as PNG."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightgcn_jax.data.pairs import PARTS
from lightgcn_jax.files import replacing
from lightgcn_jax.sweeps.directory import Trial, spread
from lightgcn_jax.sweeps.space import SweepConfig, quiet_optuna, shown

_STYLES = {"train": ":", "valid": "-", "test": "--"}
_MOST_CURVES = 8


def plot_sweep(path: Path, config: SweepConfig, study: Any) -> Path | None:
    """Write sweep.png, where matplotlib is installed.

    One numeric setting that varies is the horizontal axis of a curve for each part of the split,
    with 95 % intervals over seeds; of two, the values of the other give a set of curves each, where
    curves have points enough. Anything else is Optuna's slice plot: the validation metric against
    each setting in turn. Diverged trials are left out.

    Args:
        path: the sweep's directory.
        config: what was tried.
        study: Optuna's study.

    Returns:
        The file; None without matplotlib (the extra ``plot``).
    """
    if importlib.util.find_spec("matplotlib") is None:
        return None
    from matplotlib import pyplot

    metric = config.shared.metric
    curves = _curves_of([trial for trial in study.get_trials() if trial.value is not None])
    # Optuna changes matplotlib's style for good.
    with pyplot.rc_context(), quiet_optuna() as optuna:
        if curves is None:
            plot_slice = optuna.visualization.matplotlib.plot_slice
            axes = plot_slice(study, target_name=f"valid {metric}")
            figure = getattr(axes, "flat", [axes])[0].figure
        else:
            figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
            _draw(axes, *curves, metric)
        figure.suptitle("study: test ranked for every trial" if config.study else "")
        with replacing(path / "sweep.png") as temporary:
            figure.savefig(temporary, format="png", dpi=120, bbox_inches="tight")
        pyplot.close(figure)
    return path / "sweep.png"


def _curves_of(trials: Sequence[Trial]) -> tuple[str, dict[str, list[Trial]]] | None:
    """The setting across, and the trials of each curve by its label; None where dots show more."""
    values = {name: {trial.params[name] for trial in trials} for name in trials[0].params}
    varying = [name for name, own in values.items() if len(own) > 1]
    numeric = [name for name in varying if {int, float} >= set(map(type, values[name]))]
    if not numeric or len(varying) > 2:
        return None
    # The one with more values makes the longer curves.
    across = max(numeric, key=lambda name: len(values[name]))
    curves: dict[str, list[Trial]] = {}
    for trial in sorted(trials, key=lambda trial: trial.params[across]):
        others = [f", {name} {shown(trial.params[name])}" for name in varying if name != across]
        curves.setdefault("".join(others), []).append(trial)
    long = len(curves) <= _MOST_CURVES and min(map(len, curves.values())) > 1
    return (across, curves) if long else None


def _draw(axes: Any, across: str, curves: dict[str, list[Trial]], metric: str) -> None:
    for place, (label, trials) in enumerate(curves.items()):
        seeds = [trial.user_attrs["seeds"] for trial in trials]
        for part in filter(seeds[0][0].get, PARTS):
            figures = [spread(own, part, metric) for own in seeds]
            axes.errorbar(
                [trial.params[across] for trial in trials],
                [one["mean"] for one in figures],
                yerr=[one.get("ci95_half_width", 0.0) for one in figures],
                color=f"C{place}" if label else None,
                linestyle=_STYLES[part],
                marker=".",
                capsize=2,
                label=part + label,
            )
    ticks = sorted({trial.params[across] for trials in curves.values() for trial in trials})
    if ticks[0] > 0 and ticks[-1] / ticks[0] >= 10:
        axes.set_xscale("log")
    if len(ticks) <= _MOST_CURVES:
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    axes.set(xlabel=across, ylabel=metric)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
