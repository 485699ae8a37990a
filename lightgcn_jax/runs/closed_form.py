"""Runs without epochs: fit each seed's model, rank every part once, write the figures."""

from __future__ import annotations

import shlex
import time

import jax
import numpy as np

from lightgcn_jax.data.pairs import PARTS
from lightgcn_jax.data.splits import Split
from lightgcn_jax.diffusion.choice import choose_backend
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.parts import evaluation_sets, rank_parts
from lightgcn_jax.evaluation.scorer import Scorer
from lightgcn_jax.graph.bipartite import training_graph
from lightgcn_jax.runs.clock import compile_seconds
from lightgcn_jax.runs.directory import RunDirectory
from lightgcn_jax.runs.interrupt import Interrupted
from lightgcn_jax.runs.progress import Trained
from lightgcn_jax.runs.reporter import Reporter
from lightgcn_jax.runs.summary import summarize
from lightgcn_jax.settings.config import TrainConfig
from lightgcn_jax.settings.models import MODELS, ClosedForm, reads


def fit_closed_form(
    split: Split, config: TrainConfig, directory: RunDirectory | None, reporter: Reporter
) -> Trained:
    """Fit a model in closed form and judge it.

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
    try:
        return _fit_and_judge(split, config, directory, reporter)
    except KeyboardInterrupt:
        where = "nothing was written, the run had no directory"
        if directory is not None:
            path = shlex.quote(str(directory.path))
            where = f"start again with: lightgcn-jax train --resume {path}"
        raise Interrupted(f"interrupted; {where}") from None


def _fit_and_judge(
    split: Split, config: TrainConfig, directory: RunDirectory | None, reporter: Reporter
) -> Trained:
    form = closed_form_of(config)
    sets, graph = evaluation_sets(split), training_graph(split)
    kept, history = None, []
    fitting, evaluating, compiling = 0.0, 0.0, compile_seconds()
    for seed in range(config.seed, config.seed + config.seeds):
        start = time.perf_counter()
        scorer = jax.block_until_ready(form.fit(graph, config, jax.random.key(seed)))
        fitted, compiled = time.perf_counter(), compile_seconds()
        which = f" with seed {seed}" if config.seeds > 1 else ""
        reporter.noted(f"{config.model} fitted{which} in {fitted - start:.2f} s")
        metrics = rank_parts(scorer, sets, PARTS, config.ks)
        history.append({"epoch": 0, "seed": seed} | metrics)
        fitting += fitted - start
        evaluating += time.perf_counter() - fitted - (compile_seconds() - compiled)
        kept = scorer if kept is None else kept
    assert kept is not None
    tensors = {name: np.asarray(getattr(kept, name)) for name in form.tensors}
    details = {
        "fit_seconds": round(fitting, 3),
        "compile_seconds": round(compile_seconds() - compiling, 3),
        "evaluate_seconds": round(evaluating, 3),
        "epochs": 0,
        "users": len(split.users),
        "items": len(split.items),
        "interactions": {part: len(getattr(split, part)) for part in PARTS},
        "users_without_test_items": sets.users_without_test_items,
        "parameters": sum(tensor.size for tensor in tensors.values()),
        "platform": jax.default_backend(),
    }
    if reads(config.model, "backend"):
        details["backend"] = choose_backend(config.backend).name
    per_seed = [
        {"seed": record["seed"], "best_epoch": 0} | {part: record[part] for part in PARTS}
        for record in history
    ]
    summary = summarize(config, per_seed, 0, details)
    if directory is not None:
        directory.write_metrics(history)
        directory.write_model(tensors)
        directory.write_summary(summary)
    return Trained(summary, history, kept)


def rebuild(directory: RunDirectory) -> Scorer:
    """The model of a finished run in closed form.

    Raises:
        InputError: the run is not finished, or its tensors do not fit it.
    """
    config, split = directory.config, directory.split
    form = closed_form_of(config)
    tensors = directory.model(form.tensors)
    graph = training_graph(split)
    arrays = {name: jax.numpy.asarray(tensor) for name, tensor in tensors.items()}
    scorer = form.rebuilt(arrays, graph, config, jax.random.key(config.seed))
    got = scorer.num_queries, scorer.num_items
    if got != (len(split.users), len(split.items)):
        raise InputError(
            f"{directory.path / 'model.safetensors'}: expected {len(split.users)} users and "
            f"{len(split.items)} items, got {got[0]} and {got[1]}"
        )
    return scorer


def closed_form_of(config: TrainConfig) -> ClosedForm:
    """How the configured model is fitted; it must not be a trained one."""
    form = MODELS[config.model].closed_form
    assert form is not None
    return form
