"""A finished run beyond its accuracy: test is ranked once, and all figures are read off that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import catalogue_metrics, evaluate, item_groups, user_groups
from lightgcn_jax.evaluation.cold import Cold
from lightgcn_jax.evaluation.parts import evaluation_sets, rank_parts
from lightgcn_jax.evaluation.popularity import popularity_figures
from lightgcn_jax.graph.bipartite import training_graph
from lightgcn_jax.models import ClosedForm, Model, Score
from lightgcn_jax.runs.directory import RunDirectory
from lightgcn_jax.runs.loading import load_scorer
from lightgcn_jax.settings import label_of, model_name


def evaluate_run(
    path: Path | str,
    ks: tuple[int, ...],
    *,
    beyond: bool = False,
    groups: int = 0,
    cold: Cold | None = None,
    rank_train: bool = False,
    model: Model | ClosedForm | None = None,
    score: Score | None = None,
) -> dict[str, Any]:
    """Rank a finished run's parts again at chosen cut-offs, and say what its lists are like.

    Args:
        path: the run's directory.
        ks: cut-offs.
        beyond: add the metrics of :mod:`lightgcn_jax.evaluation.catalogue` on test.
        groups: add test by so many groups of users and of items; 0 adds none.
        cold: what becomes of pairs whose user or item no training interaction names; by default
            what the run says.
        rank_train: rank the training pairs too.
        model: the model that the run was made with, where it is a closed form of one's own.
        score: the score that the run was made with, where it is one of one's own.

    Returns:
        A JSON value: ``model``, ``protocol``, ``protocol_note``, the parts' metrics (``{}`` for a
        part without pairs and for train unless it was asked for), ``popularity``, the metrics on
        test of a ranking by the items' training users, ``users_without_test_items``,
        the ``cold`` policy and counts; where asked for ``beyond``, and
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
    sets = evaluation_sets(split, cold or config.cold)
    figures: dict[str, Any] = {
        "model": model_name(config),
        "protocol": config.protocol,
        "protocol_note": label_of(config),
        "train": {},
        **rank_parts(scorer, sets, ("train", "valid") if rank_train else ("valid",), ks),
        "test": {},
        "popularity": popularity_figures(sets, "test", ks),
        "users_without_test_items": sets.users_without_test_items,
        "cold": sets.cold_figures(),
    }
    if not sets.test.columns.shape[0]:
        if beyond or groups:
            of = f" (cold {sets.cold}, {len(split.test):,} pairs)" if len(split.test) else ""
            raise InputError(f"{path}: expected test pairs to evaluate the run by, it has none{of}")
        return figures
    evaluation = evaluate(sets.ranking(scorer), sets.test, ks=ks, seen=sets.known)
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
