"""The command recommend: to some users, to all of them into a file, or to somebody new."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated

import tyro

from lightgcn_jax.cli.asking import Asking
from lightgcn_jax.cli.console import results
from lightgcn_jax.cli.runs import Ids, RunPath, Switch, plain, ranked_table
from lightgcn_jax.errors import InputError
from lightgcn_jax.serving import Recommender
from lightgcn_jax.serving.two_stage import RankedRecommender
from lightgcn_jax.sums import fingerprint_of


@dataclass(frozen=True)
class Recommend:
    """Recommend items to users, by their external ids, or to somebody new from a list of items.

    Attributes:
        run_path: the run directory.
        asking: who is recommended to, and what.
        liked: items of somebody who was never seen, in place of users; of models with vectors and
            of `filter`, `gfcf` and `itemcf`.
        ranked: answer by the second stage that `rank train` trained.
        offer_test: recommend test items of the user too, as a judgement of the run does.
    """

    run_path: RunPath
    asking: Annotated[Asking, tyro.conf.arg(name="")] = Asking()
    liked: Ids = ()
    ranked: Switch = False
    offer_test: Switch = False

    def run(self) -> int:
        self.asking.check(self.liked, "--liked")
        if self.liked and (self.asking.among or self.asking.exclude):
            raise InputError("--liked: expected neither --among nor --exclude beside it")
        if self.liked and self.ranked:
            raise InputError("--ranked: answers users of the run, expected no --liked beside it")
        asked = self.asking.ids()
        kind = RankedRecommender if self.ranked else Recommender
        recommender = kind.from_run(self.run_path, offer_test=self.offer_test)
        if not self.liked:
            about = {
                "run": fingerprint_of(self.run_path),
                "ranked": self.ranked,
                "offer_test": self.offer_test,
            }
            return self.asking.answer(recommender, asked, "popularity", about)
        found = recommender.recommend_from(self.liked, self.asking.k, not self.asking.include_seen)
        if self.asking.json:
            print(json.dumps({"items": plain(found, recommender.titles)}, indent=2))
        else:
            results().print(ranked_table("user", "item", {"new": found}, recommender.titles))
        return 0
