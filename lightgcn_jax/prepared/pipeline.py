"""Files of interactions -> a prepared folder, in stages of bounded memory that a kill cannot undo.

=========  ==========================================================================
stage      what it leaves in the folder ``work``
=========  ==========================================================================
read       pieces: the rows of the files, judged, as Parquet
ids        the distinct ids of users and items in ascending order
sort       a sorted run of pairs for each piece
merge      the distinct pairs, by user and item
split      the part of each pair
order      where each row goes
rows       CSR rows of all parts, and ids, in the folder itself
=========  ==========================================================================

``.state.json`` says which stages are done and what they found. What a killed stage left is used
again where it is whole: a piece, a run.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lightgcn_jax.begun import STATE, begun
from lightgcn_jax.data.changes import CountChange
from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.data.spellings import twice_written
from lightgcn_jax.diffusion.choice import EDGES_TO_ORDER
from lightgcn_jax.errors import InputError
from lightgcn_jax.json_files import write_json
from lightgcn_jax.meter import Meter, SilentMeter
from lightgcn_jax.prepared.arranged import read_order, write_final_ids, write_order, write_rows
from lightgcn_jax.prepared.codes import LEFT_OUT, Coder
from lightgcn_jax.prepared.folder import MANIFEST, VERSION, Prepared, open_prepared
from lightgcn_jax.prepared.pairs_files import (
    PairFiles,
    compacted,
    merge_pairs_of,
    read_ids,
    write_ids,
    write_runs,
)
from lightgcn_jax.prepared.pieces import (
    Piece,
    SourceFile,
    source_files,
    stored_pieces,
    write_pieces,
)
from lightgcn_jax.prepared.preparation import Preparation
from lightgcn_jax.prepared.sorting import KEY, read_runs
from lightgcn_jax.prepared.stored_columns import StoredColumn, column_writer
from lightgcn_jax.sums import write_last

_DONE_WITH = {"merge": ("read", "sort")}
"""The stages of which nothing is needed any more after another one; disks are small too."""

_DAMAGE = (
    *(LookupError, TypeError, ValueError, AttributeError, ArithmeticError, AssertionError),
    pl.exceptions.PolarsError,
)
"""What a stage ends with that goes on with other things than the one before it left."""

_RUN_TYPES = {KEY: np.int64, "timestamp": np.float64, "rating": np.float32, "part": np.uint8}


def prepare(plan: Preparation, out: Path | str, meter: Meter | None = None) -> Prepared:
    """Make a prepared folder, or go on with one that was broken off.

    Rows, ids and splits are those of the same files read in memory, whatever the order of the files
    and of their rows.

    Args:
        plan: the settings.
        out: the folder: new, empty, or left by the same preparation when it was killed.
        meter: receives progress.

    Returns:
        The finished folder.

    Raises:
        InputError: files, settings and folder do not fit each other.
        OSError: the disk refused.
    """
    out = Path(out)
    files, notes = source_files(plan)
    about = {
        "version": VERSION,
        "settings": plan.record(),
        "files": [file.print() for file in files],
    }
    with begun(out, about, "preparation") as state:
        goes_on, meter = "done" in state, meter or SilentMeter()
        try:
            job = _Job(plan, out, state, files, list(notes), meter)
            for name, stage in job.stages.items():
                job.run(name, stage)
        except InputError:
            raise
        except _DAMAGE as error:
            if not goes_on:
                raise
            raise InputError(
                f"{out}: what a preparation left here when it was broken off is damaged; it is "
                "removed, and the same command begins anew"
            ) from error
        finally:
            meter.stopped()
    return open_prepared(out)


class _Job:
    """A preparation under way."""

    def __init__(
        self,
        plan: Preparation,
        out: Path,
        state: dict[str, Any],
        files: list[SourceFile],
        notes: list[str],
        meter: Meter,
    ):
        self.plan, self.out, self.files, self.meter = plan, out, files, meter
        self.state = {"done": [], "found": {"notes": notes}, "memory": 0} | state
        self.stages: dict[str, Callable[[], dict[str, Any]]] = {
            "read": self.read,
            "ids": self.ids,
            "sort": self.sort,
            "merge": self.merge,
            "split": self.split,
            "order": self.order,
            "rows": self.rows,
            "finish": self.finish,
        }

    def run(self, name: str, stage: Callable[[], dict[str, Any]]) -> None:
        """Run a stage that is not done yet, and remember that it is."""
        if name in self.state["done"]:
            return
        if self.state["memory"] != self.plan.memory:
            # What it left was cut in other places.
            shutil.rmtree(self.place(name), ignore_errors=True)
            self.state["memory"] = self.plan.memory
            write_json(self.out / STATE, self.state)
        self.place(name).mkdir(parents=True, exist_ok=True)
        self.state["found"] |= stage()
        self.state["done"].append(name)
        if name != "finish":
            write_json(self.out / STATE, self.state)
        for earlier in _DONE_WITH.get(name, ()):
            shutil.rmtree(self.place(earlier), ignore_errors=True)
        self.meter.stopped()

    def place(self, stage: str) -> Path:
        """Where a stage leaves what it made."""
        return self.out / "work" / stage

    @property
    def found(self) -> dict[str, Any]:
        """What the stages found."""
        return self.state["found"]

    @property
    def pieces(self) -> list[Piece]:
        """What was read."""
        return stored_pieces(self.place("read"))

    def read(self) -> dict[str, Any]:
        """Judge the files."""
        pieces = write_pieces(self.plan, self.files, self.place("read"), self.meter)
        filled = [one for one in pieces if one.rows]
        roles = {name for one in filled for name in one.settings}
        rating = self.plan.min_rating
        if rating is not None and filled[0].settings.get("rating_column", "none") == "none":
            raise InputError(
                f"min_rating={rating}: these interactions have no ratings; name the rating "
                "column when reading, or leave the filter out"
            )
        feedback = self.plan.feedback
        if feedback is None:
            feedback = "events" if all(one.labels for one in filled) else "ratings"
        has_times = "timestamp_column" in roles and (
            filled[0].settings["timestamp_column"] != "none"
        )
        has_parts = len({one.part for one in pieces}) > 1
        method = self.plan.split or ("given" if has_parts else "ratio")
        by_time = method in ("leave-k-out", "temporal", "temporal-per-user")
        rated = rating is not None and feedback == "ratings"
        columns = [
            name
            for name, wanted in (
                ("timestamp", has_times and (by_time or rated)),
                ("rating", rated),
                ("part", has_parts),
            )
            if wanted
        ]
        readings = {tuple(one.settings.items()) for one in filled}
        notes = list(dict.fromkeys(note for one in pieces for note in one.notes))
        return {
            "rows": sum(one.rows for one in pieces),
            "columns": columns,
            "method": method,
            "feedback": feedback,
            "notes": [*self.found["notes"], *notes],
            "readings": [dict(one) for one in sorted(readings)],
        }

    def ids(self) -> dict[str, Any]:
        """Collect ids."""
        write_ids(self.pieces, self.place("ids"), self.plan.memory, self.meter)
        users, items = read_ids(self.place("ids"))
        more = [*twice_written("users", users.ids), *twice_written("items", items.ids)]
        return {"read": [len(users), len(items)], "notes": [*self.found["notes"], *more]}

    def sort(self) -> dict[str, Any]:
        """Write sorted runs."""
        ids = read_ids(self.place("ids"))
        rating = self.plan.min_rating if self.found["feedback"] == "events" else None
        folder = self.place("sort")
        kept = write_runs(self.pieces, ids, self.found["columns"], rating, folder, self.meter)
        if not kept:
            raise self._nothing_left(self.found["rows"])
        return {"rated": kept}

    def merge(self) -> dict[str, Any]:
        """Merge the runs, and leave out ids that no pair names any more."""
        plan, folder, found = self.plan, self.place("merge"), self.found
        rating = plan.min_rating if found["feedback"] == "ratings" else None
        names = [one.path.stem for one in self.pieces]
        types = {one: np.dtype(_RUN_TYPES[one]) for one in (KEY, *found["columns"])}
        runs = read_runs(self.place("sort"), names, types)
        columns = ("user", "item", *(one for one in found["columns"] if one != "rating"))
        pairs = PairFiles(folder, columns)
        distinct = merge_pairs_of(runs, plan.rows_sorted, rating, pairs, self.meter)
        if not len(pairs):
            raise self._nothing_left(distinct)
        ids = read_ids(self.place("ids"))
        if plan.min_rating is not None:
            kept = PairFiles(folder / "kept", columns)
            kept.folder.mkdir(exist_ok=True)
            left = compacted(pairs, ids, plan.rows_sorted, kept)
            self._write_ids(left, folder)
        return {"distinct": distinct, "report": self._report(distinct, len(pairs))}

    def split(self) -> dict[str, Any]:
        """Give every pair a part."""
        plan, folder = self.plan, self.place("split")
        pairs, ids = self._pairs(), self._ids()
        codes = StoredColumn(folder / "codes", np.dtype(np.uint8))
        coded = Coder(pairs, ids, plan, self.found["method"], codes, self.meter).write()
        if sum(coded.held.values()) < len(pairs):
            self._leave_out(pairs, codes, PairFiles(folder, ("user", "item")))
        return {"held": coded.held, "split": coded.description, "split_notes": list(coded.notes)}

    def order(self) -> dict[str, Any]:
        """Put rows into the order of training."""
        ordering = self.plan.ordering
        if ordering == "auto":
            ordering = "degree" if self.found["held"]["train"] >= EDGES_TO_ORDER else "none"
        pairs, codes = self._parted()
        size, folder = self.plan.rows_sorted, self.place("order")
        write_order(pairs, codes, self._ids(), ordering, size, folder, self.meter)
        return {"ordering": ordering}

    def rows(self) -> dict[str, Any]:
        """Write rows and ids."""
        pairs, codes = self._parted()
        orders, size = read_order(self.place("order")), self.plan.rows_sorted
        place, held_ = self.place("rows"), self.found["held"]
        write_rows(pairs, codes, orders, held_, size, place, self.out, self.meter)
        write_final_ids(self._ids(), orders, self.out)
        return {}

    def finish(self) -> dict[str, Any]:
        """Remove what was needed on the way, and write the manifest."""
        self.meter.started("summing up", None, "bytes")
        shutil.rmtree(self.out / "work", ignore_errors=True)
        found, users = self.found, [len(one) for one in read_ids(self.out)]
        manifest = {
            "prepared": VERSION,
            "users": users[0],
            "items": users[1],
            "pairs": found["held"],
            "rows_read": found["rows"],
            "ordering": found["ordering"],
            "split": found["split"],
            "split_notes": found["split_notes"],
            "notes": found["notes"],
            "report": found["report"],
            "readings": found["readings"],
            "settings": self.state["settings"],
            "source": self.state["files"],
        }
        write_last(self.out / MANIFEST, manifest)
        (self.out / STATE).unlink(missing_ok=True)
        return {}

    def _pairs(self) -> PairFiles:
        columns = ("user", "item", *(one for one in self.found["columns"] if one != "rating"))
        folder = self.place("merge")
        return PairFiles(folder / "kept" if self.plan.min_rating is not None else folder, columns)

    def _ids(self) -> tuple[IdMap, IdMap]:
        return read_ids(self.place("merge" if self.plan.min_rating is not None else "ids"))

    def _parted(self) -> tuple[PairFiles, StoredColumn]:
        """The pairs that are in a part, and the part of each."""
        folder = self.place("split")
        kept = PairFiles(folder, ("user", "item"))
        if (folder / "kept.codes").exists():
            return kept, StoredColumn(folder / "kept.codes", np.dtype(np.uint8))
        return self._pairs(), StoredColumn(folder / "codes", np.dtype(np.uint8))

    def _leave_out(self, pairs: PairFiles, codes: StoredColumn, target: PairFiles) -> None:
        """Write the pairs that are in a part apart from the others."""
        with (
            target.writing() as out,
            column_writer(target.folder / "kept.codes", np.uint8) as kept_codes,
        ):
            for block, part in pairs.parted(codes, self.plan.rows_sorted):
                out.add({name: block[name][part != LEFT_OUT] for name in target.columns})
                kept_codes.add(part[part != LEFT_OUT])

    def _write_ids(self, ids: tuple[IdMap, IdMap], folder: Path) -> None:
        write_final_ids(ids, (np.arange(len(ids[0])), np.arange(len(ids[1]))), folder)

    def _report(self, distinct: int, left: int) -> list[list[Any]]:
        """What the steps left, as in memory."""
        found, rating = self.found, self.plan.min_rating
        before = found["read"]
        after = before if rating is None else [len(one) for one in read_ids(self.place("merge"))]
        once = "one interaction per user-item pair"

        def change(step: str, rows: tuple[int, int], ids: tuple[list[int], list[int]]) -> list[Any]:
            return list(CountChange(step, *rows, ids[0][0], ids[1][0], ids[0][1], ids[1][1]))

        rows = found["rows"]
        if rating is None:
            return [change(once, (rows, left), (before, before))]
        least = f"rating ≥ {rating:g}"
        if found["feedback"] == "events":
            return [
                change(least, (rows, found["rated"]), (before, after)),
                change(once, (found["rated"], left), (after, after)),
            ]
        return [
            change(once, (rows, distinct), (before, before)),
            change(least, (distinct, left), (before, after)),
        ]

    def _nothing_left(self, count: int) -> InputError:
        return InputError(
            f"rating ≥ {self.plan.min_rating:g} removed all {count:,} interactions; set a lower "
            "threshold"
        )
