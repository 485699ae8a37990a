"""The command recommend: to some users, to all of them into a file, or to somebody new."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl

from lightgcn_jax.cli.console import results, say
from lightgcn_jax.cli.runs import Ids, RunPath, Switch, answer, plain, ranked_table
from lightgcn_jax.cli.settings import File, flag
from lightgcn_jax.errors import InputError
from lightgcn_jax.files import replacing
from lightgcn_jax.serving import Ranked, Recommender

K = Annotated[int | None, flag("K", "(default: 20)")]
_SUFFIXES = (".csv", ".parquet")
# Users ranked at a time, so that the answers to millions are never all Python objects.
_AT_A_TIME = 8_192


@dataclass(frozen=True)
class Recommend:
    """Recommend items to users, by their external ids, or to somebody new from a list of items.

    Attributes:
        run_path: the run directory.
        user: users to recommend to.
        users: a text file of users to recommend to, an id a line; blanks around it are left out.
        all_users: recommend to all users of the run.
        liked: items of somebody who was never seen, in place of users; of the models `filter`,
            `gfcf` and `itemcf`.
        k: items for each user; where fewer may be recommended, all of them are.
        include_seen: recommend items that the user has too, or those liked.
        offer_test: recommend test items of the user too, as a judgement of the run does.
        items: only these items may be recommended.
        filter_items: these items are left out.
        out: write a table of users, places, items and scores to this file, which ends in .csv or
            .parquet.
        json: print JSON.
    """

    run_path: RunPath
    user: Ids = ()
    users: File = None
    all_users: Switch = False
    liked: Ids = ()
    k: K = None
    include_seen: Switch = False
    offer_test: Switch = False
    items: Ids = ()
    filter_items: Ids = ()
    out: File = None
    json: Switch = False

    def run(self) -> int:
        if sum(map(bool, (self.user, self.users, self.all_users, self.liked))) != 1:
            raise InputError(
                "recommend: expected one of --user ID …, --users FILE, --all-users and --liked ID …"
            )
        self._check_out()
        asked = self.user if self.users is None else _ids_in(self.users)
        recommender = Recommender.from_run(self.run_path, offer_test=self.offer_test)
        if self.liked:
            return self._recommend_to_somebody_new(recommender)
        if self.out is not None:
            return self._write(self.out, asked, recommender)
        if self.all_users:
            asked = [str(one) for one in recommender.users.ids]

        def recommend(users: list[str]) -> list[Ranked | None]:
            return self._recommended(recommender, users)

        def by(users: list[str]) -> list[str]:
            return ["model" if one else "popularity" for one in recommender.knows_user(users)]

        return answer("user", "item", asked, recommender.users, recommend, self.json, by)

    def _check_out(self) -> None:
        if self.out is None:
            return
        if self.json or self.liked:
            raise InputError("--out: expected neither --json nor --liked beside it")
        if self.out.suffix not in _SUFFIXES:
            raise InputError(f"--out: expected a name in .csv or .parquet, got {self.out}")
        if not self.out.parent.is_dir():
            raise InputError(f"--out: {self.out.parent}: no such folder")

    def _recommended(self, recommender: Recommender, users: Sequence[Any]) -> list[Ranked | None]:
        items, filter_items = self.items or None, self.filter_items or None
        return recommender.recommend(
            list(users), self.k, not self.include_seen, items, filter_items
        )

    def _write(self, out: Path, asked: Sequence[str], recommender: Recommender) -> int:
        """Recommend to many, whose unknown ones are named, and write a row a recommendation."""
        ids = recommender.users
        rows = np.arange(len(ids)) if self.all_users else ids.rows(list(asked))
        unknown = [one for one, row in zip(asked, rows, strict=False) if row < 0]
        known = rows[rows >= 0]
        parts = [self._rows(recommender, known[at : at + _AT_A_TIME]) for at in _starts(known)]
        found = pl.concat(parts) if parts else self._rows(recommender, known)
        with replacing(out) as temporary:
            if out.suffix == ".csv":
                found.write_csv(temporary)
            else:
                found.write_parquet(temporary)
        cold = int((~recommender.knows_user(ids.external(known))).sum())
        if cold:
            say(f"popular items are the answer to {cold:,} users without training interactions")
        say(f"wrote {out}: {found.height:,} recommendations to {len(known):,} users")
        if unknown:
            named = ", ".join(map(repr, unknown[:10])) + (" …" if len(unknown) > 10 else "")
            say(f"error: {len(unknown):,} unknown user ids: {named}")
        return 2 if unknown else 0

    def _rows(self, recommender: Recommender, rows: np.ndarray) -> pl.DataFrame:
        users = recommender.users.external(rows)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "no training interaction names")  # counted instead
            found = self._recommended(recommender, users) if users else []
        ranked = [Ranked([], np.zeros(0, np.float32)) if one is None else one for one in found]
        lengths = [len(one.ids) for one in ranked]
        columns = {
            "user": pl.Series(users, dtype=recommender.users.ids.dtype).gather(
                np.repeat(np.arange(len(users)), lengths)
            ),
            "place": pl.Series(
                [place for n in lengths for place in range(1, n + 1)], dtype=pl.Int32
            ),
            "item": pl.Series(
                [item for one in ranked for item in one.ids], dtype=recommender.items.ids.dtype
            ),
            "score": pl.Series(
                np.concatenate([one.scores for one in ranked]) if ranked else [], dtype=pl.Float32
            ),
        }
        return pl.DataFrame(columns)

    def _recommend_to_somebody_new(self, recommender: Recommender) -> int:
        if self.items or self.filter_items:
            raise InputError("--liked: expected neither --items nor --filter-items beside it")
        found = recommender.recommend_from(self.liked, self.k, not self.include_seen)
        if self.json:
            print(json.dumps({"items": plain(found)}, indent=2))
        else:
            results().print(ranked_table("user", "item", {"new": found}))
        return 0


def _starts(rows: np.ndarray) -> range:
    return range(0, len(rows), _AT_A_TIME)


def _ids_in(path: Path) -> list[str]:
    """The ids of a text file, each once, in their order, without blanks around them as logs read
    them."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path}: expected text in UTF-8, an id a line") from None
    found = list(dict.fromkeys(id_ for line in lines if (id_ := line.strip())))
    if not found:
        raise InputError(f"{path}: expected an id a line, it holds none")
    return found
