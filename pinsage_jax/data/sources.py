"""Items by name: a generated world, and public data sets with the features that came with them.

Interactions come from the readers of ``lightgcn_jax``; here their items get features and labels.

================  ==============================================================================
pins              generated: visual vectors and words (see ``pinsage_jax.data.world``)
ml-latest-small   contexts: users, all ratings with their times. Features: title, year, genres,
                  tags. Labels: genres
ml-100k           contexts: users, all ratings with their times. Features, where the edition has
                  ml-100k.item: title, year, genres
hetrec-lastfm     contexts: listeners. Features: name, tags. Labels: the 20 most given tags
gowalla           contexts: visitors, the published split. No features
================  ==============================================================================

Two things are left to the caller. A label that is also a column (genres, tags) must not be probed
on vectors that were made from that column. And tags were given at all times, those of the held-out
future among them: leave the column out where features have to be older than what is foretold.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lightgcn_jax.data import Interactions, describe, load_dataset, read_interactions
from lightgcn_jax.errors import InputError
from pinsage_jax.data.items import ItemData
from pinsage_jax.data.world import generate_pins
from pinsage_jax.features.delimited import Quoting, parse_delimited
from pinsage_jax.features.table import FeatureTable

_FEATURE_TAGS, _LABEL_TAGS = 1000, 20
_NO_GENRE = "(no genres listed)"


def load_items(name: str, data_dir: Path | None = None) -> ItemData:
    """Load the items of a data set.

    Args:
        name: one of ``SOURCES``.
        data_dir: folder with one folder for each data set; None takes the folder that the
            environment variable GRAPHREC_DATA names.

    Raises:
        InputError: the name is unknown, or a file is missing or does not hold what it should.
    """
    if name not in SOURCES:
        raise InputError(f"unknown data set {name!r}: expected one of {', '.join(SOURCES)}")
    return SOURCES[name](data_dir)


def from_files(
    interactions: Interactions, features: FeatureTable | None, name: str = "own data"
) -> ItemData:
    """Make items of interactions and features that were read before.

    Args:
        interactions: its users are the contexts.
        features: a row for each item, in the order of ``interactions.items``; None for none.
        name: what the data set is called.

    Raises:
        InputError: there is no item, or features are of another number of rows.
    """
    if features is None:
        features = FeatureTable({}, interactions.num_items)
    return ItemData(name, interactions, features, {})


def with_pairs(data: ItemData, path: Path) -> ItemData:
    """Give items the explicit pairs of a file.

    Pairs that name an unknown item, or the same item twice, are left out, counted and noted.

    Args:
        data: the items.
        path: a CSV, TSV or Parquet file with the columns ``query`` and ``positive``, ids of items.

    Raises:
        InputError: the file cannot be read, or most of its pairs name an item that is unknown.
    """
    found = read_interactions(path, user_column="query", item_column="positive", missing="error")
    known = data.interactions.items
    queries, positives = (
        known.rows(ids.ids)[rows]
        for ids, rows in ((found.users, found.user_rows), (found.items, found.item_rows))
    )
    unknown, itself = (queries < 0) | (positives < 0), (queries == positives) & (queries >= 0)
    if 2 * unknown.sum() > len(unknown):
        at = int(unknown.argmax())
        odd, rows = (found.users, found.user_rows)
        if queries[at] >= 0:
            odd, rows = (found.items, found.item_rows)
        raise InputError(
            f"{path}: {unknown.sum():,} of {len(unknown):,} pairs name an item that is unknown, "
            f"such as {odd.ids[int(rows[at])]!r}; known ids look like {known.ids[0]!r}"
        )
    notes = [
        f"{path.name}: {left.sum():,} of {len(left):,} pairs are left out: {why}"
        for left, why in (
            (unknown, "one of their items is unknown"),
            (itself, "an item with itself"),
        )
        if left.any()
    ]
    kept = ~(unknown | itself)
    pairs = (queries[kept], positives[kept])
    return dataclasses.replace(data, pairs=pairs, notes=(*data.notes, *notes))


def _pins(_: Path | None) -> ItemData:
    return generate_pins().data


def _gowalla(data_dir: Path | None) -> ItemData:
    interactions = load_dataset("gowalla", data_dir=data_dir)
    return from_files(interactions, None, "gowalla")


def _movielens(data_dir: Path | None) -> ItemData:
    name = "ml-latest-small"
    # Every rating is a membership, also a low one: it says which films are seen by one person.
    interactions = load_dataset(name, data_dir=data_dir, apply_threshold=False)
    reader = _Reader(name, data_dir, separator=",", quoting="csv")
    films = reader.read(
        "movies.csv", {"movieId": pl.Int64, "title": pl.String, "genres": pl.String}
    )
    films = _in_order(interactions, films, "movieId", reader.path("movies.csv"))
    given = reader.read("tags.csv", {"movieId": pl.Int64, "tag": pl.String})
    tags = given.group_by("movieId", maintain_order=True).agg(pl.col("tag").str.join(" "))
    films = films.join(tags, on="movieId", how="left", maintain_order="left")
    year = r"\s*\((\d{4})\)\s*$"
    genres = films["genres"].str.split("|").list.set_difference([_NO_GENRE])
    columns = {
        "title": films["title"].str.replace(year, ""),
        "year": films["title"].str.extract(year).cast(pl.Float64),
        "genres": genres,
        "tags": films["tag"],
    }
    names = genres.explode().drop_nulls().unique().sort().to_list()
    return ItemData(
        name,
        interactions,
        FeatureTable.from_mapping(columns),
        {"genres": _truths(genres, names)},
        notes=reader.notes(),
    )


def _movielens_100k(data_dir: Path | None) -> ItemData:
    name = "ml-100k"
    interactions = load_dataset(name, data_dir=data_dir, apply_threshold=False)
    reader = _Reader(name, data_dir, separator="\t", quoting="none")
    path = reader.path("ml-100k.item")
    if not path.exists():
        items = from_files(interactions, None, name)
        return dataclasses.replace(items, notes=(f"{path.name} is not there: no features",))
    id_name, title, year, genres = (
        "item_id:token",
        "movie_title:token_seq",
        "release_year:token",
        "class:token_seq",
    )
    films = reader.read(
        path.name, {id_name: pl.Int64, title: pl.String, year: pl.String, genres: pl.String}
    )
    films = _in_order(interactions, films, id_name, path)
    columns = {
        "title": films[title],
        "year": films[year].cast(pl.Float64, strict=False),
        "genres": films[genres].str.split(" "),
    }
    table = FeatureTable.from_mapping(columns)
    return ItemData(name, interactions, table, {}, notes=reader.notes())


def _lastfm(data_dir: Path | None) -> ItemData:
    name = "hetrec-lastfm"
    interactions = load_dataset(name, data_dir=data_dir)
    reader = _Reader(name, data_dir, separator="\t", quoting="none")
    artists = reader.read("artists.dat", {"id": pl.Int64, "name": pl.String})
    artists = _in_order(interactions, artists, "id", reader.path("artists.dat"))
    words = reader.read("tags.dat", {"tagID": pl.Int64, "tagValue": pl.String})
    given = reader.read("user_taggedartists.dat", {"artistID": pl.Int64, "tagID": pl.Int64})
    given = given.filter(pl.col("artistID").is_in(artists["id"].implode()))
    # Popularity is the number of assignments; of equally popular tags the lower id comes first.
    ranked = given.group_by("tagID").len().sort("len", "tagID", descending=[True, False])
    ranked = ranked.join(words, on="tagID", how="inner", maintain_order="left")["tagValue", "tagID"]
    ranked = ranked.head(_FEATURE_TAGS)
    tagged = given.unique(maintain_order=True).join(
        ranked, on="tagID", how="inner", maintain_order="left"
    )
    lists = tagged.group_by("artistID", maintain_order=True).agg(pl.col("tagValue").alias("tags"))
    artists = artists.join(
        lists, left_on="id", right_on="artistID", how="left", maintain_order="left"
    )
    tags = artists["tags"]
    return ItemData(
        name,
        interactions,
        FeatureTable.from_mapping({"name": artists["name"], "tags": tags}),
        {"tags": _truths(tags, ranked["tagValue"].head(_LABEL_TAGS).to_list())},
        notes=reader.notes(),
    )


SOURCES: Mapping[str, Callable[[Path | None], ItemData]] = {
    "pins": _pins,
    "ml-latest-small": _movielens,
    "ml-100k": _movielens_100k,
    "hetrec-lastfm": _lastfm,
    "gowalla": _gowalla,
}
"""What ``load_items`` knows, by name."""


class _Reader:
    """Reads tables that lie beside a data set's interactions, and counts text that is no UTF-8."""

    def __init__(self, name: str, data_dir: Path | None, *, separator: str, quoting: Quoting):
        about = describe(name, data_dir=data_dir)
        self._folder = Path(about["folder"])
        self._origin = about["urls"][0]
        self._separator = separator
        self._quoting: Quoting = quoting
        self._broken: dict[str, int] = {}

    def path(self, file: str) -> Path:
        return self._folder / file

    def read(self, file: str, types: Mapping[str, Any]) -> pl.DataFrame:
        """Read some columns of a file: a row for each line that is not empty.

        Raises:
            InputError: the file or a column is missing, or a cell is no integer where one belongs.
        """
        path = self.path(file)
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise InputError(
                f"{path}: cannot be read ({error.strerror}); it comes with the interactions, "
                f"from {self._origin}"
            ) from error
        text = raw.decode("utf-8-sig", errors="replace")
        if broken := text.count("\ufffd"):
            self._broken[file] = broken
        frame = parse_delimited(path, text, self._separator, self._quoting).cells
        if missing := [name for name in types if name not in frame.columns]:
            raise InputError(
                f"{path}: expected the columns {', '.join(types)}, "
                f"got {', '.join(frame.columns)} without {missing[0]}"
            )
        return frame.select(
            _typed(frame[name].fill_null(""), kind, path) for name, kind in types.items()
        )

    def notes(self) -> tuple[str, ...]:
        return tuple(
            f"{file}: {count:,} places are no UTF-8 and were replaced by U+FFFD"
            for file, count in self._broken.items()
        )


def _typed(cells: pl.Series, kind: Any, path: Path) -> pl.Series:
    values = cells.cast(kind, strict=False)
    if (odd := values.is_null()).any():
        at = int(odd.arg_true()[0])
        raise InputError(
            f"{path}: row {at + 1} below the header, {cells.name}: "
            f"expected an integer, got {cells[at]!r}"
        )
    return values


def _in_order(
    interactions: Interactions, table: pl.DataFrame, column: str, path: Path
) -> pl.DataFrame:
    """The table's rows in the order of the items, whose ids ``column`` holds."""
    if table[column].is_duplicated().any():
        repeated = table[column].filter(table[column].is_duplicated()).first()
        raise InputError(
            f"{path}: expected one line for each {column}, but {repeated} stands twice"
        )
    items = interactions.items.ids.alias(column)
    missing = items.filter(~items.is_in(table[column].implode()))
    if len(missing):
        raise InputError(
            f"{path}: expected a line for each of {len(items):,} items, but {len(missing):,} have "
            f"none, the first of them {missing[0]}; is the file from another edition?"
        )
    return items.to_frame().join(table, on=column, how="left", maintain_order="left")


def _truths(lists: pl.Series, names: list[str]) -> np.ndarray:
    """Which of ``names`` each row's list holds, ``bool[I, names]``."""
    rows = pl.DataFrame({"row": np.arange(len(lists)), "name": lists}).explode("name")
    places = pl.DataFrame({"name": names, "place": np.arange(len(names))})
    found = rows.join(places, on="name", how="inner")
    truths = np.zeros((len(lists), len(names)), bool)
    truths[found["row"].to_numpy(), found["place"].to_numpy()] = True
    return truths
