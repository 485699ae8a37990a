"""Commands on a finished run: evaluate, similar, export."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from lightgcn_jax.cli.console import WholeTable, metrics_table, results, say, table
from lightgcn_jax.cli.meter import ConsoleMeter
from lightgcn_jax.cli.settings import flag
from lightgcn_jax.data import PARTS, IdMap
from lightgcn_jax.data.titles import Titles
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import CATALOGUE_METRICS
from lightgcn_jax.evaluation.cold import Cold, ColdCounts
from lightgcn_jax.evaluation.metrics import USER_METRICS
from lightgcn_jax.evaluation.parts import evaluation_sets
from lightgcn_jax.evaluation.popularity import popularity_figures
from lightgcn_jax.runs import FitResult, RunDirectory, evaluate_run
from lightgcn_jax.serving import Ranked, Recommender, export, export_program, save_folder
from lightgcn_jax.serving.answers import nothing_known
from lightgcn_jax.serving.export import export_parts
from lightgcn_jax.serving.tables import answer_columns
from lightgcn_jax.sums import fingerprint_of

RunPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
Names = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME [NAME ...]")]
Ids = Annotated[tuple[str, ...], tyro.conf.arg(metavar="ID [ID ...]")]
Switch = Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help_behavior_hint="")]
Form = Literal["vectors", "program", "folder", "index"]
Figures = Mapping[str, Mapping[str, float]]
Find = Callable[[list[str]], list[Ranked | None]]

_GROUPS = 4
_POPULARITY = "popularity"
_POPULARITY_NOTE = "popularity: test, ranked by the items' numbers of training users."


@dataclass(frozen=True)
class Evaluate:
    """Rank a run's withheld interactions again, over all items.

    Validation is ranked without the user's training items, test without both, and train, where that
    is asked for, with nothing left out.

    Attributes:
        run_path: the run directory.
        k: cut-offs; by default those of the run.
        beyond: say also what the recommendations on test are like: how unequally they treat the
            items (gini), how novel, diverse and personal they are, and how popular the items.
        groups: take test apart too by the users' activity and by the items' popularity, each in
            so many groups, four where no number is given.
        cold: what becomes of withheld pairs whose user or item no training interaction names: they
            are left out of the means (`skip`), ranked by popularity (`popular`), or by whatever the
            model makes of them (`keep`).
        rank_train: rank the training interactions too.
        json: print JSON.
    """

    run_path: RunPath
    k: Annotated[tuple[int, ...], flag("K [K ...]", "(default: the run's)")] = ()
    beyond: Switch = False
    groups: Annotated[tuple[int, ...] | None, flag("[N]")] = None
    cold: Annotated[Cold | None, flag("{skip,popular,keep}", "(default: the run's)")] = None
    rank_train: Switch = False
    json: Switch = False

    def run(self) -> int:
        run = RunDirectory.open(self.run_path)
        ks = self.k or run.config.ks
        figures = evaluate_run(
            self.run_path,
            ks,
            beyond=self.beyond,
            groups=self._group_count(),
            cold=self.cold,
            rank_train=self.rank_train,
        )
        if self.json:
            print(json.dumps(figures, indent=2))
            return 0
        console = results()
        console.print(f"Protocol {figures['protocol_note']}")
        parts = {part: figures[part] for part in PARTS if figures[part]}
        if parts:
            print_figures(console, parts, figures["popularity"])
        else:
            console.print("The run withholds nothing to judge it by.")
        without = figures["users_without_test_items"]
        if without and "test" in parts:
            console.print(f"{without:,} users without test items are left out of test.")
        for line in cold_lines(figures["cold"]):
            console.print(line)
        if "beyond" in figures:
            console.print("\nThe recommendations on test:")
            console.print(_beyond_table(figures["beyond"]))
        if "groups" in figures:
            console.print("\nTest by the users' training items:")
            console.print(_user_groups_table(figures["groups"]["users"]))
            console.print("\nTest by the items' training users, over all pairs of a group:")
            console.print(_item_groups_table(figures["groups"]["items"]))
        for note in run.split.notes:
            console.print(f"note: {note}")
        return 0

    def _group_count(self) -> int:
        if self.groups is None:
            return 0
        count = list(self.groups) or [_GROUPS]
        if len(count) > 1 or count[0] < 1:
            given = " ".join(map(str, count))
            raise InputError(f"--groups: expected one number of at least 1, or none, got {given}")
        return count[0]


@dataclass(frozen=True)
class Similar:
    """Find the items or the users whose final embeddings have the highest cosine to a given one.

    A model of item cosines, itemcf, compares items by these; popular and random compare nothing.

    Attributes:
        run_path: the run directory.
        item: items whose neighbours are wanted.
        user: users whose neighbours are wanted.
        k: neighbours of each.
        json: print JSON.
    """

    run_path: RunPath
    item: Ids = ()
    user: Ids = ()
    k: Annotated[int | None, flag("K", "(default: 20)")] = None
    json: Switch = False

    def run(self) -> int:
        if bool(self.item) == bool(self.user):
            raise InputError("similar: expected either --item ID … or --user ID …")
        recommender = Recommender.from_run(self.run_path)
        if self.item:
            known, find, kind = recommender.items, recommender.similar_items, "item"
        else:
            known, find, kind = recommender.users, recommender.similar_users, "user"
        titles = recommender.titles if self.item else None
        asked = self.item or self.user
        return answer(
            kind, kind, asked, known, lambda ids: find(ids, self.k), self.json, titles=titles
        )


@dataclass(frozen=True)
class Export:
    """Write a run for other programs: its embeddings and external ids to one file, the program that
    recommends, a folder to pass on, or an index of the items.

    Attributes:
        run_path: the run directory.
        to: the file or folder; embeddings end in .npz, .safetensors or .parquet, a program in .npz.
        form: `vectors`, of a model whose scores are their inner products; `program`, which JAX runs
            without this package; `folder`, with a card, as hubs have it; `index`, of a model whose
            scores are inner products.
        k: items that a program recommends.
        target_recall: recall of an index that searches approximately.
        partitioned: write vectors to a folder, a Parquet file for each 65,536 of them, so that the
            command goes on after a kill.
    """

    run_path: RunPath
    to: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    form: Form = "vectors"
    k: Annotated[int | None, flag("K", "(default: 20)")] = None
    target_recall: Annotated[float | None, flag("SHARE", "(default: exact)")] = None
    partitioned: Switch = False

    def run(self) -> int:
        for name, form in (("k", "program"), ("target_recall", "index")):
            if getattr(self, name) is not None and self.form != form:
                raise InputError(f"--{name.replace('_', '-')}: expected --form {form} beside it")
        if self.partitioned:
            if self.form != "vectors":
                raise InputError(f"--partitioned: expected --form vectors, got {self.form}")
            recommender = Recommender.from_run(self.run_path)  # which refuses what is no run
            about = {"run": fingerprint_of(self.run_path)}
            rows = export_parts(recommender, self.to, about, ConsoleMeter())
            say(f"wrote {self.to}: {rows:,} vectors")
            return 0
        if self.form == "vectors":
            export(self.run_path, self.to)
        elif self.form == "folder":
            save_folder(self.run_path, self.to)
        else:
            recommender = Recommender.from_run(self.run_path)
            if self.form == "program":
                export_program(recommender, self.to, self.k or 20)
            else:
                index = recommender.index(target_recall=self.target_recall)
                say(f"{index!r}")
                index.save(self.to)
        say(f"wrote {self.to}")
        return 0


def print_figures(
    console: Console,
    parts: Figures,
    popularity: Mapping[str, float],
    spreads: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None,
) -> None:
    """Print the metrics of each part beside those of popularity.

    Args:
        console: where to.
        parts: the values by part and metric.
        popularity: the values of popularity on test; empty where nothing is withheld there.
        spreads: statistics over seeds, by part and metric.
    """
    console.print(metrics_table({**parts, _POPULARITY: popularity}, spreads))
    if popularity:
        console.print(_POPULARITY_NOTE)


def print_run_figures(console: Console, run: FitResult) -> None:
    """Print the metrics of a run's parts beside those of popularity; nothing where none was ranked.

    Args:
        console: where to.
        run: the run.
    """
    parts = {part: run.summary[part] for part in PARTS}
    if any(parts.values()):
        sets = evaluation_sets(run.split, run.config.cold)
        popular = popularity_figures(sets, "test", run.config.ks) if run.summary["test"] else {}
        print_figures(console, parts, popular, run.summary.get("statistics"))


def _beyond_table(metrics: Mapping[str, float]) -> WholeTable:
    columns = ("k", *CATALOGUE_METRICS)
    return table(columns, _cutoff_rows(metrics, CATALOGUE_METRICS), numbers=columns)


def _user_groups_table(groups: Sequence[Mapping[str, Any]]) -> WholeTable:
    rows = [
        (group["label"], f"{group['users']:,}", f"{group['test_pairs']:,}", *cells)
        for group in groups
        for cells in _cutoff_rows(group["metrics"], USER_METRICS)
    ]
    numbers = ("users", "test pairs", "k", *USER_METRICS)
    return table(("training items", *numbers), rows, numbers=numbers)


def _item_groups_table(groups: Sequence[Mapping[str, Any]]) -> WholeTable:
    names = ("recommended", "recall")
    rows = [
        (
            group["label"],
            f"{group['items']:,}",
            f"{group['test_pairs']:,}",
            f"{group['test_share']:.4f}",
            *cells,
        )
        for group in groups
        for cells in _cutoff_rows(group["recommended"] | group["recall"], names)
    ]
    numbers = ("items", "test pairs", "share of test", "k", *names)
    return table(("training users", *numbers), rows, numbers=numbers)


def _cutoff_rows(metrics: Mapping[str, float], names: Sequence[str]) -> list[tuple[str, ...]]:
    """A cut-off and the values there, for each; a dash where a metric is not defined."""

    def cell(key: str) -> str:
        return f"{metrics[key]:.4f}" if key in metrics else "–"

    cutoffs = dict.fromkeys(name.partition("@")[2] for name in metrics)
    return [(k, *(cell(f"{name}@{k}") for name in names)) for k in cutoffs]


def cold_lines(figures: Mapping[str, Any]) -> Iterator[str]:
    """What figures make of users and items without training interactions, a line a part.

    Args:
        figures: the ``cold`` field of a summary or an evaluation.
    """
    for part, counts in figures.items():
        if part != "policy" and (line := ColdCounts(**counts).sentence(part, figures["policy"])):
            yield line


def answer(
    asked_kind: str,
    kind: str,
    asked: Sequence[str],
    ids: IdMap,
    find: Find,
    as_json: bool,
    by: Callable[[list[str]], list[str]] | None = None,
    titles: Titles | None = None,
) -> int:
    """Print what was found for the ids that are known, and name the others.

    Args:
        asked_kind: what was asked for, "user" or "item".
        kind: what was found, "user" or "item".
        asked: external ids.
        ids: the ids that are known.
        find: from known external ids to what was found for each.
        as_json: print JSON.
        by: from known external ids to what each is answered by; None where that is always the
            model.
        titles: of what was found; None where the data have none.
    """
    rows = ids.rows(list(asked))
    unknown = [one for one, row in zip(asked, rows, strict=True) if row < 0]
    known = [one for one, row in zip(asked, rows, strict=True) if row >= 0]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*nothing is known of")  # the errors below say so
        found = dict(zip(known, find(known), strict=True))
    external = dict(zip(known, ids.external(rows[rows >= 0]), strict=True))
    if as_json:
        answers = [
            {asked_kind: external.get(one, one), f"{kind}s": plain(found.get(one), titles)}
            for one in asked
        ]
        if by is not None:
            bases = dict(zip(known, by(known), strict=True))
            answers = [
                answer | ({"by": bases[one]} if one in bases else {})
                for one, answer in zip(asked, answers, strict=True)
            ]
        print(json.dumps(answers, indent=2))
    elif any(ranked is not None for ranked in found.values()):
        results().print(ranked_table(asked_kind, kind, found, titles))
    unanswered = [one for one, ranked in found.items() if ranked is None]
    if unanswered:
        say(f"error: {nothing_known(asked_kind, unanswered)}")
    if unknown:
        say(f"error: unknown {asked_kind} ids: {', '.join(map(repr, unknown))}")
    return 2 if unknown or unanswered else 0


def ranked_table(
    asked_kind: str, kind: str, found: Mapping[Any, Ranked | None], titles: Titles | None = None
) -> WholeTable:
    """A line for each recommendation or neighbour.

    Args:
        asked_kind: what was asked for, "user" or "item".
        kind: what was found, "user" or "item".
        found: by the id that was asked for; None for an unknown one.
        titles: of what was found; None where the data have none.
    """
    kind = kind if kind != asked_kind else f"similar {kind}"
    columns = answer_columns([*found], [*found.values()], (asked_kind, kind), titles, place="place")
    columns["score"] = [f"{score:.4f}" for score in columns["score"]]
    order = [name for name in (asked_kind, "place", kind, "title", "score") if name in columns]
    if "title" in columns:
        columns["title"] = [one or "" for one in columns["title"]]
    rows = zip(*(columns[name] for name in order), strict=True)
    return table(order, rows, numbers=("place", "score"))


def plain(ranked: Ranked | None, titles: Titles | None = None) -> list[dict[str, Any]] | None:
    """A ranking as a JSON value.

    Args:
        ranked: what was found; None for an id of which nothing is known.
        titles: of what was found; None where the data have none.
    """
    if ranked is None:
        return None
    columns = answer_columns([None], [ranked], (None, "id"), titles)
    columns["score"] = columns["score"].tolist()
    names = [name for name in ("id", "title", "score") if name in columns]
    rows = zip(*(columns[name] for name in names), strict=True)
    return [dict(zip(names, row, strict=True)) for row in rows]
