"""The command plot: one picture of a finished run."""

from __future__ import annotations

from dataclasses import dataclass

from lightgcn_jax.cli.console import say
from lightgcn_jax.cli.plot import PLOT, Picture
from lightgcn_jax.cli.runs import RunPath
from pinsage_jax.runs.plot import plot_run


@dataclass(frozen=True)
class Plot:
    """Draw a finished run: validation and loss over the epochs, how popular the items are that it
    finds, and its hit-rate by queries and by items, each beside a ranking by popularity. That needs
    the extra `plot`.

    Attributes:
        run_path: the run directory.
        out: the picture, which ends in .png or .svg.
    """

    run_path: RunPath
    out: Picture = None

    def run(self) -> int:
        say(f"wrote {plot_run(self.run_path, self.out or self.run_path / PLOT)}")
        return 0
