"""The command ablation: table 1 of the paper on one machine, and experiments on its claims."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lightgcn_jax.cli.console import messages, results
from lightgcn_jax.cli.runs import Switch
from lightgcn_jax.cli.settings import File, flag
from lightgcn_jax.cli.source import Folder
from lightgcn_jax.errors import InputError
from lightgcn_jax.json_files import write_json
from pinsage_jax.experiments.ablation import Outcome, Result, carry_out, planned
from pinsage_jax.experiments.claims import STATEMENTS, claims, grid
from pinsage_jax.experiments.experiment import Experiment, narrowed
from pinsage_jax.experiments.table_1 import DATASETS, named
from pinsage_jax.experiments.tables import (
    PAPER_NOTE,
    QUALITY,
    ablation_table,
    as_json,
    claims_table,
    grid_table,
    new_pairs_table,
    rows_of,
    statement,
    verdict,
)

_NAMED = 5  # of the runs that are left
Names = tuple[str, ...]


@dataclass(frozen=True)
class Ablation:
    """Run the rows of the paper's table 1, each under several seeds, and compare them.

    Every finished run is a file: called again with the same settings, the command goes on where it
    was stopped. A data set has one set of settings for all variants; the epoch is chosen on
    validation and test is ranked once a run.

    Attributes:
        datasets: data sets by name; `pins` and `pins-1` are generated, from two seeds.
        only: run only these variants.
        seeds: how many runs every variant gets.
        epochs: epochs of every run, in place of the data set's own.
        minutes: start no run after so many minutes, and list those that are left.
        grid: run PinSAGE and features alone on worlds whose graph and features tell more or less.
        claims: run PinSAGE with separate, fewer and more negatives and with other curricula.
        out: the folder of the runs.
        json: write all figures to this file.
        data_dir: folder with one folder for each data set.
        quiet: print the tables alone.
    """

    datasets: Annotated[
        Names, flag(f"{{{','.join(DATASETS)}}} ...", "(default: pins, without --grid and --claims)")
    ] = ()
    only: Annotated[Names, flag("VARIANT [VARIANT ...]", "(default: all)")] = ()
    seeds: int = 3
    epochs: Annotated[int | None, flag("INT")] = None
    minutes: Annotated[float | None, flag("FLOAT")] = None
    grid: Switch = False
    claims: Switch = False
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path("ablation")
    json: File = None
    data_dir: Folder = None
    quiet: Switch = False

    def run(self) -> int:
        if self.seeds < 1:
            raise InputError(f"--seeds: expected at least 1, got {self.seeds}")
        if self.minutes is not None and not self.minutes >= 0:
            raise InputError(f"--minutes: expected a number of 0 or more, got {self.minutes}")
        console = messages(quiet=self.quiet)
        outcome = carry_out(
            planned(self.experiments(), self.seeds),
            self.out,
            data_dir=self.data_dir,
            minutes=self.minutes,
            say=lambda line: console.print(line, soft_wrap=True),
        )
        print_results(outcome.results)
        if self.json is not None:
            write_json(self.json, as_json(outcome.results))
        self._print_left(outcome)
        return 0

    def experiments(self) -> list[Experiment]:
        """The experiments that the flags ask for.

        Raises:
            InputError: a data set or a variant is unknown.
        """
        datasets = self.datasets or (() if self.grid or self.claims else ("pins",))
        found = named(datasets)
        if self.grid:
            found += grid()
        if self.claims:
            found.append(claims())
        return narrowed(found, self.only, self.epochs)

    def _print_left(self, outcome: Outcome) -> None:
        if not outcome.left:
            return
        names = [*map(str, outcome.left[:_NAMED]), *(["…"] if len(outcome.left) > _NAMED else [])]
        results().print(
            f"{len(outcome.left)} runs are left after {self.minutes:g} minutes: "
            f"{', '.join(names)}. Call again to go on."
        )


def print_results(found: list[Result]) -> None:
    """Print a table for each data set, one for the whole grid, and one for the claims.

    Args:
        found: finished runs.
    """
    console, by_data = results(), rows_of(found)
    tables = {name: rows for name, rows in by_data.items() if name in DATASETS}
    for name, rows in tables.items():
        console.print(f"\n{name}")
        console.print(ablation_table(rows))
        if (later := new_pairs_table(rows)) is not None:
            console.print(later)
        for figure in QUALITY:
            if (line := verdict(rows, figure)) is not None:
                console.print(line)
    if tables:
        console.print(PAPER_NOTE)
    cells = [by_data[one.data.name] for one in grid() if one.data.name in by_data]
    if cells:
        console.print("\nMRR where the graph and the features tell more or less, 0 to 1")
        console.print(grid_table(cells))
    rows = by_data.get(claims().data.name)
    if rows is not None:
        console.print("\nNegatives and curricula")
        console.print(claims_table(rows))
        for claim in STATEMENTS:
            if (line := statement(rows, claim)) is not None:
                console.print(line)
