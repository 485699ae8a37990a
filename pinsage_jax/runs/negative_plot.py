"""How far negatives lie from their queries, one curve for each way of drawing them, as PNG."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lightgcn_jax.errors import InputError
from lightgcn_jax.files import replacing

# Unit vectors are at most 2 apart.
_BINS = np.linspace(0, 2, 81)


def plot_distances(distances: Mapping[str, np.ndarray], path: Path) -> Path | None:
    """Write the densities of query–negative distances, where matplotlib is installed.

    Args:
        distances: for each kind of negative (uniform, hard, distance-weighted), Euclidean distances
            of unit vectors, any shape, not empty.
        path: the file to write.

    Returns:
        The file; None without matplotlib (the extra ``plot``).

    Raises:
        InputError: a kind has no distance, or one that unit vectors cannot have.
    """
    for name, values in distances.items():
        values = np.asarray(values)
        # Rounding may push an antipode past 2.
        if not values.size or not ((values >= 0) & (values <= 2.001)).all():
            found = f"{values.min()} to {values.max()}" if values.size else "none"
            raise InputError(f"distances: expected values in [0, 2] for {name!r}, got {found}")
    if importlib.util.find_spec("matplotlib") is None:
        return None
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for place, (name, values) in enumerate(distances.items()):
        heights, _ = np.histogram(np.minimum(np.ravel(values), 2), _BINS, density=True)
        axes.stairs(heights, _BINS, label=name, color=f"C{place}", linewidth=1.5)
        axes.stairs(heights, _BINS, color=f"C{place}", fill=True, alpha=0.15)
    axes.set_xlabel("distance between query and negative")
    axes.set_ylabel("density")
    axes.set_xlim(0, 2)
    axes.grid(alpha=0.3)
    axes.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    return path
