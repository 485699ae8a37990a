"""Newcomers: users who were never trained, recommended to from half of their items.

A tenth of the users is taken out of training altogether, and half of each one's items is given.
What a model recommends them by fold-in is judged by the other half, all other items ranked, beside
what the same users get from the same model trained with their given half. A tenth of the items of
the others chooses the epoch of both. Popularity and item-based cosine of the given items stand
below. Of filters the list is also scored as a row of a user whom training knew, which leaves the
graph and the low-pass filter as they were. Intervals are of the ratio of means over the newcomers
of all draws.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from benchmarks.harness.report import (
    Claim,
    Ratio,
    Report,
    cores,
    note,
    ratio_of_means,
    whole_number,
)
from lightgcn_jax.data import Interactions, Pairs, Split, load_dataset
from lightgcn_jax.data.pairs import merge_pairs
from lightgcn_jax.evaluation import rank
from lightgcn_jax.models import (
    MF,
    ClosedForm,
    Filter,
    FilterScorer,
    GfCf,
    ItemCf,
    LightGCN,
    Model,
    Popular,
)
from lightgcn_jax.runs import fit
from lightgcn_jax.serving import Recommender
from lightgcn_jax.serving.answers import histories_of
from lightgcn_jax.settings import ClosedFormConfig, Config, Selection, TrainConfig
from lightgcn_jax.training import Optimization, SharedNegatives

DATASETS = ("lastfm", "ml-100k", "ml-latest-small")
_BATCH = {"lastfm": 2048, "ml-100k": 8192, "ml-latest-small": 8192}
_CUT_OFF = 20
_HELD_SHARE, _VALID_SHARE = 0.1, 0.1


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        model: the model.
        l2: weight of the L2 penalty of a trained one.
        target: the least share of the recall of training in full; None where nothing is claimed.
    """

    model: Model | ClosedForm
    l2: float = 0.0
    target: float | None = None


ROWS = {
    "LightGCN, 3 layers": Row(LightGCN(), 1e-4, 0.9),
    "MF": Row(MF(), 1e-2, 0.9),
    "filter": Row(Filter(), target=0.99),
    "GF-CF": Row(GfCf(), target=0.99),
    "item-based cosine": Row(ItemCf()),
    "popular": Row(Popular()),
}


class World(NamedTuple):
    """One draw of newcomers.

    Attributes:
        without: a split whose training does not know them.
        with_given: one that trains on their given halves too.
        given: ids of the given items by newcomer.
        hidden: ids of the others.
    """

    without: Split
    with_given: Split
    given: dict[Any, list[Any]]
    hidden: dict[Any, set[Any]]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options.

    Args:
        parser: that of ``python -m benchmarks fold_in``.
    """
    parser.add_argument(
        "--dataset",
        nargs="+",
        choices=DATASETS,
        default=DATASETS,
        help="data sets (default: all three)",
    )
    parser.add_argument(
        "--rows", nargs="+", choices=[*ROWS], default=[*ROWS], help="models (default: all)"
    )
    parser.add_argument(
        "--seeds", type=whole_number, default=3, help="draws of newcomers (default: 3)"
    )


def run(args: argparse.Namespace) -> Report:
    """Train every model twice for each draw; see the module.

    Args:
        args: the parsed options.

    Returns:
        The recalls, and their ratios.
    """
    lines, recalls = [], {}
    for dataset in args.dataset:
        interactions = load_dataset(dataset, data_dir=args.data_dir)
        for seed in range(args.seeds):
            world = world_of(interactions, seed)
            for name in args.rows:
                note(f"{dataset}, seed {seed}: {name}")
                found, seconds = judged(world, config_of(ROWS[name], dataset, seed))
                figures = {way: statistics.fmean(own) for way, own in found.items()} | seconds
                lines.append({"dataset": dataset, "seed": seed, "name": name, **figures})
                for way, own in found.items():
                    recalls.setdefault((dataset, name), {}).setdefault(way, []).extend(own)
    means = means_of(lines)
    ratios = {
        key: ratio_of_means(ways["folded"], ways["full"])
        for key, ways in recalls.items()
        if "folded" in ways
    }
    return Report(
        name="fold_in",
        settings={
            "datasets": list(args.dataset),
            "rows": list(args.rows),
            "seeds": args.seeds,
            "cut_off": _CUT_OFF,
        },
        samples={},
        claims=[
            Claim(f"{dataset}: {name}", ratio.value, "×", ">=", target, ratio.interval)
            for (dataset, name), ratio in ratios.items()
            if (target := ROWS[name].target) is not None
        ],
        details={"rows": lines},
        threads={"jax": cores()},
        tables=[table_of(means, ratios)],
    )


def world_of(interactions: Interactions, seed: int) -> World:
    """Draw newcomers, and halve their items.

    Args:
        interactions: of all users; who has one alone is no newcomer.
        seed: of all draws.

    Returns:
        The two splits, with the newcomers' hidden items as test.
    """
    data = interactions.deduplicated() if interactions.has_duplicates else interactions
    random = np.random.default_rng(seed)
    counts = np.bincount(data.user_rows, minlength=data.num_users)
    held = np.zeros(data.num_users, bool)
    able = np.flatnonzero(counts >= 2)
    held[random.choice(able, round(_HELD_SHARE * len(able)), replace=False)] = True
    order = random.permutation(len(data))
    order = order[np.argsort(data.user_rows[order], kind="stable")]
    users, items = data.user_rows[order], data.item_rows[order]
    places = np.arange(len(users)) - np.searchsorted(users, users)
    is_given = held[users] & (places < (counts[users] + 1) // 2)
    is_valid = ~held[users] & (places < np.floor(_VALID_SHARE * counts[users] + 0.5))
    is_valid &= counts[users] > 1
    given, valid, train, hidden = (
        Pairs.from_rows(users[chosen], items[chosen])
        for chosen in (
            is_given,
            is_valid,
            ~held[users] & ~is_valid,
            held[users] & ~is_given,
        )
    )

    def split(train: Pairs) -> Split:
        return Split(data.users, data.items, train, valid, hidden, f"newcomers, seed {seed}")

    by_newcomer = [
        {
            user: data.items.external(pairs.items[pairs.users == row])
            for row, user in zip(rows, data.users.external(rows), strict=True)
        }
        for pairs in (given, hidden)
        for rows in [np.flatnonzero(held)]
    ]
    hidden_of = {user: set(items) for user, items in by_newcomer[1].items()}
    return World(split(train), split(merge_pairs(train, given)), by_newcomer[0], hidden_of)


def config_of(row: Row, dataset: str, seed: int) -> Config:
    """The settings of both fits.

    Args:
        row: the line of the table.
        dataset: its name.
        seed: of the training.
    """
    if isinstance(row.model, ClosedForm):
        return ClosedFormConfig(row.model, ks=(_CUT_OFF,), seed=seed)
    return TrainConfig(
        model=row.model,
        negatives=SharedNegatives(256),
        optimization=Optimization(
            epochs=60, batch_size=_BATCH[dataset], learning_rate=0.02, l2=row.l2
        ),
        selection=Selection(evaluate_every=5, patience=3),
        ks=(_CUT_OFF,),
        seed=seed,
    )


def judged(world: World, config: Config) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Each newcomer's recall by fold-in and by training in full, and the seconds of the fold-in.

    Args:
        world: the newcomers.
        config: the settings of both fits.

    Returns:
        Recalls by ``full``, ``folded`` and, of filters, ``as_trained``; ``first_seconds`` and
        ``seconds``. Of a model that folds nobody in ``full`` alone.
    """
    full = Recommender.from_fit(fit(world.with_given, config), offer_test=True)
    users, hidden = list(world.given), list(world.hidden.values())
    found = [one.ids if one else [] for one in full.recommend(users, _CUT_OFF)]
    recalls, seconds = {"full": recall(found, hidden)}, {}
    if isinstance(config.model, Popular):
        return recalls, seconds
    folding = Recommender.from_fit(fit(world.without, config), offer_test=True)
    lists = list(world.given.values())
    for name in ("first_seconds", "seconds"):
        start = time.perf_counter()
        answers = folding.recommend_from_each(lists, _CUT_OFF)
        seconds[name] = time.perf_counter() - start
    recalls["folded"] = recall([one.ids for one in answers], hidden)
    if isinstance(folding.scorer, FilterScorer):
        histories = histories_of([np.sort(folding.items.rows(items)) for items in lists])
        as_trained = folding.scorer.of_histories(histories, is_trained=True)
        best = rank(as_trained, np.arange(len(lists)), _CUT_OFF, seen=histories).items
        recalls["as_trained"] = recall(map(folding.items.external, best), hidden)
    return recalls, seconds


def recall(found: Iterable[Sequence[Any]], hidden: Iterable[set[Any]]) -> list[float]:
    """The share of each newcomer's hidden items that were found.

    Args:
        found: what each is recommended.
        hidden: what each should be.
    """
    return [
        len(wanted.intersection(items)) / len(wanted)
        for items, wanted in zip(found, hidden, strict=True)
    ]


def means_of(lines: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], dict[str, float]]:
    """The mean over draws, by data set and model.

    Args:
        lines: one for each data set, draw and model.

    Returns:
        ``full``; where there is a fold-in ``folded`` and ``seconds``; of filters ``as_trained``.
    """
    means = {}
    for key in dict.fromkeys((line["dataset"], line["name"]) for line in lines):
        own = [line for line in lines if (line["dataset"], line["name"]) == key]
        means[key] = {
            field: statistics.fmean(line[field] for line in own)
            for field in ("full", "as_trained", "folded", "seconds")
            if field in own[0]
        }
    return means


def table_of(
    means: Mapping[tuple[str, str], Mapping[str, float]], ratios: Mapping[tuple[str, str], Ratio]
) -> Table:
    """The means for a reader.

    Args:
        means: from :func:`means_of`.
        ratios: of the fold-in to training in full.
    """
    columns = ("full", "as a trained row", "fold-in", "seconds", "fold-in to full (95 %)")
    title = f"recall@{_CUT_OFF} of newcomers, half of their items given"
    table = Table("data set", "model", *columns, title=title)
    for key, mean in means.items():
        cells = [f"{mean['full']:.4f}"]
        for field, form in (("as_trained", ".4f"), ("folded", ".4f"), ("seconds", ".2f")):
            cells.append(format(mean[field], form) if field in mean else "")
        if (ratio := ratios.get(key)) is not None:
            low, high = ratio.interval or (ratio.value, ratio.value)
            cells.append(f"{ratio.value:.3f} ({low:.3f} to {high:.3f})")
        table.add_row(*key, *cells)
    return table
