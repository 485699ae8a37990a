"""Newcomers: users who were never trained, recommended to from half of their items.

A tenth of the users is taken out of training altogether, and half of each one's items is given.
What a model recommends them by fold-in is judged by the other half, all other items ranked, beside
what the same users get from the same model trained with their given half. A tenth of the items of
the others chooses the epoch of both. Popularity and item-based cosine of the given items stand
below.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from benchmarks.harness.report import Claim, Report, cores, note, whole_number
from lightgcn_jax.data import Interactions, Pairs, Split, load_dataset
from lightgcn_jax.data.pairs import merge_pairs
from lightgcn_jax.models import MF, ClosedForm, Filter, GfCf, ItemCf, LightGCN, Model, Popular
from lightgcn_jax.runs import fit
from lightgcn_jax.serving import Recommender
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
        "--seeds", type=whole_number, default=3, help="draws of newcomers (default: 3)"
    )


def run(args: argparse.Namespace) -> Report:
    """Train every model twice for each draw; see the module.

    Args:
        args: the parsed options.

    Returns:
        The recalls, and their ratios.
    """
    lines = []
    for dataset in args.dataset:
        interactions = load_dataset(dataset, data_dir=args.data_dir)
        for seed in range(args.seeds):
            world = world_of(interactions, seed)
            for name, row in ROWS.items():
                note(f"{dataset}, seed {seed}: {name}")
                config = config_of(row, dataset, seed)
                lines.append(
                    {"dataset": dataset, "seed": seed, "name": name, **judged(world, config)}
                )
    means = means_of(lines)
    return Report(
        name="fold_in",
        settings={"datasets": list(args.dataset), "seeds": args.seeds, "cut_off": _CUT_OFF},
        samples={},
        claims=[
            Claim(f"{dataset}: {name}", mean["ratio"], "×", ">=", target)
            for (dataset, name), mean in means.items()
            if (target := ROWS[name].target) is not None
        ],
        details={"rows": lines},
        threads={"jax": cores()},
        tables=[table_of(means)],
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


def judged(world: World, config: Config) -> dict[str, float]:
    """The newcomers' recall by fold-in and by training in full, and the seconds of the fold-in.

    Args:
        world: the newcomers.
        config: the settings of both fits.
    """
    full = Recommender.from_fit(fit(world.with_given, config), offer_test=True)
    users = list(world.given)
    found = [one.ids if one else [] for one in full.recommend(users, _CUT_OFF)]
    figures = {"full": recall(found, world.hidden.values())}
    if isinstance(config.model, Popular):
        return figures
    folding = Recommender.from_fit(fit(world.without, config), offer_test=True)
    lists = list(world.given.values())
    start = time.perf_counter()
    answers = folding.recommend_from_each(lists, _CUT_OFF)
    figures["first_seconds"] = time.perf_counter() - start
    start = time.perf_counter()
    folding.recommend_from_each(lists, _CUT_OFF)
    figures["seconds"] = time.perf_counter() - start
    figures["folded"] = recall([one.ids for one in answers], world.hidden.values())
    return figures


def recall(found: Sequence[Sequence[Any]], hidden: Any) -> float:
    """The mean over newcomers of the share of hidden items that were found.

    Args:
        found: what each is recommended.
        hidden: what each should be.
    """
    shares = [
        len(wanted.intersection(items)) / len(wanted)
        for items, wanted in zip(found, hidden, strict=True)
    ]
    return statistics.fmean(shares)


def means_of(lines: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], dict[str, float]]:
    """The mean over draws, by data set and model.

    Args:
        lines: one for each data set, draw and model.

    Returns:
        ``full``, and where there is a fold-in ``folded``, ``seconds``, and ``ratio``, of the means.
    """
    means = {}
    for key in dict.fromkeys((line["dataset"], line["name"]) for line in lines):
        own = [line for line in lines if (line["dataset"], line["name"]) == key]
        mean = {
            field: statistics.fmean(line[field] for line in own)
            for field in ("full", "folded", "seconds")
            if field in own[0]
        }
        if "folded" in mean:
            mean["ratio"] = mean["folded"] / mean["full"]
        means[key] = mean
    return means


def table_of(means: Mapping[tuple[str, str], Mapping[str, float]]) -> Table:
    """The means for a reader.

    Args:
        means: from :func:`means_of`.
    """
    columns = ("data set", "model", "trained in full", "fold-in", "share", "fold-in, seconds")
    table = Table(*columns, title=f"recall@{_CUT_OFF} of newcomers, half of their items given")
    for (dataset, name), mean in means.items():
        cells = [f"{mean['full']:.4f}"]
        for field, form in (("folded", ".4f"), ("ratio", ".3f"), ("seconds", ".2f")):
            cells.append(format(mean[field], form) if field in mean else "")
        table.add_row(dataset, name, *cells)
    return table
