"""How far the negatives of a run lie from their queries, as numbers and as a picture."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.errors import InputError
from lightgcn_jax.files import replacing
from pinsage_jax.encoder.pinsage import unit
from pinsage_jax.evaluation.parts import query_scorer
from pinsage_jax.negatives.distance_weighted import draw_distance_weighted, unit_distances
from pinsage_jax.negatives.hard import draw_hard
from pinsage_jax.negatives.shared import draw_shared_negatives, hard_valid, shared_valid
from pinsage_jax.runs.finished import read_finished
from pinsage_jax.tasks.task import graph_of
from pinsage_jax.training.preparation import hard_pool_of

_QUERIES = 500


def negative_distances(path: Path, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Measure how far negatives lie from test queries, for each way of drawing them.

    Vectors are made unit length. Up to 500 test queries draw what a training step would draw for
    them by the run's settings: its shared negatives, all that their hard pools hold, and
    distance-weighted negatives among as many shared ones.

    Args:
        path: the directory of a finished run.
        seed: the seed of the draws.

    Returns:
        ``float32[n]`` by ``uniform``, ``hard`` and ``distance-weighted``.
    """
    run = read_finished(path)
    config, held_out = run.config, run.task.test
    queries = jnp.asarray(held_out.queries[:_QUERIES])
    # A step does not know the test positives: to it they are negatives like any other.
    nobody = jnp.full(len(queries), -1, jnp.int32)
    vectors = unit(query_scorer(run.model, run.params, run.vectors, np.asarray(queries)).queries)
    items = unit(jnp.asarray(run.vectors))
    uniform_key, hard_key, pool_key, choice_key = jax.random.split(jax.random.key(seed), 4)
    shared = draw_shared_negatives(uniform_key, config.negatives, jnp.asarray(run.pool))
    valid = shared_valid(queries, nobody, shared)
    to_shared = unit_distances(vectors, items[shared])
    places = draw_distance_weighted(
        choice_key, vectors, items[shared], min(config.distance_weighted, config.negatives), valid
    )
    rows = np.unique(held_out.queries[:_QUERIES])
    pool = hard_pool_of(pool_key, graph_of(run.task), run.task, config, rows[rows >= 0])
    hard = draw_hard(hard_key, pool.ids, queries, config.hard_pool)
    of_hard = items[jnp.maximum(hard, 0)]
    to_hard = jax.vmap(lambda query, found: unit_distances(query[None], found)[0])(vectors, of_hard)
    found = {
        "uniform": to_shared[valid],
        "hard": to_hard[hard_valid(queries, nobody, hard)],
        "distance-weighted": jnp.take_along_axis(to_shared, jnp.maximum(places, 0), axis=1)[
            places >= 0
        ],
    }
    return {name: np.asarray(values) for name, values in found.items() if values.size}


# Unit vectors are at most 2 apart.
_BINS = np.linspace(0, 2, 81)


def plot_distances(distances: Mapping[str, np.ndarray], path: Path) -> Path | None:
    """Write the densities of query–negative distances, where matplotlib is installed.

    Args:
        distances: Euclidean distances of unit vectors by kind of negative (uniform, hard,
            distance-weighted), of any shape, none of them empty.
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
