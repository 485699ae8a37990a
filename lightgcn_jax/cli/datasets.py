"""The command data: which data sets there are, what they hold, fetching and preparing them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from lightgcn_jax.cli.console import facts, results, say, table, tell
from lightgcn_jax.cli.meter import ConsoleMeter
from lightgcn_jax.cli.runs import Switch
from lightgcn_jax.cli.settings import flag
from lightgcn_jax.cli.source import SPLITS, FileFormat, Folder
from lightgcn_jax.data import PARTS, Counts, Interactions, dataset_names, describe, load_dataset
from lightgcn_jax.data.feedback import Feedback
from lightgcn_jax.data.splits import SplitMethod, Unseen
from lightgcn_jax.errors import InputError
from lightgcn_jax.meter import SilentMeter
from lightgcn_jax.prepared import Preparation, Prepared, prepare
from lightgcn_jax.prepared.preparation import StoredOrdering, bytes_of

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
class Prepare:
    """Prepare a log that may be larger than memory: a folder that `train --data` maps.

    Parquet tables and text with a row for each interaction are read in slices, sorted on disk and
    split, in the memory that is allowed. Whatever was killed goes on when the command is repeated.
    The split is the one that `train` makes of the same files.

    Attributes:
        sources: files and folders, which are read as one log.
        out: the prepared folder.
        memory: what may be taken beside the program itself.
        file_format: how to read the files.
        feedback: what a row is: a rating, of which a pair's last counts before --min-rating is
            looked at, or an event, of which one at --min-rating or above suffices.
        min_rating: keep interactions rated at least this.
        split: as `train` has it.
        shares: shares of train, valid and test, for the ratio and temporal splits.
        leave_k: interactions of each user that leave-k-out withholds for valid and for test.
        split_seed: seed of the random splits, and of the order of interactions at one moment.
        unseen: what becomes of withheld pairs (given and temporal splits) whose user or item no
            training interaction names.
        ordering: `degree` puts rows of many interactions first, as `auto` does in large graphs;
            `dealt` gives consecutive rows even shares of the edges, for training on a mesh.
        quiet: print nothing but the folder.
    """

    sources: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    out: Annotated[Path, flag("FOLDER")]
    memory: Annotated[str, flag("BYTES")] = "8GB"
    file_format: Annotated[FileFormat, tyro.conf.arg(name="")] = field(default_factory=FileFormat)
    feedback: Annotated[
        Feedback | None, flag("{events,ratings}", "(default: events where all ratings are 0 or 1)")
    ] = None
    min_rating: Annotated[float | None, flag("FLOAT")] = None
    split: Annotated[
        SplitMethod | None, flag(SPLITS, "(default: given where the files give one, else ratio)")
    ] = None
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    leave_k: int = 1
    split_seed: int = 0
    unseen: Unseen = "keep"
    ordering: StoredOrdering = "auto"
    quiet: Switch = False

    def run(self) -> int:
        same = ("split", "shares", "leave_k", "split_seed", "unseen", "min_rating", "feedback")
        settings = Preparation(
            self.sources,
            asdict(self.file_format),
            **{name: getattr(self, name) for name in (*same, "ordering")},
            memory=bytes_of(self.memory),
        )
        made = prepare(settings, self.out, SilentMeter() if self.quiet else ConsoleMeter())
        if self.quiet:
            tell(self.out)
            return 0
        for note in (*made.manifest["notes"], *made.manifest["split_notes"]):
            say(f"note: {note}")
        results().print(facts(_prepared(made)))
        return 0


@dataclass(frozen=True)
class Data:
    """List, download, describe and prepare data sets.

    Attributes:
        command: what to do.
    """

    command: tyro.conf.OmitSubcommandPrefixes[
        Annotated[List, tyro.conf.subcommand("list")]
        | Annotated[Download, tyro.conf.subcommand("download")]
        | Annotated[Describe, tyro.conf.subcommand("describe")]
        | Annotated[Prepare, tyro.conf.subcommand("prepare")]
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


def _prepared(made: Prepared) -> Iterator[tuple[str, str]]:
    yield "rows", f"{made.manifest['rows_read']:,}"
    yield "users", f"{made.manifest['users']:,}"
    yield "items", f"{made.manifest['items']:,}"
    yield "split", made.manifest["split"]
    yield "pairs", ", ".join(f"{made.manifest['pairs'][part]:,} {part}" for part in PARTS)
    yield "bytes of an edge", f"{made.bytes_an_edge:.2f}, both ways"
    yield "folder", f"{made.path}, which train --data takes"


def _moment(seconds: float) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"
    except (OverflowError, ValueError, OSError):  # beyond the calendar, for instance milliseconds
        return f"{seconds:g} s"
