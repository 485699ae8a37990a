"""Who is recommended to, what may be recommended, and where the answers go, in both programs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
import polars as pl

from lightgcn_jax.cli.console import say
from lightgcn_jax.cli.meter import ConsoleMeter
from lightgcn_jax.cli.runs import Ids, Switch, answer
from lightgcn_jax.cli.settings import File, flag
from lightgcn_jax.data import IdMap, read_interactions
from lightgcn_jax.data.titles import Titles
from lightgcn_jax.errors import InputError
from lightgcn_jax.files import replacing, sha256
from lightgcn_jax.parted import write_parts
from lightgcn_jax.serving import Ranked
from lightgcn_jax.serving.filters import Filter
from lightgcn_jax.serving.tables import answer_columns

_SUFFIXES = (".csv", ".parquet")
# Users ranked at a time, so that the answers to millions are never all Python objects.
_AT_A_TIME = 8_192
# Users of a file of many: some MB of answers.
_USERS_OF_A_PART = 8 * _AT_A_TIME


class Recommending(Protocol):
    """What recommends."""

    @property
    def users(self) -> IdMap:
        """External ids of whoever may ask."""
        ...

    @property
    def items(self) -> IdMap:
        """External ids of what is recommended."""
        ...

    @property
    def titles(self) -> Titles | None:
        """What people call the items, where that is known."""
        ...

    def knows_user(self, users: Sequence[Any], /) -> np.ndarray:
        """Whether there is something to recommend by, ``bool[n]``.

        Args:
            users: n external ids.
        """
        ...

    def recommend(
        self,
        users: list[Any],
        k: int | None = None,
        exclude_seen: bool = True,
        among: Filter = None,
        exclude: Filter = None,
    ) -> list[Ranked | None]:
        """The items of highest score for each user.

        Args:
            users: external ids.
            k: items for each.
            exclude_seen: leave out what a user has.
            among: only these items, or pairs of users and items.
            exclude: none of these.
        """
        ...


@dataclass(frozen=True)
class Asking:
    """Who is recommended to, and what.

    Attributes:
        user: users to recommend to.
        users: a text file of users to recommend to, an id a line; blanks around it are left out.
        all_users: recommend to all users of the run.
        k: items for each user; where fewer may be recommended, all of them are.
        include_seen: recommend items that the user has too, or those given in the place of a user.
        among: only these items may be recommended.
        exclude: these items are left out.
        among_pairs: a file of users and items: to each user only these may be recommended.
        exclude_pairs: a file of users and items: these are left out for each user.
        out: write a table of users, places, items and scores to this file, which ends in .csv or
            .parquet.
        partitioned: write a folder of Parquet files, each of a fixed range of users, in the place
            of a file; a command that was killed goes on when it is repeated.
        json: print JSON.
    """

    user: Ids = ()
    users: File = None
    all_users: Switch = False
    k: Annotated[int | None, flag("K", "(default: 20)")] = None
    include_seen: Switch = False
    among: Ids = ()
    exclude: Ids = ()
    among_pairs: File = None
    exclude_pairs: File = None
    out: File = None
    partitioned: Switch = False
    json: Switch = False

    def check(self, given: Sequence[str], flag: str) -> None:
        """Refuse flags that do not go together.

        Args:
            given: what stands in the place of users.
            flag: what gives it.

        Raises:
            InputError: nobody is asked for or more than one way, or the answers cannot be written.
        """
        if sum(map(bool, (self.user, self.users, self.all_users, given))) != 1:
            raise InputError(
                f"recommend: expected one of --user ID …, --users FILE, --all-users and {flag} ID …"
            )
        filters = {"among": self.among_pairs, "exclude": self.exclude_pairs}
        for name, path in filters.items():
            if path is not None and getattr(self, name):
                raise InputError(f"--{name}-pairs: expected no --{name} beside it")
            if path is not None and given:
                raise InputError(f"--{name}-pairs: names users, but {flag} asks for none")
        if self.partitioned and not (self.all_users and self.out is not None):
            raise InputError("--partitioned: expected --all-users and --out FOLDER beside it")
        if self.out is None:
            return
        if self.json or given:
            raise InputError(f"--out: expected neither --json nor {flag} beside it")
        if not self.partitioned and self.out.suffix not in _SUFFIXES:
            raise InputError(f"--out: expected a name in .csv or .parquet, got {self.out}")
        if not self.out.parent.is_dir():
            raise InputError(f"--out: {self.out.parent}: no such folder")

    def ids(self) -> list[str]:
        """The users who are named, on the command line or in a file."""
        return list(self.user) if self.users is None else _ids_in(self.users)

    def answer(
        self,
        recommending: Recommending,
        asked: Sequence[str],
        others: str | None,
        about: Mapping[str, Any],
    ) -> int:
        """Print or write what users are recommended.

        Args:
            recommending: what recommends.
            asked: users; all of them where ``--all-users`` stands.
            others: what answers users without training interactions; None where nothing does.
            about: what decides the answers beside what was asked, a JSON value.

        Returns:
            The exit status.
        """
        filters = self._filters()

        def find(users: list[Any]) -> list[Ranked | None]:
            return recommending.recommend(users, self.k, not self.include_seen, **filters)

        if self.out is not None and self.partitioned:
            return self._write_parts(self.out, recommending, find, about, others)
        if self.out is not None:
            return self._write(self.out, asked, recommending, find, others)
        if self.all_users:
            asked = [str(one) for one in recommending.users.ids]

        def by(users: list[str]) -> list[str]:
            return ["model" if one else str(others) for one in recommending.knows_user(users)]

        named = None if others is None else by
        known, titles = recommending.users, recommending.titles
        return answer("user", "item", asked, known, find, self.json, named, titles)

    def _filters(self) -> dict[str, Filter]:
        filters: dict[str, Filter] = {
            "among": self.among or None,
            "exclude": self.exclude or None,
        }
        for name, path in (("among", self.among_pairs), ("exclude", self.exclude_pairs)):
            if path is not None:
                filters[name] = read_interactions(path, missing="error")
        return filters

    def _write(
        self,
        out: Path,
        asked: Sequence[str],
        recommending: Recommending,
        find: Callable[[list[Any]], list[Ranked | None]],
        others: str | None,
    ) -> int:
        """Recommend to many, whose unknown ones are named, and write a row a recommendation."""
        ids = recommending.users
        rows = np.arange(len(ids)) if self.all_users else ids.rows(list(asked))
        unknown = [one for one, row in zip(asked, rows, strict=False) if row < 0]
        known = rows[rows >= 0]
        starts = range(0, max(1, len(known)), _AT_A_TIME)
        found = pl.concat([_rows(recommending, known[at : at + _AT_A_TIME], find) for at in starts])
        with replacing(out) as temporary:
            if out.suffix == ".csv":
                found.write_csv(temporary)
            else:
                found.write_parquet(temporary)
        _say_written(out, recommending, known, found.height, others)
        if unknown:
            named = ", ".join(map(repr, unknown[:10])) + (" …" if len(unknown) > 10 else "")
            say(f"error: {len(unknown):,} unknown user ids: {named}")
        return 2 if unknown else 0

    def _write_parts(
        self,
        out: Path,
        recommending: Recommending,
        find: Callable[[list[Any]], list[Ranked | None]],
        about: Mapping[str, Any],
        others: str | None,
    ) -> int:
        """Recommend to all users, a file for each range of them."""
        rows = np.arange(len(recommending.users))
        pairs = {"among_pairs": self.among_pairs, "exclude_pairs": self.exclude_pairs}
        asked = {"k": self.k, "include_seen": self.include_seen, "users": len(rows)}
        asked |= {"among": [*self.among], "exclude": [*self.exclude]}
        asked |= {name: None if path is None else sha256(path) for name, path in pairs.items()}
        starts = range(0, len(rows), _USERS_OF_A_PART)
        sizes = [len(rows[at : at + _USERS_OF_A_PART]) for at in starts]

        def make(part: int) -> pl.DataFrame:
            here = rows[starts[part] : starts[part] + _USERS_OF_A_PART]
            at_a_time = range(0, len(here), _AT_A_TIME)
            return pl.concat(
                [_rows(recommending, here[at : at + _AT_A_TIME], find) for at in at_a_time]
            )

        made = {"table": "recommendations", **about, **asked, "users_of_a_part": _USERS_OF_A_PART}
        written = write_parts(out, made, sizes, make, ConsoleMeter(), "users")
        _say_written(out, recommending, rows, written, others)
        return 0


def _say_written(
    out: Path, recommending: Recommending, rows: np.ndarray, written: int, others: str | None
) -> None:
    ids = recommending.users
    cold = 0
    for at in range(0, len(rows), _USERS_OF_A_PART):
        asked = ids.external(rows[at : at + _USERS_OF_A_PART])
        cold += int((~recommending.knows_user(asked)).sum())
    if cold and others is not None:
        say(f"popular items are the answer to {cold:,} users without training interactions")
    elif cold:
        say(f"no items are the answer to {cold:,} users of whom nothing is known")
    say(f"wrote {out}: {written:,} recommendations to {len(rows):,} users")


def _rows(
    recommending: Recommending,
    rows: np.ndarray,
    find: Callable[[list[Any]], list[Ranked | None]],
) -> pl.DataFrame:
    users = recommending.users.external(rows)
    with warnings.catch_warnings():
        # Counted instead.
        warnings.filterwarnings("ignore", "no training interaction names")
        warnings.filterwarnings("ignore", ".*nothing is known of")
        answers = find(users) if users else []
    titles = recommending.titles
    columns = answer_columns(users, answers, ("user", "item"), titles, place="place")
    types = {
        "user": recommending.users.ids.dtype,
        "place": pl.Int32,
        "item": recommending.items.ids.dtype,
        "title": pl.String,
        "score": pl.Float32,
    }
    return pl.DataFrame(
        {name: pl.Series(columns[name], dtype=types[name]) for name in types if name in columns}
    )


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
