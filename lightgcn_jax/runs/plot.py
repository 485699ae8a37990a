"""One picture of a finished run, and one of several runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from lightgcn_jax.data.splits import Split
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import evaluate, item_groups, user_groups
from lightgcn_jax.evaluation.groups import PopularityTenths, popularity_tenths
from lightgcn_jax.evaluation.parts import EvaluationSets, evaluation_sets
from lightgcn_jax.evaluation.popularity import popularity_evaluation, popularity_figures
from lightgcn_jax.graph.bipartite import training_graph
from lightgcn_jax.models import ClosedForm, Model, Score
from lightgcn_jax.runs.compare import Comparison
from lightgcn_jax.runs.curves import loss_curves, metric_curves
from lightgcn_jax.runs.directory import RunDirectory
from lightgcn_jax.runs.loading import load_scorer
from lightgcn_jax.runs.panels import Bars, Curves, Intervals, Panel, check_picture, draw_picture
from lightgcn_jax.settings import Config, TrainConfig, label_of, model_name
from lightgcn_jax.settings.config import metric_among

_OWN = "own data"
_WHAT = {
    "recall": "share of items found",
    "precision": "share of the list that is right",
    "hit_rate": "share of users with a hit",
}
POPULARITY = "ranked by popularity"


def plot_run(
    path: Path | str,
    out: Path,
    *,
    groups: int = 4,
    model: Model | ClosedForm | None = None,
    score: Score | None = None,
) -> Path:
    """Draw how a run learnt, whom it serves, and how popular the items are that it recommends.

    The metric is the one that chose the epoch; of a closed form, recall at the cut-off nearest to
    20. Test is ranked for the panels below the curves, beside a ranking by popularity.

    Args:
        path: the run's directory.
        out: the picture; it ends in .png or .svg.
        groups: how many groups of users and of items there are.
        model: the model that the run was made with, where it is a closed form of one's own.
        score: the score that the run was made with, where it is one of one's own.

    Returns:
        The picture.

    Raises:
        InputError: no finished run, no matplotlib, another ending, or a run with nothing to show.
    """
    check_picture(out)
    run = RunDirectory.open(Path(path))
    run.finished_summary()
    config = run.config_with(model=model, score=score)
    sets, metric = evaluation_sets(run.split, config.cold), _metric(config)
    rows = [_learning(run, config, sets, metric)]
    if sets.test.columns.shape[0]:
        rows.append(_of_test(run, config, sets, metric, groups))
    rows = [row for row in rows if row]
    if not rows:
        raise InputError(
            f"{path}: expected epochs or test pairs to draw, a run of {model_name(config)} under "
            f"the protocol {config.protocol} has neither"
        )
    title = f"{model_name(config)} on {data_name(run.data)}"
    lines = [f"run {run.path.resolve().name}", f"protocol {label_of(config)}", _size_of(run.split)]
    return draw_picture(out, title, lines, rows)


def data_name(record: Mapping[str, Any]) -> str:
    """What the data of a run are called.

    Args:
        record: how they were made, as a run keeps it.
    """
    # A run of own data keeps their path; one that Python was handed arrays for, nothing.
    return str(PurePath(record["data"]).name if "data" in record else record.get("dataset", _OWN))


def tenths_panel(tenths: PopularityTenths, k: int, users: str) -> Bars:
    """Show the popularity of what is recommended beside that of the catalogue.

    Args:
        tenths: the shares.
        k: how many items were recommended to each.
        users: what an item's popularity counts: "training users" or "contexts".
    """
    return Bars(
        f"Popularity of the first {k} recommended",
        f"{users} of an item; each bar a tenth of the items",
        "share",
        tenths.labels,
        {
            "of training interactions": tenths.interactions.tolist(),
            "of recommendations": tenths.recommended.tolist(),
        },
        percent=True,
    )


def plot_comparison(found: Comparison, out: Path) -> Path:
    """Draw the figures of runs that were compared, with their intervals.

    Args:
        found: the comparison.
        out: the picture; it ends in .png or .svg.

    Returns:
        The picture.

    Raises:
        InputError: no matplotlib, or another ending.
    """
    check_picture(out, "--plot")
    names = [f"{run.name} ({run.model})" for run in found.runs]
    base = found.runs[found.baseline]
    rows = []
    for metric in base.metrics:
        values = [run.metrics[metric] for run in found.runs]
        spread = [run.half_widths[metric] for run in found.runs]
        low = [value - half for value, half in zip(values, spread, strict=True)]
        high = [value + half for value, half in zip(values, spread, strict=True)]
        label = f"{metric}, mean over test users"
        means = Intervals(
            f"{metric} of each run", label, names, values, low, high, range(len(names))
        )
        paired = [run.tests[metric].paired if metric in run.tests else None for run in found.runs]
        others = [place for place, one in enumerate(paired) if one is not None]
        tested = [one for one in paired if one is not None]
        differences = Intervals(
            f"Difference from {base.name}, the same users paired",
            f"difference in {metric}",
            [names[place] for place in others],
            [one.difference for one in tested],
            [one.low for one in tested],
            [one.high for one in tested],
            others,
            zero=True,
        )
        rows.append([means, differences])
    data = dict.fromkeys(data_name(RunDirectory.open(run.path).data) for run in found.runs)
    lines = [
        f"{found.test_pairs:,} test pairs of {found.users:,} users",
        "bars: 95 % intervals, of a mean by its standard error, of a difference by bootstrap",
    ]
    title, height = f"{len(found.runs)} runs on {', '.join(data)}", 1.5 + 0.55 * len(names)
    return draw_picture(out, title, lines, rows, row_height=height)


def _metric(config: Config) -> str:
    if isinstance(config, TrainConfig):
        return config.metric
    return metric_among(TrainConfig().metric, config.ks)


def _size_of(split: Split) -> str:
    return f"{split.counts()} interactions, {len(split.valid):,} valid, {len(split.test):,} test"


def _axis(metric: str) -> str:
    return f"{metric} ({_WHAT.get(metric.partition('@')[0], '0 to 1')})"


def _learning(run: RunDirectory, config: Config, sets: EvaluationSets, metric: str) -> list[Panel]:
    """The curves of a trained model; none of one that was fitted in one go."""
    if not config.is_trained:
        return []
    history, summary = run.history(), run.finished_summary()
    chosen, panels = summary["best_epoch"], []
    if curves := metric_curves(history, metric):
        popular = popularity_figures(sets, "valid", config.ks).get(metric)
        line = None if popular is None else (POPULARITY, popular)
        title = f"Validation over the epochs: {metric}"
        panels.append(Curves(title, _axis(metric), curves, chosen, line))
    panels.append(Curves("Training loss", "mean loss of an epoch", loss_curves(history), chosen))
    return panels


def _of_test(
    run: RunDirectory, config: Config, sets: EvaluationSets, metric: str, groups: int
) -> list[Panel]:
    """Test taken apart by users and by items."""
    k = int(metric.partition("@")[2])
    scorer = sets.ranking(load_scorer(run, config))
    own = evaluate(scorer, sets.test, ks=(k,), seen=sets.known)
    popular = popularity_evaluation(sets, "test", (k,))
    assert popular is not None
    train = training_graph(run.split)
    tenths = popularity_tenths(own.ranked, np.asarray(train.users_of_item.lengths()))
    of_users, of_items = [], []
    for one in (own, popular):
        of_users.append(user_groups(one, train, sets.test, groups))
        of_items.append(item_groups(one, train, sets.test, groups))
    by = metric if metric in of_users[0][0].metrics else f"recall@{k}"
    users = Bars(
        f"Test {by} by the users' activity",
        "training items of a user (n users)",
        _axis(by),
        [group_name(one.label, one.users) for one in of_users[0]],
        {"this run": [one.metrics[by] for one in of_users[0]]},
        (POPULARITY, [one.metrics[by] for one in of_users[1]]),
    )
    recall = f"recall@{k}"
    items = Bars(
        f"Test {recall} by the items' popularity",
        "training users of an item (n items)",
        f"{recall} (share of pairs found)",
        [group_name(one.label, one.items) for one in of_items[0]],
        {"this run": _recalls(of_items[0], recall)},
        (POPULARITY, _recalls(of_items[1], recall)),
    )
    return [tenths_panel(tenths, k, "training users"), users, items]


def _recalls(groups: Sequence[Any], name: str) -> list[float]:
    return [one.recall.get(name, float("nan")) for one in groups]


def group_name(label: str, count: int) -> str:
    """What stands below the bar of a group.

    Args:
        label: its range.
        count: how many it holds.
    """
    return f"{label}\nn = {count:,}"
