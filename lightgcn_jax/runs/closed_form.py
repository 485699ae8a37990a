"""Runs without epochs: fit each seed's model, rank every part once, write the figures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from lightgcn_jax.arrays import check_array
from lightgcn_jax.data import Split
from lightgcn_jax.diffusion.choice import choose_backend
from lightgcn_jax.errors import InputError, naming
from lightgcn_jax.evaluation.parts import EvaluationSets, evaluation_sets, rank_parts
from lightgcn_jax.evaluation.scorer import Scorer
from lightgcn_jax.graph.bipartite import training_graph
from lightgcn_jax.runs.directory import RunDirectory
from lightgcn_jax.runs.interrupt import resumable
from lightgcn_jax.runs.progress import Trained
from lightgcn_jax.runs.reporter import Reporter
from lightgcn_jax.runs.summary import ranked_parts, split_figures, summarize
from lightgcn_jax.settings.config import ClosedFormConfig
from lightgcn_jax.settings.registry import model_name, reads


def fit_closed_form(
    split: Split, config: ClosedFormConfig, directory: RunDirectory | None, reporter: Reporter
) -> Trained:
    """Fit a model in closed form and rank by it.

    Args:
        split: the protocol is applied.
        config: its model is one with a closed form. With several seeds each is fitted and ranked,
            and the first one's model is kept: there is nothing to choose by.
        directory: where to write; None keeps everything in memory.
        reporter: gets a line a seed.

    Returns:
        The figures (``fit_seconds`` with compilation included), a record a seed, and the model.

    Raises:
        Interrupted: Ctrl-C.
    """
    with resumable(directory, "start again"):
        return _fit_and_rank(split, config, directory, reporter)


def _fit_and_rank(
    split: Split, config: ClosedFormConfig, directory: RunDirectory | None, reporter: Reporter
) -> Trained:
    sets, name = evaluation_sets(split, config.cold), model_name(config)
    kept, history, per_seed = None, [], []
    fitting, evaluating = 0.0, 0.0
    for record, scorer, fit_seconds, rank_seconds in fits(sets, config, ranked_parts(config)):
        which = f" with seed {record['seed']}" if config.seeds > 1 else ""
        reporter.noted(f"{name} fitted{which} in {fit_seconds:.2f} s")
        history.append({"epoch": 0} | record)
        per_seed.append({"seed": record["seed"], "best_epoch": 0} | record)
        fitting, evaluating = fitting + fit_seconds, evaluating + rank_seconds
        kept = scorer if kept is None else kept
    assert kept is not None
    tensors = {name: np.asarray(getattr(kept, name)) for name in config.model.tensors}
    details = {
        "fit_seconds": round(fitting, 3),
        "evaluate_seconds": round(evaluating, 3),
        "epochs": 0,
        **split_figures(sets),
        "parameters": sum(tensor.size for tensor in tensors.values()),
    }
    if reads(name, "backend"):
        details["backend"] = choose_backend(config.backend).name
    summary = summarize(config, per_seed, 0, details)
    if directory is not None:
        directory.write_metrics(history)
        directory.write_model(tensors)
        directory.write_summary(summary)
    return Trained(summary, history, kept)


def fits(
    sets: EvaluationSets, config: ClosedFormConfig, parts: tuple[str, ...]
) -> Iterator[tuple[dict[str, Any], Scorer, float, float]]:
    """Fit and rank with one seed after another.

    Args:
        sets: the split under its protocol.
        config: the settings.
        parts: the parts to rank.

    Yields:
        The seed and the parts' metrics, the scorer, and the seconds of fitting and of ranking,
        compilation included.
    """
    graph = training_graph(sets.split)
    for seed in range(config.seed, config.seed + config.seeds):
        start = time.perf_counter()
        key = jax.random.key(seed)
        scorer = jax.block_until_ready(config.model.fit(graph, key, config.backend))
        fitted = time.perf_counter()
        record = {"seed": seed} | rank_parts(scorer, sets, parts, config.ks)
        yield record, scorer, fitted - start, time.perf_counter() - fitted


def rebuild(directory: RunDirectory, config: ClosedFormConfig) -> Scorer:
    """The model of a finished run in closed form.

    Args:
        directory: the run.
        config: its settings.

    Raises:
        InputError: the run is not finished, its tensors do not fit it, or the model is one of one's
            own that was not given.
    """
    split = directory.split
    arrays = jax.tree.map(jax.numpy.asarray, directory.model(config.model.tensors))
    graph, key = training_graph(split), jax.random.key(config.seed)
    with naming(directory.path / "model.safetensors"):
        for name, array in arrays.items():
            check_array(name, array, array.shape, array.dtype)  # finite, whatever it is
        scorer = config.model.rebuilt(arrays, graph, key, config.backend)
    got = scorer.num_queries, scorer.num_items
    if got != (len(split.users), len(split.items)):
        raise InputError(
            f"{directory.path / 'model.safetensors'}: expected {len(split.users)} users and "
            f"{len(split.items)} items, got {got[0]} and {got[1]}"
        )
    return scorer
