"""The flags that choose the items that are trained on, and what is held out of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from lightgcn_jax.cli.settings import File, flag
from lightgcn_jax.cli.source import FileFormat, Folder, Text
from lightgcn_jax.errors import InputError
from pinsage_jax.data.items import ItemData
from pinsage_jax.data.sources import SOURCES, from_files, load_items
from pinsage_jax.data.world import PinWorld, generate_pins
from pinsage_jax.features.files import align, read_features
from pinsage_jax.tasks.holdout import cooccurrence_task, given_task, time_task
from pinsage_jax.tasks.task import Task

TaskName = Literal["items", "users"]
_AS_THEY_COME = FileFormat()


@dataclasses.dataclass(frozen=True)
class ItemSource:
    """The items of a run, and the task on them.

    Attributes:
        dataset: a data set by name; by default `pins`, a generated world of pins and boards.
        data: a file or folder of your own with a line for each item in a context: boards, baskets,
            sessions or users stand where other programs have users.
        file_format: how to read it.
        features: a Parquet, CSV or TSV file with a row for each item: its id and any columns.
        id_column: the column of item ids in it, where it is not called item or id nor the first.
        items: how many pins the generated world has.
        world_seed: the seed of the generated world.
        task: `items` pairs items that share a context; `users` pairs a user's last items with the
            next, and needs times or a given split. By default the data set decides.
        valid: share that is held out to choose the epoch by.
        test: share that is held out to evaluate by.
        fresh: share of items that training does not see at all (task items).
        last: how many items a user's query has (task users).
        split_seed: the seed of the choice of what is held out.
        data_dir: folder with one folder for each data set.
    """

    dataset: Annotated[str | None, flag("{" + ",".join(SOURCES) + "}", "(default: pins)")] = None
    data: Annotated[Path | None, flag("FILE-OR-FOLDER")] = None
    file_format: Annotated[FileFormat, tyro.conf.arg(name="")] = _AS_THEY_COME
    features: File = None
    id_column: Text = None
    items: int = 2_000
    world_seed: int = 0
    task: Annotated[TaskName | None, flag("{items,users}", "(default: by the data set)")] = None
    valid: float = 0.1
    test: float = 0.1
    fresh: float = 0.1
    last: int = 10
    split_seed: int = 0
    data_dir: Folder = None

    @property
    def name(self) -> str:
        """The name of a run on these items."""
        return self.dataset or (self.data.resolve().stem if self.data else "pins")

    def load(self) -> tuple[ItemData, list[str]]:
        """Load the items, and lines worth telling a user.

        Raises:
            InputError: the flags contradict each other, or the data do not fit.
        """
        if self.data is not None:
            return self._own(self.data)
        self.file_format.refuse("there is no --data")
        if self.features is not None:
            raise InputError("--features: belongs to --data, a data set brings its own")
        if self.name == "pins":
            return generate_pins(PinWorld(items=self.items), seed=self.world_seed).data, []
        data = load_items(self.name, data_dir=self.data_dir)
        return data, list(data.notes)

    def _own(self, path: Path) -> tuple[ItemData, list[str]]:
        if self.dataset is not None:
            raise InputError("expected --dataset or --data, got both")
        interactions = self.file_format.read(path)
        if self.features is None:
            items = from_files(interactions, None).in_canonical_order()
            return items, ["no --features: the graph alone is read"]
        frame = read_features(self.features)
        table, report = align(frame, interactions.items, self.id_column)
        return from_files(interactions, table).in_canonical_order(), [str(report)]

    def held_out(self, data: ItemData) -> Task:
        """Make the task on the items.

        Args:
            data: the items.
        """
        given, seed = data.interactions.parts is not None, self.split_seed
        shares: dict[str, Any] = {"valid": self.valid, "test": self.test}
        if self.task == "items" or (self.task is None and not given):
            return cooccurrence_task(data, **shares, held_out_items=self.fresh, seed=seed)
        if given:
            return given_task(data, last=self.last, valid=self.valid, seed=seed)
        return time_task(data, **shares, last=self.last)

    def record(self) -> dict[str, Any]:
        """The flags as a JSON value, which the run keeps."""
        values = dataclasses.asdict(self)
        skipped = ("file_format", "data_dir")
        kept = {
            name: str(value) if isinstance(value, Path) else value
            for name, value in values.items()
            if name not in skipped and value is not None
        }
        return kept | {"dataset": self.name}
