"""The command embed: items that did not exist at training time are added, corrected, removed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import tyro

from lightgcn_jax.cli.console import say
from lightgcn_jax.cli.runs import RunPath, Switch
from lightgcn_jax.cli.settings import File, flag
from lightgcn_jax.cli.source import FileFormat, columns_read
from lightgcn_jax.data import Interactions
from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.data.spellings import UnknownIds, check_fit
from lightgcn_jax.errors import InputError, naming
from pinsage_jax.cli.runs import neighbours_of, print_neighbours
from pinsage_jax.cli.source import FeatureReading
from pinsage_jax.features.columns import Kind
from pinsage_jax.features.files import Items, items_of_frame
from pinsage_jax.runs.directory import PinSageRun
from pinsage_jax.runs.finished import keep_added, open_items
from pinsage_jax.serving.live_items import GROWTH, Added, LiveItems

_AS_IT_COMES = FileFormat()
_AS_THEY_ARE = FeatureReading()
Room = Annotated[int | None, flag("INT", "(default: as many as are added)")]
Times = Annotated[float | None, flag("FLOAT", f"(default: {GROWTH:g}; with --update as before)")]


@dataclass(frozen=True)
class Embed:
    """Add items that did not exist at training time: embedded from their features and whatever
    contexts they have, kept with the run, found by `similar` at once. Nothing is retrained.
    With --update such items get more contexts or other features, with --remove they go again.

    Attributes:
        run_path: the run directory.
        items: a Parquet, CSV or TSV file with a row for each new item: its id and the columns that
            the run was trained on.
        reading: how to read that file.
        contexts: a file with a line for each new item in a context; without it the items have none.
        file_format: how to read that file.
        unknown_ids: whether to `refuse` or `allow` contexts of which most are not of the run, and
            lines of which most are of items that nobody knows.
        update: the items were added before: those of --items get these features, and those of
            --contexts stand in these contexts too. One of the two files is enough.
        replace_contexts: with --update, the contexts take the place of those of before.
        remove: take these items away, which were added before.
        k: how many neighbours of the first few items to show.
        slack: how many new items there is room for.
        growth: how many times as many contexts as it is in a new item counts as in, from 1 on: it
            had less time than the others to be listed.
        quiet: add, and show nothing.
    """

    run_path: RunPath
    items: File = None
    reading: Annotated[FeatureReading, tyro.conf.arg(name="")] = _AS_THEY_ARE
    contexts: File = None
    file_format: Annotated[FileFormat, tyro.conf.arg(name="")] = _AS_IT_COMES
    unknown_ids: UnknownIds = "refuse"
    update: Switch = False
    replace_contexts: Switch = False
    remove: Annotated[tuple[str, ...], flag("ID [ID ...]")] = ()
    k: Annotated[int, tyro.conf.arg(metavar="K")] = 5
    slack: Room = None
    growth: Times = None
    quiet: Switch = False

    def run(self) -> int:
        self._check()
        if self.remove:
            return self._remove()
        notes: list[str] = []
        given = None if self.items is None else self._items(self.items, notes)
        live = open_items(self.run_path, slack=self._room(given))
        edges = None if self.contexts is None else self._read(self.contexts)
        ids = self._ids(live, given, edges)
        contexts = None if edges is None else self._contexts(edges, ids, live, notes)
        if not self.quiet:
            for note in notes:
                say(note)
        start = time.perf_counter()
        table = None if given is None else given.table
        if self.update:
            changed = live.update(
                ids.to_list(), table, contexts, self.growth, replace=self.replace_contexts
            )
        else:
            assert table is not None
            growth = GROWTH if self.growth is None else self.growth
            changed = live.add(ids.to_list(), table, contexts, growth)
        keep_added(self.run_path, live)
        self._tell(changed, time.perf_counter() - start)
        if not self.quiet:
            print_neighbours(neighbours_of(live, changed.ids[:3], self.k), live, self.run_path)
        return 0

    def _read(self, path: Path) -> Interactions:
        return self.file_format.read(
            path,
            quiet=self.quiet,
            unknown_ids=self.unknown_ids,
            remembered=columns_read(PinSageRun.open(self.run_path).record["data"]),
        )

    def _check(self) -> None:
        """Refuse flags that do not go together."""
        if self.remove and (self.items is not None or self.contexts is not None or self.update):
            raise InputError("--remove: leave out --items, --contexts and --update")
        if not self.remove and self.items is None and not (self.update and self.contexts):
            wanted = "--items, --contexts or both" if self.update else "--items, or --remove"
            raise InputError(f"embed: expected {wanted}")
        if self.contexts is None:
            self.file_format.refuse("there is no --contexts")
        if self.file_format.weight_column is not None:
            raise InputError("--weight-column: PinSAGE's walks know no weights; leave it out")
        if self.items is None:
            self.reading.refuse("there are no --items")
        if self.replace_contexts and not (self.update and self.contexts):
            raise InputError("--replace-contexts: belongs to --update with --contexts")

    def _remove(self) -> int:
        live = open_items(self.run_path, slack=0)
        live.remove(self.remove)
        keep_added(self.run_path, live)
        say(f"removed {len(self.remove):,} items")
        return 0

    def _room(self, given: Items | None) -> int:
        if self.slack is not None or self.update or given is None:
            return self.slack or 0
        return len(given.ids)

    def _items(self, path: Path, notes: list[str]) -> Items:
        """The items of a file; their columns are of the kinds that the run was trained on."""
        schema = PinSageRun.open(self.run_path).read_schema()
        kinds: dict[str, Kind] = {one.name: one.kind for one in schema.columns}
        null_ids = self.file_format.null_ids == "keep"
        file = self.reading.load(path, kinds, columns=list(kinds), null_ids=null_ids)
        notes += file.notes
        kinds |= self.reading.kinds()
        with naming(path):
            return items_of_frame(file.frame, file.id_column, kinds=kinds, null_ids=null_ids)

    def _ids(self, live: LiveItems, given: Items | None, edges: Interactions | None) -> pl.Series:
        """The ids of the items of the file, or else of those with contexts that were added."""
        if given is not None:
            return given.ids
        assert edges is not None
        added = live.items.ids.slice(live.trained)
        rows = IdMap(added).rows(edges.items.ids)
        if not (rows >= 0).any():
            raise InputError(
                f"{self.contexts}: expected lines of items that were added to the run, "
                f"of which there are {len(added):,}; got none"
            )
        return added.gather(np.unique(rows[rows >= 0]))

    def _contexts(
        self, edges: Interactions, ids: pl.Series, live: LiveItems, notes: list[str]
    ) -> list[list[int | str]]:
        """The contexts of each item; lines of other items are left out, and said."""
        own = IdMap(ids).rows(edges.items.ids)
        strange = (own < 0) & (live.items.rows(edges.items.ids) < 0)
        # Lines of items of the run are no sign of another spelling: a log may hold all items.
        others = edges.items.ids.filter(pl.Series((own >= 0) | strange))
        own_name, given_name, rule = "the items", str(self.contexts), self.unknown_ids
        check_fit("items", ids, others, own_name, given_name, rule)
        rows = own[edges.item_rows]
        if left_out := int((rows < 0).sum()):
            lost = int(strange[edges.item_rows].sum())
            notes.append(
                f"{left_out:,} of {len(edges):,} lines are left out: of other items, "
                f"{lost:,} of them of items that the run does not know"
            )
        users = edges.users.ids.gather(np.unique(edges.user_rows[rows >= 0]))
        notes += check_fit("contexts", live.contexts.ids, users, "the run", given_name, rule)
        contexts: list[list[int | str]] = [[] for _ in ids]
        for row, context in zip(rows, edges.users.external(edges.user_rows), strict=True):
            if row >= 0:
                contexts[row].append(context)
        return contexts

    def _tell(self, changed: Added, seconds: float) -> None:
        say(
            f"{'updated' if self.update else 'added'} {len(changed.ids):,} items in "
            f"{seconds:.2f} s: {changed.without_contexts:,} without a context of the run, "
            f"{changed.unknown_contexts:,} memberships in unknown contexts left out, "
            f"{changed.ignored_columns} columns not read"
        )
        if changed.borrowing:
            say(
                f"{changed.borrowing:,} without one are placed in those of the items most like them"
            )
        growth = (None if self.update else GROWTH) if self.growth is None else self.growth
        if growth is not None and growth > 1 and changed.without_contexts < len(changed.ids):
            say(
                f"each counts as in {growth:g} times as many contexts as it is in, for new "
                "items had less time to be listed (--growth)"
            )
