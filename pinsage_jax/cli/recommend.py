"""The command recommend: to users, or to somebody who has some items."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated

import tyro

from lightgcn_jax.cli.asking import Asking
from lightgcn_jax.cli.console import results
from lightgcn_jax.cli.runs import Ids, RunPath, plain, ranked_table
from lightgcn_jax.sums import fingerprint_of
from pinsage_jax.estimators.recommending import ContextRecommender


@dataclass(frozen=True)
class Recommend:
    """Recommend items to users (whatever stands in their place: baskets, boards), by the latest
    items that each has, or to somebody who has the items given. Items added later are among them.

    Attributes:
        run_path: the run directory.
        asking: who is recommended to, and what.
        items: items of somebody, in the place of users.
    """

    run_path: RunPath
    asking: Annotated[Asking, tyro.conf.arg(name="")] = Asking()
    items: Ids = ()

    def run(self) -> int:
        asking = self.asking
        asking.check(self.items, "--items")
        asked = asking.ids()
        recommender = ContextRecommender.from_run(self.run_path)
        if not self.items:
            return asking.answer(recommender, asked, None, {"run": fingerprint_of(self.run_path)})
        filters = {"among": asking.among or None, "exclude": asking.exclude or None}
        found = recommender.recommend_from(self.items, asking.k, not asking.include_seen, **filters)
        if asking.json:
            print(json.dumps({"items": plain(found, recommender.titles)}, indent=2))
        else:
            results().print(ranked_table("user", "item", {"new": found}, recommender.titles))
        return 0
