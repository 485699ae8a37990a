"""The figures of a finished run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import scipy  # which imports stats where it is asked for: a fifth of a command's start

from lightgcn_jax.data.pairs import PARTS
from lightgcn_jax.evaluation.parts import EvaluationSets
from lightgcn_jax.runs.progress import Progress
from lightgcn_jax.settings import Config, TrainConfig, label_of, model_name
from lightgcn_jax.settings.protocols import SELECTION_PART
from lightgcn_jax.sharding import Layout, ShardedStorage
from lightgcn_jax.sharding.mesh import shown


def seed_statistics(values: Sequence[float]) -> dict[str, float]:
    """Mean, standard deviation and the half width of a 95 % confidence interval over seeds.

    The interval is Student's t with n − 1 degrees of freedom; both spreads need n ≥ 2.

    Args:
        values: one a seed.
    """
    sample = np.asarray(values, np.float64)
    mean, n = float(sample.mean()), len(sample)
    if n < 2:
        return {"mean": mean}
    deviation = float(sample.std(ddof=1))
    half_width = float(scipy.stats.t.ppf(0.975, n - 1)) * deviation / n**0.5
    return {"mean": mean, "std": deviation, "ci95_half_width": half_width}


def summarize(
    config: Config, replicas: Sequence[Mapping[str, Any]], chosen: int, details: Mapping[str, Any]
) -> dict[str, Any]:
    """Put a run's summary together.

    Args:
        config: the run's settings.
        replicas: for each run trained at once ``seed``, the settings in which it differs,
            ``best_epoch`` (0 for a closed form) and the parts' metrics at that epoch.
        chosen: index of the one whose model is kept.
        details: timings, counts and whatever else belongs to the run.

    Returns:
        A JSON value. ``train``, ``valid`` and ``test`` are means over the seeds, ``{}`` for a part
        without pairs (``legacy`` trains on validation) and for train unless it was asked for;
        ``best_epoch`` is that of the seed whose model the run keeps; with several seeds
        ``statistics`` has the spread and ``embeddings_of_seed`` names the seed that is kept.
        ``seeds`` holds ``replicas``.
    """
    summary: dict[str, Any] = {
        "model": model_name(config),
        "protocol": config.protocol,
        "protocol_note": label_of(config),
        "best_epoch": replicas[chosen]["best_epoch"],
    }
    statistics = {}
    for part in PARTS:
        names = replicas[0].get(part, {})
        spread = {name: seed_statistics([one[part][name] for one in replicas]) for name in names}
        summary[part] = {name: values["mean"] for name, values in spread.items()}
        statistics[part] = spread
    if len(replicas) > 1:
        summary |= {
            "statistics": statistics,
            "seeds": [dict(one) for one in replicas],
            "embeddings_of_seed": replicas[chosen]["seed"],
        }
    return summary | dict(details)


def ranked_parts(config: Config) -> tuple[str, ...]:
    """The parts that a run ranks: train only where that is asked for.

    Args:
        config: its settings.
    """
    return PARTS if config.rank_train else PARTS[1:]


def split_figures(sets: EvaluationSets) -> dict[str, Any]:
    """What a summary says of the data and the machine.

    Args:
        sets: the split under its protocol.
    """
    split = sets.split
    return {
        "users": len(split.users),
        "items": len(split.items),
        "interactions": {part: len(getattr(split, part)) for part in PARTS},
        "users_without_test_items": sets.users_without_test_items,
        "cold": sets.cold_figures(),
        "platform": jax.default_backend(),
    }


def training_figures(config: TrainConfig, progress: Progress) -> dict[str, Any]:
    """What a summary says of a run's training.

    Args:
        config: its settings.
        progress: where it ended.
    """
    selected = SELECTION_PART[config.protocol]
    finished = progress.epoch >= config.optimization.epochs
    return {
        "train_seconds": round(progress.train_seconds, 3),
        "compile_seconds": round(progress.compile_seconds, 3),
        "evaluate_seconds": round(progress.evaluate_seconds, 3),
        "epochs": progress.epoch,
        "stopped_by": "epochs" if finished else "patience",
        "selected_by": "nothing" if selected is None else f"{selected} {config.metric}",
    }


def mesh_figures(layout: Layout | None, operator: Any) -> dict[str, Any]:
    """What a summary says of the devices that a run was shared out over; nothing of one device.

    Args:
        layout: where the nodes lie.
        operator: what the model reads.
    """
    if layout is None:
        return {}
    storage = getattr(operator, "storage", None)
    figures: dict[str, Any] = {"mesh": shown(layout.mesh), "processes": jax.process_count()}
    if isinstance(storage, ShardedStorage):
        figures["exchange"] = storage.exchange
        figures["rows_received_a_device"] = storage.rows_received
        figures["edges_most_over_mean"] = round(storage.unevenness, 3)
    return figures
