"""The picture of a sweep: a metric against the settings that were tried, as PNG."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightgcn_jax.files import replacing
from lightgcn_jax.sweeps.space import shown

if TYPE_CHECKING:
    from lightgcn_jax.sweeps.sweep import TrialResult

_STYLES = {"train": ":", "valid": "-", "test": "--"}
_MOST_CURVES = 8


def plot_sweep(
    path: Path, results: Sequence[TrialResult], metric: str, *, study: bool
) -> Path | None:
    """Write sweep.png, where matplotlib is installed.

    One numeric setting that varies is the horizontal axis of a curve for each part of the split;
    of two, the values of the other give a set of curves each, where curves have points enough.
    Anything else is drawn as dots: the validation metric against each setting in turn. Bars are
    95 % intervals over seeds.

    Args:
        path: the sweep's directory.
        results: all trials; diverged ones are left out.
        metric: what to draw.
        study: whether test was ranked for every trial, which the title then says.

    Returns:
        The file; None without matplotlib (the extra ``plot``).
    """
    if importlib.util.find_spec("matplotlib") is None:
        return None
    from matplotlib.figure import Figure

    results = [result for result in results if not result.diverged]
    settings = varying(results)
    across, other = _axes_of(results, settings)
    panels = 1 if across else max(1, len(settings))
    figure = Figure(figsize=(max(7, 3.2 * panels), 4), layout="constrained")
    axes = figure.subplots(1, panels, sharey=True, squeeze=False)[0]
    if across:
        _draw_curves(axes[0], results, metric, across, other)
    else:
        for panel, name in zip(axes, settings or list(results[0].settings), strict=False):
            _draw_dots(panel, results, metric, name)
    axes[0].set_ylabel(metric if across else f"valid {metric}")
    if study:
        figure.suptitle("study: test ranked for every trial")
    with replacing(path / "sweep.png") as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    return path / "sweep.png"


def varying(results: Sequence[TrialResult]) -> list[str]:
    """The settings in which trials differ."""
    names = results[0].settings if results else ()
    return [name for name in names if len({result.settings[name] for result in results}) > 1]


def _values(results: Sequence[TrialResult], name: str) -> list[Any]:
    """A setting's distinct values: numbers in their order, others as they came."""
    values = list(dict.fromkeys(result.settings[name] for result in results))
    return sorted(values) if _is_numeric(results, name) else values


def _is_numeric(results: Sequence[TrialResult], name: str) -> bool:
    return all(type(result.settings[name]) in (int, float) for result in results)


def _axes_of(results: Sequence[TrialResult], settings: list[str]) -> tuple[str | None, str | None]:
    """The setting across, and the one that tells curves apart; none where dots show more."""
    numeric = [name for name in settings if _is_numeric(results, name)]
    if len(settings) == 1 and numeric:
        return numeric[0], None
    if len(settings) == 2 and numeric:
        # The one with more values makes the longer curves.
        across = max(numeric, key=lambda name: len(_values(results, name)))
        [other] = (name for name in settings if name != across)
        points = Counter(result.settings[other] for result in results)
        if len(points) <= _MOST_CURVES and min(points.values()) > 1:
            return across, other
    return None, None


def _draw_curves(
    axes: Any, results: Sequence[TrialResult], metric: str, across: str, other: str | None
) -> None:
    for place, value in enumerate(_values(results, other) if other else [None]):
        chosen = [result for result in results if not other or result.settings[other] == value]
        chosen.sort(key=lambda result: result.settings[across])
        for part in chosen[0].parts:
            spreads = [result.spread(part, metric) for result in chosen]
            axes.errorbar(
                [result.settings[across] for result in chosen],
                [spread["mean"] for spread in spreads],
                yerr=[spread.get("ci95_half_width", 0.0) for spread in spreads],
                color=f"C{place}" if other else None,
                linestyle=_STYLES[part],
                marker=".",
                capsize=2,
                label=f"{part}, {other} {shown(value)}" if other else part,
            )
    _label_across(axes, results, across)
    axes.legend(fontsize="small")


def _draw_dots(axes: Any, results: Sequence[TrialResult], metric: str, name: str) -> None:
    values = _values(results, name)
    numeric = _is_numeric(results, name)
    for result in results:
        spread = result.spread("valid", metric)
        value = result.settings[name]
        axes.errorbar(
            value if numeric else values.index(value),
            spread["mean"],
            yerr=spread.get("ci95_half_width", 0.0),
            color="C0",
            marker=".",
            capsize=2,
        )
    if numeric:
        _label_across(axes, results, name)
    else:
        axes.set_xticks(range(len(values)), [shown(value) for value in values])
        axes.set_xlabel(name)
        axes.grid(alpha=0.3)


def _label_across(axes: Any, results: Sequence[TrialResult], name: str) -> None:
    values = _values(results, name)
    if values[0] > 0 and values[-1] / values[0] >= 10:
        axes.set_xscale("log")
    if len(values) <= _MOST_CURVES:
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.minorticks_off()
    axes.set_xlabel(name)
    axes.grid(alpha=0.3)
