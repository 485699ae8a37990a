"""The command embed, which adds items that did not exist at training time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import polars as pl
import tyro

from lightgcn_jax.cli.console import say
from lightgcn_jax.cli.runs import RunPath, Switch
from lightgcn_jax.cli.settings import File
from lightgcn_jax.cli.source import FileFormat, Text
from lightgcn_jax.data.ids import IdMap
from pinsage_jax.cli.runs import neighbours_of, print_neighbours
from pinsage_jax.features.columns import Kind
from pinsage_jax.features.files import Items, read_items
from pinsage_jax.runs.directory import PinSageRun
from pinsage_jax.runs.finished import keep_added, open_items
from pinsage_jax.serving.live_items import GROWTH

_AS_IT_COMES = FileFormat()


@dataclass(frozen=True)
class Embed:
    """Add items that did not exist at training time: embedded from their features and whatever
    contexts they have, kept with the run, found by `similar` at once. Nothing is retrained.

    Attributes:
        run_path: the run directory.
        items: a Parquet, CSV or TSV file with a row for each new item: its id and the columns that
            the run was trained on.
        id_column: the column of ids in it, where it is not called item or id nor the first.
        contexts: a file with a line for each new item in a context; without it the items have none.
        file_format: how to read that file.
        k: how many neighbours of the first few items to show.
        slack: how many new items there is room for, those of earlier calls included.
        growth: how many times as many contexts as it is in a new item counts as in, from 1 on: it
            had less time than the others to be listed.
        quiet: add, and show nothing.
    """

    run_path: RunPath
    items: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    id_column: Text = None
    contexts: File = None
    file_format: Annotated[FileFormat, tyro.conf.arg(name="")] = _AS_IT_COMES
    k: Annotated[int, tyro.conf.arg(metavar="K")] = 5
    slack: int = 1024
    growth: float = GROWTH
    quiet: Switch = False

    def run(self) -> int:
        given = self._items()
        contexts = None if self.contexts is None else self._contexts(self.contexts, given.ids)
        live = open_items(self.run_path, slack=self.slack)
        start = time.perf_counter()
        added = live.add(given.ids.to_list(), given.table, contexts, self.growth)
        keep_added(self.run_path, live)
        say(
            f"added {len(added.ids):,} items in {time.perf_counter() - start:.2f} s: "
            f"{added.without_contexts:,} without a context of the run, "
            f"{added.unknown_contexts:,} memberships in unknown contexts left out, "
            f"{added.ignored_columns} columns not read"
        )
        if self.growth > 1 and added.without_contexts < len(added.ids):
            say(
                f"each counts as in {self.growth:g} times as many contexts as it is in, for new "
                "items had less time to be listed (--growth)"
            )
        if not self.quiet:
            print_neighbours(neighbours_of(live, added.ids[:3], self.k), live, self.run_path)
        return 0

    def _items(self) -> Items:
        """The new items; their columns are of the kinds that the run was trained on."""
        if self.contexts is None:
            self.file_format.refuse("there is no --contexts")
        schema = PinSageRun.open(self.run_path).read_schema()
        kinds: dict[str, Kind] = {one.name: one.kind for one in schema.columns}
        return read_items(self.items, id_column=self.id_column, kinds=kinds)

    def _contexts(self, path: Path, ids: pl.Series) -> list[list[int | str]]:
        """The contexts of each new item; lines of other items are left out."""
        edges = self.file_format.read(path)
        rows = IdMap(ids).rows(edges.items.ids)[edges.item_rows]
        contexts: list[list[int | str]] = [[] for _ in ids]
        for row, context in zip(rows, edges.users.external(edges.user_rows), strict=True):
            if row >= 0:
                contexts[row].append(context)
        return contexts
