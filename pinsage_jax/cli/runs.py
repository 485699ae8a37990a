"""The commands evaluate, similar and export, which read finished runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console

from lightgcn_jax.cli.console import WholeTable, results, say, table
from lightgcn_jax.cli.meter import ConsoleMeter
from lightgcn_jax.cli.runs import Ids, RunPath, Switch, plain
from lightgcn_jax.cli.settings import File, flag
from lightgcn_jax.data.titles import Titles
from lightgcn_jax.errors import InputError
from lightgcn_jax.serving import Ranked
from lightgcn_jax.serving.export import check_target, write_tables
from pinsage_jax.runs.directory import PinSageRun
from pinsage_jax.runs.evaluate import evaluate_run
from pinsage_jax.runs.export import export_parts
from pinsage_jax.runs.finished import features_of, open_items
from pinsage_jax.runs.negative_distances import negative_distances, plot_distances
from pinsage_jax.runs.stored_task import read_table
from pinsage_jax.serving.contact_sheet import contact_sheet, named_picture, neighbours_table
from pinsage_jax.serving.item_titles import titles_of
from pinsage_jax.serving.live_items import GROWTH, LiveItems, Neighbours
from pinsage_jax.serving.programs import Similarity

RunPaths = Annotated[tuple[Path, ...], flag("RUN [RUN ...]")]


@dataclass(frozen=True)
class Evaluate:
    """Rank a run's held-out pairs again: hit-rate and mean reciprocal rank as the paper defines
    them (here among all training items, with scale 1), recall and NDCG of each query. Then do the
    same for items that training did not see.

    Attributes:
        run_path: the run directory.
        no_probe: do not classify the frozen vectors by the labels that the data set has.
        plot: draw how far uniform, hard and distance-weighted negatives lie from test queries, to
            this PNG; that needs the extra `plot`.
        json: print JSON.
    """

    run_path: RunPath
    no_probe: Switch = False
    plot: File = None
    json: Switch = False

    def run(self) -> int:
        figures = evaluate_run(self.run_path, probe=not self.no_probe)
        if self.plot is not None:
            _say_drawn(plot_distances(negative_distances(self.run_path), self.plot))
        if self.json:
            print(json.dumps(figures, indent=2))
            return 0
        console = results()
        print_parts(console, figures["parts"], figures["baselines"])
        if "added" in figures:
            console.print(_of_added(figures["added"]))
        if "not_added" in figures:
            console.print(f"Items held out: left out, {figures['not_added']}")
        share = figures["triplets"]
        console.print(f"Triplets: a related item is nearer than a random one in {share:.1%}")
        for label, probe in figures["probe"].items():
            values = ", ".join(
                f"{name} {value:.3f} ({probe['baseline'][name]:.3f} without vectors)"
                for name, value in probe["metrics"].items()
            )
            console.print(f"Linear probe of {label}: {values}")
        for label, reason in figures["not_probed"].items():
            console.print(f"Linear probe of {label}: left out, {reason}")
        return 0


def print_parts(
    console: Console,
    parts: Mapping[str, Mapping[str, float]],
    baselines: Mapping[str, Mapping[str, float]],
) -> None:
    """Print a run's figures, with those below which nothing was learnt.

    Args:
        console: where to.
        parts: the metrics of validation and test.
        baselines: those of rankings of test that need no encoder.
    """
    console.print(parts_table({**parts, **baselines}))
    console.print(f"{', '.join(baselines)}: test, ranked by that alone")


def parts_table(parts: Mapping[str, Mapping[str, float]]) -> WholeTable:
    """Make a table of the metrics of each part.

    Args:
        parts: the values by part, that of test among them, and metric.
    """
    names = list(parts["test"])

    def cell(values: Mapping[str, float], name: str) -> str:
        # A part with more items may be ranked at other cut-offs, where these are few.
        return f"{values[name]:.4f}" if name in values else "–"

    rows = [(part, *(cell(values, name) for name in names)) for part, values in parts.items()]
    return table(("part", *names), rows, numbers=names)


def _of_added(figures: dict[str, dict[str, float]]) -> str:
    names = [name for name in figures["fresh"] if name.startswith(("hit_rate", "mrr"))]
    values = ", ".join(
        f"{name} {figures['fresh'][name]:.4f} (ordinary items {figures['test'][name]:.4f})"
        for name in names
    )
    return (
        f"Items held out, then added with half of their contexts, which count {GROWTH:g} times: "
        f"{values}"
    )


@dataclass(frozen=True)
class Similar:
    """Find the items that score highest with given ones, items added later among them.

    Attributes:
        run_path: the run directory.
        item: items whose neighbours are wanted.
        k: neighbours of each.
        by: order by the `score`, in which well-known items have longer vectors, or by the `cosine`,
            which compares directions: what is alike, whoever knows it.
        compare: show the neighbours by these runs as well, side by side.
        sheet: draw the items and their neighbours as pictures, to this PNG; that needs the
            extra `plot`.
        pictures: the folder of the pictures, PNG, JPEG or WebP.
        picture_column: the feature that names an item's picture in that folder; by default a
            picture is called as its item's id.
        json: print JSON.
    """

    run_path: RunPath
    item: Ids
    k: Annotated[int | None, flag("K", "(default: 20)")] = None
    by: Similarity = "score"
    compare: RunPaths = ()
    sheet: File = None
    pictures: Annotated[Path | None, flag("FOLDER", "(default: this folder)")] = None
    picture_column: Annotated[str | None, flag("COLUMN")] = None
    json: Switch = False

    def run(self) -> int:
        self._check_pictures()
        runs = {str(path): open_items(path) for path in (self.run_path, *self.compare)}
        live = runs[str(self.run_path)]
        rows = live.items.rows(list(self.item))
        unknown = [one for one, row in zip(self.item, rows, strict=True) if row < 0]
        known = live.items.external(rows[rows >= 0])
        found = {name: neighbours_of(one, known, self.k, self.by) for name, one in runs.items()}
        if self.sheet is not None and known:
            self._draw(self.sheet, found[str(self.run_path)], live)
        if self.json:
            titles = titles_of(features_of(self.run_path, live), live.items)
            print(json.dumps({name: _plain(one, titles) for name, one in found.items()}, indent=2))
        elif known and self.compare:
            results().print(_side_by_side(found))
        elif known:
            print_neighbours(found[str(self.run_path)], live, self.run_path)
        if unknown:
            say(f"error: unknown item ids: {', '.join(map(repr, unknown))}")
            return 2
        return 0

    def _check_pictures(self) -> None:
        given = {"--pictures": self.pictures, "--picture-column": self.picture_column}
        for name, value in given.items():
            if self.sheet is None and value is not None:
                raise InputError(f"{name}: says what is drawn, but there is no --sheet")
        if self.pictures is not None and not self.pictures.is_dir():
            raise InputError(f"{self.pictures}: no such folder of pictures")

    def _draw(self, sheet: Path, found: Mapping[int | str, Neighbours], live: LiveItems) -> None:
        folder = self.pictures or Path()
        ids = np.stack([live.items.rows(one.ids) for one in found.values()])
        queries = live.items.rows(list(found))
        if self.picture_column is None:
            names: list[str | None] = [None] * len(live.items)
            # A folder is asked for what is drawn, not for the whole catalogue.
            shown = np.union1d(queries, ids)
            for row, item in zip(shown, live.items.external(shown), strict=True):
                names[row] = named_picture(folder, item)
        else:
            names = _column_of(self.run_path, self.picture_column, len(live.items))
        drawn = contact_sheet(sheet, queries, ids, names, live.items, folder)
        _say_drawn(drawn.path)
        if drawn.path is not None:
            say(f"{drawn.shown} pictures, {drawn.missing} missing, {drawn.broken} unreadable")


def _column_of(path: Path, column: str, num_items: int) -> list[str | None]:
    """Each item's value of a text or category column; None for items added later."""
    columns = read_table(PinSageRun.open(path)).columns
    fits = [name for name, one in columns.items() if one.kind in ("text", "category")]
    if column not in fits:
        raise InputError(
            f"--picture-column: expected a text or category column of the run "
            f"({', '.join(fits) or 'it has none'}), got {column!r}"
        )
    values = list(columns[column].values)
    return values + [None] * (num_items - len(values))


def _say_drawn(path: Path | None) -> None:
    missing = "no picture is drawn: matplotlib is missing, see the extra plot"
    say(missing if path is None else f"wrote {path}")


@dataclass(frozen=True)
class Export:
    """Write the vectors and ids of all items, added ones included, to one file or in parts.

    Attributes:
        run_path: the run directory.
        to: the file, which ends in .npz, .safetensors or .parquet, or the folder of the parts.
        partitioned: write the vectors to a folder, a Parquet file for each 65,536 of them, of which
            memory holds one at a time; the command goes on after a kill.
    """

    run_path: RunPath
    to: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    partitioned: Switch = False

    def run(self) -> int:
        if self.partitioned:
            rows = export_parts(self.run_path, self.to, ConsoleMeter())
            say(f"wrote {self.to}: {rows:,} vectors")
            return 0
        check_target(self.to)
        live = open_items(self.run_path)
        say(f"wrote {write_tables(self.to, {'item': (live.items, live.vectors)})}")
        return 0


def neighbours_of(
    live: LiveItems, ids: Sequence[int | str], k: int | None, by: Similarity = "score"
) -> dict[int | str, Neighbours]:
    """Find the neighbours of items; fewer than k in a small catalogue.

    Args:
        live: the items of a run.
        ids: external ids.
        k: how many neighbours each gets; None for 20.
        by: what they are ordered by.
    """
    return dict(zip(ids, live.similar(ids, k, by), strict=True))


def print_neighbours(found: Mapping[int | str, Neighbours], live: LiveItems, path: Path) -> None:
    """Print a line for each neighbour with its features, but for vectors; those of items that were
    added later are the ones that the run reads.

    Args:
        found: the neighbours of each item.
        live: the items of the run.
        path: the run directory.
    """
    features = features_of(path, live)
    # A vector's numbers tell nobody anything.
    shown = [name for name, one in features.columns.items() if one.kind != "vector"]
    ids = np.stack([live.items.rows(one.ids) for one in found.values()])
    scores = np.stack([one.scores for one in found.values()])
    queries = live.items.rows(list(found))
    drawn = neighbours_table(queries, ids, scores, features, live.items, shown)
    results().print(table(drawn.columns, drawn.rows, numbers=drawn.numbers))


def _side_by_side(found: Mapping[str, Mapping[int | str, Neighbours]]) -> WholeTable:
    """A column of neighbours for each run."""
    first = next(iter(found.values()))
    rows = [
        (item, place + 1, *(_cell(of_run[item], place) for of_run in found.values()))
        for item, neighbours in first.items()
        for place in range(len(neighbours.ids))
    ]
    return table(("item", "place", *found), rows, numbers=("place",))


def _cell(neighbours: Neighbours, place: int) -> str:
    if place >= len(neighbours.ids):
        return "–"
    return f"{neighbours.ids[place]}  {neighbours.scores[place]:.3f}"


def _plain(found: Mapping[int | str, Neighbours], titles: Titles | None) -> list[dict[str, Any]]:
    return [
        {"item": item, "neighbours": plain(Ranked(*near), titles)} for item, near in found.items()
    ]
