"""The flags that choose the items that are trained on, and what is held out of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro

from lightgcn_jax.cli.settings import File, flag
from lightgcn_jax.cli.source import FileFormat, Folder, Text
from lightgcn_jax.data import Interactions
from lightgcn_jax.data.roles import EVENT_FLAG, WEIGHT_FLAG
from lightgcn_jax.data.spellings import UnknownIds
from lightgcn_jax.errors import InputError, naming
from pinsage_jax.data.items import ItemData
from pinsage_jax.data.sources import SOURCES, from_files, load_items, with_pairs
from pinsage_jax.data.world import PinWorld, generate_pins
from pinsage_jax.features.columns import Kind
from pinsage_jax.features.delimited import Quoting
from pinsage_jax.features.files import FeatureFile, align, load_features
from pinsage_jax.tasks.holdout import (
    cooccurrence_task,
    explicit_task,
    given_task,
    time_task,
)
from pinsage_jax.tasks.task import Task

TaskName = Literal["items", "users"]
PairsName = Literal["co-occurrence", "consecutive", "explicit"]
_AS_THEY_COME = FileFormat()


@dataclasses.dataclass(frozen=True)
class FeatureReading:
    """How to read a file of features.

    Attributes:
        id_column: the column of item ids in the file of features, where it is not called item or id
            nor the first.
        kind: kinds of columns, where the cells would decide otherwise: `price=number`; one of
            vector, text, category, categories and number.
        skip_columns: columns that are left out unread.
        feature_quoting: whether quotation marks in a CSV or TSV file may enclose fields (`csv`) or
            are text (`none`); `auto` goes by the file.
        feature_encoding: encoding of a text file, such as latin-1; `auto` is UTF-8, or what a mark
            says.
    """

    id_column: Text = None
    kind: Annotated[tuple[str, ...], flag("NAME=KIND [NAME=KIND ...]")] = ()
    skip_columns: Annotated[tuple[str, ...], flag("NAME [NAME ...]")] = ()
    feature_quoting: Quoting = "auto"
    feature_encoding: Annotated[str, tyro.conf.arg(metavar="NAME")] = "auto"

    def refuse(self, why: str) -> None:
        """Refuse these flags where nothing is read by them.

        Args:
            why: why nothing is, for the message.

        Raises:
            InputError: one of them was given.
        """
        for field in dataclasses.fields(self):
            if getattr(self, field.name) != field.default:
                name = "--" + field.name.replace("_", "-")
                raise InputError(f"{name}: says how to read features, but {why}")

    def kinds(self) -> dict[str, Kind]:
        """The declared kind of each column.

        Raises:
            InputError: one is not written NAME=KIND, or is no kind.
        """
        kinds: dict[str, Kind] = {one: one for one in get_args(Kind)}
        found: dict[str, Kind] = {}
        for one in self.kind:
            name, _, kind = one.rpartition("=")
            if not name or kind not in kinds:
                raise InputError(
                    f"--kind: expected NAME=KIND with one of {', '.join(kinds)}, got {one!r}"
                )
            found[name] = kinds[kind]
        return found

    def load(self, path: Path, kinds: Mapping[str, Kind] | None = None, **more: Any) -> FeatureFile:
        """Read the rows of a file.

        Args:
            path: the file.
            kinds: kinds by column; flags overrule them.
            more: further arguments of :func:`pinsage_jax.features.files.load_features`.
        """
        return load_features(
            path,
            id_column=self.id_column,
            kinds={**(kinds or {}), **self.kinds()},
            skip=self.skip_columns,
            quoting=self.feature_quoting,
            encoding=self.feature_encoding,
            **more,
        )


_AS_THEY_ARE = FeatureReading()


@dataclasses.dataclass(frozen=True)
class ItemSource:
    """The items of a run, and the task on them.

    Attributes:
        dataset: a data set by name; by default `pins`, a generated world of pins and boards.
        data: a file or folder of your own with a line for each item in a context: boards, baskets,
            sessions or users stand where other programs have users.
        file_format: how to read it.
        features: a Parquet, CSV or TSV file with a row for each item: its id and any columns.
        reading: how to read that file.
        unknown_ids: whether to `refuse` or `allow` features of which most are of other items, and
            parts of a split that do not know each other's ids.
        items: how many pins the generated world has.
        world_seed: the seed of the generated world.
        task: `items` pairs items that share a context; `users` pairs a user's last items with the
            next, and needs times or a given split. By default the data set decides.
        pairs: what makes a query and its positive: `co-occurrence` in a context (task items), items
            that are `consecutive` in a user's time (task users, with queries of one item), or
            `explicit` pairs of --pairs-file, as the paper has them. (default: by the task)
        pairs_file: a CSV, TSV or Parquet file with columns query and positive of item ids.
        valid: share that is held out to choose the epoch by.
        test: share that is held out to evaluate by.
        fresh: share of items that training does not see at all (task items).
        last: how many items a user's query has (task users); without times, in training: else
            it has all. (default: 10, and 1 with --pairs consecutive)
        split_seed: the seed of the choice of what is held out.
        data_dir: folder with one folder for each data set.
    """

    dataset: Annotated[str | None, flag("{" + ",".join(SOURCES) + "}", "(default: pins)")] = None
    data: Annotated[Path | None, flag("FILE-OR-FOLDER")] = None
    file_format: Annotated[FileFormat, tyro.conf.arg(name="")] = _AS_THEY_COME
    features: File = None
    reading: Annotated[FeatureReading, tyro.conf.arg(name="")] = _AS_THEY_ARE
    unknown_ids: UnknownIds = "refuse"
    items: int = 2_000
    world_seed: int = 0
    task: Annotated[TaskName | None, flag("{items,users}", "(default: by the data set)")] = None
    pairs: Annotated[PairsName | None, flag("{co-occurrence,consecutive,explicit}", "")] = None
    pairs_file: File = None
    valid: float = 0.1
    test: float = 0.1
    fresh: float = 0.1
    last: Annotated[int | None, flag("INT", "")] = None
    split_seed: int = 0
    data_dir: Folder = None

    @property
    def name(self) -> str:
        """The name of a run on these items."""
        return self.dataset or (self.data.resolve().stem if self.data else "pins")

    def load(
        self,
        columns: Sequence[str] | None = None,
        *,
        quiet: bool = False,
        kinds: Mapping[str, Kind] | None = None,
    ) -> tuple[ItemData, list[str]]:
        """Load the items, and lines worth telling a user.

        Args:
            columns: the feature columns that are asked for; others need not be readable.
            quiet: say nothing of how files are read.
            kinds: kinds of columns, where a run has them already; flags overrule them.

        Raises:
            InputError: the flags contradict each other, or the data do not fit.
        """
        if self.data is not None:
            return self._own(self.data, columns, quiet, kinds or {})
        self.file_format.refuse("there is no --data")
        if self.features is not None:
            raise InputError("--features: belongs to --data, a data set brings its own")
        self.reading.refuse("there are no --features")
        if self.name == "pins":
            return generate_pins(PinWorld(items=self.items), seed=self.world_seed).data, []
        data = load_items(self.name, data_dir=self.data_dir)
        return data, list(data.notes)

    def _own(
        self,
        path: Path,
        columns: Sequence[str] | None,
        quiet: bool,
        kinds: Mapping[str, Kind],
    ) -> tuple[ItemData, list[str]]:
        if self.dataset is not None:
            raise InputError("expected --dataset or --data, got both")
        interactions = self.file_format.read(
            path,
            quiet=quiet,
            unknown_ids=self.unknown_ids,
            without=(EVENT_FLAG, WEIGHT_FLAG),
        )
        if self.features is None:
            self.reading.refuse("there are no --features")
            items = from_files(interactions, None).in_canonical_order()
            return items, ["no --features: the graph alone is read"]
        null_ids = self.file_format.null_ids == "keep"
        file = self.reading.load(self.features, kinds, columns=columns, null_ids=null_ids)
        with naming(self.features):
            table, report = align(
                file.frame,
                interactions.items,
                file.id_column,
                kinds={**kinds, **self.reading.kinds()},
                unknown_ids=self.unknown_ids,
                null_ids=null_ids,
            )
        return from_files(interactions, table).in_canonical_order(), [*file.notes, str(report)]

    def refuse_task(self) -> None:
        """Refuse the flags that say what is held out, where a run has said it.

        Raises:
            InputError: one of them was given.
        """
        default = ItemSource()
        for name in ("task", "pairs", "pairs_file", "valid", "test", "fresh", "last", "split_seed"):
            if getattr(self, name) != getattr(default, name):
                flag = "--" + name.replace("_", "-")
                raise InputError(f"{flag}: what is held out and paired is the run's; leave it out")

    def held_out(self, data: ItemData) -> Task:
        """Make the task on the items; its notes say which one was guessed.

        Args:
            data: the items.

        Raises:
            InputError: the flags contradict each other, or the data do not fit.
        """
        task = self._task(data)
        if self.task is not None:
            return task
        given = data.interactions.parts is not None
        name, how = ("users", "with") if given else ("items", "without")
        note = f"task {name}, for the data come {how} a split (--task)"
        return dataclasses.replace(task, notes=(note, *task.notes))

    def _task(self, data: ItemData) -> Task:
        given, seed = data.interactions.parts is not None, self.split_seed
        shares: dict[str, Any] = {"valid": self.valid, "test": self.test}
        pairs = self._what_makes_a_pair(given)
        if self.pairs_file is not None:
            return explicit_task(with_pairs(data, self.pairs_file), **shares, seed=seed)
        if pairs == "co-occurrence":
            return cooccurrence_task(data, **shares, held_out_items=self.fresh, seed=seed)
        last = self.last or (1 if self.pairs == "consecutive" else 10)
        if given:
            return given_task(data, last=last, valid=self.valid, seed=seed)
        return time_task(data, **shares, last=last)

    def _what_makes_a_pair(self, given: bool) -> PairsName:
        task_of = {"co-occurrence": "items", "consecutive": "users"}
        if (
            self.task is not None
            and self.pairs is not None
            and task_of.get(self.pairs) != self.task
        ):
            raise InputError(f"--pairs {self.pairs}: does not belong to --task {self.task}")
        if (self.pairs == "explicit") != (self.pairs_file is not None):
            raise InputError("expected --pairs explicit and --pairs-file together, got one of them")
        if self.pairs is not None:
            return self.pairs
        of_items = self.task == "items" or (self.task is None and not given)
        return "co-occurrence" if of_items else "consecutive"

    def record(self, interactions: Interactions) -> dict[str, Any]:
        """The flags as a JSON value, which the run keeps, and how the files were read.

        Args:
            interactions: what was read.
        """
        values = dataclasses.asdict(self)
        values |= values.pop("reading")
        skipped = ("file_format", "data_dir")
        kept = {
            name: str(value) if isinstance(value, Path) else value
            for name, value in values.items()
            if name not in skipped and value is not None
        }
        readings = [one.record() for one in interactions.readings]
        return kept | {"dataset": self.name} | ({"readings": readings} if readings else {})
