"""The command plot: one picture of a finished run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from lightgcn_jax.cli.console import say
from lightgcn_jax.cli.runs import RunPath
from lightgcn_jax.cli.settings import flag
from lightgcn_jax.runs.plot import plot_run

Picture = Annotated[Path | None, flag("FILE", "(default: plot.png in the run)")]
PLOT = "plot.png"


@dataclass(frozen=True)
class Plot:
    """Draw a finished run: validation and loss over the epochs, how popular the items are that it
    recommends, and its figures by the users' activity and by the items' popularity, each beside a
    ranking by popularity. That needs the extra `plot`.

    Attributes:
        run_path: the run directory.
        out: the picture, which ends in .png or .svg.
    """

    run_path: RunPath
    out: Picture = None

    def run(self) -> int:
        say(f"wrote {plot_run(self.run_path, self.out or self.run_path / PLOT)}")
        return 0
