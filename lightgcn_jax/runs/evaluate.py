"""A finished run beyond its accuracy: test is ranked once, and all figures are read off that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import catalogue_metrics, evaluate, item_groups, user_groups
from lightgcn_jax.evaluation.parts import evaluation_sets, rank_parts
from lightgcn_jax.graph.bipartite import training_graph
from lightgcn_jax.models import ClosedForm, Model, Score
from lightgcn_jax.runs.directory import RunDirectory
from lightgcn_jax.runs.fit import load_scorer
from lightgcn_jax.settings import label_of, model_name


def evaluate_run(
    path: Path | str,
    ks: tuple[int, ...],
    *,
    beyond: bool = False,
    groups: int = 0,
    model: Model | ClosedForm | None = None,
    score: Score | None = None,
) -> dict[str, Any]:
    """Rank a finished run's parts again at chosen cut-offs, and say what its lists are like.

    Args:
        path: the run's directory.
        ks: cut-offs.
        beyond: add the metrics of :mod:`lightgcn_jax.evaluation.catalogue` on test.
        groups: add test by so many groups of users and of items; 0 adds none.
        model: the model that the run was made with, where it is a closed form of one's own.
        score: the score that the run was made with, where it is one of one's own.

    Returns:
        A JSON value: ``model``, ``protocol``, ``protocol_note``, the parts' metrics (``{}`` for a
        part without pairs), ``users_without_test_items``; where asked for ``beyond``, and
        ``groups`` of ``users`` and ``items``.

    Raises:
        InputError: no finished run, a cut-off that does not fit the catalogue, or no test pairs
            for what was asked.
    """
    if groups < 0:
        raise InputError(f"groups: expected at least 1, or 0 for none, got {groups}")
    directory = RunDirectory.open(Path(path))
    config, split = directory.config_with(model=model, score=score), directory.split
    scorer = load_scorer(directory, config)
    sets = evaluation_sets(split)
    figures: dict[str, Any] = {
        "model": model_name(config),
        "protocol": config.protocol,
        "protocol_note": label_of(config),
        **rank_parts(scorer, sets, ("train", "valid"), ks),
        "test": {},
        "users_without_test_items": sets.users_without_test_items,
    }
    if not len(split.test):
        if beyond or groups:
            raise InputError(f"{path}: expected test pairs to evaluate the run by, it has none")
        return figures
    evaluation = evaluate(scorer, sets.test, ks=ks, seen=sets.known)
    figures["test"] = evaluation.metrics
    train = training_graph(split)
    if beyond:
        figures["beyond"] = catalogue_metrics(evaluation.ranked, train, ks, users=evaluation.users)
    if groups:
        figures["groups"] = {
            "users": [one._asdict() for one in user_groups(evaluation, train, sets.test, groups)],
            "items": [one._asdict() for one in item_groups(evaluation, train, sets.test, groups)],
        }
    return figures
