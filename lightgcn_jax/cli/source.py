"""The flags that say where interactions come from and how they are split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
import polars as pl
import tyro

from lightgcn_jax.cli.console import say
from lightgcn_jax.cli.settings import File, flag
from lightgcn_jax.data import FORMATS, Interactions, load_dataset, read_interactions, splits
from lightgcn_jax.data.also_seen import SeenIds
from lightgcn_jax.data.feedback import Feedback, of_events, positives
from lightgcn_jax.data.roles import EVENT_FLAG
from lightgcn_jax.data.spellings import UnknownIds
from lightgcn_jax.data.times import TIME_UNITS
from lightgcn_jax.data.title_files import read_titles
from lightgcn_jax.errors import InputError

Text = Annotated[str | None, flag("STR")]
IdType = Literal["auto", "integers", "text"]
Folder = Annotated[Path | None, flag("FOLDER")]
_FIRST_TWO = ("1", "2")
_NOTHING: Mapping[str, str] = {}
SPLITS = "{" + ",".join(get_args(splits.SplitMethod)) + "}"


def columns_read(data: Mapping[str, Any]) -> dict[str, str]:
    """The columns that hold users and items in the files of a run, by the options that name them.

    Args:
        data: what the run remembers of its data.
    """
    readings = data.get("readings")
    first = readings[0] if isinstance(readings, list) and readings else {}
    read_as = first.get("read_as") if isinstance(first, Mapping) else None
    if not isinstance(read_as, Mapping) or read_as.get("header", "yes") != "yes":
        return {}
    named = ((name, read_as.get(name)) for name in ("user_column", "item_column"))
    return {name: column for name, column in named if isinstance(column, str)}


def _choices(*names: str) -> str:
    return "{" + ",".join(("auto", *names)) + "}"


@dataclass(frozen=True)
class FileFormat:
    """How to read a user's file.

    Attributes:
        format: format of the files; `auto` goes by names and lines.
        user_column: column of user ids, by its name, or by its place from 1 on (2, or #2 where a
            column is named 2); the usual names are found without it.
        item_column: column of item ids.
        rating_column: column of ratings; `none` leaves them out.
        timestamp_column: column of times; `none` leaves them out.
        weight_column: column of weights above 0, which weigh interactions in graph and loss; those
            of a pair's rows add up; `pinsage-jax` takes none.
        separator: what stands between fields, where it is not the format's own; `tab` is a tab,
            `blanks` any number of spaces and tabs.
        header: whether the first line names the columns.
        quoting: whether "…" may enclose a field, with a quotation mark inside doubled (csv) or
            behind a backslash.
        time_unit: what times are counted in; `auto` goes by their size.
        encoding: encoding of text files, such as latin-1; `auto` is UTF-8, or what a mark says.
        skip_bad_rows: leave out rows that do not fit, and say how many.
        missing: what becomes of rows without a user or an item, guest checkouts for instance:
            `skip` leaves them out and says how many, `error` refuses them.
        null_ids: whether ids such as "nan" and "NULL" are ids.
        user_ids: type of user ids; `integers` makes others errors, `auto` is text where one is.
        item_ids: type of item ids.
    """

    format: Annotated[str, tyro.conf.arg(metavar=_choices(*FORMATS))] = "auto"
    user_column: Text = None
    item_column: Text = None
    rating_column: Text = None
    timestamp_column: Text = None
    weight_column: Text = None
    separator: Text = None
    header: Literal["auto", "yes", "no"] = "auto"
    quoting: Literal["auto", "csv", "backslash", "none"] = "auto"
    time_unit: Annotated[str, tyro.conf.arg(metavar=_choices(*TIME_UNITS))] = "auto"
    encoding: Annotated[str, tyro.conf.arg(metavar="NAME")] = "auto"
    skip_bad_rows: bool = False
    missing: Literal["skip", "error"] = "skip"
    null_ids: Literal["refuse", "keep"] = "refuse"
    user_ids: IdType = "auto"
    item_ids: IdType = "auto"

    def refuse(self, why: str) -> None:
        """Refuse these flags where nothing is read by them.

        Args:
            why: why nothing is, for the message.

        Raises:
            InputError: one of them was given.
        """
        for field in fields(self):
            if getattr(self, field.name) != field.default:
                flag = "--" + field.name.replace("_", "-")
                raise InputError(f"{flag}: says how to read a file, but {why}")

    def read(
        self,
        path: Path,
        *,
        quiet: bool = False,
        unknown_ids: UnknownIds = "refuse",
        without: Sequence[str] = (),
        remembered: Mapping[str, str] = _NOTHING,
    ) -> Interactions:
        """The interactions of a file or a folder; how it was read is written to stderr.

        Args:
            path: the file or the folder.
            quiet: write nothing.
            unknown_ids: whether files of a split may be read that do not know each other's ids.
            without: flags that no note recommends.
            remembered: the columns that a run read, which are taken where the file has them and no
                flag names others.
        """
        said = asdict(self)
        unsaid: dict[str, Any] = {
            name: column for name, column in remembered.items() if said[name] is None
        }
        try:
            interactions = read_interactions(path, **said | unsaid, unknown_ids=unknown_ids)
        except InputError:
            if not unsaid:
                raise
            interactions = read_interactions(path, **said, unknown_ids=unknown_ids)
        interactions = _without_notes(interactions, without)
        if not quiet:
            for line in _told(interactions):
                say(line)
        return interactions


def _without_notes(interactions: Interactions, flags: Sequence[str]) -> Interactions:
    """Interactions whose readings recommend none of some flags."""
    readings = tuple(
        replace(one, notes=tuple(note for note in one.notes if not any(map(note.count, flags))))
        for one in interactions.readings
    )
    return replace(interactions, readings=readings)


def _told(interactions: Interactions) -> Iterator[str]:
    """How files were read, and what was noted."""
    for reading in interactions.readings:
        yield from reading.lines
    yield from (f"note: {note}" for note in interactions.notes)


@dataclass(frozen=True)
class Source:
    """Where interactions come from, and how they are split.

    Attributes:
        dataset: a data set by name; see `lightgcn-jax data list`.
        data: a file or a folder of your own, or a folder that `data prepare` made.
        file_format: how to read it.
        feedback: what a row of --data is: a rating, of which a pair's last counts before
            --min-rating is looked at, or an event, of which one at --min-rating or above suffices.
        event_column: name of a column of types of events.
        event: types that count, as `click,buy`; other rows are left out.
        min_rating: keep interactions rated at least this; data sets of ratings have their own.
        k_core: keep the part in which every user and every item has at least K interactions.
        split: `given` by the files; `ratio` takes random shares of each user, `leave-k-out` K
            interactions of each; `temporal` cuts all at one moment, `temporal-per-user` each
            user's history.
        shares: shares of train, valid and test, for the ratio and temporal splits.
        leave_k: interactions of each user that leave-k-out withholds for valid and for test.
        split_seed: seed of the random splits, and of the order of interactions at one moment.
        unseen: what becomes of withheld pairs (given and temporal splits) whose user or item no
            training interaction names.
        unknown_ids: whether to go on where most users or items of a part of a split, or with --from
            of the new data, are unknown to what it joins.
        titles: a CSV, TSV or Parquet file with a line for each item, its id and its title, which
            `recommend` and `similar` show beside the id; data sets that carry titles need none.
        title_columns: the columns of ids and of titles in it, by name or by place from 1 on.
        data_dir: folder with one folder for each data set.
        download: fetch a data set that is not there.
    """

    dataset: Annotated[str | None, flag("NAME", "(default: synthetic, a generated world)")] = None
    data: Annotated[Path | None, flag("FILE-OR-FOLDER")] = None
    file_format: Annotated[FileFormat, tyro.conf.arg(name="")] = FileFormat()
    feedback: Annotated[
        Feedback | None, flag("{events,ratings}", "(default: events where all ratings are 0 or 1)")
    ] = None
    event_column: Text = None
    event: Annotated[str | None, flag("TYPE[,TYPE]")] = None
    min_rating: Annotated[float | None, flag("FLOAT")] = None
    k_core: Annotated[int | None, flag("K")] = None
    split: Annotated[
        splits.SplitMethod | None,
        flag(SPLITS, "(default: given where the files give one, else ratio)"),
    ] = None
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    leave_k: int = 1
    split_seed: int = 0
    unseen: splits.Unseen = "keep"
    unknown_ids: UnknownIds = "refuse"
    titles: File = None
    title_columns: Annotated[tuple[str, str], flag("ID TITLE", "(default: 1 2)")] = _FIRST_TWO
    data_dir: Folder = None
    download: bool = True

    @property
    def name(self) -> str:
        """What a run on these data is called."""
        return self.dataset or (self.data.resolve().stem if self.data else "synthetic")

    @property
    def is_default(self) -> bool:
        """Whether no flag of these was given."""
        return self == Source()

    def interactions(self, *, quiet: bool = False) -> Interactions:
        """De-duplicated and filtered interactions; their notes say what was guessed.

        Args:
            quiet: whether nothing is written of how files are read and what was guessed.

        Raises:
            InputError: the flags contradict each other, or the data do not fit.
        """
        return self.read(quiet=quiet)[0]

    def read(
        self, *, quiet: bool = False, remembered: Mapping[str, str] = _NOTHING
    ) -> tuple[Interactions, SeenIds | None]:
        """What :meth:`interactions` gives, and all pairs that were read, rated low or not; None
        without ``--min-rating``.

        Args:
            quiet: as for :meth:`interactions`.
            remembered: as for :meth:`FileFormat.read`.

        Raises:
            InputError: the flags contradict each other, or the data do not fit.
        """
        if self.data is None:
            self.file_format.refuse("there is no --data")
            for name in ("feedback", "event_column", "event"):
                if getattr(self, name) is not None:
                    flag = "--" + name.replace("_", "-")
                    raise InputError(f"{flag}: says how to read a log, but there is no --data")
            before = interactions = load_dataset(
                self.name,
                data_dir=self.data_dir,
                download=self.download,
                apply_threshold=self.min_rating is None,
            )
        elif self.dataset is not None:
            raise InputError("expected --dataset or --data, got both")
        else:
            interactions, before = self._own(self.data, quiet, remembered)
        if self.data is None and self.min_rating is not None:
            interactions = interactions.with_min_rating(self.min_rating)
        if self.titles is not None:
            interactions = self._titled(self.titles, interactions, quiet)
        elif self.title_columns != _FIRST_TWO:
            raise InputError("--title-columns: says how to read a file, but there is no --titles")
        if self.k_core is not None:
            interactions = interactions.with_k_core(self.k_core, self.k_core)
        return interactions, None if self.min_rating is None else SeenIds.of(before)

    def _titled(self, path: Path, interactions: Interactions, quiet: bool) -> Interactions:
        """The interactions with the titles of a file."""
        found = read_titles(path, *self.title_columns)
        known = int((interactions.items.rows(found.ids.ids) >= 0).sum())
        if not known:
            raise InputError(
                f"{path}: expected titles of the items, whose ids look like "
                f"{interactions.items.ids[0]!r}; it has none of them, its ids look like "
                f"{found.ids.ids[0]!r} (--title-columns)"
            )
        if not quiet:
            say(f"{path.name}: titles of {known:,} of {interactions.num_items:,} items")
        return replace(interactions, titles=found)

    def _own(
        self, path: Path, quiet: bool, remembered: Mapping[str, str]
    ) -> tuple[Interactions, Interactions]:
        """The positives of a log, one interaction for each pair, and the rows they are among."""
        if (self.event is None) != (self.event_column is None):
            raise InputError(
                "--event and --event-column: expected both (--event-column type --event click,buy) "
                "or neither"
            )
        if self.event is not None and self.file_format.skip_bad_rows:
            raise InputError(
                "--skip-bad-rows: expected without --event, since a row without an event would be "
                "left out unseen; put the log right, or leave --event out"
            )
        format = self.file_format
        if self.event is not None:
            format = replace(format, missing="error")  # As in the column of events.
        read = format.read(path, quiet=True, unknown_ids=self.unknown_ids, remembered=remembered)
        if self.event is not None:
            read = _without_notes(read, [EVENT_FLAG])
        if not quiet:
            for line in _told(read):
                say(line)
        interactions, feedback = read, self.feedback
        if self.event is not None:
            wanted = [name.strip() for name in self.event.split(",")]
            interactions = of_events(
                interactions, self._event_types(path, interactions, remembered), wanted
            )
            feedback = feedback or "events"
        rows = interactions
        interactions = positives(rows, self.min_rating, feedback)
        if not quiet:
            for note in interactions.notes[len(read.notes) :]:
                say(f"note: {note}")
        return interactions, rows

    def _event_types(
        self, path: Path, interactions: Interactions, remembered: Mapping[str, str]
    ) -> pl.Series:
        """The type of event of each row, read as one reads items: once more, by another column."""
        events = replace(
            self.file_format,
            item_column=self.event_column,
            rating_column="none",
            timestamp_column="none",
            weight_column="none",
            null_ids="keep",
            item_ids="text",
            missing="error",
        )
        try:
            found = events.read(path, quiet=True, unknown_ids="allow", remembered=remembered)
        except InputError as error:
            raise InputError(str(error).replace("item_column", "event_column")) from error
        same_users = found.users == interactions.users
        if not (same_users and np.array_equal(found.user_rows, interactions.user_rows)):
            raise InputError(
                f"--event-column: expected an event in each of the {len(interactions):,} rows of "
                f"{path}, got {len(found):,}"
            )
        return found.items.ids.cast(pl.String).gather(found.item_rows)

    def split_up(self, interactions: Interactions, *, allow_empty: bool = False) -> splits.Split:
        """The interactions under the split asked for.

        Args:
            interactions: what to split.
            allow_empty: whether the ratio split may leave a part empty.

        Raises:
            InputError: the split does not fit the interactions.
        """
        split = self._split_up(interactions, allow_empty)
        return replace(split, notes=(*interactions.notes, *split.notes))

    def _split_up(self, interactions: Interactions, allow_empty: bool) -> splits.Split:
        method = self.split or ("ratio" if interactions.parts is None else "given")
        if self.unseen != "keep" and method in ("ratio", "leave-k-out"):
            raise InputError(f"--unseen: belongs to given and temporal splits, got split {method}")
        shares, seed, unseen = self.shares, self.split_seed, self.unseen
        if method == "given":
            return splits.given_split(interactions, unseen)
        if method == "ratio":
            return splits.ratio_split(interactions, *shares, seed=seed, allow_empty=allow_empty)
        if method == "leave-k-out":
            return splits.leave_k_out_split(interactions, self.leave_k, seed=seed)
        per_user = method == "temporal-per-user"
        return splits.temporal_split(
            interactions, *shares, per_user=per_user, unseen=unseen, seed=seed
        )

    def record(self, interactions: Interactions | None = None) -> dict[str, Any]:
        """What was given, as a JSON value, for the run to remember.

        Args:
            interactions: those that were read, whose readings are remembered as well.
        """
        given = {"dataset": self.name} if self.data is None else {"data": str(self.data.resolve())}
        values = asdict(self)
        values = values.pop("file_format") | values
        for name in ("dataset", "data", "data_dir", "download"):
            del values[name]
        values["titles"] = None if self.titles is None else str(self.titles.resolve())
        given |= {name: value for name, value in values.items() if value is not None}
        readings = () if interactions is None else interactions.readings
        return given | ({"readings": [one.record() for one in readings]} if readings else {})
