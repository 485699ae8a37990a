"""The picture of a sweep: a metric against the settings that were tried, as PNG."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightgcn_jax.files import replacing
from lightgcn_jax.sweeps.directory import Trial
from lightgcn_jax.sweeps.space import quiet_optuna, shown

_STYLES = {"train": ":", "valid": "-", "test": "--"}
_MOST_CURVES = 8


def plot_sweep(path: Path, trials: Sequence[Trial], study: Any) -> Path | None:
    """Write sweep.png, where matplotlib is installed.

    One numeric setting that varies is the horizontal axis of a curve for each part of the split,
    with 95 % intervals over seeds; of two, the values of the other give a set of curves each, where
    curves have points enough. Anything else is Optuna's slice plot: the validation metric against
    each setting in turn.

    Args:
        path: the sweep's directory.
        trials: all trials, of which one did not diverge; those that did are left out.
        study: Optuna's study of them.

    Returns:
        The file; None without matplotlib (the extra ``plot``).
    """
    if importlib.util.find_spec("matplotlib") is None:
        return None
    from matplotlib import pyplot

    trials = [trial for trial in trials if not trial.diverged]
    sweep = trials[0].sweep
    # Optuna changes matplotlib's style for good.
    with pyplot.rc_context(), quiet_optuna() as optuna:
        curves = _curves_of(trials)
        if curves is None:
            slices = optuna.visualization.matplotlib.plot_slice
            axes = slices(study, target_name=f"valid {sweep.metric}")
            figure = getattr(axes, "flat", [axes])[0].figure
            figure.suptitle("")
        else:
            figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
            _draw(axes, *curves, sweep.metric)
        if sweep.study:
            figure.suptitle("study: test ranked for every trial")
        with replacing(path / "sweep.png") as temporary:
            figure.savefig(temporary, format="png", dpi=120, bbox_inches="tight")
        pyplot.close(figure)
    return path / "sweep.png"


def _curves_of(trials: Sequence[Trial]) -> tuple[str, dict[str, list[Trial]]] | None:
    """The setting across, and the trials of each curve by its label; None where dots show more."""
    values = {name: {trial.settings[name] for trial in trials} for name in trials[0].settings}
    varying = [name for name, own in values.items() if len(own) > 1]
    numeric = [name for name in varying if {int, float} >= set(map(type, values[name]))]
    if not numeric or len(varying) > 2:
        return None
    # The one with more values makes the longer curves.
    across = max(numeric, key=lambda name: len(values[name]))
    curves: dict[str, list[Trial]] = {}
    for trial in sorted(trials, key=lambda trial: trial.settings[across]):
        others = (f", {name} {shown(trial.settings[name])}" for name in varying if name != across)
        curves.setdefault("".join(others), []).append(trial)
    return (
        None
        if len(curves) > _MOST_CURVES or min(map(len, curves.values())) < 2
        else (across, curves)
    )


def _draw(axes: Any, across: str, curves: Mapping[str, Sequence[Trial]], metric: str) -> None:
    for place, (label, trials) in enumerate(curves.items()):
        for part in trials[0].parts:
            spreads = [trial.spread(part, metric) for trial in trials]
            axes.errorbar(
                [trial.settings[across] for trial in trials],
                [spread["mean"] for spread in spreads],
                yerr=[spread.get("ci95_half_width", 0.0) for spread in spreads],
                color=f"C{place}" if label else None,
                linestyle=_STYLES[part],
                marker=".",
                capsize=2,
                label=part + label,
            )
    ticks = sorted({trial.settings[across] for trials in curves.values() for trial in trials})
    if ticks[0] > 0 and ticks[-1] / ticks[0] >= 10:
        axes.set_xscale("log")
    if len(ticks) <= _MOST_CURVES:
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    axes.set_xlabel(across)
    axes.set_ylabel(metric)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
