"""The command data: which data sets there are, what they hold, and fetching them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from lightgcn_jax.cli.console import facts, results, say, table
from lightgcn_jax.cli.source import FileFormat, Folder
from lightgcn_jax.data import PARTS, Counts, Interactions, dataset_names, describe, load_dataset
from lightgcn_jax.errors import InputError

_LISTED = 80
Name = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]


@dataclass(frozen=True)
class List:
    """List the data sets that are known by name, a line each; `data describe NAME` says more.

    Attributes:
        data_dir: folder with one folder for each data set.
    """

    data_dir: Folder = None

    def run(self) -> int:
        rows = []
        for name in dataset_names():
            about = describe(name, data_dir=self.data_dir)
            at_hand = "yes" if about["folder"] else _whereabouts(about)
            rows.append((name, *_counts(about), at_hand, about["licence"]))
        columns = ("name", "users", "items", "interactions", "at hand", "licence")
        # A line of a list is no longer than that of a terminal, in a file too.
        console = results(_LISTED)
        console.print(table(columns, rows, numbers=columns[1:4], cut="licence"))
        return 0


@dataclass(frozen=True)
class Download:
    """Download a data set, unless it is at hand, and check what it holds.

    Attributes:
        name: name of the data set.
        to: folder in which its folder is made; by default the cache.
    """

    name: Name
    to: Folder = None

    def run(self) -> int:
        interactions = load_dataset(self.name, cache_dir=self.to, apply_threshold=False)
        about = describe(self.name, cache_dir=self.to)
        say(f"{self.name}: {_whereabouts(about)}")
        results().print(facts(_figures(interactions)))
        return 0


@dataclass(frozen=True)
class Describe:
    """Say what is known of a data set, or what a file or folder of your own holds.

    Attributes:
        source: name of a data set, or a path.
        file_format: how to read a path.
        data_dir: folder with one folder for each data set.
    """

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME-OR-PATH")]
    file_format: Annotated[FileFormat, tyro.conf.arg(name="")] = field(default_factory=FileFormat)
    data_dir: Folder = None

    def run(self) -> int:
        if self.source in dataset_names():
            self.file_format.refuse(f"{self.source} is a data set with a format of its own")
            known = _known(describe(self.source, data_dir=self.data_dir))
        elif Path(self.source).exists():
            known = _figures(self.file_format.read(Path(self.source), unknown_ids="allow"))
        else:
            raise InputError(
                f"{self.source}: expected a file, a folder, or one of {', '.join(dataset_names())}"
            )
        results().print(facts(known))
        return 0


@dataclass(frozen=True)
class Data:
    """List, download and describe data sets.

    Attributes:
        command: what to do.
    """

    command: tyro.conf.OmitSubcommandPrefixes[
        Annotated[List, tyro.conf.subcommand("list")]
        | Annotated[Download, tyro.conf.subcommand("download")]
        | Annotated[Describe, tyro.conf.subcommand("describe")]
    ]

    def run(self) -> int:
        return self.command.run()


def _counts(about: dict[str, Any]) -> tuple[str, ...]:
    """Users, items and interactions of the edition listed last, the one to download."""
    if about["editions"]:
        counts = [about["editions"][-1][key] for key in ("users", "items", "interactions")]
    else:
        generated = load_dataset(about["name"])
        counts = [generated.num_users, generated.num_items, len(generated)]
    return tuple(f"{count:,}" for count in counts)


def _whereabouts(about: dict[str, Any]) -> str:
    if not about["urls"]:
        return "generated"
    return about["folder"] or "no"


def _known(about: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "description", about["description"]
    yield "licence", about["licence"]
    if about["homepage"]:
        yield "home page", about["homepage"]
    for edition in about["editions"]:
        label = f"edition of {edition['label']}" if edition["label"] else "holds"
        yield label, str(Counts(*(edition[field] for field in Counts._fields)))
    if about["min_rating"] is not None:
        yield "counts as an interaction", f"a rating of {about['min_rating']:g} or more"
    if about["remark"]:
        yield "remark", about["remark"]
    for url in about["urls"]:
        yield "from", url
    yield "at hand", _whereabouts(about)


def _figures(interactions: Interactions) -> Iterator[tuple[str, str]]:
    yield "interactions", f"{len(interactions):,}"
    yield "users", f"{interactions.num_users:,}"
    yield "items", f"{interactions.num_items:,}"
    distinct = len(np.unique(interactions.pair_keys))
    yield "repeated pairs", f"{len(interactions) - distinct:,}"
    yield "density", f"{distinct / (interactions.num_users * interactions.num_items):.4%}"
    for kind, rows, number in (
        ("a user", interactions.user_rows, interactions.num_users),
        ("an item", interactions.item_rows, interactions.num_items),
    ):
        degrees = np.bincount(rows, minlength=number)
        median = f"median {np.median(degrees):g}"
        yield f"interactions of {kind}", f"{degrees.min():,} to {degrees.max():,}, {median}"
    if (ratings := interactions.ratings) is not None:
        yield "ratings", f"{ratings.min():g} to {ratings.max():g}, mean {ratings.mean():.3g}"
    if (weights := interactions.weights) is not None:
        yield "weights", f"{weights.min():g} to {weights.max():g}, mean {weights.mean():.3g}"
    if (times := interactions.timestamps) is not None:
        yield "times", f"{_moment(times.min())} to {_moment(times.max())}"
    if interactions.parts is not None:
        counts = np.bincount(interactions.parts, minlength=len(PARTS))
        parts = [f"{count:,} {part}" for count, part in zip(counts, PARTS, strict=True)]
        yield "split given", ", ".join(parts)


def _moment(seconds: float) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"
    except (OverflowError, ValueError, OSError):  # beyond the calendar, for instance milliseconds
        return f"{seconds:g} s"
