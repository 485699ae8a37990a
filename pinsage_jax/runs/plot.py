"""One picture of a finished run: how it learnt, and what it recommends to whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from lightgcn_jax.evaluation import InnerProduct, degree_groups, rank
from lightgcn_jax.evaluation.groups import popularity_tenths
from lightgcn_jax.runs.panels import Bars, Curves, Panel, check_picture, draw_picture
from lightgcn_jax.runs.plot import POPULARITY, data_name, group_name, tenths_panel
from pinsage_jax.evaluation.baselines import BASELINES
from pinsage_jax.evaluation.metrics import ItemMetrics, ranked_items
from pinsage_jax.evaluation.parts import query_scorer
from pinsage_jax.runs.directory import PinSageRun
from pinsage_jax.runs.finished import FinishedRun, read_finished

_QUERIES = 10_000


def plot_run(path: Path, out: Path, *, groups: int = 4) -> Path:
    """Draw how a run learnt, how popular the items are that it finds, and its figures by group.

    Args:
        path: the run's directory.
        out: the picture; it ends in .png or .svg.
        groups: how many groups of queries and of items there are.

    Returns:
        The picture.

    Raises:
        InputError: no finished run, no matplotlib, or another ending.
    """
    check_picture(out)
    directory, run = PinSageRun.open(path), read_finished(path)
    task, pool = run.task, run.pool
    by_popularity = BASELINES["popularity"]
    ks = run.config.ks
    popular = ranked_items(by_popularity(task, task.test), task.test, pool, ks)
    scorer = query_scorer(run.model, run.params, run.vectors, task.test.queries)
    own = ranked_items(scorer, task.test, pool, ks)
    lowest = next(name for name in own.metrics if name.startswith("hit_rate@"))
    before = ranked_items(by_popularity(task, task.valid), task.valid, pool, ks).metrics
    shown = tuple(dict.fromkeys((run.config.metric, lowest)))
    top: list[Panel] = _learning(directory, shown, before)
    bottom = _of_test(run, scorer, own, popular, lowest, groups)
    title = f"pinsage on {data_name(directory.record.get('data') or {})}"
    lines = [
        f"run {path.resolve().name}",
        f"{len(pool):,} training items are ranked, for {len(own.queries):,} test queries",
        f"{len(task.train):,} edges in training, {task.train.num_users:,} contexts",
    ]
    return draw_picture(out, title, lines, [top, bottom])


def _learning(
    directory: PinSageRun, metrics: Sequence[str], popular: dict[str, float]
) -> list[Panel]:
    history, chosen = directory.read_metrics(), directory.summary["best_epoch"]
    panels: list[Panel] = []
    for name in metrics:
        ranked = [one for one in history if name in one.get("valid", {})]
        epochs = [one["epoch"] for one in ranked]
        values = [one["valid"][name] for one in ranked]
        of_pairs = name.startswith("hit_rate@")
        label = f"{name} (share of pairs found)" if of_pairs else f"{name} (0 to 1)"
        title = f"Validation over the epochs: {name}"
        line = (POPULARITY, popular[name])
        panels.append(Curves(title, label, {"valid": (epochs, values)}, chosen, line))
    with_loss = [one for one in history if "loss" in one]
    curve = [one["epoch"] for one in with_loss], [one["loss"] for one in with_loss]
    panels.append(Curves("Training loss", "mean loss of an epoch", {"loss": curve}, chosen))
    return panels


def _of_test(
    run: FinishedRun,
    scorer: InnerProduct,
    own: ItemMetrics,
    popular: ItemMetrics,
    metric: str,
    groups: int,
) -> list[Panel]:
    """Test taken apart by items and by queries."""
    task, k = run.task, int(metric.partition("@")[2])
    degrees = np.bincount(task.train.item_rows, minlength=task.train.num_items)
    every = max(1, -(-len(own.queries) // _QUERIES))
    asked = own.queries[::every]
    ranked = rank(scorer, asked, k, seen=task.test.seen, candidates=run.pool).items
    # Items that training did not see may not be ranked: they are none of the catalogue here.
    place = np.full(len(degrees), -1)
    place[run.pool] = np.arange(len(run.pool))
    ranked = np.where(ranked >= 0, place[ranked], -1)
    tenths = popularity_tenths(ranked, degrees[run.pool])
    positives = np.asarray(task.test.relevant.columns)

    def of_pairs(found: ItemMetrics, inside: np.ndarray) -> float:
        hits = (found.ranks > 0) & (found.ranks <= k)
        return float(hits[inside].mean())

    def of_queries(found: ItemMetrics, inside: np.ndarray) -> float:
        return float(found.per_query[metric][inside].mean())

    queries = task.test.queries[own.queries]
    if queries.shape[1] == 1:
        known, which = degrees[np.maximum(queries[:, 0], 0)], "contexts of the query's item"
    else:
        known = np.asarray(task.test.seen.lengths())[own.queries]
        which = "known items of the user"

    def bars(
        title: str,
        across: str,
        sizes: np.ndarray,
        value: Callable[[ItemMetrics, np.ndarray], float],
    ) -> Bars:
        parts = degree_groups(sizes, groups)
        insides = [parts.members == at for at in range(len(parts.labels))]
        return Bars(
            title,
            across,
            f"{metric} (share of pairs found)",
            [
                group_name(label, int(inside.sum()))
                for label, inside in zip(parts.labels, insides, strict=True)
            ],
            {"this run": [value(own, inside) for inside in insides]},
            (POPULARITY, [value(popular, inside) for inside in insides]),
        )

    by_query = bars(f"Test {metric} by the query", f"{which} (n queries)", known, of_queries)
    title = f"Test {metric} by the item's popularity"
    by_item = bars(title, "contexts of the item (n pairs)", degrees[positives], of_pairs)
    return [tenths_panel(tenths, k, "contexts"), by_query, by_item]
