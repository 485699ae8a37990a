"""Two stages beside one: candidates of several sources, put into order by a second stage.

Every user's history is cut in time into four parts. The model is fitted on the first seven tenths;
its candidates for what users took in the next tenth train the second stage, the tenth after that
chooses its epoch. Then the model is fitted again, on all three, and its vectors are turned onto
those of the first (which changes no score); candidates, second stage unchanged, are judged on the
last tenth. What it is to beat is the refitted model alone, which knows as much. The cut is each
user's own, so that what others took later may be in a history. Settings were chosen on the third
tenth.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from rich.table import Table

from benchmarks.harness.options import datasets_option
from benchmarks.harness.report import Claim, Report, cores, note, whole_number
from lightgcn_jax.data import Interactions, Pairs, Split, load_dataset
from lightgcn_jax.evaluation import InnerProduct, compare_paired, evaluate
from lightgcn_jax.models import Cosine
from lightgcn_jax.models.trivial import PopularScorer
from lightgcn_jax.runs import fit
from lightgcn_jax.runs.summary import seed_statistics
from lightgcn_jax.serving.two_stage import (
    SIZES,
    Examples,
    History,
    RankerConfig,
    StageOne,
    judged,
    stage_one,
    train_ranker,
)
from lightgcn_jax.settings import PRESETS, TrainConfig, flat
from lightgcn_jax.training import Softmax

DATASETS = ("ml-100k", "ml-latest-small")
_METRIC = "ndcg@10"
_PARTS, _SHARE = 4, 0.1
FIRST_STAGE = dataclasses.replace(
    PRESETS["fast"], score=Cosine(popularity_offset=0.09), loss=Softmax(temperature=0.15)
)
"""The model that finds candidates."""


class World(NamedTuple):
    """Interactions, and the part of each.

    Attributes:
        data: of distinct pairs.
        part: ``int[E]``: 0 fits, 1 trains the second stage, 2 chooses its epoch, 3 judges.
    """

    data: Interactions
    part: np.ndarray

    def history(self, before: int) -> History:
        """What is known before a part.

        Args:
            before: the part.
        """
        data, known = self.data, self.part < before
        assert data.timestamps is not None
        pairs = self.pairs(known)
        order = np.lexsort((data.item_rows[known], data.user_rows[known]))
        times = data.timestamps[known][order]
        return History(pairs, data.num_users, data.num_items, times)

    def pairs(self, chosen: np.ndarray) -> Pairs:
        """Some of the pairs.

        Args:
            chosen: ``bool[E]``.
        """
        return Pairs.from_rows(self.data.user_rows[chosen], self.data.item_rows[chosen])


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options.

    Args:
        parser: that of ``python -m benchmarks two_stage``.
    """
    datasets_option(parser, DATASETS)
    parser.add_argument("--seeds", type=whole_number, default=5, help="seeds (default: 5)")


def run(args: argparse.Namespace) -> Report:
    """Fit, train and judge with each seed; see the module.

    Args:
        args: the parsed options.

    Returns:
        NDCG@10 before and after; what is claimed is that the difference is above 0.
    """
    model, ranker = FIRST_STAGE, RankerConfig()
    lines = []
    for dataset in args.datasets:
        world = cut(load_dataset(dataset, data_dir=args.data_dir))
        for seed in range(args.seeds):
            note(f"{dataset}, seed {seed}")
            lines.append({"dataset": dataset} | line_of(world, model, ranker, seed))
            note(", ".join(f"{name} {lines[-1][name]:.4f}" for name in ("before", "after")))
    summaries = {dataset: summary_of(dataset, lines) for dataset in args.datasets}
    claims = [
        Claim(
            f"{dataset}: NDCG@10 of two stages less that of one",
            found["difference"],
            "",
            ">=",
            0.0,
            (found["low"], found["high"]),
        )
        for dataset, found in summaries.items()
    ]
    for line in lines:
        del line["by_user"]
    return Report(
        name="two_stage",
        settings={"model": flat(model), "ranker": dataclasses.asdict(ranker), "sizes": SIZES},
        samples={},
        claims=claims,
        details={"rows": lines, "over users and seeds": summaries},
        threads={"jax": cores()},
        tables=[table_of(summaries)],
    )


def cut(interactions: Interactions) -> World:
    """Cut each user's history in time; of n interactions each later part has ⌊n/10 + ½⌋.

    Args:
        interactions: with times.
    """
    data = interactions.deduplicated() if interactions.has_duplicates else interactions
    assert data.timestamps is not None
    counts = np.bincount(data.user_rows, minlength=data.num_users)[data.user_rows]
    order = np.lexsort((data.item_rows, data.timestamps, data.user_rows))
    places = np.empty(len(order), int)
    users = data.user_rows[order]
    places[order] = np.arange(len(users)) - np.searchsorted(users, users)
    later = np.floor(_SHARE * counts + 0.5).astype(int)
    # How many parts of that size lie behind an interaction.
    behind = (counts - 1 - places) // np.maximum(later, 1)
    part = np.where((later > 0) & (behind < _PARTS - 1), _PARTS - 1 - behind, 0)
    return World(data, part)


def line_of(world: World, model: TrainConfig, ranker: RankerConfig, seed: int) -> dict[str, Any]:
    """One seed.

    Args:
        world: the parts.
        model: settings of stage one.
        ranker: settings of the second stage.
        seed: of both.

    Returns:
        In plain types: NDCG@10 ``before`` and ``after`` on test, and ``by_user``, those on
        validation, of popularity, and recall of the candidates.
    """
    first = _stage(world, 1, model, seed)
    choosing = dataclasses.replace(first, seen=world.history(2).rows())
    training = Examples(first, world.pairs(world.part == 1))
    validating = Examples(choosing, world.pairs(world.part == 2))
    trained = train_ranker(training, validating, dataclasses.replace(ranker, seed=seed))
    test = world.pairs(world.part == 3)
    again = _stage(world, 3, model, seed, like=first)
    found = judged(trained, Examples(again, test))
    return {
        "seed": seed,
        "before": found.before.metrics[_METRIC],
        "after": found.after.metrics[_METRIC],
        "popular": _popular(world, test),
        "candidates": float(found.candidates.mean(dtype=np.float64)),
        "valid_before": trained.history[0][_METRIC],
        "valid_after": trained.history[trained.best_epoch][_METRIC],
        "best_epoch": trained.best_epoch,
        "sources": {
            one.name: evaluate(one.scorer, test, ks=(10,), seen=again.seen).metrics[_METRIC]
            for one in again.sources
        },
        "by_user": [one.per_user[_METRIC] for one in (found.before, found.after)],
    }


def _stage(
    world: World, before: int, model: TrainConfig, seed: int, like: StageOne | None = None
) -> StageOne:
    """Stage one of what is known before a part."""
    history, data = world.history(before), world.data
    nothing = Pairs(np.zeros(0, np.int32), np.zeros(0, np.int32))
    # The number of epochs is settled: what follows is ranked once and chooses nothing.
    following = world.pairs(world.part == before)
    split = Split(data.users, data.items, history.pairs, nothing, following, "by time")
    config = dataclasses.replace(model, seed=seed, protocol="fixed", ks=(10,))
    result = fit(split, config)
    users, items = (
        jnp.asarray(table[ids.rows(wanted.ids)])
        for table, ids, wanted in (
            (result.user_embeddings, result.split.users, data.users),
            (result.item_embeddings, result.split.items, data.items),
        )
    )
    offsets = config.offset_columns
    return stage_one(InnerProduct(users, items), history, offset_columns=offsets, like=like)


def _popular(world: World, test: Pairs) -> float:
    known = world.history(3)
    counts = np.bincount(known.pairs.items, minlength=known.num_items).astype(np.float32)
    scorer = PopularScorer(jnp.asarray(counts), known.num_users)
    return evaluate(scorer, test, ks=(10,), seen=known.rows()).metrics[_METRIC]


def summary_of(dataset: str, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over seeds, and the difference by user, each user's being the mean over seeds.

    Args:
        dataset: its name.
        lines: from :func:`line_of`.
    """
    own = [line for line in lines if line["dataset"] == dataset]
    before, after = (np.mean([line["by_user"][at] for line in own], axis=0) for at in (0, 1))
    paired = compare_paired(before, after)
    names = ("popular", "before", "after", "candidates", "valid_before", "valid_after")
    differences = [line["after"] - line["before"] for line in own]
    return {
        **{name: statistics.fmean(line[name] for line in own) for name in names},
        "difference": paired.difference,
        "low": paired.low,
        "high": paired.high,
        "permutation_p": paired.permutation_p,
        "users": paired.users,
        "over_seeds": seed_statistics(differences),
        "seeds_above_0": sum(one > 0 for one in differences),
        "seeds": len(own),
    }


def table_of(summaries: Mapping[str, Mapping[str, Any]]) -> Table:
    """The summaries for a reader.

    Args:
        summaries: from :func:`summary_of`, by data set.
    """
    columns = ("popular", "model alone", "two stages", "difference, 95 %", "p", "seeds above 0")
    table = Table("data set", "recall@500", *columns, title="NDCG@10 on test, by time")
    for dataset, one in summaries.items():
        table.add_row(
            dataset,
            f"{one['candidates']:.4f}",
            *(f"{one[name]:.4f}" for name in ("popular", "before", "after")),
            f"{one['difference']:+.4f} ({one['low']:+.4f} to {one['high']:+.4f})",
            f"{one['permutation_p']:.4f}",
            f"{one['seeds_above_0']} of {one['seeds']}",
        )
    return table
